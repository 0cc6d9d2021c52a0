// Where does a test get a fresh, real PostgreSQL database?
// Always true: each call gives an empty database of its own, gone after close(); all of one test
// file share one server, which ends with the file and leaves nothing.
// BREVET_TEST_DATABASE_URL (a superuser's URL) puts them on that server instead.

import { mkdtempSync, rmSync } from "node:fs";
import { randomBytes } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { afterAll } from "vitest";
import { flockExclusive } from "../../src/kernel.ts";
import { startEmbedded } from "../../src/record/embedded.ts";
import type { EmbeddedPostgres } from "../../src/record/embedded.ts";

export type TestDatabase = {
  /** For configuration (`database.url`); names a superuser. */
  readonly url: string;
  /** For `new pg.Client()` and `new pg.Pool()`. */
  readonly connection: pg.ClientConfig;
  /** Cuts whoever is still connected. */
  close(): Promise<void>;
};

type Server = { readonly url: (database: string) => string; readonly stop: () => Promise<void> };

let server: Promise<Server> | undefined;

afterAll(async () => {
  const started = server;
  server = undefined;
  await (await started)?.stop();
});

export async function testDatabase(): Promise<TestDatabase> {
  server ??= startServer();
  const { url } = await server;
  const name = `test_${randomBytes(8).toString("hex")}`;
  await administer(url("postgres"), `CREATE DATABASE ${name} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'`);
  const close = (): Promise<void> => administer(url("postgres"), `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
  return { url: url(name), connection: { connectionString: url(name) }, close };
}

async function administer(connectionString: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}

async function startServer(): Promise<Server> {
  const external = process.env["BREVET_TEST_DATABASE_URL"];
  if (external !== undefined) return { url: (database) => inDatabase(external, database), stop: async () => {} };
  const dataDir = mkdtempSync(join(tmpdir(), "brevet-test-"));
  const postgres = await startEmbedded({ dataDir, lock: flockExclusive, log: () => {} });
  const stop = async (): Promise<void> => {
    await postgres.stop(10_000);
    rmSync(dataDir, { recursive: true });
  };
  return { url: (database) => socketUrl(postgres, database), stop };
}

/** The socket's directory stands as the host, so that a path in the URL names the database alone. */
function socketUrl({ socketDir, port, superuser }: EmbeddedPostgres, database: string): string {
  return `postgresql://${superuser}@${encodeURIComponent(socketDir)}:${port}/${database}`;
}

function inDatabase(url: string, database: string): string {
  const changed = new URL(url);
  changed.pathname = `/${database}`;
  return changed.href;
}
