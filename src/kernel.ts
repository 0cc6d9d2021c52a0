// What does only the Linux kernel know? Who is at the other end of a socket, whether a
// process still lives, who holds a file.
// Always true: this file alone calls into libc; each call is synchronous, and none waits but for a child's exec;
// every file descriptor it hands out is close-on-exec and belongs to the caller.
// unix(7) SO_PEERCRED, SO_PEERPIDFD (Linux 6.5); pidfd_open(2) (Linux 5.3); flock(2); prctl(2); waitid(2); ptrace(2).
// What is read from /proc is src/attest/proc.ts's business.
import type { Socket } from "node:net";
import { constants } from "node:os";
import koffi from "koffi";
import { BrevetError } from "./errors.ts";

const solSocket = 1;
const soPeercred = 17;
const soPeerpidfd = 77;
const pollin = 1;
const epollCloexec = 0o2000000;
const epollCtlAdd = 1;
const epollCtlDel = 2;
const lockExclusiveNow = 2 | 4; // LOCK_EX | LOCK_NB
const dontWait = 1; // WNOHANG
const prSetDumpable = 4;
const prSetChildSubreaper = 36;
const forExit = 4; // WEXITED
const forStop = 2; // WSTOPPED
const leaveIt = 0x01000000; // WNOWAIT
const anyChild = 0x40000000; // __WALL: also one that is traced
const byPid = 1; // P_PID
const ptraceContinue = 7;
const ptraceDetach = 17;
const ptraceSetOptions = 0x4200;
const ptraceSeize = 0x4206;
const ptraceInterrupt = 0x4207;
const ptraceListen = 0x4208;
const traceExec = 1 << 4; // PTRACE_O_TRACEEXEC
const killWithTracer = 1 << 20; // PTRACE_O_EXITKILL
const execEvent = 4;
const stopEvent = 128;
const trapped = 4; // CLD_TRAPPED; below it are the ways to end
/** System call numbers: the same on every architecture since 5.1, and older C libraries have no wrapper. */
const sysPidfdSendSignal = 424;
const sysPidfdOpen = 434;

type Libc = {
  getsockopt: (fd: number, level: number, name: number, value: Buffer, length: Buffer) => number;
  syscall: (number: number, a: number, b: number, c: number, d: number) => number;
  poll: (fds: Buffer, count: number, timeoutMs: number) => number;
  epollCreate: (flags: number) => number;
  epollCtl: (epoll: number, operation: number, fd: number, event: Buffer) => number;
  epollWait: (epoll: number, events: Buffer, max: number, timeoutMs: number) => number;
  flock: (fd: number, operation: number) => number;
  waitpid: (pid: number, status: null, options: number) => number;
  waitid: (type: number, id: number, info: Buffer, options: number) => number;
  ptrace: (request: number, pid: number, address: number, data: number) => number;
  getxattr: (path: string, name: string, value: null, size: number) => number;
  prctl: (option: number, value: number, c: number, d: number, e: number) => number;
  close: (fd: number) => number;
};

let loaded: Libc | undefined;

function libc(): Libc {
  return (loaded ??= loadLibc());
}

function loadLibc(): Libc {
  if (process.platform !== "linux") {
    throw new BrevetError("START_REFUSED", `the broker runs on Linux only, this is ${process.platform}: run it on a Linux host (the SDK runs wherever Node does)`);
  }
  const self = koffi.load(null); // Node itself is linked to the C library, glibc or musl
  return {
    getsockopt: self.func("int getsockopt(int fd, int level, int name, void *value, void *length)"),
    syscall: self.func("long syscall(long number, long a, long b, long c, long d)"),
    poll: self.func("int poll(void *fds, unsigned long count, int timeout)"),
    epollCreate: self.func("int epoll_create1(int flags)"),
    epollCtl: self.func("int epoll_ctl(int epoll, int operation, int fd, void *event)"),
    epollWait: self.func("int epoll_wait(int epoll, void *events, int max, int timeout)"),
    flock: self.func("int flock(int fd, int operation)"),
    waitpid: self.func("int waitpid(int pid, void *status, int options)"),
    waitid: self.func("int waitid(int type, unsigned int id, void *info, int options)"),
    ptrace: self.func("long ptrace(int request, int pid, long address, long data)"),
    getxattr: self.func("long getxattr(const char *path, const char *name, void *value, unsigned long size)"),
    prctl: self.func("int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)"),
    close: self.func("int close(int fd)"),
  };
}

/** The name of the last call's error, e.g. "ESRCH". Read it before anything else is called. */
function lastError(): string {
  const number = koffi.errno();
  return Object.entries(constants.errno).find(([, value]) => value === number)?.[0] ?? `errno ${number}`;
}

function failed(call: string, errno: string): BrevetError {
  return new BrevetError("INTERNAL", "the kernel refused a call", { cause: new Error(`${call}: ${errno}`) });
}

// ---- sockets

/** The file descriptor under an accepted socket. Node names it nowhere else than in the handle. */
export function nodeSocketFd(socket: Socket): number {
  const handle: unknown = Reflect.get(socket, "_handle");
  const fd: unknown = typeof handle === "object" && handle !== null ? Reflect.get(handle, "fd") : undefined;
  if (typeof fd !== "number" || fd < 0) {
    throw new BrevetError("DENIED_UNATTESTED", "caller: the connection closed before its process could be identified");
  }
  return fd;
}

export type PeerCredentials = { readonly pid: number; readonly uid: number; readonly gid: number };

const answer = Buffer.alloc(12);
const answerLength = Buffer.alloc(4);

function askSocket(fd: number, name: number, length: number): boolean {
  answerLength.writeInt32LE(length);
  return libc().getsockopt(fd, solSocket, name, answer, answerLength) === 0;
}

/** Who called connect(), in this broker's namespaces: pid 0 is a process that it cannot see. */
export function peerCredentials(fd: number): PeerCredentials {
  if (!askSocket(fd, soPeercred, 12)) throw failed("SO_PEERCRED", lastError());
  return { pid: answer.readInt32LE(0), uid: answer.readUInt32LE(4), gid: answer.readUInt32LE(8) };
}

/** A pidfd of who called connect(), whatever became of its PID since; undefined on kernels before 6.5. */
export function peerPidfd(fd: number): number | undefined {
  if (askSocket(fd, soPeerpidfd, 4)) return answer.readInt32LE(0);
  const errno = lastError();
  if (errno === "ENOPROTOOPT") return undefined;
  if (errno === "EMFILE" || errno === "ENFILE") throw failed("SO_PEERPIDFD", errno);
  throw new BrevetError("DENIED_UNATTESTED", "caller: the process that opened the connection is gone", { cause: failed("SO_PEERPIDFD", errno) });
}

// ---- processes

/** A handle on a living process; undefined if there is none of this PID. */
export function pidfdOpen(pid: number): number | undefined {
  const fd = libc().syscall(sysPidfdOpen, pid, 0, 0, 0);
  if (fd >= 0) return fd;
  const errno = lastError();
  if (errno === "ESRCH" || errno === "EINVAL") return undefined; // EINVAL: a thread's ID, or not a PID at all
  if (errno === "ENOSYS") throw new BrevetError("START_REFUSED", "kernel: Linux 5.3 or newer is needed (pidfd_open)");
  throw failed("pidfd_open", errno);
}

const pollRequest = Buffer.alloc(8);

/** True as soon as the process is dead, even if its parent has not collected it yet. */
export function pidfdExited(pidfd: number): boolean {
  pollRequest.writeInt32LE(pidfd, 0);
  pollRequest.writeInt32LE(pollin, 4);
  for (;;) {
    const ready = libc().poll(pollRequest, 1, 0);
    if (ready >= 0) return ready > 0; // a closed pidfd answers too (POLLNVAL): dead, never alive by mistake
    const errno = lastError();
    if (errno !== "EINTR") throw failed("poll", errno);
  }
}

/** Sends a signal to this very process; false if it is dead. */
export function pidfdSignal(pidfd: number, signal: NodeJS.Signals): boolean {
  if (libc().syscall(sysPidfdSendSignal, pidfd, constants.signals[signal], 0, 0) === 0) return true;
  const errno = lastError();
  if (errno === "ESRCH") return false;
  throw failed("pidfd_send_signal", errno);
}

export function closeFd(fd: number): void {
  libc().close(fd);
}

/** Orphaned descendants become children of this process instead of PID 1's. */
export function setChildSubreaper(): void {
  if (libc().prctl(prSetChildSubreaper, 1, 0, 0, 0) !== 0) throw failed("PR_SET_CHILD_SUBREAPER", lastError());
}

/** Takes a dead child off the table of processes. Never one that Node started: Node waits for that itself. */
export function collectChild(pid: number): void {
  libc().waitpid(pid, null, dontWait);
}

/**
 * Follows a child, so that stopAtExec can stop it, and ends it if this process dies before; false where that is forbidden.
 * Both must be called in the turn in which the child came to be, or Node hears of the stops in between.
 */
export function followChild(pid: number): boolean {
  if (libc().ptrace(ptraceSeize, pid, 0, killWithTracer) !== 0) return false;
  // who has just started it may still be within exec: the next one is meant
  libc().ptrace(ptraceInterrupt, pid, 0, 0);
  if (!reaches(pid, stopEvent)) return false;
  libc().ptrace(ptraceSetOptions, pid, 0, killWithTracer | traceExec);
  return libc().ptrace(ptraceContinue, pid, 0, 0) === 0;
}

/** Leaves a followed child stopped, and no longer followed, before the first instruction of what it executes; false if it ended instead. */
export function stopAtExec(pid: number): boolean {
  if (!reaches(pid, execEvent)) return false;
  process.kill(pid, "SIGSTOP"); // taken before it returns to what it executed
  return libc().ptrace(ptraceDetach, pid, 0, 0) === 0;
}

const childInfo = Buffer.alloc(128);
const childCode = 8;
const childPid = 16; // siginfo_t of 64-bit machines
const childStatus = 24;
const pause = new Int32Array(new SharedArrayBuffer(4));
const lookEveryMs = 0.5;
const mostLooks = 20_000;

/** True in the stop that is wanted. An end is left for Node to hear of; what comes to neither for seconds is ended. */
function reaches(pid: number, wanted: number): boolean {
  for (let look = 0; look < mostLooks; look++) {
    childInfo.fill(0);
    if (libc().waitid(byPid, pid, childInfo, forExit | forStop | dontWait | leaveIt | anyChild) !== 0) return false;
    if (childInfo.readInt32LE(childPid) === 0) {
      Atomics.wait(pause, 0, 0, lookEveryMs);
      continue;
    }
    if (childInfo.readInt32LE(childCode) < trapped) return false;
    libc().waitid(byPid, pid, childInfo, forStop | dontWait | anyChild);
    const status = childInfo.readInt32LE(childStatus);
    const [signal, event] = [status & 0xff, status >> 8];
    const byOthers = event === stopEvent && signal !== constants.signals.SIGTRAP;
    if (event === wanted && !byOthers) return true;
    // what a terminal has stopped stays so until it is continued; any signal is the child's own
    if (byOthers) libc().ptrace(ptraceListen, pid, 0, 0);
    else libc().ptrace(ptraceContinue, pid, 0, event === 0 ? signal : 0);
  }
  process.kill(pid, "SIGKILL");
  return false;
}

/** Whether a program gets rights by its file, which the kernel keeps from a process that is followed. */
export function hasFileCapabilities(path: string): boolean {
  return libc().getxattr(path, "security.capability", null, 0) > 0;
}

/** No core dump of this process, and no other process of its user reads its memory. */
export function setNotDumpable(): void {
  if (libc().prctl(prSetDumpable, 0, 0, 0, 0) !== 0) throw failed("PR_SET_DUMPABLE", lastError());
}

// ---- files

/** Takes the lock of an open file for as long as the file stays open; false if another holds it. */
export function flockExclusive(fd: number): boolean {
  if (libc().flock(fd, lockExclusiveNow) === 0) return true;
  const errno = lastError();
  if (errno === "EAGAIN" || errno === "EWOULDBLOCK") return false;
  throw failed("flock", errno);
}

// ---- exits

/** struct epoll_event is packed on x86-64 only. */
const eventSize = process.arch === "x64" ? 12 : 16;
const eventData = eventSize - 8;
const eventsPerAsk = 64;

/**
 * Says when watched processes exit, each once. One epoll set, asked without waiting each `everyMs`
 * and only while something is watched. Remove a pidfd before it is closed.
 */
export class ExitWatch {
  readonly #everyMs: number;
  readonly #onExit = new Map<number, () => void>();
  readonly #events = Buffer.alloc(eventSize * eventsPerAsk);
  readonly #epoll: number;
  #timer: NodeJS.Timeout | undefined;

  constructor({ everyMs = 25 }: { readonly everyMs?: number } = {}) {
    this.#everyMs = everyMs;
    this.#epoll = libc().epollCreate(epollCloexec);
    if (this.#epoll < 0) throw failed("epoll_create1", lastError());
  }

  add(pidfd: number, onExit: () => void): void {
    this.#control(epollCtlAdd, pidfd);
    this.#onExit.set(pidfd, onExit);
    this.#timer ??= setInterval(() => this.#ask(), this.#everyMs).unref();
  }

  remove(pidfd: number): void {
    if (!this.#onExit.delete(pidfd)) return;
    this.#control(epollCtlDel, pidfd);
    if (this.#onExit.size === 0) this.#stop();
  }

  close(): void {
    this.#stop();
    this.#onExit.clear();
    closeFd(this.#epoll);
  }

  #ask(): void {
    const exited: (() => void)[] = [];
    const ready = libc().epollWait(this.#epoll, this.#events, eventsPerAsk, 0); // more than fit come at the next ask
    for (let i = 0; i < ready; i++) {
      const pidfd = this.#events.readInt32LE(i * eventSize + eventData);
      const onExit = this.#onExit.get(pidfd);
      this.remove(pidfd);
      if (onExit) exited.push(onExit);
    }
    for (const onExit of exited) onExit();
  }

  #control(operation: number, pidfd: number): void {
    const event = Buffer.alloc(eventSize);
    event.writeUInt32LE(pollin, 0);
    event.writeInt32LE(pidfd, eventData);
    if (libc().epollCtl(this.#epoll, operation, pidfd, event) !== 0) throw failed("epoll_ctl", lastError());
  }

  #stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}
