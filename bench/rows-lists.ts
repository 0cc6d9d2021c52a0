// When does software that fetches lists see an end, and what does a long list cost the others?
// From outside: the task is closed on the socket, the index over HTTP is asked until it counts the entry, and
// meanwhile a caller of its own process asks all the time: its longest wait is the broker's longest pause.
// What stands on a list is the business of the tests.
import { join } from "node:path";
import { Broker } from "./broker.ts";
import { shown, spread } from "./figures.ts";
import type { Figure, Row } from "./figures.ts";
import { ownerOf } from "./machine.ts";
import { seed } from "./rows-sizes.ts";
import { Worker, now } from "./worker.ts";

const longEntries = 100_000;
const seedRows = 10_000;
const closes = 12;
const askEveryMs = 5;
const patienceMs = 60_000;

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

export async function entriesOf(broker: Broker): Promise<number> {
  const { lists } = (await (await fetch(`${broker.httpUrl}/crl`)).json()) as { lists: { entries: number }[] };
  return lists.reduce((sum, { entries }) => sum + entries, 0);
}

/** A task that has so many certificates is closed. Milliseconds from the acknowledgement until lists hold `entries`. */
async function closeWith(broker: Broker, worker: Worker, certificates: number, entries: number): Promise<number> {
  const { id } = await broker.open();
  await worker.do("claimTasks", { socket: broker.workload, tasks: [id] });
  for (let n = 0; n < certificates; n += seedRows) await broker.database.query(seed("x509"), [id, n + 1, Math.min(n + seedRows, certificates)]);
  await broker.connection.tasks.close({ task: id });
  const closed = now();
  for (const deadline = closed + patienceMs; now() < deadline; await pause(askEveryMs)) if ((await entriesOf(broker)) >= entries) return now() - closed;
  throw new Error("the list was not published in time");
}

async function listed(entries: number, atMost: number): Promise<Figure> {
  await using broker = await Broker.start({ lifted: true });
  await using worker = new Worker();
  await closeWith(broker, worker, entries, entries);
  const samples: number[] = [];
  for (let i = 1; i <= closes; i++) {
    await pause(1500); // the list before is out
    samples.push(await closeWith(broker, worker, 1, entries + i));
  }
  return { what: `Close → listed, ${entries} entries`, unit: "ms", target: { atMost }, value: spread(samples).max, detail: shown(samples) };
}

async function longList(): Promise<Figure[]> {
  await using broker = await Broker.start({ lifted: true });
  await using worker = new Worker();
  await using prober = new Worker();
  const probe = { socket: broker.workload, method: "/grpc.health.v1.Health/Check", request: "", everyMs: 2 };
  await closeWith(broker, worker, longEntries, longEntries);
  await pause(2000);
  const quiet = await prober.do("probe", { ...probe, ms: 3000 });
  const probing = prober.do("probe", { ...probe, ms: 5000 });
  const published = await closeWith(broker, worker, 1, longEntries + 1);
  const busy = await probing;
  await using builder = new Worker();
  const built = await builder.do("buildCrl", { app: ownerOf(broker), kekFile: join(broker.dataDir, "keys", "kek"), entries: longEntries, times: 5 });
  return [
    { what: "build and sign, p50", unit: "ms", target: { atMost: 500 }, value: spread(built).p50, detail: shown(built) },
    {
      what: "longest wait of a caller meanwhile", unit: "ms", target: { atMost: 20 }, value: spread(busy).max, limit: { what: "without a list", value: spread(quiet).max },
      detail: `${shown(busy)}; listed ${published.toFixed(0)} ms after the close`,
    },
  ];
}

export const rows: readonly Row[] = [
  {
    name: "crl", what: `a CRL of ${longEntries} entries; a close on shorter and longer ones`, anchor: "", lifted: true,
    async measure() {
      return [...(await longList()), await listed(10_000, 200), await listed(300_000, 1500)];
    },
  },
];
