// Where does a test get a fresh, real PostgreSQL database?
// Always true: each call gives a database of its own, as the migrations leave it, gone after close(); all of a run
// stand on the one server that BREVET_TEST_DATABASE_URL names (a superuser's URL).
// Who starts that server and makes what is copied, is server.ts's business.
import { randomBytes } from "node:crypto";
import pg from "pg";

export type TestDatabase = {
  /** For configuration (`database.url`); names a superuser. */
  readonly url: string;
  /** For `new pg.Client()` and `new pg.Pool()`. */
  readonly connection: pg.ClientConfig;
  /** Cuts whoever is still connected. */
  close(): Promise<void>;
};

/** `empty`: nothing was migrated in it. */
export async function testDatabase({ empty = false } = {}): Promise<TestDatabase> {
  const server = process.env["BREVET_TEST_DATABASE_URL"];
  if (server === undefined) throw new Error("no server: the tests' global setup starts one");
  const name = `test_${randomBytes(8).toString("hex")}`;
  const template = empty ? undefined : process.env["BREVET_TEST_TEMPLATE"];
  await administer(server, `CREATE DATABASE ${name} TEMPLATE ${template ?? "template0 ENCODING 'UTF8' LOCALE 'C'"}`);
  const url = inDatabase(server, name);
  const close = (): Promise<void> => administer(server, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
  return { url, connection: { connectionString: url }, close };
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

function inDatabase(url: string, database: string): string {
  const changed = new URL(url);
  changed.pathname = `/${database}`;
  return changed.href;
}
