// What does a verdict cost a service?
// Rates in process, as a share of what node:crypto alone does with the same bytes; and time, memory and
// look-ups with a million revoked tasks, whose snapshot a real broker sends from its database.
import { Broker } from "./broker.ts";
import type { Figure, Row } from "./figures.ts";
import { Worker } from "./worker.ts";

const manyTasks = 1_000_000;
const atOnce = 20_000;
const slices = 60;
const startMs = 120_000;

async function rates(): Promise<Figure[]> {
  await using worker = new Worker();
  const { jwt, jwtAlone, x509, x509Alone } = await worker.do("judge", { slices });
  const share = (what: string, rate: number, alone: number, atLeast: number): Figure => ({
    what: `${what}, of node:crypto alone`, unit: "%", target: { atLeast }, value: (rate / alone) * 100,
    detail: `${Math.round(rate)}/s and ${Math.round(alone)}/s`,
  });
  return [share("JWT-SVIDs", jwt, jwtAlone, 60), share("X.509-SVIDs", x509, x509Alone, 50)];
}

/** Rows as revocations leave them; a second broker on the same database begins with them. */
async function million(): Promise<Figure[]> {
  await using first = await Broker.start();
  for (let from = 1; from <= manyTasks; from += atOnce) {
    await first.database.query({
      name: "bench_revoked",
      text: `insert into brevet.revocations (sequence, subject, epoch, until, at)
        select 1000 + n, gen_random_uuid()::text, 1, clock_timestamp() + interval '1 hour', clock_timestamp() from generate_series($1::int, $2::int) n`,
    }, [from, from + atOnce - 1]);
  }
  await first.database.query({ name: "bench_head", text: "update brevet.feed_head set sequence = 1000 + $1::int" }, [manyTasks]);
  const known = await first.database.query({ name: "bench_some", text: "select subject from brevet.revocations order by sequence desc limit 1000" });
  await using broker = await Broker.start({ lifted: true, shares: first, startMs });
  await using worker = new Worker();
  const { readyMs, count, megabytes, nanoseconds, peakMb } = await worker.do("know", { socket: broker.workload, tasks: known.map((row) => row["subject"] as string) });
  if (count < manyTasks) throw new Error(`only ${count} revocations arrived`);
  return [
    { what: "snapshot received and known", unit: "ms", target: { atMost: 5000 }, value: readyMs },
    { what: "memory that it keeps", unit: "MB", target: { atMost: 100 }, value: megabytes, detail: `resident at most ${Math.round(peakMb)} MB meanwhile; broker ${Math.round(broker.memoryMb)} MB` },
    { what: "one look-up", unit: "ms", target: { atMost: 0.01 }, value: nanoseconds / 1e6, detail: `${Math.round(nanoseconds)} ns` },
  ];
}

export const rows: readonly Row[] = [
  { name: "verify", what: "verdicts of the SDK, in process", anchor: "", lifted: false, measure: rates },
  { name: "revoked", what: `a verifier that knows ${manyTasks} revoked tasks`, anchor: "", lifted: true, measure: million },
];
