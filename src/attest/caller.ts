// Who is calling?
// Always true: a Caller is one process, proved by what the kernel recorded when it connected; its
// facts were read while it lived, and it is held by a pidfd, so its PID can't become another's.
// The kernel names who called connect(): whoever hands that socket on hands on its identity
// (SECURITY.md says so), until the opener exits, executes another file or changes its uid.
// SPIFFE Workload Endpoint section 6 (out-of-band authentication). Whether facts suffice is
// src/authorize's business; what a caller is bound to, src/claim's.
import type { Socket } from "node:net";
import { BrevetError } from "../errors.ts";
import type { Facts } from "../identity/selectors.ts";
import { closeFd, nodeSocketFd, peerCredentials, peerPidfd, pidfdExited, pidfdOpen } from "../kernel.ts";
import { parseCgroup } from "./cgroup.ts";
import type { HashCache } from "./hash.ts";
import { groupName, userName } from "./names.ts";
import { ownPidNamespace } from "./namespace.ts";
import { bootId, ProcessDir, readStat, sameFile } from "./proc.ts";
import type { FileRef, ProcessRef } from "./proc.ts";

export type Caller = {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  readonly startTime: string;
  readonly bootId: string;
  readonly executable: FileRef;
  /** Without sha256 until it was asked for and proved. */
  readonly facts: Facts;
  /** The caller's own: closed with it. */
  readonly pidfd: number;
  /** The executable's hash; undefined if it can't be proved, and then `sha256Problem` says why. */
  sha256(signal: AbortSignal): Promise<string | undefined>;
  readonly sha256Problem: string | undefined;
  /** /proc/PID/cgroup as it is now. Throws if the process is gone. */
  cgroups(): string;
  /** Whether it is still the process that was attested: alive, same file, same user. Asked at each issue. */
  isSame(): boolean;
  /** Its living ancestors, nearest first, PID 1 last. Throws if one is missing: then nothing is known of the rest. */
  ancestors(): ProcessRef[];
  close(): void;
};

/** What the kernel says of whoever opened this connection, also where that process can't be attested; null: nothing. */
export function openerOf(socket: Socket): (Owner & { readonly pid: number }) | null {
  try {
    return peerCredentials(nodeSocketFd(socket));
  } catch {
    return null;
  }
}

/** Who opened this accepted connection. Called before anything is read from it. */
export function attestSocket(socket: Socket, hash: HashCache | null): Caller {
  const fd = nodeSocketFd(socket);
  const { pid, uid, gid } = peerCredentials(fd);
  if (pid <= 0) throw unattested("it runs in a pid namespace that this broker cannot see");
  return attest(pid, { uid, gid }, peerPidfd(fd), hash);
}

/** The process that has this PID now. */
export function attestPid(pid: number, hash: HashCache | null = null): Caller {
  return attest(pid, undefined, undefined, hash);
}

type Owner = { readonly uid: number; readonly gid: number };

/**
 * The directory is opened before, or checked against, a pidfd that is still alive after all was read:
 * as long as a process lives no other has its PID, so both are the same process.
 * Without a peer's pidfd (kernels before 6.5) a PID reused before this point is caught only by its uid and gid.
 */
function attest(pid: number, connectedAs: Owner | undefined, peer: number | undefined, hash: HashCache | null): Caller {
  const opened: (() => void)[] = [];
  try {
    if (peer !== undefined) opened.push(() => closeFd(peer));
    const dir = new ProcessDir(pid);
    opened.push(() => dir.close());
    const pidfd = peer ?? pidfdOpen(pid);
    if (pidfd === undefined) throw unattested("its process is gone");
    if (peer === undefined) opened.push(() => closeFd(pidfd));

    const owner = dir.owner();
    if (connectedAs && (owner.uid !== connectedAs.uid || owner.gid !== connectedAs.gid)) {
      throw unattested(`it connected as ${connectedAs.uid}:${connectedAs.gid} and is ${owner.uid}:${owner.gid} now`);
    }
    if (dir.pidNamespace() !== ownPidNamespace()) throw unattested("it runs in another pid namespace than this broker");
    const executable = dir.executable();
    const facts = readFacts(dir, owner, executable);
    const { startTime } = dir.stat(); // last: it fails if the directory's process is dead
    if (pidfdExited(pidfd)) throw unattested("its process is gone");
    return new AttestedProcess(dir, pidfd, startTime, executable, facts, hash);
  } catch (error) {
    for (const close of opened) close();
    throw error instanceof BrevetError ? error : unreadable(pid, error);
  }
}

function readFacts(dir: ProcessDir, { uid, gid }: Owner, executable: FileRef): Facts {
  const user = userName(uid);
  const group = groupName(gid);
  const path = dir.executablePath(executable);
  return {
    uid,
    gid,
    ...(user === undefined ? {} : { user }),
    ...(group === undefined ? {} : { group }),
    ...(path === undefined ? {} : { path }),
    ...parseCgroup(dir.cgroup()),
  };
}

class AttestedProcess implements Caller {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  readonly startTime: string;
  readonly bootId = bootId();
  readonly executable: FileRef;
  readonly pidfd: number;
  readonly #dir: ProcessDir;
  readonly #hash: HashCache | null;
  #facts: Facts;
  #sha256Problem: string | undefined;
  #closed = false;

  constructor(dir: ProcessDir, pidfd: number, startTime: string, executable: FileRef, facts: Facts, hash: HashCache | null) {
    this.pid = dir.pid;
    this.uid = facts.uid;
    this.gid = facts.gid;
    this.startTime = startTime;
    this.executable = executable;
    this.pidfd = pidfd;
    this.#dir = dir;
    this.#hash = hash;
    this.#facts = facts;
  }

  get facts(): Facts {
    return this.#facts;
  }

  get sha256Problem(): string | undefined {
    return this.#sha256Problem;
  }

  async sha256(signal: AbortSignal): Promise<string | undefined> {
    if (this.#facts.sha256 !== undefined) return this.#facts.sha256;
    const problem = await this.#measure(signal);
    this.#sha256Problem = problem;
    return this.#facts.sha256;
  }

  /** Says why not, if not. The process is checked after the file was opened and again after it was hashed. */
  async #measure(signal: AbortSignal): Promise<string | undefined> {
    if (this.#hash === null) return "hashing is off";
    let fd: number;
    try {
      fd = this.#dir.openExecutable();
    } catch {
      return "the executable could not be opened";
    }
    if (!this.isSame()) {
      closeFd(fd);
      return "the process changed";
    }
    const result = await orAborted(this.#hash.hash(fd, this.uid), signal);
    if ("problem" in result) return result.problem;
    if (!this.isSame()) return "the process changed";
    this.#facts = { ...this.#facts, sha256: result.sha256 };
    return undefined;
  }

  isSame(): boolean {
    if (this.#closed || pidfdExited(this.pidfd)) return false;
    try {
      const { uid, gid } = this.#dir.owner();
      return uid === this.uid && gid === this.gid && sameFile(this.#dir.executable(), this.executable);
    } catch {
      return false;
    }
  }

  cgroups(): string {
    if (this.#closed) throw unattested("its connection is closed");
    try {
      return this.#dir.cgroup();
    } catch (error) {
      throw unreadable(this.pid, error);
    }
  }

  ancestors(): ProcessRef[] {
    if (this.#closed) throw unattested("its connection is closed");
    // An ancestor that exits meanwhile leaves its children to another; the next reading shows to whom.
    for (let reading = 1; reading <= 3; reading++) {
      const chain = this.#readAncestors();
      if (chain) return chain;
    }
    throw unattested("its ancestors could not be read without a gap");
  }

  #readAncestors(): ProcessRef[] | undefined {
    const chain: ProcessRef[] = [];
    let child = this.#statOrGone();
    while (child.ppid !== 0) {
      const stat = readStat(child.ppid);
      // A parent is never younger than its child: a younger one got the PID of one that is gone.
      if (!stat || BigInt(stat.startTime) > BigInt(child.startTime)) return undefined;
      if (chain.length === maxAncestors) throw unattested(`it has more than ${maxAncestors} ancestors`);
      chain.push({ pid: child.ppid, startTime: stat.startTime });
      child = stat;
    }
    return chain;
  }

  #statOrGone(): { readonly ppid: number; readonly startTime: string } {
    try {
      return this.#dir.stat();
    } catch (error) {
      throw unreadable(this.pid, error);
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    closeFd(this.pidfd);
    this.#dir.close();
  }
}

const maxAncestors = 64;

function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const aborted = (): void => reject(new BrevetError("DEADLINE", "caller: its executable was not hashed in time"));
    if (signal.aborted) aborted();
    signal.addEventListener("abort", aborted, { once: true });
    void work.then(resolve, reject).finally(() => signal.removeEventListener("abort", aborted));
  });
}

function unattested(why: string): BrevetError {
  return new BrevetError("DENIED_UNATTESTED", `caller: ${why}`);
}

function unreadable(pid: number, cause: unknown): BrevetError {
  const code: unknown = cause instanceof Error ? Reflect.get(cause, "code") : undefined;
  const why =
    code === "ENOENT" || code === "ESRCH" ? `process ${pid} is gone, or hidden from this broker (hidepid)`
    : code === "EACCES" || code === "EPERM" ? `this broker may not read /proc/${pid}/exe: run it as root or as the caller's user`
    : `/proc/${pid} could not be read`;
  return new BrevetError("DENIED_UNATTESTED", `caller: ${why}`, { cause });
}
