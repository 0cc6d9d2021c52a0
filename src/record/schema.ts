// How does the database get its tables and functions?
// Tables come by migrations: forward only, each run once. Functions are written anew, all of them,
// whenever their files differ from what was written last: each stands in one file and is changed there.
// Both run as the owner, under one advisory lock; the broker's own role may execute, never alter.
// What a function of the schema is that no file holds: gone, except what a trigger calls (migrations/).
import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { runner } from "node-pg-migrate";
import pg from "pg";
import { BrevetError } from "../errors.ts";
import type { ConnectionSettings } from "./store.ts";

type MigrateOptions = { readonly appLogsIn?: boolean; readonly retentionSeconds?: number };

/**
 * Brings tables and functions up to date as their owner, and checks that the server keeps what it confirms.
 * Two brokers that start at once wait for each other. Dies here: each migration is one transaction, and so are
 * the functions together: the next start goes on. `directory` holds migrations/ and functions/.
 * `appLogsIn`: the least-rights role gets a login of its own, for a server that trusts us as any role.
 * `retentionSeconds`: how old the record gets from now on; the role that has it removed can't say.
 * @throws BrevetError START_REFUSED with what to change
 */
export async function migrate(owner: ConnectionSettings, directory: string, options: MigrateOptions = {}): Promise<{ serverVersion: string }> {
  const client = new pg.Client({ ...owner, connectionTimeoutMillis: 5000, application_name: "brevet migrations" });
  client.on("error", () => undefined); // what is under way fails with it
  try {
    await client.connect();
  } catch (error) {
    throw new BrevetError("DATABASE_UNAVAILABLE", `database: cannot connect: ${(error as Error).message}`, { cause: error });
  }
  try {
    const serverVersion = await checkServer(client);
    await client.query("select pg_advisory_lock(7221, 1)");
    await ensureAppRole(client);
    if (options.appLogsIn) await client.query("alter role brevet_app login");
    await runner({
      dbClient: client,
      dir: join(directory, "migrations"),
      direction: "up",
      migrationsTable: "migrations",
      schema: "brevet",
      createSchema: true,
      noLock: true,
      checkOrder: true,
      log: () => undefined,
    });
    await writeFunctions(client, join(directory, "functions"));
    if (options.retentionSeconds !== undefined) await client.query("update brevet.settings set retention = make_interval(secs => $1)", [options.retentionSeconds]);
    return { serverVersion };
  } catch (error) {
    if (error instanceof BrevetError) throw error;
    throw new BrevetError("START_REFUSED", `database: migration failed: ${(error as Error).message}`, { cause: error });
  } finally {
    await client.end().catch(() => undefined);
  }
}

/**
 * Is the broker's role all that a session of `app` can ever be? Not if it logged in as somebody who can be more.
 * @throws BrevetError START_REFUSED where the configuration names `user` for that and it is not so, or can't log in
 */
export async function isConfined(app: ConnectionSettings, user: string | undefined): Promise<boolean> {
  const client = new pg.Client({ ...app, connectionTimeoutMillis: 5000, application_name: "brevet start" });
  client.on("error", () => undefined);
  try {
    await client.connect();
    const { rows } = await client.query<{ confined: boolean }>(`select not (r.rolsuper or r.rolcreaterole or pg_has_role(r.oid, n.nspowner, 'member')) as confined
      from pg_roles r, pg_namespace n where r.rolname = session_user and n.nspname = 'brevet'`);
    const confined = rows[0]?.confined === true;
    if (confined || user === undefined) return confined;
  } catch (error) {
    if (!(error instanceof pg.DatabaseError)) throw new BrevetError("DATABASE_UNAVAILABLE", `database: cannot connect: ${(error as Error).message}`, { cause: error });
    throw new BrevetError("START_REFUSED",
      `database.appUser: ${(error as Error).message}: as an administrator run: alter role brevet_app login password '…', put that into database.appPasswordFile, and set database.appUser to brevet_app`,
      { cause: error });
  } finally {
    await client.end().catch(() => undefined);
  }
  throw new BrevetError("START_REFUSED", `database.appUser: ${user} can be more than the broker's role: name brevet_app, or a member of it that may make no roles and is none of the tables' owners`);
}

async function checkServer(client: pg.Client): Promise<string> {
  const { rows } = await client.query<Record<string, string>>(`select current_setting('server_version_num') as number,
    current_setting('server_version') as version, current_setting('fsync') as fsync,
    current_setting('full_page_writes') as full_page_writes, current_setting('synchronous_commit') as synchronous_commit,
    pg_is_in_recovery()::text as standby`);
  const found = rows[0] ?? {};
  const wrong: string[] = [];
  if (Number(found["number"]) < 150_000) wrong.push(`server version ${found["version"]} is below 15`);
  if (found["fsync"] !== "on") wrong.push("fsync is off: set it on, or a crash loses revocations");
  if (found["full_page_writes"] !== "on") wrong.push("full_page_writes is off");
  if (found["synchronous_commit"] === "off") wrong.push("synchronous_commit is off: an acknowledged revocation could be lost");
  if (found["standby"] === "true") wrong.push("this server is a standby: point database.url at the primary");
  if (wrong.length > 0) throw new BrevetError("START_REFUSED", `database: ${wrong.join("; ")}`);
  return found["version"] ?? "";
}

/** Roles belong to the whole server, so another database's broker may have made it already. */
async function ensureAppRole(client: pg.Client): Promise<void> {
  const grant = "grant brevet_app to <the user of database.url>";
  await client.query(`do $$ begin
    if not exists (select from pg_roles where rolname = 'brevet_app') then
      begin create role brevet_app; exception when duplicate_object or unique_violation then null; end;
    end if;
  end $$`).catch(refuseRole(`the role brevet_app is missing and may not be made by this user; as an administrator run: create role brevet_app; ${grant}`));
  // since 16 whoever made a role is a member that may not take it
  await client.query(`do $$ begin
    if not pg_has_role(current_user, 'brevet_app', case when current_setting('server_version_num')::int >= 160000 then 'set' else 'member' end) then
      execute format('grant brevet_app to %I', current_user);
    end if;
  end $$`).catch(refuseRole(`this user may not take the role brevet_app, which is there, nor make itself a member; as an administrator run: ${grant}`));
}

function refuseRole(what: string): (error: unknown) => never {
  return (error) => {
    throw new BrevetError("START_REFUSED", `database: ${what}`, { cause: error });
  };
}

/** A function may call one of another file and take what arguments it likes: nothing of the last version stays. */
async function writeFunctions(client: pg.Client, directory: string): Promise<void> {
  const files = readdirSync(directory).filter((name) => name.endsWith(".sql")).sort()
    .map((name) => ({ name, text: readFileSync(join(directory, name), "utf8") }));
  const digest = createHash("sha256").update(JSON.stringify(files)).digest("hex");
  const written = `functions sha256:${digest}`;
  const { rows } = await client.query("select from pg_namespace where nspname = 'brevet' and obj_description(oid, 'pg_namespace') = $1", [written]);
  if (rows.length > 0) return;
  await client.query("begin");
  await client.query("set local search_path = brevet; set local check_function_bodies = off");
  await client.query(dropFunctions);
  for (const { name, text } of files) {
    await client.query(text).catch((error: unknown) => {
      throw new BrevetError("START_REFUSED", `database: functions/${name} failed: ${(error as Error).message}`, { cause: error });
    });
  }
  await client.query("revoke all on all functions in schema brevet from public; grant execute on all functions in schema brevet to brevet_app");
  await client.query(`comment on schema brevet is '${written}'`);
  await client.query("commit");
}

const dropFunctions = `do $$ declare f regprocedure; begin
    for f in select p.oid from pg_proc p where p.pronamespace = 'brevet'::regnamespace
      and not exists (select from pg_trigger t where t.tgfoid = p.oid) loop
      execute 'drop function ' || f;
    end loop;
  end $$`;
