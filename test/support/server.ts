// Where does a whole run of the tests get its PostgreSQL?
// One embedded server for all files, started before the first and stopped after the last, named to them
// in BREVET_TEST_DATABASE_URL, with a migrated database to copy (BREVET_TEST_TEMPLATE). Its files are in memory where
// there is room: no test cuts the power. Where a URL is set already, the server that it names is used.
// A database for each test is postgres.ts's business.
import { mkdtempSync, rmSync, statfsSync } from "node:fs";
import { freemem, tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { flockExclusive } from "../../src/kernel.ts";
import { startEmbedded } from "../../src/record/embedded.ts";
import { migrate } from "../../src/record/schema.ts";
import { sql } from "./ledger.ts";
import { testDatabase } from "./postgres.ts";

const memory = "/dev/shm";
const roomBytes = 4e9;
const freeBytes = 8e9;

export default async function startServer(): Promise<(() => Promise<void>) | undefined> {
  if (process.platform !== "linux") return undefined;
  const stop = process.env["BREVET_TEST_DATABASE_URL"] === undefined ? await startOwn() : undefined;
  const template = await testDatabase({ empty: true });
  await migrate(template.connection, sql);
  process.env["BREVET_TEST_TEMPLATE"] = new URL(template.url).pathname.slice(1);
  return async () => {
    await template.close();
    await stop?.();
  };
}

async function startOwn(): Promise<() => Promise<void>> {
  const dataDir = mkdtempSync(join(hasRoom() ? memory : tmpdir(), "brevet-test-"));
  const { superuser, socketDir, port, stop, connection } = await startEmbedded({ dataDir, lock: flockExclusive, log: () => {} });
  const client = new pg.Client(connection(superuser, "postgres"));
  await client.connect();
  await client.query("alter system set max_wal_size = '256MB'");
  await client.query("select pg_reload_conf()");
  await client.end();
  process.env["BREVET_TEST_DATABASE_URL"] = `postgresql://${superuser}@${encodeURIComponent(socketDir)}:${port}/postgres`;
  return async () => {
    await stop(10_000);
    rmSync(dataDir, { recursive: true });
  };
}

function hasRoom(): boolean {
  try {
    const { bavail, bsize } = statfsSync(memory);
    return bavail * bsize >= roomBytes && Math.min(freemem(), process.constrainedMemory() || Infinity) >= freeBytes;
  } catch {
    return false;
  }
}
