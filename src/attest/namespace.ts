// Which processes can this broker see, and may it believe their PIDs?
// Always true: if /proc is not of this process's own pid namespace, or is not there, nobody is
// attested: a PID of one namespace names another process in the other.
// pid_namespaces(7); proc(5) hidepid.
// Showing the facts to an operator is the business of `brevet doctor`.
import { readFileSync, readlinkSync } from "node:fs";
import { release } from "node:os";
import { BrevetError } from "../errors.ts";

let known: string | undefined;

/** As /proc/self/ns/pid has it, e.g. "pid:[4026531836]". */
export function ownPidNamespace(): string {
  return (known ??= readOwnPidNamespace());
}

function readOwnPidNamespace(): string {
  try {
    if (readlinkSync("/proc/self") === String(process.pid)) return readlinkSync("/proc/self/ns/pid");
  } catch (cause) {
    throw new BrevetError("DENIED_UNATTESTED", "caller: this broker has no /proc, so it can identify nobody", { cause });
  }
  throw new BrevetError("DENIED_UNATTESTED", "caller: /proc is of another pid namespace than this broker, so it can identify nobody");
}

export type PidNamespaceFacts = {
  readonly kernel: string;
  readonly pidNamespace: string;
  /** PID 1's; absent if it may not be read. It is the same as ours in every namespace that has a /proc of its own. */
  readonly initPidNamespace?: string;
  /** Whether this is the machine's first pid namespace, whose processes all are visible here. */
  readonly isHost: boolean;
  /** The mount option of /proc; absent: off. */
  readonly hidepid?: string;
};

/** The number that the kernel gives the first pid namespace (PROC_PID_INIT_INO). */
const hostPidNamespace = "pid:[4026531836]";

export function describePidNamespace(): PidNamespaceFacts {
  const pidNamespace = ownPidNamespace();
  const initPidNamespace = readInitPidNamespace();
  const hidepid = parseHidepid(readFileSync("/proc/self/mountinfo", "utf8"));
  return {
    kernel: release(),
    pidNamespace,
    ...(initPidNamespace === undefined ? {} : { initPidNamespace }),
    isHost: pidNamespace === hostPidNamespace,
    ...(hidepid === undefined ? {} : { hidepid }),
  };
}

function readInitPidNamespace(): string | undefined {
  try {
    return readlinkSync("/proc/1/ns/pid");
  } catch {
    return undefined; // needs root
  }
}

/** The last mount on /proc is the one in force. */
export function parseHidepid(mountinfo: string): string | undefined {
  const onProc = mountinfo.split("\n").filter((line) => line.split(" ")[4] === "/proc");
  const value = /[ ,]hidepid=([^, ]+)/.exec(onProc.at(-1) ?? "")?.[1];
  return value === "0" || value === "off" ? undefined : value;
}
