// How does a broker without a database URL get its PostgreSQL, and how does that end?
// Always true: at most one broker holds D (flock on D/lock), at most one server its data; the server
// and all it forks hold D/postgres/alive, so "nobody holds it" is the kernel's word that the last
// one is gone, whatever pid its pid file names. The server outlives a killed broker (no pipe ties
// them), and the next broker adopts it. It is never sent SIGKILL.
// A crash here leaves D, at worst a running server and the directory D/postgres/outside names:
// the next start on D takes both up. Roles, schema and pools are src/record/store.ts's.

import { spawn } from "node:child_process";
import * as fs from "node:fs";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { BrevetError } from "../errors.ts";
import { hasSocket, makeHome, openDataDir, openPlace, port, refused, removeOutside, socketDir } from "./embedded-place.ts";
import type { Place } from "./embedded-place.ts";
import { dataByCwd, findPackage, initialise, prepareProgram, superuser, writeSettings } from "./embedded-program.ts";

export type EmbeddedOptions = {
  readonly dataDir: string;
  /** The account PostgreSQL runs as when the broker is root; default `postgres`, else `nobody`. */
  readonly user?: string | undefined;
  /** Takes the lock of an open file without waiting; false if another holds it. */
  readonly lock: (fd: number) => boolean;
  readonly signal?: AbortSignal | undefined;
  readonly log: (event: string, fields: Record<string, string | number>) => void;
};

type Connection = { readonly host: string; readonly port: number; readonly user: string; readonly database: string };

export type EmbeddedPostgres = {
  readonly socketDir: string;
  readonly port: number;
  readonly superuser: string;
  connection(role: string, database: string): Connection;
  readonly pid: number;
  /** It was already running: a broker before us was killed. */
  readonly adopted: boolean;
  /** Ends the server and lets go of D. SIGQUIT after `deadlineMs`: then the next start recovers. */
  stop(deadlineMs: number): Promise<void>;
  /** Called once if the server ends without stop(). */
  onExit(callback: () => void): void;
};

/** Crash recovery may take its time; whoever can't wait passes a signal. */
const startMs = 120_000;
const quitMs = 15_000;

export async function startEmbedded(options: EmbeddedOptions): Promise<EmbeddedPostgres> {
  const held = holdDataDir(options);
  try {
    const place = openPlace(held.path, options.user);
    const limits = [AbortSignal.timeout(startMs), ...(options.signal ? [options.signal] : [])];
    const { server, adopted } = await findOrLaunch(place, { ...options, signal: AbortSignal.any(limits) });
    return handle(place, server, { adopted, log: options.log, release: held.release });
  } catch (error) {
    held.release();
    throw error;
  }
}

// ---- D

function holdDataDir({ dataDir, lock }: EmbeddedOptions): { path: string; release: () => void } {
  const path = openDataDir(dataDir);
  const file = join(path, "lock");
  const fd = openLockFile(file);
  if (!lock(fd)) {
    fs.closeSync(fd);
    const pid = fs.readFileSync(file, "utf8").trim() || "unknown";
    throw refused(`${path} is in use by another broker (pid ${pid}): stop it, or choose another data directory`);
  }
  fs.ftruncateSync(fd);
  fs.writeSync(fd, `${process.pid}\n`, 0);
  let open = true;
  const release = (): void => {
    if (open) fs.closeSync(fd);
    open = false;
  };
  return { path, release };
}

/** Never removed: whoever holds a lock on a removed file holds nothing. */
function openLockFile(path: string): number {
  const { O_RDWR, O_CREAT, O_NOFOLLOW } = fs.constants;
  return fs.openSync(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0o600);
}

// ---- a server's process

type Server = {
  readonly pid: number;
  /** Settles when the process is gone. */
  readonly gone: Promise<void>;
  kill(signal: "SIGINT" | "SIGQUIT"): void;
};

/** When the process started, in clock ticks since boot: with the pid, its name. Undefined: gone, or a zombie. */
function startTime(pid: number): string | undefined {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" || fields[0] === "X" ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

/** Is this process a PostgreSQL of the data's owner that works in this very directory? */
function servesData(pid: number, data: string): boolean {
  try {
    const [cwd, own] = [fs.statSync(`/proc/${pid}/cwd`), fs.statSync(data)];
    const program = basename(fs.readlinkSync(`/proc/${pid}/exe`)).replace(/ \(deleted\)$/, "");
    const { uid } = fs.statSync(`/proc/${pid}`);
    return program === "postgres" && uid === own.uid && cwd.dev === own.dev && cwd.ino === own.ino;
  } catch {
    return false;
  }
}

/** Lines 1 and 8 of postmaster.pid: the pid and "starting", "ready" or "stopping". */
function readPidFile(data: string): { pid: number; status: string } | undefined {
  try {
    const lines = fs.readFileSync(join(data, "postmaster.pid"), "utf8").split("\n");
    const pid = Number(lines[0]);
    return Number.isSafeInteger(pid) && pid > 0 ? { pid, status: lines[7]?.trim() ?? "" } : undefined;
  } catch {
    return undefined;
  }
}

/** A server that is not our child: its end is looked for, as nobody tells us. */
function strangerServer(pid: number, started: string): Server {
  const same = (): boolean => startTime(pid) === started;
  const gone = new Promise<void>((resolve) => {
    const timer = setInterval(() => {
      if (same()) return;
      clearInterval(timer);
      resolve();
    }, 100);
    timer.unref();
  });
  return { pid, gone, kill: (signal) => void (same() && process.kill(pid, signal)) };
}

// ---- adopt or launch

type Start = Pick<EmbeddedOptions, "lock" | "log"> & { readonly signal: AbortSignal };

async function findOrLaunch(place: Place, start: Start): Promise<{ server: Server; adopted: boolean }> {
  const alive = openLockFile(join(place.root, "alive"));
  try {
    let asked = false;
    for (;;) {
      start.signal.throwIfAborted();
      const running = readPidFile(place.data);
      const started = running && servesData(running.pid, place.data) ? startTime(running.pid) : undefined;
      if (running === undefined || started === undefined) {
        // none by name; what the last one forked may still be on its way out
        if (start.lock(alive)) break;
      } else if (running.status === "ready" && hasSocket(place)) {
        start.log("postgres_adopted", { pid: running.pid });
        return { server: strangerServer(running.pid, started), adopted: true };
      } else if (running.status === "ready" && !asked) {
        // its socket was swept away: nobody can reach it, so it is replaced
        process.kill(running.pid, "SIGINT");
        asked = true;
      }
      await sleep(20, undefined, { signal: start.signal });
    }
    return { server: await launch(place, { ...start, alive }), adopted: false };
  } catch (error) {
    if (!start.signal.aborted || error instanceof BrevetError) throw error;
    throw refused(`PostgreSQL on ${place.data} was not ready in time; see ${join(place.root, "log")}`, error);
  } finally {
    fs.closeSync(alive);
  }
}

/** The caller holds `alive`, so a pid file is nobody's. */
async function launch(place: Place, { alive, signal, log }: Start & { readonly alive: number }): Promise<Server> {
  const began = performance.now();
  const found = findPackage();
  await makeHome(place);
  const program = prepareProgram(place, found);
  if (await initialise(place, program, found, { keep: alive, signal })) {
    log("postgres_initialised", { ms: Math.round(performance.now() - began) });
  }
  const stale = readPidFile(place.data);
  if (stale !== undefined) log("postgres_stale_pid_cleared", { pid: stale.pid });
  fs.rmSync(join(place.data, "postmaster.pid"), { force: true });
  writeSettings(place);

  const errors = join(place.root, "start.log");
  const server = spawnServer(place, { command: join(program.bin, "postgres"), env: program.env, alive, errors });
  try {
    await ready(place, server, signal);
  } catch (error) {
    server.kill("SIGINT");
    await server.gone;
    await removeOutside(place);
    if (signal.aborted) throw error;
    const said = fs.readFileSync(errors, "utf8").split("\n").filter((line) => !/^$| (LOG|HINT): /.test(line));
    throw refused(`PostgreSQL on ${place.data} did not start: ${said.join(" ")} (see ${join(place.root, "log")})`, error);
  }
  log("postgres_started", { pid: server.pid, ms: Math.round(performance.now() - began) });
  return server;
}

type Spawn = { readonly command: string; readonly env: NodeJS.ProcessEnv; readonly alive: number; readonly errors: string };

/** In a session of its own: a terminal's Ctrl-C is the broker's to answer. */
function spawnServer({ data, account }: Place, { command, env, alive, errors }: Spawn): Server {
  const output = fs.openSync(errors, "w", 0o600);
  const stdio = ["ignore" as const, output, output, alive];
  const child = spawn(command, dataByCwd, { cwd: data, ...account, env, stdio, detached: true });
  fs.closeSync(output);
  const gone = new Promise<void>((resolve) => {
    child.once("exit", () => resolve());
    child.once("error", (error) => {
      fs.appendFileSync(errors, `${error.message}\n`);
      resolve();
    });
  });
  child.unref();
  return { pid: child.pid ?? 0, gone, kill: (signal) => void child.kill(signal) };
}

async function ready(place: Place, server: Server, signal: AbortSignal): Promise<void> {
  let ended = false;
  void server.gone.then(() => (ended = true));
  for (;;) {
    const file = readPidFile(place.data);
    if (file?.pid === server.pid && file.status === "ready") return;
    if (ended) throw new BrevetError("START_REFUSED", "PostgreSQL ended before it was ready");
    await sleep(10, undefined, { signal });
  }
}

// ---- what the broker holds

type Held = { readonly adopted: boolean; readonly log: EmbeddedOptions["log"]; readonly release: () => void };

function handle(place: Place, server: Server, { adopted, log, release }: Held): EmbeddedPostgres {
  let stopping: Promise<void> | undefined;
  const end = async (deadlineMs: number): Promise<void> => {
    server.kill("SIGINT");
    if (!(await within(server.gone, deadlineMs))) {
      log("postgres_stop_escalated", { pid: server.pid });
      server.kill("SIGQUIT");
      if (!(await within(server.gone, quitMs))) {
        throw new BrevetError("DEADLINE", `PostgreSQL (pid ${server.pid}) on ${place.data} does not end`);
      }
    }
    await removeOutside(place);
    log("postgres_stopped", { pid: server.pid });
  };
  const host = socketDir(place);
  return {
    socketDir: host,
    port,
    superuser,
    pid: server.pid,
    adopted,
    connection: (role, database) => ({ host, port, user: role, database }),
    stop: (deadlineMs) => (stopping ??= end(deadlineMs).finally(release)),
    onExit: (callback) => void server.gone.then(() => stopping === undefined && callback()),
  };
}

async function within(done: Promise<void>, ms: number): Promise<boolean> {
  const timer = new AbortController();
  const late = sleep(ms, false, { signal: timer.signal }).catch(() => false);
  const result = await Promise.race([done.then(() => true), late]);
  timer.abort();
  return result;
}
