// What does /proc say of one process?
// Always true: all is read through one opened directory of that process, so it is the same
// process's facts or an error, never a successor's with the same PID; nothing that a process
// chooses about itself (name, arguments, environment) is read.
// proc(5): /proc/PID/stat, exe, cgroup, ns/pid.
// Whether the directory belongs to the caller is src/attest/caller.ts's business.
import { BrevetError } from "../errors.ts";
import { closeSync, constants, fstatSync, openSync, readFileSync, readlinkSync, readSync, statSync } from "node:fs";

export type ProcessRef = {
  readonly pid: number;
  /** Clock ticks after boot: with the PID it names a process for as long as the machine is up. */
  readonly startTime: string;
};

export type Stat = { readonly ppid: number; readonly startTime: string };

/** A file's identity on this machine: what /proc/PID/exe names, whatever happened to its path. */
export type FileRef = { readonly dev: string; readonly ino: string };

export class ProcessDir {
  readonly pid: number;
  readonly #fd: number;
  readonly #path: string;

  /** Throws (ENOENT) if there is no such process, or this one may not see it. */
  constructor(pid: number) {
    this.pid = pid;
    this.#fd = openSync(`/proc/${pid}`, constants.O_RDONLY | constants.O_DIRECTORY);
    this.#path = `/proc/self/fd/${this.#fd}`;
  }

  stat(): Stat {
    return parseStat(readShort(`${this.#path}/stat`));
  }

  /** The effective uid and gid: the kernel gives the directory to them, also of processes that hide their memory. */
  owner(): { readonly uid: number; readonly gid: number } {
    const { uid, gid } = fstatSync(this.#fd);
    return { uid, gid };
  }

  executable(): FileRef {
    return fileRef(`${this.#path}/exe`);
  }

  /**
   * The executable's path, if that path names the same file to this process: not a deleted file,
   * not a path of another root or mount namespace, where a caller can put any file under any name.
   */
  executablePath(executable: FileRef): string | undefined {
    const path = readlinkSync(`${this.#path}/exe`);
    try {
      return sameFile(fileRef(path), executable) ? path : undefined;
    } catch {
      return undefined;
    }
  }

  /** The executable, opened for reading: the file that runs, not what its path names now. */
  openExecutable(): number {
    return openSync(`${this.#path}/exe`, constants.O_RDONLY);
  }

  cgroup(): string {
    return readShort(`${this.#path}/cgroup`);
  }

  pidNamespace(): string {
    return readlinkSync(`${this.#path}/ns/pid`);
  }

  close(): void {
    closeSync(this.#fd);
  }
}

/** The parent and start time of a process that no directory is held of; undefined if it is gone. */
export function readStat(pid: number): Stat | undefined {
  try {
    return parseStat(readShort(`/proc/${pid}/stat`));
  } catch {
    return undefined;
  }
}

/** Fields are counted from the last ")": the name before it is the process's own choice and may hold anything. */
export function parseStat(text: string): Stat {
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const ppid = fields[1]; // field 4; fields[0] is field 3
  const startTime = fields[19]; // field 22
  if (ppid === undefined || startTime === undefined || !/^\d+$/.test(ppid) || !/^\d+$/.test(startTime)) {
    throw new BrevetError("DENIED_UNATTESTED", "/proc/PID/stat: not in the known form");
  }
  return { ppid: Number(ppid), startTime };
}

export function sameFile(a: FileRef, b: FileRef): boolean {
  return a.dev === b.dev && a.ino === b.ino;
}

function fileRef(path: string): FileRef {
  const { dev, ino } = statSync(path, { bigint: true });
  return { dev: String(dev), ino: String(ino) };
}

const short = Buffer.alloc(64 * 1024);

/** One read into one buffer: half the cost of readFileSync, and this is on the way of every fetch. */
function readShort(path: string): string {
  const fd = openSync(path, constants.O_RDONLY);
  try {
    const length = readSync(fd, short, 0, short.length, 0);
    if (length === short.length) throw new BrevetError("DENIED_UNATTESTED", `${path}: longer than is believed`);
    return short.toString("utf8", 0, length);
  } finally {
    closeSync(fd);
  }
}

let knownBootId: string | undefined;

/** A new one at each boot: start times of different boots cannot be compared. */
export function bootId(): string {
  return (knownBootId ??= readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim());
}
