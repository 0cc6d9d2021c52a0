// Is a PostgreSQL that somebody else runs reached as the configuration says?
// A real server that asks for a password; what is done there runs with the least rights.
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { loadConfig } from "../src/config.ts";
import { openDatabase } from "../src/database.ts";
import { flockExclusive } from "../src/kernel.ts";
import { startEmbedded } from "../src/record/embedded.ts";
import type { EmbeddedPostgres } from "../src/record/embedded.ts";
import { patienceMs } from "./support/patience.ts";

const password = "p&ss w%rd/?=+";
let folder: string;
let server: EmbeddedPostgres;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "brevet-database-"));
  server = await startEmbedded({ dataDir: join(folder, "d"), lock: flockExclusive, log: () => {} });
  const admin = new pg.Client(server.connection(server.superuser, "postgres"));
  await admin.connect();
  await admin.query(`create role keeper superuser login password ${pg.escapeLiteral(password)}`);
  await admin.query("create role brevet_app login password 'app'; create role member login password 'app' in role brevet_app");
  await admin.query("create role plain login password 'app'");
  for (const name of ["granted", "made"]) await admin.query(`create database ${name} owner plain`);
  writeFileSync(join(folder, "d", "postgres", "data", "pg_hba.conf"), "local all keeper,brevet_app,member,plain scram-sha-256\n");
  await admin.query("select pg_reload_conf()");
  await admin.end();
  await vi.waitUntil(letsIn, { timeout: patienceMs, interval: 50 }); // the server reads its files when it comes to it
});

async function letsIn(): Promise<boolean> {
  const client = new pg.Client({ host: server.socketDir, port: server.port, user: "keeper", database: "postgres", password });
  client.on("error", () => undefined);
  return await client.connect().then(() => client.end()).then(() => true, () => false);
}

afterAll(async () => {
  await server.stop(10_000);
  rmSync(folder, { recursive: true });
});

function written(name: string, secret: string): string {
  const file = join(folder, name);
  writeFileSync(file, secret, { mode: 0o600 });
  return file;
}

function config(name: string, secret: string, query = "", more: Readonly<Record<string, string>> = {}): ReturnType<typeof loadConfig> {
  const url = `postgres://keeper@${encodeURIComponent(server.socketDir)}:${server.port}/postgres${query}`;
  return loadConfig({ env: { BREVET_DATA_DIR: folder, BREVET_DATABASE_URL: url, BREVET_DATABASE_PASSWORD_FILE: written(name, secret), ...more } });
}

describe("database.url with database.passwordFile", () => {
  test("takes the password of the file, and works as the role with the least rights", async () => {
    const database = await openDatabase(config("right", `${password}\n`, "?options=-c%20role%3Dkeeper%20-c%20work_mem%3D5MB"), () => {});
    try {
      const [row] = await database.store.query({ name: "who", text: "select current_user as who, session_user as logged_in, current_setting('work_mem') as memory, count(*)::int as tasks from tasks" }, []);
      expect(row).toEqual({ who: "brevet_app", logged_in: "keeper", memory: "5MB", tasks: 0 });
    } finally {
      await database.stop(1000);
    }
  });

  test("says so where it is wrong, or not there", async () => {
    await expect(openDatabase(config("wrong", "guess"), () => {})).rejects.toMatchObject({ code: "DATABASE_UNAVAILABLE", message: expect.stringContaining("password") as string });
    const missing = { ...config("gone", ""), database: { ...config("gone", "").database, passwordFile: join(folder, "not there") } };
    await expect(openDatabase(missing, () => {})).rejects.toMatchObject({ code: "CONFIG_INVALID", message: expect.stringContaining("database.passwordFile") as string });
  });
});

test.each(["passwordFile", "appPasswordFile"])("database.%s that others may read is refused, as the key's file is", async (key) => {
  const settings = config("right", password, "", { BREVET_DATABASE_APP_USER: "brevet_app", BREVET_DATABASE_APP_PASSWORD_FILE: written("app", "app") });
  const path = join(folder, key === "passwordFile" ? "right" : "app");
  for (const mode of [0o644, 0o640]) {
    chmodSync(path, mode);
    await expect(openDatabase(settings, () => {})).rejects.toMatchObject({ code: "CONFIG_INVALID", message: `database.${key}: others may read ${path}: chmod 600 ${path}` });
  }
  chmodSync(path, 0o600);
});

describe("database.appUser", () => {
  const who = { name: "who", text: "select current_user as who, session_user as logged_in" };
  const told: string[] = [];
  const log = (event: string): void => void told.push(event);
  const as = (user: string, secret: string): ReturnType<typeof loadConfig> =>
    config("right", password, "", { BREVET_DATABASE_APP_USER: user, BREVET_DATABASE_APP_PASSWORD_FILE: written("app", secret) });
  /** What the broker's own session becomes when somebody in it lays the role down. */
  const laidDown = async (settings: ReturnType<typeof loadConfig>): Promise<unknown> => {
    const database = await openDatabase(settings, log);
    try {
      return await database.store.transaction(async (tx) => {
        await tx.query({ name: "reset", text: "set local role none" });
        return (await tx.query(who))[0];
      });
    } finally {
      await database.stop(1000);
    }
  };

  test("is all that a session of the broker can be; without it the role can be laid down, and the log says so", async () => {
    expect(await laidDown(as("brevet_app", "app"))).toEqual({ who: "brevet_app", logged_in: "brevet_app" });
    expect(await laidDown(as("member", "app\n"))).toEqual({ who: "member", logged_in: "member" });
    expect(told).toEqual([]);
    expect(await laidDown(config("right", password))).toEqual({ who: "keeper", logged_in: "keeper" });
    expect(told).toEqual(["database.roles_not_separated"]);
  });

  test("that can be more, or can't log in, is refused with what to do", async () => {
    await expect(openDatabase(as("keeper", password), log)).rejects.toMatchObject({ code: "START_REFUSED", message: expect.stringMatching(/^database\.appUser: keeper can be more/) as string });
    await expect(openDatabase(as("brevet_app", "guess"), log)).rejects.toMatchObject({ code: "START_REFUSED", message: expect.stringMatching(/^database\.appUser: .*alter role brevet_app login password/) as string });
    expect(() => loadConfig({ env: { BREVET_DATA_DIR: folder, BREVET_DATABASE_URL: "postgres:///d", BREVET_DATABASE_APP_PASSWORD_FILE: "/x" } })).toThrow("database.appPasswordFile: means nothing without database.appUser");
  });
});

describe("the role with the least rights", () => {
  const asPlain = (database: string): ReturnType<typeof loadConfig> => {
    const url = `postgres://plain@${encodeURIComponent(server.socketDir)}:${server.port}/${database}`;
    return loadConfig({ env: { BREVET_DATA_DIR: folder, BREVET_DATABASE_URL: url, BREVET_DATABASE_PASSWORD_FILE: written("plain", "app") } });
  };
  const administer = async (statement: string): Promise<void> => {
    const keeper = new pg.Client({ host: server.socketDir, port: server.port, user: "keeper", database: "postgres", password });
    await keeper.connect();
    await keeper.query(statement);
    await keeper.end();
  };
  const open = async (database: string): Promise<void> => await (await openDatabase(asPlain(database), () => {})).stop(1000);

  test("that is there, and not this user's to take, is not said to be missing", async () => {
    await expect(open("granted")).rejects.toMatchObject({ code: "START_REFUSED", message: expect.stringMatching(/may not take the role brevet_app, which is there.*run: grant brevet_app to/) as string });
    await administer("grant brevet_app to plain");
    await open("granted");
    await administer("revoke brevet_app from plain");
  });

  test("is made by a user who may make roles, and taken by it; one who may not is told how", async () => {
    await administer("alter role brevet_app rename to elsewhere");
    await expect(open("made")).rejects.toMatchObject({ code: "START_REFUSED", message: expect.stringMatching(/the role brevet_app is missing.*run: create role brevet_app; grant/) as string });
    await administer("alter role plain createrole");
    await open("made");
  });
});
