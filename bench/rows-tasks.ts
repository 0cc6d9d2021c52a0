// How fast do tasks come, change and go?
// Opening and closing by many callers, a waiting process that gets its SVID, new SVIDs pushed after
// changes of context, and the first new SVID after the database was away.
import { join } from "node:path";
import { Broker } from "./broker.ts";
import { shown, spread } from "./figures.ts";
import type { Figure, Row } from "./figures.ts";
import { commitsPerSecond, ownerOf, signsPerSecond } from "./machine.ts";
import { jwtMethod, jwtRequest, x509Method } from "./rows-calls.ts";
import { Worker, Workers, now } from "./worker.ts";

const callers = 8;
const patienceMs = 20_000;

async function openAndClose(): Promise<Figure[]> {
  await using broker = await Broker.start({ lifted: true });
  await using worker = new Worker();
  const socket = broker.admin;
  const warm = await worker.do("openTasks", { socket, callers, count: 500 });
  await worker.do("closeTasks", { socket, callers, tasks: warm.tasks });
  const opened = await worker.do("openTasks", { socket, callers, count: 4000 });
  const closed = await worker.do("closeTasks", { socket, callers, tasks: opened.tasks });
  const limit = { what: `durable commits of ${callers} clients`, value: await commitsPerSecond(broker, callers) };
  return [
    { what: `opened, ${callers} callers`, unit: "/s", target: { atLeast: 2000 }, value: opened.count / opened.seconds, limit },
    { what: `closed, ${callers} callers`, unit: "/s", target: { atLeast: 2000 }, value: closed.count / closed.seconds, limit },
  ];
}

/** Each time a new process, since one that had a task and lost it is not waiting for another. */
async function firstSvid(): Promise<Figure[]> {
  await using broker = await Broker.start();
  const fromCall: number[] = [];
  const fromAnswer: number[] = [];
  for (let i = 0; i < 80; i++) {
    await using worker = new Worker();
    await worker.do("wait", { socket: broker.workload, method: x509Method });
    await new Promise((resolve) => setTimeout(resolve, 30));
    const called = now();
    const { id } = await broker.open({ bind: "auto" });
    const answered = now();
    const { first = NaN } = await worker.do("waited", { until: "first", ms: patienceMs });
    await broker.connection.tasks.close({ task: id });
    if (i < 20) continue; // warming up
    fromCall.push(first - called);
    fromAnswer.push(first - answered);
  }
  const limit = { what: "three durable commits", value: 3000 / (await commitsPerSecond(broker, 1)) };
  return [{
    what: "p50", unit: "ms", target: { atMost: 10 }, value: spread(fromCall).p50, limit,
    detail: `${shown(fromCall)}; after Open was answered: ${shown(fromAnswer)}`,
  }];
}

async function databaseBack(): Promise<Figure[]> {
  await using broker = await Broker.start({ lifted: true });
  await using worker = new Worker();
  const { id } = await broker.open();
  await worker.do("claimTasks", { socket: broker.workload, tasks: [id] });
  const fetch = { socket: broker.workload, method: jwtMethod, request: jwtRequest };
  await worker.do("callAgain", { ...fetch, callers: 1, ms: 500 });
  const samples: number[] = [];
  const outages: number[] = [];
  for (let i = 0; i < 5; i++) {
    const killed = now();
    process.kill(broker.postmasterPid, "SIGKILL");
    const [back, served] = await Promise.all([databaseAnswers(broker, killed), worker.do("callUntilServed", { ...fetch, ms: patienceMs, notBefore: killed + 50 })]);
    samples.push(Math.max(0, served - back));
    outages.push(served - killed);
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  return [{
    what: "max", unit: "ms", target: { atMost: 1000 }, value: spread(samples).max,
    detail: `${shown(samples)}; from kill -9 of the postmaster: ${shown(outages)}`,
  }];
}

/** When a new connection is served again. */
async function databaseAnswers(broker: Broker, after: number): Promise<number> {
  await using worker = new Worker();
  return await worker.do("untilDatabaseAnswers", { app: ownerOf(broker), notBefore: after + 50, ms: patienceMs });
}

const holders = 5;
const tasksEach = 200;
const runs = 2;

/** 1,000 tasks, each with a stream of its own: their contexts are changed again and again, all of a run's by one call, or each by its own. */
async function pushed(): Promise<Figure[]> {
  await using broker = await Broker.start({ lifted: true });
  await using workers = new Workers(holders);
  await using changers = new Workers(runs);
  const { tasks } = await changers.all[0]!.do("openTasks", { socket: broker.admin, callers, count: holders * tasksEach, runs });
  const own = (i: number): string[] => tasks.slice(i * tasksEach, (i + 1) * tasksEach);
  const endpoints = await workers.each("claimTasks", (i) => ({ socket: broker.workload, tasks: own(i) }));
  await workers.each("hold", (i) => ({ sockets: endpoints[i] ?? [], streams: tasksEach, connections: tasksEach }));
  const received = async (): Promise<number> => (await workers.each("received", () => undefined)).reduce((sum, n) => sum + n, 0);
  const rateOf = async (change: (ms: number) => Promise<unknown>): Promise<number> => {
    await change(2000);
    const [before, began] = [await received(), now()];
    await change(6000);
    return ((await received()) - before) / ((now() - began) / 1000);
  };
  const byRun = await rateOf((ms) => changers.each("changeRun", (run) => ({ socket: broker.admin, run: String(run), ms })));
  const eachAlone = await rateOf((ms) => changers.each("changeContexts", (i) => ({ socket: broker.admin, callers: 64, ms, tasks: tasks.filter((_, n) => n % runs === i) })));
  const overTheWire: Figure = {
    what: `pushed, ${holders * tasksEach} streams`, unit: "/s", target: { atLeast: 4000 }, value: byRun,
    detail: `contexts of ${runs} runs changed by one call each; every task by a call of its own: ${Math.round(eachAlone).toLocaleString("en")}/s`,
    limit: { what: "signatures of one core", value: await signsPerSecond() },
  };
  const first = await broker.connection.tasks.list({ agent: "", state: "active", refs: {}, pageSize: 1000, pageToken: "" });
  await using issuer = new Worker();
  const rate = await issuer.do("issue", {
    app: ownerOf(broker), kekFile: join(broker.dataDir, "keys", "kek"), kind: "x509", callers: 512, ms: 4000,
    tasks: first.tasks.map((task) => ({ task: task.id, agent: task.agent, instance: task.instance?.id ?? "" })),
  });
  return [overTheWire, { what: "in-process", unit: "/s", target: { atLeast: 8000 }, value: rate, limit: { what: "signatures of one core", value: await signsPerSecond() } }];
}

export const rows: readonly Row[] = [
  { name: "tasks", what: "tasks opened and closed, durably", anchor: "SPIRE 476/s and 700/s; AgentWrit registers 509/s", lifted: true, measure: openAndClose },
  { name: "open-svid", what: "Open → X.509-SVID in the hands of a waiting process", anchor: "SPIRE 1,098 ms, as installed 5,991 ms", lifted: false, measure: firstSvid },
  { name: "database-back", what: "the database answers again after an outage → next new SVID", anchor: "SPIRE 9 to 14 s", lifted: true, measure: databaseBack },
  { name: "x509", what: "new X.509-SVIDs, each durably recorded, after changes of context", anchor: "SPIRE signs about 1,000/s, unrecorded; step-ca 1,000/s", lifted: true, measure: pushed },
];
