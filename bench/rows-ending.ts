// How soon is what has ended dead everywhere?
// At verifiers and followers of the feed, at the workload's own stream, when its process exits, with
// many SVIDs alive, and while brokers are flooded. Times run from the moment at which the call that
// ended the task was answered, on the clock that all processes share; below zero: it was known before.
import type { Task__Output } from "../src/generated/brevet/v1/Task.ts";
import { services } from "../src/proto.ts";
import { Broker } from "./broker.ts";
import { spread, shown } from "./figures.ts";
import type { Figure, Row } from "./figures.ts";
import { commitsPerSecond } from "./machine.ts";
import { jwtMethod, x509Method } from "./rows-calls.ts";
import { Worker, Workers, now } from "./worker.ts";

const listenerProcesses = 4;
const followersEach = 0;
const verifiersEach = 50;
const closes = 60;
const patienceMs = 10_000;

/** Opens a task and binds the worker's process to it. */
async function bound(broker: Broker, worker: Worker): Promise<Task__Output> {
  const task = await broker.open();
  await worker.do("claimTasks", { socket: broker.workload, tasks: [task.id] });
  return task;
}

function within(what: string, samples: number[], limits: { p50?: number; p99?: number; max?: number }): Figure[] {
  const found = spread(samples);
  return (["p50", "p99", "max"] as const).flatMap((name): Figure[] => {
    const atMost = limits[name];
    if (atMost === undefined) return [];
    return [{ what: `${what}${name}`, unit: "ms", target: { atMost }, value: found[name], ...(name === "p50" ? { detail: shown(samples) } : {}) }];
  });
}

async function closedAt(broker: Broker, task: string): Promise<{ called: number; answered: number }> {
  const called = now();
  await broker.connection.tasks.close({ task });
  return { called, answered: now() };
}

/** A single durable commit: no end can be acknowledged sooner. */
async function commitMs(broker: Broker): Promise<{ what: string; value: number }> {
  return { what: "one durable commit", value: 1000 / (await commitsPerSecond(broker, 1)) };
}

async function toVerifiers(): Promise<Figure[]> {
  await using broker = await Broker.start({ lifted: true });
  await using listeners = new Workers(listenerProcesses);
  await using holder = new Worker();
  await listeners.each("follow", () => ({ socket: broker.workload, followers: followersEach }));
  await listeners.each("verify", () => ({ socket: broker.workload, count: verifiersEach }));
  const afterAnswer: number[] = [];
  const afterCall: number[] = [];
  for (let i = 0; i < closes; i++) {
    const { id } = await bound(broker, holder);
    const token = await holder.do("fetchJwt", { socket: broker.workload, audience: "crm" });
    await listeners.each("present", () => token);
    const { called, answered } = await closedAt(broker, id);
    const times = await listeners.each("knew", () => ({ task: id, followers: followersEach + verifiersEach, ms: patienceMs }));
    if (i < 5) continue; // warming up
    for (const time of times.flat()) {
      afterAnswer.push(time - answered);
      afterCall.push(time - called);
    }
  }
  const [first, ...others] = within("", afterAnswer, { p50: 5, p99: 50, max: 1000 });
  const limit = await commitMs(broker);
  return first ? [{ ...first, limit, detail: `${first.detail}; from the call: ${shown(afterCall)}` }, ...others] : [];
}

async function toStream(): Promise<Figure[]> {
  await using broker = await Broker.start();
  const samples: number[] = [];
  await using worker = new Worker();
  for (let i = 0; i < closes; i++) {
    const { id } = await bound(broker, worker);
    await worker.do("wait", { socket: broker.workload, method: x509Method });
    await worker.do("waited", { until: "first", ms: patienceMs });
    const { answered } = await closedAt(broker, id);
    const { ended = NaN } = await worker.do("waited", { until: "ended", ms: patienceMs });
    samples.push(ended - answered);
  }
  return within("", samples, { p50: 5 });
}

async function fromExit(): Promise<Figure[]> {
  await using broker = await Broker.start();
  await using listener = new Worker();
  await listener.do("follow", { socket: broker.workload, followers: 1 });
  const samples: number[] = [];
  for (let i = 0; i < 20; i++) {
    await using worker = new Worker();
    const { id } = await bound(broker, worker);
    const killed = now();
    await worker.stop("SIGKILL");
    const [time = NaN] = await listener.do("knew", { task: id, followers: 1, ms: patienceMs });
    samples.push(time - killed);
  }
  return within("", samples, { p50: 100 });
}

async function whileFlooded(): Promise<Figure[]> {
  await using first = await Broker.start({ lifted: true });
  await using second = await Broker.start({ lifted: true, shares: first });
  await using third = await Broker.start({ lifted: true, shares: first });
  await using fourth = await Broker.start({ lifted: true, shares: first });
  const brokers = [first, second, third, fourth];
  await using worker = new Worker();
  const samples: number[] = [];
  let fetched = 0;
  for (let i = 0; i < 25; i++) {
    const { id, spiffeId } = await bound(first, worker);
    // of this task and no other
    const request = services.workload.FetchJWTSVID.requestSerialize({ audience: ["crm"], spiffeId }).toString("base64");
    const floods = brokers.map((broker) => worker.do("callUntilRefused", { socket: broker.workload, method: jwtMethod, request, callers: 8 }));
    await new Promise((resolve) => setTimeout(resolve, 400));
    const { called, answered } = await closedAt(first, id);
    const counts = await Promise.all(floods);
    if (i < 5) continue; // warming up
    samples.push(answered - called);
    for (const count of counts) fetched += count;
  }
  return within("", samples, { p99: 100 }).map((figure) => ({ ...figure, detail: `${shown(samples)}; ${Math.round(fetched / 20)} SVIDs fetched meanwhile, each time` }));
}

export const rows: readonly Row[] = [
  {
    name: "close-verifier", what: `Close acknowledged → refused at ${listenerProcesses * (followersEach + verifiersEach)} subscribed verifiers`,
    anchor: "SPIRE: when it expires, by default 1 h; AgentWrit p50 2.1 ms, only for those who ask it each time", lifted: true, measure: toVerifiers,
  },
  { name: "close-stream", what: "Close acknowledged → workload stream ended", anchor: "SPIRE 1,056 ms", lifted: false, measure: toStream },
  { name: "exit", what: "the bound process is killed → its SVIDs are refused", anchor: "", lifted: false, measure: fromExit },
  { name: "close-flooded", what: "Close of a task that 4 brokers flood with fetches", anchor: "", lifted: true, measure: whileFlooded },
];
