// For how long, at most, can each class of verifier still accept what is dead?
// What one run can measure from outside, beside the bound that the design gives: docs/residual.md holds the
// whole table. Times run from the moment at which the close was answered, or at which the broker fell silent.
// Software of others is measured by the tests that run it (test/interop).
import { Broker } from "./broker.ts";
import { shown, spread } from "./figures.ts";
import type { Figure, Row } from "./figures.ts";
import { x509Method } from "./rows-calls.ts";
import { entriesOf } from "./rows-lists.ts";
import { Worker, Workers, now } from "./worker.ts";

const closes = 25;
const verifiersEach = 10;
const patienceMs = 20_000;
const maxStalenessMs = 10_000;

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function listedAt(broker: Broker, entries: number): Promise<number> {
  for (const deadline = now() + patienceMs; now() < deadline; await pause(2)) if ((await entriesOf(broker)) >= entries) return now();
  throw new Error("the list was not published in time");
}

async function residual(): Promise<Figure[]> {
  await using broker = await Broker.start({ lifted: true, withService: true });
  await using listeners = new Workers(2);
  await using server = new Worker();
  await listeners.each("verifyMany", () => ({ socket: broker.workload, count: verifiersEach, oneOf: 1, maxStaleness: "10s" }));
  const port = await server.do("serveMtls", { socket: broker.workload });
  const [sdk, streams, cut, listed]: [number[], number[], number[], number[]] = [[], [], [], []];
  for (let i = 0; i < closes; i++) {
    await using holder = new Worker();
    const { id } = await broker.open();
    await holder.do("holdMtls", { socket: broker.workload, port, task: id });
    await holder.do("wait", { socket: broker.workload, method: x509Method });
    await holder.do("waited", { until: "first", ms: patienceMs });
    const entries = await entriesOf(broker);
    await broker.connection.tasks.close({ task: id });
    const answered = now();
    const [{ ended = NaN }, connection, list] = await Promise.all([
      holder.do("waited", { until: "ended", ms: patienceMs }), server.do("cutAt", { task: id, ms: patienceMs }), listedAt(broker, entries + 1),
    ]);
    const refusals = (await listeners.each("refusals", () => ({ tasks: [id] }))).flat(2);
    if (refusals.length < 2 * verifiersEach) throw new Error(`${refusals.length} of ${2 * verifiersEach} verifiers refuse`);
    if (i < 5) continue; // warming up
    streams.push(ended - answered);
    cut.push(connection - answered);
    listed.push(list - answered);
    sdk.push(...refusals.map((at) => at - answered));
  }
  process.kill(broker.pid, "SIGSTOP");
  const silent = now();
  const stale = (await listeners.each("staleAt", () => ({ ms: 2 * maxStalenessMs }))).flat().map((at) => at - silent);
  process.kill(broker.pid, "SIGCONT");
  const figure = (what: string, atMost: number, samples: number[]): Figure => ({ what, unit: "ms", target: { atMost }, value: spread(samples).max, detail: shown(samples) });
  return [
    figure("SDK that hears the feed", 1_000, sdk),
    figure("SDK cut off from its broker", maxStalenessMs, stale),
    figure("workload stream", 1_000, streams),
    figure("live mTLS connection of the SDK", 1_000, cut),
    figure("list published (fetchers: + nextUpdate)", 1_000, listed),
  ];
}

export const rows: readonly Row[] = [
  { name: "residual", what: "how long what is dead can still be accepted, by class: longest measured, bound by design", anchor: "SPIRE: until it expires, by default 1 h", lifted: true, measure: residual },
];
