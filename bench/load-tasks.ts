// How are tasks opened, claimed, changed and closed by many at once?
// Each caller has a connection of its own to the broker and does one thing after the other, as an
// orchestrator does; a claim binds the process that makes it. Calls go through the project's client.
// Which of it is measured is the rows' business.
import { randomUUID } from "node:crypto";
import { connect } from "../src/client/connect.ts";
import type { Connection } from "../src/client/connect.ts";
import { now } from "./worker.ts";

type Rate = { readonly seconds: number; readonly count: number };

const agent = "bench";

/** `callers` at once take from one list until it is empty. */
async function share<T>(items: readonly T[], socket: string, callers: number, each: (connection: Connection, item: T) => Promise<void>): Promise<Rate> {
  const left = [...items];
  const connections = Array.from({ length: callers }, () => connect({ address: `unix://${socket}` }));
  await Promise.all(connections.map((connection) => connection.trust.getInfo({})));
  const began = now();
  await Promise.all(connections.map(async (connection) => {
    for (let item = left.pop(); item !== undefined; item = left.pop()) await each(connection, item);
  }));
  const seconds = (now() - began) / 1000;
  for (const connection of connections) connection.close();
  return { seconds, count: items.length };
}

export const jobs = {
  /** Opens tasks; answers with their IDs. */
  async openTasks({ socket, callers, count }: { socket: string; callers: number; count: number }): Promise<Rate & { tasks: string[] }> {
    const tasks: string[] = [];
    const rate = await share(Array.from({ length: count }, (_, i) => i), socket, callers, async (connection) => {
      const task = await connection.tasks.open({ agent, ttlSeconds: 3600, context: { user: "alice" }, idempotencyKey: randomUUID() });
      tasks.push(task.id);
    });
    return { ...rate, tasks };
  },

  async closeTasks({ socket, callers, tasks }: { socket: string; callers: number; tasks: readonly string[] }): Promise<Rate> {
    return await share(tasks, socket, callers, async (connection, task) => {
      await connection.tasks.close({ task });
    });
  },

  /** Binds this process to the tasks; answers with their own sockets. */
  async claimTasks({ socket, tasks }: { socket: string; tasks: readonly string[] }): Promise<string[]> {
    const endpoints: string[] = [];
    await share(tasks, socket, 4, async (connection, task) => {
      const { endpoint } = await connection.agent.claim({ task, ticket: "", pid: 0 }, { timeoutMs: 30_000 });
      endpoints.push(endpoint.replace("unix://", ""));
    });
    return endpoints;
  },

  /** A JWT-SVID of what this process holds. */
  async fetchJwt({ socket, audience }: { socket: string; audience: string }): Promise<string> {
    const connection = connect({ address: `unix://${socket}` });
    const { svids } = await connection.workload.fetchJWTSVID({ audience: [audience], spiffeId: "" });
    connection.close();
    return svids[0]?.svid ?? "";
  },

  /** Gives every task a new context, again and again. */
  async changeContexts({ socket, callers, tasks, ms }: { socket: string; callers: number; tasks: readonly string[]; ms: number }): Promise<Rate> {
    const connections = Array.from({ length: Math.min(callers, 8) }, () => connect({ address: `unix://${socket}` }));
    const began = now();
    let count = 0;
    await Promise.all(Array.from({ length: callers }, async (_, i) => {
      const connection = connections[i % connections.length];
      for (let at = i; connection && now() < began + ms; at += callers) {
        const task = tasks[at % tasks.length] ?? "";
        await connection.tasks.changeContext({ task, set: { step: String(at) }, remove: [], dryRun: false });
        count++;
      }
    }));
    const seconds = (now() - began) / 1000;
    for (const connection of connections) connection.close();
    return { seconds, count };
  },
};
