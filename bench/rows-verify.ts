// What does a verdict cost a service?
// Rates in process, as a share of what node:crypto alone does with the same bytes; and time, memory and
// look-ups with a million revoked tasks, whose snapshot the broker's own feed sends.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Figure, Row } from "./figures.ts";
import { Worker } from "./worker.ts";

const manyTasks = 1_000_000;
const slices = 60;

async function rates(): Promise<Figure[]> {
  await using worker = new Worker();
  const { jwt, jwtAlone, x509, x509Alone } = await worker.do("judge", { slices });
  const share = (what: string, rate: number, alone: number, atLeast: number): Figure => ({
    what: `${what}, of node:crypto alone`, unit: "%", target: { atLeast }, value: (rate / alone) * 100,
    detail: `${Math.round(rate)}/s and ${Math.round(alone)}/s`,
  });
  return [share("JWT-SVIDs", jwt, jwtAlone, 60), share("X.509-SVIDs", x509, x509Alone, 50)];
}

/** The broker's own feed over a socket, from memory instead of a database: what is measured is the other side. */
async function million(): Promise<Figure[]> {
  const folder = mkdtempSync(join(tmpdir(), "bb-"));
  await using server = new Worker();
  await using worker = new Worker();
  const socket = join(folder, "feed.sock");
  const tasks = await server.do("serveRevoked", { socket, count: manyTasks });
  const { readyMs, count, megabytes, nanoseconds, peakMb, cpuMs } = await worker.do("know", { socket, tasks });
  rmSync(folder, { recursive: true, force: true });
  if (count < manyTasks) throw new Error(`only ${count} revocations arrived`);
  return [
    { what: "snapshot received and known", unit: "ms", target: { atMost: 5000 }, value: readyMs, detail: `${Math.round(cpuMs)} ms of processor time` },
    { what: "memory that it keeps", unit: "MB", target: { atMost: 100 }, value: megabytes, detail: `resident at most ${Math.round(peakMb)} MB meanwhile` },
    { what: "one look-up", unit: "ms", target: { atMost: 0.01 }, value: nanoseconds / 1e6, detail: `${Math.round(nanoseconds)} ns` },
  ];
}

export const rows: readonly Row[] = [
  { name: "verify", what: "verdicts of the SDK, in process", anchor: "", lifted: false, measure: rates },
  { name: "revoked", what: `a verifier that knows ${manyTasks} revoked tasks`, anchor: "", lifted: false, measure: million },
];
