// When does a revocation reach those who must refuse?
// Verifiers as services use them, many of them, each with a connection of its own; closes at a rate that no
// answer slows down; and a service and an agent that hold a mutual TLS connection open. Each notes when it
// knew, on the clock that all processes share.
// What is ended when is the rows' business (rows-revocation.ts); what a follower alone can do, load-streams.ts's.
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import type { TLSSocket } from "node:tls";
import { WorkloadSource } from "../src/client/source.ts";
import { serviceIs } from "../src/verify/authorize.ts";
import { callerOf, connectMtls, createMtlsServer } from "../src/verify/tls.ts";
import { Verifier } from "../src/verify/verifier.ts";
import { services } from "../src/proto.ts";
import { answerOf, connections } from "./load-tasks.ts";
import { now } from "./worker.ts";

const { Close } = services.tasks;

/** Task → when each verifier of this process refused it. */
const refused = new Map<string, number[]>();
const verifiers: Verifier[] = [];
/** Task → when a connection of it was cut, at this end. */
const cut = new Map<string, number>();
const sockets: TLSSocket[] = [];

/** One task of so many is looked at, the same in every process. */
const isSampled = (task: string, oneOf: number): boolean => Number.parseInt(task.slice(-6), 16) % oneOf === 0;

async function until<T>(found: () => T | undefined, ms: number, what: string): Promise<T> {
  for (const deadline = now() + ms; ; ) {
    const value = found();
    if (value !== undefined) return value;
    if (now() > deadline) throw new Error(`${what}: not within ${ms} ms`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

export const jobs = {
  /** Verifiers that note when they began to refuse a task. */
  async verifyMany({ socket, count, oneOf, maxStaleness = "60s" }: { socket: string; count: number; oneOf: number; maxStaleness?: string }): Promise<void> {
    for (let i = 0; i < count; i++) {
      const verifier = new Verifier({ address: `unix://${socket}`, audience: "crm", maxStaleness });
      verifier.feed.on("revoked", (task) => {
        if (!isSampled(task, oneOf)) return;
        const times = refused.get(task);
        if (times) times.push(now());
        else refused.set(task, [now()]);
      });
      verifiers.push(verifier);
      if (i % 50 === 49) await Promise.all(verifiers.slice(-50).map((one) => one.ready()));
    }
    await Promise.all(verifiers.map((verifier) => verifier.ready()));
  },

  /** When each verifier refused these, as far as they have by now. */
  async refusals({ tasks }: { tasks: readonly string[] }): Promise<number[][]> {
    return tasks.map((task) => refused.get(task) ?? []);
  },

  /** When each verifier of this process accepts nothing any more. */
  async staleAt({ ms }: { ms: number }): Promise<number[]> {
    return await Promise.all(verifiers.map((verifier) => until(() => (verifier.feed.fresh ? undefined : now()), ms, "silence noticed")));
  },

  /** Closes each task in its time, however long the answers take; when each was answered, of those that are sampled. */
  async closeAtRate({ socket, tasks, perSecond, oneOf }: { socket: string; tasks: readonly string[]; perSecond: number; oneOf: number }): Promise<{
    seconds: number; failed: number; answered: [task: string, at: number][];
  }> {
    const wires = await connections(socket, Close.path, 8);
    const answered: [string, number][] = [];
    let failed = 0;
    const began = now();
    let open = 0;
    let ended = (): void => undefined;
    for (const [i, task] of tasks.entries()) {
      const early = began + (i * 1000) / perSecond - now();
      if (early > 0) await new Promise((resolve) => setTimeout(resolve, early));
      while (open >= 512) await new Promise<void>((resolve) => (ended = resolve)); // it can't keep up: the rate says so
      open++;
      void answerOf(wires[i % wires.length]!, Close.requestSerialize({ task })).then(() => {
        if (isSampled(task, oneOf)) answered.push([task, now()]);
      }, () => {
        failed++;
      }).finally(() => {
        open--;
        ended();
      });
    }
    while (open > 0) await new Promise<void>((resolve) => (ended = resolve));
    const seconds = (now() - began) / 1000;
    for (const wire of wires) wire.close();
    return { seconds, failed, answered };
  },

  /** A service on mutual TLS; its port. */
  async serveMtls({ socket }: { socket: string }): Promise<number> {
    const source = await WorkloadSource.open({ address: `unix://${socket}` });
    const verifier = new Verifier({ address: `unix://${socket}` });
    await verifier.ready();
    const server = createMtlsServer({ source, verifier }, (peer) => {
      const { task } = callerOf(peer);
      peer.resume().once("close", () => cut.set(task, now()));
      peer.write("."); // the client knows from this that it was admitted
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return (server.address() as AddressInfo).port;
  },

  /** The agent's end: holds the task, and a connection to the service. */
  async holdMtls({ socket, port, task }: { socket: string; port: number; task: string }): Promise<void> {
    const source = await WorkloadSource.claim({ address: `unix://${socket}`, task });
    const verifier = new Verifier({ address: `unix://${socket}` });
    await verifier.ready();
    const peer = connectMtls({ source, verifier, host: "127.0.0.1", port, authorize: serviceIs("bench-service") });
    peer.on("error", () => undefined);
    peer.once("close", () => {
      cut.set(task, now());
      source.close();
      verifier.close();
    });
    sockets.push(peer);
    await once(peer, "data");
    peer.resume();
  },

  async cutAt({ task, ms }: { task: string; ms: number }): Promise<number> {
    return await until(() => cut.get(task), ms, `connection of ${task} cut`);
  },
};
