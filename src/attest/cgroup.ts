// Which cgroup, systemd unit and container is a process in, and which cgroup is the whole unit, container or pod?
// Always true: names are believed only from the root down to the first cgroup that is a unit or
// a container. Whoever owns that one may make cgroups of any name below it (a user's own systemd
// does), so `agent.service` below `user@1000.service` proves nothing and is not reported.
// cgroups(7): /proc/PID/cgroup; systemd's names of units and slices.
// A boundary may lie deeper, at a unit or container below somebody's own: that is less, never more.
// Reading the file is src/attest/proc.ts's business; what is in a cgroup, cgroup-dir.ts's.

export type CgroupFacts = { readonly cgroup?: string; readonly systemdUnit?: string; readonly containerId?: string };

/** Of /proc/PID/cgroup: the v2 path, or v1's hierarchy of systemd where v2 is not in use. */
export function parseCgroup(text: string): CgroupFacts {
  const path = cgroupPath(text);
  if (path === undefined) return {};
  const parts = path.split("/").slice(1);
  const at = parts.findIndex((part) => !part.endsWith(".slice"));
  const first = parts[at];
  if (first !== undefined && /\.(service|scope)$/.test(first)) {
    return { cgroup: path, systemdUnit: first, ...container(first) };
  }
  const named = parts.slice(Math.max(at, 0)).find((part) => containerId(part) !== undefined || /\.(service|scope)$/.test(part));
  return { cgroup: path, ...(named === undefined ? {} : container(named)) };
}

/**
 * The cgroup v2 path of the unit, container or pod that a process of this /proc/PID/cgroup is in: a pod is the
 * ancestor that kubelet names so; else it is the first unit or container from the root down, or within a user's
 * own systemd (user@1000.service), whose units they are, the first one there. Undefined: it is in none.
 */
export function boundary(text: string): string | undefined {
  const path = /^0::(\/.*)$/m.exec(text)?.[1];
  if (path === undefined || path.split("/").includes("..")) return undefined;
  const parts = path.split("/").slice(1);
  const kubepods = parts.findIndex((part) => /^(?:[a-z]+-)*kubepods(?:\.slice)?$/.test(part));
  const pod = kubepods < 0 ? -1 : parts.findIndex((part, i) => i > kubepods && /(?:^|-)pod[0-9a-f][0-9a-f_-]{7,63}(?:\.slice)?$/.test(part));
  const end = pod >= 0 ? pod : parts.findIndex((part) => (unit.test(part) && !manager.test(part)) || containerId(part) !== undefined);
  return end < 0 ? undefined : `/${parts.slice(0, end + 1).join("/")}`;
}

const unit = /\.(?:service|scope)$/;
const manager = /^(?:user@\d+\.service|init\.scope)$/;

/** A path outside this process's own cgroup namespace ("/..") has no name here that could be compared. */
function cgroupPath(text: string): string | undefined {
  const paths = new Map<string, string>();
  for (const line of text.split("\n")) {
    const [, controllers, path] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
    if (controllers !== undefined && path !== undefined) paths.set(controllers, path);
  }
  const unified = paths.get("");
  const path = unified === undefined || unified === "/" ? (paths.get("name=systemd") ?? unified) : unified;
  return path === undefined || path.split("/").includes("..") ? undefined : path;
}

function container(part: string): CgroupFacts {
  const id = containerId(part);
  return id === undefined ? {} : { containerId: id };
}

/** docker-ID.scope, cri-containerd-ID.scope, libpod-ID.scope, crio-ID.scope, or ID alone. */
function containerId(part: string): string | undefined {
  return /^(?:[a-z]+(?:-[a-z]+)*-)?([0-9a-f]{64})(?:\.scope)?$/.exec(part)?.[1];
}
