// Which processes descend from this one, and how do they all end?
// A command's whole tree is found in /proc, also those that lost their parent (this process is their
// subreaper). After endTree() nothing of it lives, and collectOrphans() leaves no zombie of it behind.
// proc(5): the parent's PID stands after the last parenthesis of /proc/PID/stat.
// When a tree must end is run.ts's business.
import { readFileSync, readdirSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

const askEveryMs = 20;

/** PIDs of the living descendants of `root`, itself left out. */
export function descendants(root: number): number[] {
  return familyOf(root).living;
}

/** Descendants that live, and children that are dead and wait to be collected. */
function familyOf(root: number): { readonly living: number[]; readonly dead: number[] } {
  const children = new Map<number, number[]>();
  const living = new Set<number>();
  for (const name of readdirSync("/proc")) {
    const child = Number(name);
    const found = Number.isInteger(child) ? statOf(child) : undefined;
    if (found === undefined) continue;
    if (found.state !== "Z" && found.state !== "X") living.add(child);
    const siblings = children.get(found.parent);
    if (siblings) siblings.push(child);
    else children.set(found.parent, [child]);
  }
  const tree = [...(children.get(root) ?? [])];
  for (const pid of tree) tree.push(...(children.get(pid) ?? [])); // grows while it is walked
  return { living: tree.filter((pid) => living.has(pid)), dead: (children.get(root) ?? []).filter((pid) => !living.has(pid)) };
}

function statOf(pid: number): { readonly state: string; readonly parent: number } | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "latin1");
    const [state = "", parent = ""] = text.slice(text.lastIndexOf(")") + 2).split(" ");
    return { state, parent: Number(parent) };
  } catch {
    return undefined; // gone meanwhile, or hidden: another user's
  }
}

/** What came to this process as an orphan and died: whoever adopts must collect. `own`: the child that Node waits for. */
export function collectOrphans(own: number, collect: (pid: number) => void): void {
  for (const pid of familyOf(process.pid).dead) if (pid !== own) collect(pid);
}

/** SIGTERM to all, time to leave, then SIGKILL until none is left: what is born meanwhile dies too. */
export async function endTree(root: number, graceMs: number): Promise<void> {
  signalAll(descendants(root), "SIGTERM");
  const deadline = performance.now() + graceMs;
  while (performance.now() < deadline) {
    if (descendants(root).length === 0) return;
    await sleep(askEveryMs);
  }
  for (let left = descendants(root); left.length > 0; left = descendants(root)) {
    signalAll(left, "SIGKILL");
    await sleep(askEveryMs);
  }
}

/** A stopped process hears SIGTERM only once it goes on. */
function signalAll(pids: readonly number[], signal: "SIGTERM" | "SIGKILL"): void {
  for (const pid of pids) {
    signalOne(pid, signal);
    signalOne(pid, "SIGCONT");
  }
}

/** False if the process is gone. */
export function signalOne(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    return false; // gone, or became another user's: not ours to end
  }
}
