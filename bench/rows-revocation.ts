// How soon is what was revoked refused everywhere, also when very much of it is?
// Connections cut, a storm of closes with many verifiers, issuing beside it, what verifiers cost the broker, and
// a restart with very many live revocations. Times run from the moment at which the close was answered.
// Single closes are rows-ending.ts's, lists rows-lists.ts's.
import pg from "pg";
import { port } from "../src/record/embedded-place.ts";
import { superuser } from "../src/record/embedded-program.ts";
import { Broker, service } from "./broker.ts";
import { shown, spread } from "./figures.ts";
import type { Figure, Row } from "./figures.ts";
import { commitsPerSecond } from "./machine.ts";
import { jwtMethod, jwtRequest } from "./rows-calls.ts";
import { Worker, Workers, now } from "./worker.ts";

const patienceMs = 20_000;
const verifierProcesses = 4;
const stormVerifiers = 200;
const stormPerSecond = 1_000;
const stormSeconds = 30;
const besidePerSecond = 500;
const manyVerifiers = 2_000;
const liveRevocations = 100_000;
const seedRows = 2_000;

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Claimed tasks as the database has them, without as many processes: their closes are revocations like any other. */
async function claimedTasks(broker: Broker, holder: Worker, count: number): Promise<string[]> {
  const { id } = await broker.open();
  await holder.do("claimTasks", { socket: broker.workload, tasks: [id] });
  const tasks: string[] = [];
  for (let left = count; left > 0; left -= seedRows) {
    const rows = await broker.database.query({
      name: "bench_claimed", text: `insert into brevet.tasks select (jsonb_populate_record(t, jsonb_build_object('id', uuidv7()))).*
        from brevet.tasks t, generate_series(1, $2::int) where t.id = $1::uuid returning id`,
    }, [id, Math.min(left, seedRows)]);
    tasks.push(...rows.map((row) => row["id"] as string));
  }
  return tasks;
}

async function cutConnections(): Promise<Figure[]> {
  await using broker = await Broker.start({ lifted: true, withService: true });
  await using server = new Worker();
  const port = await server.do("serveMtls", { socket: broker.workload });
  const atServer: number[] = [];
  const atClient: number[] = [];
  for (let i = 0; i < 40; i++) {
    await using client = new Worker();
    const { id } = await broker.open();
    await client.do("holdMtls", { socket: broker.workload, port, task: id });
    await broker.connection.tasks.close({ task: id });
    const answered = now();
    const given = { task: id, ms: patienceMs };
    const [theirs, own] = await Promise.all([server.do("cutAt", given), client.do("cutAt", given)]);
    if (i < 5) continue; // warming up
    atServer.push(theirs - answered);
    atClient.push(own - answered);
  }
  return [{
    what: "p99 at the service", unit: "ms", target: { atMost: 100 }, value: spread(atServer).p99, detail: `${shown(atServer)}; at the agent: ${shown(atClient)}`,
    limit: { what: "one durable commit", value: 1000 / (await commitsPerSecond(broker, 1)) },
  }];
}

async function storm(): Promise<Figure[]> {
  const oneOf = 8;
  await using broker = await Broker.start({ lifted: true });
  await using holder = new Worker();
  const tasks = await claimedTasks(broker, holder, stormPerSecond * stormSeconds);
  await using listeners = new Workers(verifierProcesses);
  await listeners.each("verifyMany", () => ({ socket: broker.workload, count: stormVerifiers / verifierProcesses, oneOf }));
  await using closers = new Workers(2);
  const memory: number[] = [];
  const watching = setInterval(() => memory.push(broker.memoryMb), 1000);
  const began = now();
  const share = (i: number): string[] => tasks.filter((_, n) => n % 2 === i);
  const closed = await closers.each("closeAtRate", (i) => ({ socket: broker.admin, tasks: share(i), perSecond: stormPerSecond / 2, oneOf }));
  clearInterval(watching);
  const seconds = Math.max(...closed.map((each) => each.seconds));
  await pause(2000);
  const answered = closed.flatMap((each) => each.answered);
  const times = await listeners.each("refusals", () => ({ tasks: answered.map(([task]) => task) }));
  const [all, early, late]: [number[], number[], number[]] = [[], [], []];
  let missing = 0;
  answered.forEach(([, at], n) => {
    for (const process of times) {
      const refusals = process[n] ?? [];
      missing += stormVerifiers / verifierProcesses - refusals.length;
      for (const time of refusals) {
        all.push(time - at);
        if (at < began + (seconds * 1000) / 3) early.push(time - at);
        if (at > began + (seconds * 2000) / 3) late.push(time - at);
      }
    }
  });
  if (missing > 0) throw new Error(`${missing} refusals are missing`);
  const failed = closed.reduce((sum, each) => sum + each.failed, 0);
  const third = Math.floor(memory.length / 3);
  const grown = Math.max(...memory.slice(-third)) - Math.max(...memory.slice(third, 2 * third));
  return [
    { what: "closes acknowledged", unit: "/s", target: { atLeast: stormPerSecond * 0.99 }, value: (tasks.length - failed) / seconds,
      limit: { what: "durable commits, 1 client", value: await commitsPerSecond(broker, 1) }, ...(failed > 0 ? { detail: `${failed} failed` } : {}) },
    { what: "→ refused, p99", unit: "ms", target: { atMost: 150 }, value: spread(all).p99, detail: shown(all) },
    { what: "p99 of the last third", unit: "ms", target: { atMost: 150 }, value: spread(late).p99, limit: { what: "of the first third", value: spread(early).p99 } },
    { what: "memory grown, last third", unit: "MB", target: { atMost: 40 }, value: grown, detail: `${Math.max(...memory).toFixed(0)} MB at most` },
  ];
}

async function issuingBeside(): Promise<Figure[]> {
  const ms = 6_000;
  await using broker = await Broker.start({ lifted: true });
  await using holder = new Worker();
  await using caller = new Worker();
  await using closer = new Worker();
  const { id } = await broker.open();
  await caller.do("claimTasks", { socket: broker.workload, tasks: [id] });
  const tasks = await claimedTasks(broker, holder, (besidePerSecond * ms) / 1000);
  const load = { socket: broker.workload, method: jwtMethod, request: jwtRequest, callers: 32 };
  await caller.do("callAgain", { ...load, ms: 2000 });
  const rate = (result: { latencies: number[]; seconds: number }): number => result.latencies.length / result.seconds;
  const alone = rate(await caller.do("callAgain", { ...load, ms }));
  const closing = closer.do("closeAtRate", { socket: broker.admin, tasks, perSecond: besidePerSecond, oneOf: 1 });
  const beside = rate(await caller.do("callAgain", { ...load, ms: ms - 200 }));
  const closed = await closing;
  return [{
    what: "JWT-SVIDs of the rate alone", unit: "%", target: { atLeast: 50 }, value: (beside / alone) * 100,
    detail: `${beside.toFixed(0)}/s beside ${(tasks.length / closed.seconds).toFixed(0)} closes/s, ${alone.toFixed(0)}/s alone`,
  }];
}

async function memoryOfVerifiers(): Promise<Figure[]> {
  await using broker = await Broker.start({ lifted: true });
  const before = broker.memoryMb;
  await using workers = new Workers(verifierProcesses);
  await workers.each("verifyMany", () => ({ socket: broker.workload, count: manyVerifiers / verifierProcesses, oneOf: 1 }));
  await pause(5_000);
  const { verifiers } = await broker.connection.revocations.listVerifiers({});
  if (verifiers.length < manyVerifiers) throw new Error(`only ${verifiers.length} verifiers are listed`);
  const cpu = broker.cpuSeconds;
  await pause(5_000);
  const idle = ((broker.cpuSeconds - cpu) / 5) * 100;
  return [{
    what: `${manyVerifiers} verifiers`, unit: "MB", target: { atMost: 500 }, value: broker.memoryMb, limit: { what: "the broker at its start", value: before },
    detail: `${(((broker.memoryMb - before) * 1024) / manyVerifiers).toFixed(0)} KiB each; ${idle.toFixed(0)} % of a core for heartbeats and database`,
  }];
}

/** What a storm leaves behind: each task ended, with one certificate, and in the feed. */
const endedByHand = [
  `insert into brevet.svids (kind, serial, task, epoch, instance, authority, audiences, issued_at, expires_at)
    select 'x509', left(encode(sha256(convert_to(t.id::text, 'UTF8')), 'hex'), 32), t.id, t.epoch, t.instance, a.id, '{}', now(), now() + interval '5 minutes'
    from brevet.tasks t, (select id from brevet.authorities where use = 'x509' and state = 'active') a where t.state = 'active'`,
  `with chosen as (select id, epoch, row_number() over () as nth from brevet.tasks where state = 'active'),
      head as (update brevet.feed_head set sequence = sequence + (select count(*) from chosen) returning sequence - (select count(*) from chosen) as start)
    insert into brevet.revocations (sequence, subject, epoch, until, at)
    select h.start + c.nth, c.id::text, c.epoch + 1, now() + interval '10 minutes', now() from head h, chosen c`,
  "update brevet.tasks set state = 'closed', epoch = epoch + 1, ended_at = now(), ended_by = 'bench', end_reason = '' where state = 'active'",
  "analyze",
];

async function restart(): Promise<Figure[]> {
  await using first = await Broker.start({ lifted: true });
  await using holder = new Worker();
  const begun = async (): Promise<number> => {
    const from = now();
    await using again = await Broker.start({ lifted: true, shares: first });
    return again.pid > 0 ? now() - from : 0;
  };
  const empty = await begun();
  await claimedTasks(first, holder, liveRevocations);
  const owner = new pg.Client({ host: first.databaseDirectory, port, user: superuser, database: "postgres" });
  await owner.connect();
  try {
    for (const text of endedByHand) await owner.query(text);
  } finally {
    await owner.end();
  }
  const samples = [await begun(), await begun(), await begun()];
  return [{
    what: "started and ready, p50", unit: "ms", target: { atMost: 3_000 }, value: spread(samples).p50, detail: shown(samples), limit: { what: "with none", value: empty },
  }];
}

export const rows: readonly Row[] = [
  { name: "cut", what: `Close acknowledged → live mTLS connection to ${service} cut`, anchor: "SPIRE: never; the connection lives on", lifted: true, measure: cutConnections },
  { name: "storm", what: `${stormPerSecond} closes/s for ${stormSeconds} s with ${stormVerifiers} verifiers`, anchor: "", lifted: true, measure: storm },
  { name: "issue-beside", what: `issuing while ${besidePerSecond} closes/s run`, anchor: "", lifted: true, measure: issuingBeside },
  { name: "verifiers", what: "verifiers of one broker", anchor: "", lifted: true, measure: memoryOfVerifiers },
  { name: "restart", what: `a start with ${liveRevocations} live revocations, each of a task with a certificate`, anchor: "", lifted: true, measure: restart },
];
