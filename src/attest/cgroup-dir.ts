// Which processes are in this very cgroup, and is it still there?
// Always true: a cgroup is known by the kernel's ID of it, the inode number of its folder, which no other cgroup of
// this boot ever has; the same path may be another cgroup later, and that one is not this one.
// cgroups(7) version 2: cgroup.procs, cgroup.events; the hierarchy's place by /proc/self/mountinfo.
// Which cgroup is somebody's unit, container or pod is cgroup.ts's business.
import { readFileSync, readdirSync, statSync } from "node:fs";
import { boundary } from "./cgroup.ts";

/** Its path below the root of the hierarchy. */
export type CgroupId = { readonly path: string; readonly id: string };

const deepest = 32;
let mounted: string | undefined;

/** Where the whole hierarchy is mounted; undefined if this process sees none, or only a part of it. */
function root(): string | undefined {
  return (mounted ??= findRoot(readFileSync("/proc/self/mountinfo", "utf8")));
}

export function findRoot(mountinfo: string): string | undefined {
  for (const line of mountinfo.split("\n")) {
    const [, , , within, place] = line.split(" ");
    if (within === "/" && place !== undefined && / - cgroup2 /.test(line)) return place.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
  }
  return undefined;
}

/** The cgroup at this path now. */
function cgroupAt(path: string): CgroupId | undefined {
  try {
    const found = statSync(`${root() ?? "/nowhere"}${path}`, { bigint: true });
    return found.isDirectory() ? { path, id: String(found.ino) } : undefined;
  } catch {
    return undefined;
  }
}

/** The unit, container or pod of a process, given its /proc/PID/cgroup. */
export function unitOf(text: string): CgroupId | undefined {
  const path = boundary(text);
  return path === undefined ? undefined : cgroupAt(path);
}

/** Whether a process of this /proc/PID/cgroup is in it, or below it. */
export function isWithin(text: string, cgroup: CgroupId): boolean {
  const path = /^0::(\/.*)$/m.exec(text)?.[1];
  return path !== undefined && (path === cgroup.path || path.startsWith(`${cgroup.path}/`)) && isThere(cgroup);
}

export function isThere(cgroup: CgroupId): boolean {
  return cgroupAt(cgroup.path)?.id === cgroup.id;
}

/** PIDs of all processes in it and below; those of other pid namespaces have none here. */
export function membersOf(cgroup: CgroupId): number[] {
  if (!isThere(cgroup)) return [];
  const found = new Set<number>();
  collect(`${root() ?? "/nowhere"}${cgroup.path}`, deepest, found);
  return isThere(cgroup) ? [...found] : [];
}

/** A cgroup that goes while it is read had nobody in it. */
function collect(folder: string, levels: number, found: Set<number>): void {
  try {
    for (const line of readFileSync(`${folder}/cgroup.procs`, "latin1").split("\n")) if (line !== "" && line !== "0") found.add(Number(line));
  } catch {
    // gone, or threaded: then its processes are listed above
  }
  if (levels === 0) return;
  try {
    for (const entry of readdirSync(folder, { withFileTypes: true })) if (entry.isDirectory()) collect(`${folder}/${entry.name}`, levels - 1, found);
  } catch {
    // gone
  }
}
