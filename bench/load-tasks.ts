// How are tasks opened, claimed, changed and closed by many at once?
// Each caller has a connection of its own to the broker and does one thing after the other, as an
// orchestrator does; a claim binds the process that makes it. Claims go through the project's client,
// what is counted by the second through wire.ts: the cost of a client is not the broker's.
// Which of it is measured is the rows' business.
import { randomUUID } from "node:crypto";
import { connect } from "../src/client/connect.ts";
import { services } from "../src/proto.ts";
import { Wire, prefixed } from "./wire.ts";
import { now } from "./worker.ts";

type Rate = { readonly seconds: number; readonly count: number };

const agent = "bench";

const { Open, Close, ChangeContext, ChangeContexts } = services.tasks;

/** The answer's message; a call that has none has failed. */
export function answerOf(wire: Wire, request: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    let answer: Buffer | undefined;
    wire.call(prefixed(request), {
      message: (bytes) => (answer = Buffer.from(bytes)),
      end: () => (answer ? resolve(answer) : reject(new Error("a call was refused"))),
    });
  });
}

export function connections(socket: string, method: string, count: number): Promise<Wire[]> {
  return Promise.all(Array.from({ length: count }, () => Wire.connect(socket, method)));
}

/** `callers` at once take from one list until it is empty. */
async function share<T>(items: readonly T[], wires: readonly Wire[], each: (wire: Wire, item: T) => Promise<void>): Promise<Rate> {
  const left = [...items];
  const began = now();
  await Promise.all(wires.map(async (wire) => {
    for (let item = left.pop(); item !== undefined; item = left.pop()) await each(wire, item);
  }));
  const seconds = (now() - began) / 1000;
  for (const wire of wires) wire.close();
  return { seconds, count: items.length };
}

export const jobs = {
  /** Opens tasks; answers with their IDs. `runs`: each belongs to one of so many runs. */
  async openTasks({ socket, callers, count, runs = 0 }: { socket: string; callers: number; count: number; runs?: number }): Promise<Rate & { tasks: string[] }> {
    const tasks: string[] = [];
    const wires = await connections(socket, Open.path, callers);
    const rate = await share(Array.from({ length: count }, (_, i) => i), wires, async (wire, i) => {
      const refs: Record<string, string> = runs === 0 ? {} : { run: String(i % runs) };
      const request = { agent, ttlSeconds: 3600, context: { user: "alice" }, refs, idempotencyKey: randomUUID() };
      tasks.push(Open.responseDeserialize(await answerOf(wire, Open.requestSerialize(request))).id);
    });
    return { ...rate, tasks };
  },

  async closeTasks({ socket, callers, tasks }: { socket: string; callers: number; tasks: readonly string[] }): Promise<Rate> {
    return await share(tasks, await connections(socket, Close.path, callers), async (wire, task) => {
      await answerOf(wire, Close.requestSerialize({ task }));
    });
  },

  /** Binds this process to the tasks; answers with their own sockets. */
  async claimTasks({ socket, tasks }: { socket: string; tasks: readonly string[] }): Promise<string[]> {
    const endpoints: string[] = [];
    const left = [...tasks];
    await Promise.all(Array.from({ length: 4 }, async () => {
      const connection = connect({ address: `unix://${socket}` });
      for (let task = left.pop(); task !== undefined; task = left.pop()) {
        const { endpoint } = await connection.agent.claim({ task, ticket: "", pid: 0 }, { timeoutMs: 30_000 });
        endpoints.push(endpoint.replace("unix://", ""));
      }
      connection.close();
    }));
    return endpoints;
  },

  /** A JWT-SVID of what this process holds. */
  async fetchJwt({ socket, audience }: { socket: string; audience: string }): Promise<string> {
    const connection = connect({ address: `unix://${socket}` });
    const { svids } = await connection.workload.fetchJWTSVID({ audience: [audience], spiffeId: "" });
    connection.close();
    return svids[0]?.svid ?? "";
  },

  /** Gives all tasks of a run a new context by one call, again and again. */
  async changeRun({ socket, run, ms }: { socket: string; run: string; ms: number }): Promise<Rate> {
    const [wire] = await connections(socket, ChangeContexts.path, 1);
    const began = now();
    let count = 0;
    for (let round = 0; wire && now() < began + ms; round++) {
      const request = ChangeContexts.requestSerialize({ agent, refs: { run }, set: { step: `all ${round}` }, remove: [], dryRun: false });
      count += ChangeContexts.responseDeserialize(await answerOf(wire, request)).changed.length;
    }
    const seconds = (now() - began) / 1000;
    wire?.close();
    return { seconds, count };
  },

  /** Gives every task a new context, again and again, each by a call of its own. */
  async changeContexts({ socket, callers, tasks, ms }: { socket: string; callers: number; tasks: readonly string[]; ms: number }): Promise<Rate> {
    const wires = await connections(socket, ChangeContext.path, Math.min(callers, 8));
    const began = now();
    let count = 0;
    await Promise.all(Array.from({ length: callers }, async (_, i) => {
      const wire = wires[i % wires.length];
      for (let at = i; wire && now() < began + ms; at += callers) {
        const task = tasks[at % tasks.length] ?? "";
        await answerOf(wire, ChangeContext.requestSerialize({ task, set: { step: String(at) }, remove: [], dryRun: false }));
        count++;
      }
    }));
    const seconds = (now() - began) / 1000;
    for (const wire of wires) wire.close();
    return { seconds, count };
  },
};
