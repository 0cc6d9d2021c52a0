// Which processes descend from this one, and how do they all end?
// A command's whole tree is found in /proc, also those that lost their parent (this process is their
// subreaper). After endTree() nothing of it is left but zombies that nobody collects.
// proc(5): the parent's PID stands after the last parenthesis of /proc/PID/stat.
// When a tree must end is run.ts's business.
import { readFileSync, readdirSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

const askEveryMs = 20;

/** PIDs of the living descendants of `root`, itself left out. */
export function descendants(root: number): number[] {
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
  return tree.filter((pid) => living.has(pid));
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
