// What do size and idleness cost?
// Memory for many open streams, the end of a task with many SVIDs, and a
// broker that nobody asks anything. Memory and processor time are the kernel's figures of the process.
import { Broker } from "./broker.ts";
import { shown, spread } from "./figures.ts";
import type { Figure, Row } from "./figures.ts";
import { Worker, Workers, now } from "./worker.ts";

const allStreams = 10_000;
/** The socket, its process, and that process's directory in /proc. */
const filesPerConnection = 3;
const manySvids = 10_000;
const settleMs = 2000;

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Where the limit of open files can't be raised, fewer are held, and the growth is scaled. */
async function memory(wanted: number, atMost: number): Promise<Figure> {
  await using broker = await Broker.start({ lifted: true });
  const before = broker.memoryMb;
  const processes = 2;
  const connections = Math.min(wanted, Math.floor((broker.openFilesLimit - 1000) / filesPerConnection / processes) * processes);
  const streams = connections < wanted ? connections : allStreams;
  await using workers = new Workers(processes, { manyFiles: true });
  const tasks = await Promise.all(workers.all.map(() => broker.open()));
  await workers.each("claimTasks", (i) => ({ socket: broker.workload, tasks: [tasks[i]?.id ?? ""] }));
  await workers.each("hold", () => ({ sockets: [broker.workload], streams: streams / processes, connections: connections / processes }));
  await pause(settleMs);
  const grown = broker.memoryMb - before;
  const scaled = streams < allStreams ? `, scaled from ${streams}: no more open files allowed here` : "";
  return {
    what: `${wanted} connections`, unit: "MB", target: { atMost }, value: before + (grown * allStreams) / streams,
    detail: `${((grown * 1024) / streams).toFixed(1)} KiB a stream${scaled}`, limit: { what: "the broker at its start", value: before },
  };
}

/** Rows as issuing leaves them, without their signatures: SVIDs of one task, alive. */
export function seed(kind: "x509" | "jwt"): { name: string; text: string } {
  return {
    name: `bench_seed_${kind}`,
    text: `insert into brevet.svids (kind, serial, task, epoch, instance, authority, audiences, issued_at, expires_at)
      select '${kind}', encode(sha256(convert_to($1::text || n, 'UTF8')), 'hex')::varchar(32), t.id, t.epoch, t.instance, a.id, '{}', clock_timestamp(),
        clock_timestamp() + interval '5 minutes' from brevet.tasks t, generate_series($2::int, $3::int) n,
        (select id from brevet.authorities where use = '${kind}' and state = 'active') a where t.id = $1::uuid`,
  };
}

async function manyAlive(): Promise<Figure[]> {
  await using broker = await Broker.start();
  await using worker = new Worker();
  const samples: number[] = [];
  const single: number[] = [];
  for (let i = 0; i < 16; i++) {
    const { id } = await broker.open();
    await worker.do("claimTasks", { socket: broker.workload, tasks: [id] });
    if (i % 2 === 0) await broker.database.query(seed("jwt"), [id, 1, manySvids]);
    await pause(100);
    const called = now();
    await broker.connection.tasks.close({ task: id });
    (i % 2 === 0 ? samples : single).push(now() - called);
  }
  const limit = { what: "of a task without SVIDs", value: spread(single).p50 };
  return [{ what: "Close, p50", unit: "ms", target: { atMost: 10 }, value: spread(samples).p50, detail: shown(samples), limit }];
}

async function idle(): Promise<Figure[]> {
  const seconds = 10;
  await using broker = await Broker.start();
  const read = { name: "bench_idle", text: `select xact_commit + xact_rollback as n, (select coalesce(sum(seq_scan), 0) from pg_stat_user_tables) as scans
    from pg_stat_database where datname = current_database()` };
  await pause(12_000); // what a start leaves to do; PostgreSQL counts what an idle connection did up to 10 s late
  await broker.database.query(read);
  await pause(1500); // our own statement, counted late
  const [before] = await broker.database.query(read);
  const cpu = broker.cpuSeconds;
  await pause(seconds * 1000);
  const used = broker.cpuSeconds - cpu;
  const [after] = await broker.database.query(read);
  const grown = (name: string): number => Number(after?.[name]) - Number(before?.[name]);
  return [
    { what: "statements", unit: "/s", target: { atMost: 1 }, value: Math.max(0, grown("n") - 1) / seconds },
    { what: "table scans", unit: "/s", target: { atMost: 0 }, value: grown("scans") / seconds },
    { what: "memory of the broker", unit: "MB", target: { atMost: 150 }, value: broker.memoryMb },
    { what: "processor, with PostgreSQL", unit: "%", target: { atMost: 1 }, value: (used / seconds) * 100 },
  ];
}

export const rows: readonly Row[] = [
  {
    name: "memory", what: `${allStreams} open workload streams`, anchor: "SPIRE's agent 330 MB on 16 connections; bare grpc-js 178 MB and 370 MB", lifted: true,
    async measure() {
      return [await memory(100, 300), await memory(allStreams, 550)];
    },
  },
  { name: "many-svids", what: `a task with ${manySvids} live SVIDs ended`, anchor: "", lifted: false, measure: manyAlive },
  { name: "idle", what: "a broker that nobody asks anything", anchor: "SPIRE 8.3 statements/s, 150 MB in two daemons", lifted: false, measure: idle },
];
