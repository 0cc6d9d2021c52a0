// Is the process that a task was bound to still the same one, after the broker was away?
// Always true: a pidfd is given out only for the process with the recorded boot, PID, start time
// and executable, compared after the pidfd was open and found alive after the comparison.
// pidfd_open(2).
// What becomes of a task whose process is gone is src/claim's business.
import { closeFd, pidfdExited, pidfdOpen } from "../kernel.ts";
import { bootId, ProcessDir } from "./proc.ts";

/** Enough to know a process again for as long as the machine is up. */
export type InstanceRef = {
  readonly bootId: string;
  readonly pid: number;
  readonly startTime: string;
  readonly exeDev: string;
  readonly exeIno: string;
};

/** What the process with this PID is now; undefined if there is none, or it can't be read. */
export function readInstance(pid: number): InstanceRef | undefined {
  let dir: ProcessDir | undefined;
  try {
    dir = new ProcessDir(pid);
    const { dev, ino } = dir.executable();
    return { bootId: bootId(), pid, startTime: dir.stat().startTime, exeDev: dev, exeIno: ino };
  } catch {
    return undefined;
  } finally {
    dir?.close();
  }
}

/** A pidfd of this very process, the receiver's to close; undefined if it is not there any more. */
export function reopenInstance(ref: InstanceRef): number | undefined {
  if (ref.bootId !== bootId()) return undefined;
  const pidfd = pidfdOpen(ref.pid);
  if (pidfd === undefined) return undefined;
  const now = readInstance(ref.pid);
  const same = now?.startTime === ref.startTime && now.exeDev === ref.exeDev && now.exeIno === ref.exeIno;
  if (same && !pidfdExited(pidfd)) return pidfd;
  closeFd(pidfd);
  return undefined;
}
