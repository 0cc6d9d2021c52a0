// What can this machine do at all, just now?
// Signatures, durable commits and bare calls, each with the least that has to be done, measured in the
// same run and beside the row they belong to: the machine may be shared, and then all of it is slower.
// What the ratio means is figures.ts's business.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { port } from "../src/record/embedded-place.ts";
import { superuser } from "../src/record/embedded-program.ts";
import type { Broker } from "./broker.ts";
import type { CallLoad, CallResult } from "./load-calls.ts";
import type { Database } from "./load-issuing.ts";
import { Worker } from "./worker.ts";

const briefly = 1000;

export async function signsPerSecond(): Promise<number> {
  await using worker = new Worker();
  return await worker.do("signRate", { ms: briefly });
}

export function ownerOf(broker: Broker): Database {
  return { host: broker.databaseDirectory, port, user: superuser, database: "postgres" };
}

/** On the broker's own PostgreSQL. */
export async function commitsPerSecond(broker: Broker, clients: number): Promise<number> {
  await using worker = new Worker();
  return await worker.do("commitRate", { app: ownerOf(broker), clients, ms: briefly });
}

/** The RPC library alone under the same calls, from the same kind of process. */
export async function bareCalls(load: Omit<CallLoad, "socket">): Promise<CallResult> {
  const folder = mkdtempSync(join(tmpdir(), "bb-"));
  const socket = join(folder, "bare.sock");
  await using server = new Worker();
  await using caller = new Worker();
  try {
    await server.do("serveBare", { socket });
    await caller.do("callAgain", { ...load, socket, ms: briefly });
    return await caller.do("callAgain", { ...load, socket });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
