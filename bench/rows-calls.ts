// How fast is a call of the Workload API?
// The same SVID again, on an open connection and on a new one each time, and new JWT-SVIDs.
import { Broker } from "./broker.ts";
import type { Row, Figure } from "./figures.ts";
import { shown, spread } from "./figures.ts";
import type { CallLoad, CallResult } from "./load-calls.ts";
import { bareCalls, commitsPerSecond, ownerOf, signsPerSecond } from "./machine.ts";
import { join } from "node:path";
import { services } from "../src/proto.ts";
import { Worker } from "./worker.ts";

export const x509Method = "/SpiffeWorkloadAPI/FetchX509SVID";
export const jwtMethod = "/SpiffeWorkloadAPI/FetchJWTSVID";
export const jwtRequest = services.workload.FetchJWTSVID.requestSerialize({ audience: ["crm"], spiffeId: "" }).toString("base64");

const measureMs = 4000;
const warmMs = 2000;

/** Calls of a process that holds one task, after a time to warm up. */
async function ofHolder(broker: Broker, load: Omit<CallLoad, "socket">): Promise<CallResult> {
  await using worker = new Worker();
  const task = await broker.open();
  await worker.do("claimTasks", { socket: broker.workload, tasks: [task.id] });
  await worker.do("callAgain", { ...load, socket: broker.workload, callers: 8, ms: warmMs });
  const result = await worker.do("callAgain", { ...load, socket: broker.workload });
  if (result.failed > 0) throw new Error(`${result.failed} calls failed`);
  return result;
}

async function oneCaller(broker: Broker, load: Omit<CallLoad, "socket" | "callers">, atMost: number): Promise<Figure> {
  const { latencies } = await ofHolder(broker, { ...load, callers: 1 });
  const bare = await bareCalls({ ...load, callers: 1, ms: 1000 });
  const detail = shown(latencies);
  return {
    what: "1 caller, p50", unit: "ms", target: { atMost }, value: spread(latencies).p50, detail,
    limit: { what: "bare RPC", value: spread(bare.latencies).p50 },
  };
}

async function manyCallers(broker: Broker, load: Omit<CallLoad, "socket">, atLeast: number): Promise<Figure> {
  const { latencies, seconds } = await ofHolder(broker, load);
  const bare = await bareCalls({ ...load, ms: 2000 });
  return {
    what: `${load.callers} callers`, unit: "/s", target: { atLeast }, value: latencies.length / seconds, detail: shown(latencies),
    limit: { what: "bare RPC", value: bare.latencies.length / bare.seconds },
  };
}

const again = { method: x509Method, request: "", ms: measureMs };
const anew = { ...again, newConnections: true };

export const rows: readonly Row[] = [
  {
    name: "fetch-again", what: "the X.509-SVID that the instance already holds, its task read each time",
    anchor: "SPIRE p50 0.55 ms, 8 callers 4,000/s, from its cache", lifted: true,
    async measure() {
      await using broker = await Broker.start({ lifted: true });
      return [await oneCaller(broker, again, 0.6), await manyCallers(broker, { ...again, callers: 8 }, 4500)];
    },
  },
  {
    name: "fetch-anew", what: "the same on a new connection each time, attested anew",
    anchor: "SPIRE p50 1.1 ms, 8 callers 1,920/s", lifted: true,
    async measure() {
      await using broker = await Broker.start({ lifted: true });
      return [await oneCaller(broker, anew, 1.2), await manyCallers(broker, { ...anew, callers: 8 }, 1700)];
    },
  },
  {
    name: "jwt", what: "JWT-SVIDs, each newly signed and durably recorded",
    anchor: "SPIRE new 1,500/s, cached 5,400/s, unrecorded", lifted: true,
    async measure() {
      await using broker = await Broker.start({ lifted: true });
      const overTheWire = await manyCallers(broker, { method: jwtMethod, request: jwtRequest, callers: 32, ms: measureMs }, 4000);
      await using holder = new Worker();
      const { id } = await broker.open();
      await holder.do("claimTasks", { socket: broker.workload, tasks: [id] });
      const { instance, agent } = await broker.connection.tasks.get({ task: id });
      await using issuer = new Worker();
      const rate = await issuer.do("issue", {
        app: ownerOf(broker), kekFile: join(broker.dataDir, "keys", "kek"), kind: "jwt", callers: 512, ms: measureMs,
        tasks: [{ task: id, agent, instance: instance?.id ?? "" }],
      });
      const commits = await commitsPerSecond(broker, 8);
      const inProcess: Figure = {
        what: "in-process", unit: "/s", target: { atLeast: 15_000 }, value: rate, detail: `single commits by 8 clients ${Math.round(commits)}/s`,
        limit: { what: "signatures of one core", value: await signsPerSecond() },
      };
      return [overTheWire, inProcess];
    },
  },
];
