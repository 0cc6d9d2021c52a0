// Are the database's functions those of their files, whatever was there before?
// Tables are migrated once; functions follow their files at each start that finds them different.
// Real databases; the directories given to `migrate` are copies that a test may alter.
import { cpSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { migrate } from "../src/record/schema.ts";
import { sql } from "./support/ledger.ts";
import { testDatabase } from "./support/postgres.ts";
import type { TestDatabase } from "./support/postgres.ts";

const functions = "select p.oid::text || ' ' || p.oid::regprocedure as line from pg_proc p where p.pronamespace = 'brevet'::regnamespace order by 1";

/** What databases are out with: such a file keeps its name and its text for ever. */
const out = ["0001_init", "0002_own_svids", "0003_list_state", "0004_federation", "0004_operators", "0005_verifiers", "0006_cgroup_and_via", "0007_status_lists"];

test("a database of an earlier version is brought up to date", async () => {
  const database = await testDatabase({ empty: true });
  const earlier = mkdtempSync(join(tmpdir(), "brevet-schema-"));
  try {
    cpSync(sql, earlier, { recursive: true });
    const folder = join(earlier, "migrations");
    for (const name of readdirSync(folder)) if (!out.includes(name.replace(/\.sql$/, ""))) rmSync(join(folder, name));
    await migrate(database.connection, earlier);
    await migrate(database.connection, sql);
    const client = new pg.Client(database.connection);
    await client.connect();
    const { rows } = await client.query<{ name: string }>("select name from brevet.migrations order by id");
    await client.end();
    expect(rows.slice(0, out.length).map(({ name }) => name)).toEqual(out);
    expect(rows.length).toBe(readdirSync(join(sql, "migrations")).length);
  } finally {
    await database.close();
    rmSync(earlier, { recursive: true });
  }
});

describe("functions of the schema", () => {
  let database: TestDatabase;
  let client: pg.Client;
  let directory: string;

  beforeEach(async () => {
    database = await testDatabase({ empty: true });
    await migrate(database.connection, sql);
    client = new pg.Client({ ...database.connection, options: "-c search_path=brevet" });
    await client.connect();
    directory = mkdtempSync(join(tmpdir(), "brevet-schema-"));
    cpSync(sql, directory, { recursive: true });
  });

  afterEach(async () => {
    await client.end();
    await database.close();
    rmSync(directory, { recursive: true });
  });

  const lines = async (): Promise<string[]> => (await client.query<{ line: string }>(functions)).rows.map((row) => row.line);
  const file = (name: string, text: string): void => writeFileSync(join(directory, "functions", name), text);
  const fence = async (argument: string): Promise<unknown> => (await client.query<{ fence: unknown }>(`select task_fence(${argument}) as fence`)).rows[0]?.fence;

  test("a start that finds them as they are writes nothing", async () => {
    const before = await lines();
    await migrate(database.connection, directory);
    expect(await lines()).toEqual(before);
  });

  test("what an earlier version left is gone: other arguments, other answers, other names", async () => {
    await client.query("create function log_entry(kind text) returns text language sql as 'select kind'; create function bygone() returns int language sql as 'select 1'");
    file("task_fence.sql", "create function task_fence(id text) returns text language sql as $$ select 'fence of ' || id $$;");
    await migrate(database.connection, directory);
    const names = (await lines()).map((line) => line.replace(/^\d+ /, ""));
    expect(names.filter((name) => /^(log_entry|bygone|task_fence)/.test(name)))
      .toEqual([expect.stringMatching(/^log_entry\(timestamp/), "task_fence(text)"]);
    expect(await fence("'a'")).toBe("fence of a");
  });

  test("one that can't be written is named, and the last ones stay whole", async () => {
    const before = await lines();
    file("claim_task.sql", "create function claim_task() returns void language sql as $$ select 1");
    await expect(migrate(database.connection, directory)).rejects.toMatchObject({ code: "START_REFUSED", message: expect.stringContaining("functions/claim_task.sql") as string });
    expect(await lines()).toEqual(before);
    await migrate(database.connection, sql);
    expect(await lines()).toEqual(before);
  });

  test("brokers that start at once agree", async () => {
    file("bygone.sql", "create function bygone() returns int language sql as 'select 1';");
    await Promise.all([1, 2, 3].map(() => migrate(database.connection, directory)));
    expect((await lines()).filter((line) => line.endsWith(" bygone()"))).toHaveLength(1);
  });

  test("only the broker's role may run them, and it may not write them", async () => {
    file("bygone.sql", "create function bygone() returns int language sql as 'select 1';");
    await migrate(database.connection, directory);
    const { rows } = await client.query(`select p.oid::regprocedure::text from pg_proc p where p.pronamespace = 'brevet'::regnamespace
      and (not has_function_privilege('brevet_app', p.oid, 'execute') or exists (select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a where a.grantee = 0))`);
    expect(rows).toEqual([]);
    await client.query("set role brevet_app");
    await expect(client.query("create or replace function bygone() returns int language sql as 'select 2'")).rejects.toThrow(/must be owner|permission denied/);
  });
});
