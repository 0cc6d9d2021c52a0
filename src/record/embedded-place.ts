// Where does the embedded PostgreSQL live, and as whom does it run?
// Always true: what must last lies in D/postgres, which is the broker's; only data, log and run in
// it are the server's, so root never writes through a directory another account can rearrange.
// The server reaches its data by its working directory (`-D /proc/self/cwd`), so D may lie below a
// 0700 home it cannot pass. What it must reach by name (binaries, socket) then goes, as for a D too
// long for a socket, into one short directory that D/postgres/outside names; a clean stop removes it.
// Leaves program files and settings to embedded-program.ts, processes and locks to embedded.ts.

import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import * as fs from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import { BrevetError } from "../errors.ts";

export const port = 5432;
const socketName = `.s.PGSQL.${port}`;
const longestSocketPath = 107;

/** Who the server runs as; undefined: as the broker itself, which then is not root. */
type Account = { readonly uid: number; readonly gid: number } | undefined;

export type Place = { readonly root: string; readonly data: string; readonly account: Account };

export function refused(message: string, cause?: unknown): BrevetError {
  return new BrevetError("START_REFUSED", message, { cause });
}

/** D must be the broker's own; as root it becomes passable (not readable) for the server's account. */
export function openDataDir(dataDir: string): string {
  fs.mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  const path = fs.realpathSync(dataDir);
  const { uid, mode } = mustBeOwn(path);
  if (uid === 0 && (mode & 0o111) !== 0o111) fs.chmodSync(path, (mode & 0o7777) | 0o111);
  return path;
}

/** What anybody may write to may hold what anybody wrote: it is refused as it is, not repaired. */
export function mustBeOwn(path: string): fs.Stats {
  const found = fs.statSync(path);
  if (found.uid !== process.geteuid?.()) throw refused(`${path} belongs to uid ${found.uid}, and must belong to the broker's own account`);
  if ((found.mode & 0o002) !== 0) throw refused(`${path} is writable for everyone, so that anything in it may be anybody's`);
  return found;
}

export function openPlace(dataDir: string, user: string | undefined): Place {
  const root = join(dataDir, "postgres");
  const data = join(root, "data");
  const account = chooseAccount(data, user);
  fs.mkdirSync(root, { recursive: true });
  fs.chmodSync(root, account === undefined ? 0o700 : 0o711);
  ownDirectory(join(root, "log"), account);
  return { root, data, account };
}

/** Existing data keep their owner: an account that appears later (`postgres`) does not take them over. */
function chooseAccount(data: string, user: string | undefined): Account {
  if (process.geteuid?.() !== 0) {
    if (!hasName()) throw refused(`this process's uid ${process.geteuid?.()} has no account, and the embedded PostgreSQL runs under none without: give it one, or set database.url (BREVET_DATABASE_URL) to a PostgreSQL`);
    return undefined;
  }
  const owner = fs.statSync(data, { throwIfNoEntry: false });
  if (user === undefined && owner !== undefined && owner.uid !== 0) return { uid: owner.uid, gid: owner.gid };
  const account = user === undefined ? (accountNamed("postgres") ?? accountNamed("nobody")) : accountNamed(user);
  const name = user ?? "postgres or nobody";
  if (account === undefined) throw refused(`postgres.user: /etc/passwd has no account ${name}; name an existing one`);
  if (account.uid === 0) throw refused("postgres.user: PostgreSQL does not run as root; name an unprivileged account");
  if (owner !== undefined && owner.uid !== account.uid) {
    throw refused(`${data} belongs to uid ${owner.uid}, not to ${name}: set postgres.user to its owner, or chown -R it`);
  }
  return account;
}

/** Containers may run under any number. */
function hasName(): boolean {
  try {
    return userInfo().username !== "";
  } catch {
    return false;
  }
}

function accountNamed(name: string): Account {
  const lines = fs.readFileSync("/etc/passwd", "utf8").split("\n");
  const [, , uid, gid] = lines.find((line) => line.startsWith(`${name}:`))?.split(":") ?? [];
  return uid === undefined || gid === undefined ? undefined : { uid: Number(uid), gid: Number(gid) };
}

export function ownDirectory(path: string, account: Account): void {
  fs.mkdirSync(path, { recursive: true, mode: 0o700 });
  if (account !== undefined) fs.lchownSync(path, account.uid, account.gid);
}

/** May the account do `bits` (rwx) with this file and pass every directory above? Access lists are not asked. */
export function reaches(path: string, bits: number, account: Account): boolean {
  if (account === undefined) return true;
  const { uid, gid, mode } = fs.statSync(path);
  const granted = uid === account.uid ? mode >> 6 : gid === account.gid ? mode >> 3 : mode;
  return (granted & bits) === bits && (path === "/" || reaches(dirname(path), 0o1, account));
}

/** Can the path stand in lists (of libraries, of socket directories) without quotes? */
export function isPlain(path: string): boolean {
  return /^[\w./+@%=~ -]+$/.test(path);
}

// ---- what the server reaches by name

/** The directory of the socket and of staged binaries: D/postgres itself unless something lies outside. */
export function home({ root }: Place): string {
  const outside = join(root, "outside");
  return fs.lstatSync(outside, { throwIfNoEntry: false }) === undefined ? root : fs.readlinkSync(outside);
}

/** 0700 and the server's own: only that account, the broker's and root's come to the socket. */
export function socketDir(place: Place): string {
  return join(home(place), "run");
}

export function hasSocket(place: Place): boolean {
  return fs.existsSync(join(socketDir(place), socketName));
}

/** For a server that is about to start: nothing of an earlier one is left afterwards. */
export async function makeHome(place: Place): Promise<void> {
  await removeOutside(place);
  if (!reaches(place.root, 0o1, place.account) || !socketFits(place.root)) makeOutside(place);
  ownDirectory(socketDir(place), place.account);
  await empty(socketDir(place), place.account);
}

function socketFits(directory: string): boolean {
  return Buffer.byteLength(join(directory, "run", socketName)) <= longestSocketPath && isPlain(directory);
}

function makeOutside({ root, account }: Place): void {
  const link = join(root, "outside");
  // as root not in /tmp first: it may forbid programs, and it is swept
  const parents = [...(account === undefined ? [] : ["/var/lib"]), tmpdir(), "/tmp"];
  for (const parent of parents) {
    const path = join(parent, `brevet-${randomBytes(6).toString("hex")}`);
    if (!socketFits(path) || !fs.existsSync(parent) || !reaches(parent, 0o1, account)) continue;
    // the link first: if we die between the two, the next start finds what to remove
    fs.symlinkSync(path, link);
    try {
      fs.mkdirSync(path, { mode: 0o700 });
      if (account !== undefined) fs.chmodSync(path, 0o711);
      return;
    } catch {
      fs.rmSync(link);
    }
  }
  throw refused(`no directory for PostgreSQL's socket in ${parents.join(", ")}: choose a shorter data directory`);
}

/** Only once the server is gone. */
export async function removeOutside(place: Place): Promise<void> {
  const outside = home(place);
  if (outside === place.root) return;
  await empty(join(outside, "run"), place.account);
  fs.rmSync(outside, { recursive: true, force: true });
  fs.rmSync(join(place.root, "outside"));
}

/** As the account itself: root following that account's names could be led astray. */
export async function empty(directory: string, account: Account): Promise<void> {
  if (!fs.existsSync(directory)) return;
  await runAs(account, { cwd: directory, command: "find", args: [".", "-mindepth", "1", "-delete"] });
}

type Command = {
  readonly cwd: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  /** A file that the process and its children hold open as descriptor 3. */
  readonly keep?: number;
  readonly signal?: AbortSignal;
};

/** Runs a command to its end; anything but exit 0 is a refusal that carries its last line. */
export async function runAs(account: Account, { cwd, command, args, env, keep, signal }: Command): Promise<void> {
  const child = spawn(command, args, {
    cwd,
    ...account,
    env: env ?? { PATH: process.env["PATH"] },
    stdio: ["ignore", "ignore", "pipe", keep ?? "ignore"],
    ...(signal && { signal }),
  });
  let failure: unknown;
  child.once("error", (error) => (failure = error));
  // closed only when its own children are gone too: an abort is over when nothing of it runs
  const closed = new Promise<string | undefined>((resolve) => {
    child.once("close", (code, by) => resolve(code === 0 ? undefined : (by ?? `exit ${code}`)));
  });
  const [status, errors] = await Promise.all([closed, child.stderr === null ? "" : text(child.stderr)]);
  signal?.throwIfAborted();
  if (failure !== undefined) throw refused(`cannot run ${command}`, failure);
  if (status !== undefined) throw refused(`${command} failed (${status}): ${errors.trim().split("\n").at(-1)}`);
}
