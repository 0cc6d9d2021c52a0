// Which PostgreSQL does this broker use, and as whom?
// The configured one, or its own: started on the data directory, started again if it dies, stopped with
// the broker. Either way migrations run as an owner and everything else as a role with the least rights.
// Starting a server is src/record/embedded.ts's; statements, src/record/store.ts's.
import { readFileSync, statSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { Config } from "./config.ts";
import { BrevetError } from "./errors.ts";
import { flockExclusive } from "./kernel.ts";
import { packageRoot } from "./proto.ts";
import { startEmbedded } from "./record/embedded.ts";
import type { EmbeddedPostgres } from "./record/embedded.ts";
import { isConfined, migrate } from "./record/schema.ts";
import { Store } from "./record/store.ts";
import type { ConnectionSettings } from "./record/store.ts";
import type { Log } from "./telemetry.ts";

export type Database = { readonly store: Store; readonly serverVersion: string; stop(deadlineMs: number): Promise<void> };

/** Where migrations/ and functions/ are. */
const sql = `${packageRoot}src/record`;
const appRole = "brevet_app";

export async function openDatabase(config: Config, log: Log): Promise<Database> {
  return config.database.url === undefined ? openEmbedded(config, log) : openConfigured(config, config.database.url, log);
}

async function openConfigured(config: Config, url: string, log: Log): Promise<Database> {
  const { passwordFile, appUser, appPasswordFile, caFile } = config.database;
  const ca = caFile === undefined ? undefined : readText("caFile", caFile);
  const owner = reach(url, { password: readPassword("passwordFile", passwordFile), ca });
  const { serverVersion } = await migrate(owner, sql, { retentionSeconds: config.retention });
  const login = appUser === undefined ? owner : reach(url, { user: appUser, password: readPassword("appPasswordFile", appPasswordFile), ca });
  const app = { ...login, options: `${login.options ?? ""} -c role=${appRole}` };
  if (!(await isConfined(app, appUser))) {
    log("database.roles_not_separated", { message: `statements log in as the tables' owner and take the role ${appRole}, which such a session can lay down: let ${appRole} log in, and set database.appUser` }, "warn");
  }
  const store = new Store({ app, log });
  return { store, serverVersion, stop: () => store.close() };
}

type Login = { readonly user?: string; readonly password: string | undefined; readonly ca: string | undefined };

/** What the URL says, be it that the password is empty, goes with pg before what stands beside it: so it says only what may. */
function reach(url: string, { user, password, ca }: Login): ConnectionSettings {
  const whole = new URL(url);
  const { searchParams } = whole;
  const options = searchParams.get("options") ?? undefined;
  searchParams.delete("options");
  if (user !== undefined) searchParams.set("user", user);
  if (password !== undefined) searchParams.set("password", password);
  if (ca === undefined) return { connectionString: whole.href, options };
  for (const key of [...searchParams.keys()].filter((name) => name.startsWith("ssl"))) searchParams.delete(key);
  return { connectionString: whole.href, options, ssl: { ca, rejectUnauthorized: true } };
}

async function openEmbedded(config: Config, log: Log): Promise<Database> {
  const start = (): Promise<EmbeddedPostgres> =>
    startEmbedded({ dataDir: config.dataDir, user: config.postgres.user, lock: flockExclusive, log });
  let server = await start();
  let stopping = false;
  try {
    const asOwner = server.connection(server.superuser, "postgres");
    const { serverVersion } = await migrate(asOwner, sql, { appLogsIn: true, retentionSeconds: config.retention });
    const store = new Store({ app: server.connection(appRole, "postgres"), log });
    const superviseAgain = (): void => {
      server.onExit(() => void restart());
    };
    const restart = async (): Promise<void> => {
      log("postgres.died", { message: "the broker's own PostgreSQL ended by itself: starting it again" }, "error");
      while (!stopping) {
        try {
          await server.stop(1000);
          server = await start();
          superviseAgain();
          return;
        } catch (error) {
          log("postgres.restart_failed", { message: (error as Error).message }, "error");
          await sleep(1000);
        }
      }
    };
    superviseAgain();
    return {
      store, serverVersion,
      stop: async (deadlineMs) => {
        stopping = true;
        await store.close();
        await server.stop(deadlineMs);
      },
    };
  } catch (error) {
    await server.stop(2000);
    throw error;
  }
}

function readPassword(key: "passwordFile" | "appPasswordFile", path: string | undefined): string | undefined {
  if (path === undefined) return undefined;
  const secret = readText(key, path).replace(/\r?\n$/, "");
  if ((statSync(path).mode & 0o077) !== 0) throw new BrevetError("CONFIG_INVALID", `database.${key}: others may read ${path}: chmod 600 ${path}`);
  return secret;
}

function readText(key: "passwordFile" | "appPasswordFile" | "caFile", path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new BrevetError("CONFIG_INVALID", `database.${key}: ${path} can't be read`, { cause: error });
  }
}
