// Which PostgreSQL does this broker use, and as whom?
// The configured one, or its own: started on the data directory, started again if it dies, stopped with
// the broker. Either way migrations run as an owner and everything else as a role with the least rights.
// Starting a server is src/record/embedded.ts's; statements, src/record/store.ts's.
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { Config } from "./config.ts";
import { BrevetError } from "./errors.ts";
import { flockExclusive } from "./kernel.ts";
import { packageRoot } from "./proto.ts";
import { startEmbedded } from "./record/embedded.ts";
import type { EmbeddedPostgres } from "./record/embedded.ts";
import { migrate } from "./record/schema.ts";
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
  const { passwordFile, caFile } = config.database;
  const owner: ConnectionSettings = {
    connectionString: url,
    ...(passwordFile === undefined ? {} : { password: readSecret(passwordFile) }),
    ...(caFile === undefined ? {} : { ssl: { ca: readFileSync(caFile, "utf8"), rejectUnauthorized: true } }),
  };
  const { serverVersion } = await migrate(owner, sql);
  const store = new Store({ app: { ...owner, options: `-c role=${appRole}` }, log });
  return { store, serverVersion, stop: () => store.close() };
}

async function openEmbedded(config: Config, log: Log): Promise<Database> {
  const start = (): Promise<EmbeddedPostgres> =>
    startEmbedded({ dataDir: config.dataDir, user: config.postgres.user, lock: flockExclusive, log });
  let server = await start();
  let stopping = false;
  try {
    const asOwner = server.connection(server.superuser, "postgres");
    const { serverVersion } = await migrate(asOwner, sql, { appLogsIn: true });
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

function readSecret(path: string): string {
  try {
    return readFileSync(path, "utf8").replace(/\r?\n$/, "");
  } catch (error) {
    throw new BrevetError("CONFIG_INVALID", `database.passwordFile: ${path} can't be read`, { cause: error });
  }
}
