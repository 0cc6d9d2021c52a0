// Is a caller the process that it is taken for, whatever that process or its successors do?
import { createHash } from "node:crypto";
import { once } from "node:events";
import {
  appendFileSync, chmodSync, copyFileSync, existsSync, mkdtempSync, openSync, readdirSync, readFileSync, readlinkSync, renameSync,
  rmSync, statSync, truncateSync, writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import type { Server, Socket } from "node:net";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { attestPid, attestSocket } from "../src/attest/caller.ts";
import type { Caller } from "../src/attest/caller.ts";
import { parseCgroup } from "../src/attest/cgroup.ts";
import { HashCache } from "../src/attest/hash.ts";
import { readInstance, reopenInstance } from "../src/attest/instance.ts";
import { describePidNamespace, parseHidepid } from "../src/attest/namespace.ts";
import { parseStat } from "../src/attest/proc.ts";
import { closeFd } from "../src/kernel.ts";
import { patienceMs } from "./support/patience.ts";
import { kill, puppet, start } from "./support/spawn.ts";
import type { Puppet, PuppetOptions } from "./support/spawn.ts";

const isRoot = process.geteuid?.() === 0;
const nobody = 65534;
const soon = { timeout: patienceMs, interval: 10 };
const unattested = expect.objectContaining({ code: "DENIED_UNATTESTED" });
const sleepPath = ["/usr/bin/sleep", "/bin/sleep"].find(existsSync) ?? "";
const dir = mkdtempSync(join(tmpdir(), "brevet-attest-"));
const socketPath = join(dir, "workload.sock");
let server: Server;

beforeAll(async () => {
  chmodSync(dir, 0o755);
  server = createServer().listen(socketPath);
  await once(server, "listening");
  chmodSync(socketPath, 0o777);
});

afterAll(() => {
  server.close();
  rmSync(dir, { recursive: true });
});

function closedAfter(caller: Caller): Caller {
  onTestFinished(() => caller.close());
  return caller;
}

/** A process that connects, and our end of its connection. */
async function connected(options?: PuppetOptions): Promise<Puppet & { socket: Socket }> {
  const accepted = once(server, "connection");
  const caller = await puppet(socketPath, options);
  const [socket] = (await accepted) as [Socket];
  socket.on("error", () => {});
  onTestFinished(() => void socket.destroy());
  return { ...caller, socket };
}

/** Another process holds the caller's end too, so the connection outlives the caller. */
async function lend({ order }: Puppet): Promise<void> {
  const holder = Number(await order("lend"));
  onTestFinished(() => void process.kill(holder, "SIGKILL"));
}

/** `sleep` under a name of its own. */
function sleepNamed(name: string): string {
  const path = join(dir, name);
  copyFileSync(sleepPath, path);
  return path;
}

function sha256Of(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}

const never = new AbortController().signal;

function openFds(): number {
  return readdirSync("/proc/self/fd").length;
}

describe("a caller that stays what it was", () => {
  test("is the process that connected, with its facts", async () => {
    const { child, socket } = await connected();
    const caller = closedAfter(attestSocket(socket, null));
    expect(caller.pid).toBe(child.pid);
    expect(caller.facts).toMatchObject({ uid: process.geteuid?.(), gid: process.getegid?.(), user: userInfo().username, path: process.execPath });
    expect(caller.startTime).toMatch(/^\d+$/);
    expect(caller.bootId).toMatch(/^[0-9a-f-]{36}$/);
    expect(caller.ancestors()[0]?.pid).toBe(process.pid);
    expect(caller.ancestors().at(-1)?.pid).toBe(1);
    expect(caller.isSame()).toBe(true);
  });

  test.runIf(isRoot)("of another user has that user's uid, gid and names", async () => {
    const { socket } = await connected({ uid: nobody, gid: nobody });
    const caller = closedAfter(attestSocket(socket, null));
    expect(caller.facts).toMatchObject({ uid: nobody, gid: nobody, user: "nobody" });
    expect(caller.isSame()).toBe(true);
  });

  test("proves its executable's hash, once it is asked for", async () => {
    const { socket } = await connected();
    const caller = closedAfter(attestSocket(socket, new HashCache()));
    expect(caller.facts.sha256).toBeUndefined();
    expect(await caller.sha256(never)).toBe(sha256Of(process.execPath));
    expect(caller.facts.sha256).toBe(sha256Of(process.execPath));
  });
});

describe("a caller that is not what it was any more", () => {
  test("opened the connection, left it to another process and exited: nobody has its identity", async () => {
    const opener = await connected();
    const { child, socket } = opener;
    const caller = closedAfter(attestSocket(socket, null));
    await lend(opener);
    expect(closedAfter(attestSocket(socket, null)).pid).toBe(child.pid);
    await kill(child);
    expect(caller.isSame()).toBe(false);
    expect(socket.readableEnded).toBe(false); // the holder keeps it open
    expect(() => attestSocket(socket, null)).toThrow(unattested);
    expect(() => caller.ancestors()).toThrow(unattested);
  });

  test("executes another file over the same connection", async () => {
    const { child, socket, tell } = await connected();
    const caller = closedAfter(attestSocket(socket, new HashCache()));
    tell(`exec ${sleepPath}`);
    await vi.waitFor(() => expect(caller.isSame()).toBe(false), soon);
    expect(await caller.sha256(never)).toBeUndefined();
    expect(caller.sha256Problem).toBe("the process changed");
    const now = closedAfter(attestSocket(socket, null)); // the connection outlived it: same process, other facts
    expect(now.pid).toBe(child.pid);
    expect(now.executable).not.toEqual(caller.executable);
  });

  test.runIf(isRoot)("changes its user after it connected", async () => {
    const { socket, order } = await connected();
    const caller = closedAfter(attestSocket(socket, null));
    await order(`setuid ${nobody}`);
    expect(caller.isSame()).toBe(false);
    expect(() => attestSocket(socket, null)).toThrow(unattested);
  });

  test("is closed here", async () => {
    const { socket } = await connected();
    const caller = attestSocket(socket, null);
    caller.close();
    caller.close();
    expect(caller.isSame()).toBe(false);
    expect(() => caller.ancestors()).toThrow(unattested);
  });

  const lastPid = "/proc/sys/kernel/ns_last_pid";
  test.runIf(isRoot && existsSync(lastPid))("is dead and another process has its pid", async () => {
    for (let tries = 0; tries < 20; tries++) {
      const opener = await connected();
      const { child, socket } = opener;
      const caller = closedAfter(attestSocket(socket, null));
      await lend(opener);
      const was = readInstance(child.pid);
      if (!was) throw new Error("it can be read while it lives");
      await kill(child);
      if (!(await startWithPid(child.pid))) continue; // on a busy machine somebody else has it, and keeps it
      expect(readInstance(child.pid)?.startTime).not.toBe(was.startTime);
      expect(caller.isSame()).toBe(false);
      expect(socket.destroyed).toBe(false);
      expect(() => attestSocket(socket, null)).toThrow(/process.* is gone/);
      expect(reopenInstance(was)).toBeUndefined();
      return;
    }
    throw new Error("nobody could be given a PID of before");
  });

  /** False if another process came first. */
  async function startWithPid(pid: number): Promise<boolean> {
    for (let attempt = 0; attempt < 10; attempt++) {
      writeFileSync(lastPid, String(pid - 1));
      const child = await start(sleepPath, ["60"]);
      if (child.pid === pid) return true;
      await kill(child);
    }
    return false;
  }
});

describe("a caller that lies", () => {
  test("by its name: it cannot pose as another's child or another's age", async () => {
    const child = await start(sleepNamed("a) S 1 (b"), ["60"]);
    expect(readFileSync(`/proc/${child.pid}/stat`, "utf8")).toContain("(a) S 1 (b)");
    const caller = closedAfter(attestPid(child.pid));
    expect(caller.ancestors()[0]?.pid).toBe(process.pid);
    expect(caller.startTime).toBe(readInstance(child.pid)?.startTime);
  });

  test("by any name", () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 15 }), fc.nat(), fc.nat(), (name, ppid, startTime) => {
        const text = `77 (${name}) S ${ppid} 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 ${startTime} 0 0\n`;
        expect(parseStat(text)).toEqual({ ppid, startTime: String(startTime) });
      }),
    );
    expect(() => parseStat("")).toThrow();
    expect(() => parseStat("1 (a) S 1")).toThrow();
  });

  test("by its path: a deleted or replaced file has none, and its hash is that of the file that runs", async () => {
    const path = sleepNamed("agent");
    const child = await start(path, ["60"]);
    const first = closedAfter(attestPid(child.pid, new HashCache()));
    expect(first.facts.path).toBe(path);
    const good = sha256Of(path);
    writeFileSync(`${path}.new`, "another program", { mode: 0o755 });
    renameSync(`${path}.new`, path);
    const second = closedAfter(attestPid(child.pid, new HashCache()));
    expect(second.facts.path).toBeUndefined();
    expect(await second.sha256(never)).toBe(good);
    expect(second.isSame() && first.isSame()).toBe(true);
  });

  const canMount = isRoot && existsSync("/usr/bin/unshare") && existsSync("/usr/bin/env");
  test.runIf(canMount)("by its path: another file at that path in a mount namespace of its own", async () => {
    const fake = sleepNamed("fake");
    const child = await start("unshare", ["-m", "sh", "-c", `mount --bind ${fake} /usr/bin/env && exec /usr/bin/env 60`]);
    const ino = String(statSync(fake).ino);
    await vi.waitFor(() => expect(readInstance(child.pid)?.exeIno).toBe(ino), soon);
    expect(readlinkSync(`/proc/${child.pid}/exe`)).toBe("/usr/bin/env"); // what a reader who believes it would see
    expect(closedAfter(attestPid(child.pid)).facts.path).toBeUndefined();
  });

  test.runIf(isRoot && existsSync("/usr/bin/unshare"))("about its pid: from another pid namespace it is refused", async () => {
    const { socket } = await connected({ through: ["unshare", "--pid", "--fork", "--kill-child"] });
    expect(() => attestSocket(socket, null)).toThrow(/another pid namespace/);
  });
});

test("a process that is not there, or not readable, is refused", () => {
  const before = openFds();
  expect(() => attestPid(2 ** 22 + 1)).toThrow(unattested);
  expect(() => attestPid(0)).toThrow(unattested);
  expect(() => attestPid(2)).toThrow(unattested); // a kernel thread runs no file
  expect(openFds()).toBe(before);
});

test.runIf(isRoot)("an unprivileged broker says that it may not look at another user's process", () => {
  process.seteuid?.(nobody);
  try {
    expect(() => attestPid(1)).toThrow(/run it as root or as the caller's user/);
  } finally {
    process.seteuid?.(0);
  }
});

test("no descriptor is left open, attested or refused", async () => {
  const opener = await connected();
  const { child, socket } = opener;
  await lend(opener);
  attestSocket(socket, null).close();
  const before = openFds();
  for (let i = 0; i < 100; i++) attestSocket(socket, null).close();
  expect(openFds()).toBe(before);
  await kill(child);
  for (let i = 0; i < 100; i++) expect(() => attestSocket(socket, null)).toThrow(unattested);
  expect(openFds()).toBeLessThanOrEqual(before); // the pipes to the dead child are closed too
});

describe("an instance after the broker was away", () => {
  test("is adopted again only if boot, pid, start time and executable are the same", async () => {
    const child = await start(sleepPath, ["60"]);
    const ref = readInstance(child.pid);
    if (!ref) throw new Error("it can be read while it lives");
    const pidfd = reopenInstance(ref);
    expect(pidfd).toBeGreaterThan(2);
    closeFd(pidfd ?? -1);
    const before = openFds();
    for (const other of [{ startTime: `${ref.startTime}0` }, { bootId: "00000000-0000-0000-0000-000000000000" }, { exeIno: "1" }, { exeDev: "1" }, { pid: process.pid }]) {
      expect(reopenInstance({ ...ref, ...other })).toBeUndefined();
    }
    await kill(child);
    expect(reopenInstance(ref)).toBeUndefined();
    expect(readInstance(child.pid)).toBeUndefined();
    expect(openFds()).toBeLessThanOrEqual(before);
  });

  test("is what a caller was", async () => {
    const child = await start(sleepPath, ["60"]);
    const { bootId, pid, startTime, executable } = closedAfter(attestPid(child.pid));
    expect(readInstance(child.pid)).toEqual({ bootId, pid, startTime, exeDev: executable.dev, exeIno: executable.ino });
  });
});

describe("the hash of an executable", () => {
  const uid = 1;

  function fileOf(name: string, bytes: number): string {
    const path = join(dir, name);
    writeFileSync(path, name);
    truncateSync(path, bytes);
    return path;
  }

  test("is refused beyond its size, before a byte is read", async () => {
    const path = sleepNamed("huge");
    truncateSync(path, 8 * 1024 ** 3);
    const child = await start(path, ["60"]);
    const caller = closedAfter(attestPid(child.pid, new HashCache()));
    expect(await caller.sha256(never)).toBeUndefined();
    expect(caller.sha256Problem).toMatch(/8589934592 bytes, more than/);
  });

  test("is refused beyond its time", async () => {
    const path = fileOf("slow", 400 * 1024 ** 2);
    expect(await new HashCache({ maxMs: 5 }).hash(openSync(path, "r"), uid)).toEqual({ problem: "the executable was not hashed within 5 ms" });
  });

  test("is refused if the file is written to meanwhile, and right the next time", async () => {
    const path = fileOf("changing", 1024 ** 2);
    const cache = new HashCache();
    const first = cache.hash(openSync(path, "r"), uid);
    appendFileSync(path, "more");
    expect(await first).toEqual({ problem: "the executable was written to while it was hashed" });
    expect(await cache.hash(openSync(path, "r"), uid)).toEqual({ sha256: sha256Of(path) });
  });

  test("is another's after the content changed under the same size and modification time", async () => {
    const path = fileOf("same-size", 10);
    const cache = new HashCache();
    const before = await cache.hash(openSync(path, "r"), uid);
    writeFileSync(path, "0123456789");
    const after = await cache.hash(openSync(path, "r"), uid);
    expect(after).not.toEqual(before);
    expect(after).toEqual({ sha256: sha256Of(path) });
  });

  test("is computed once for all who ask, and leaves no descriptor open", async () => {
    const path = fileOf("shared", 30 * 1024 ** 2);
    const cache = new HashCache();
    await cache.hash(openSync(fileOf("warm", 1), "r"), uid);
    const before = openFds();
    const asked = Array.from({ length: 30 }, (_, i) => cache.hash(openSync(path, "r"), i % 3));
    const answers = await Promise.all(asked);
    expect(new Set(answers.map((answer) => JSON.stringify(answer)))).toEqual(new Set([JSON.stringify({ sha256: sha256Of(path) })]));
    await vi.waitFor(() => expect(openFds()).toBeLessThanOrEqual(before), soon);
  });

  test("is not waited for beyond the asker's deadline", async () => {
    const child = await start(sleepPath, ["60"]);
    const caller = closedAfter(attestPid(child.pid, new HashCache()));
    await expect(caller.sha256(AbortSignal.abort())).rejects.toThrow(expect.objectContaining({ code: "DEADLINE" }));
    expect(await caller.sha256(never)).toBe(sha256Of(sleepPath));
  });
});

describe("cgroup, unit and container", () => {
  const id = "0123456789abcdef".repeat(4);
  const other = "f".repeat(64);
  test.each<[string, string, ReturnType<typeof parseCgroup>]>([
    ["a unit", "0::/system.slice/agent.service\n", { cgroup: "/system.slice/agent.service", systemdUnit: "agent.service" }],
    ["below a unit", "0::/system.slice/agent.service/worker/x\n", { cgroup: "/system.slice/agent.service/worker/x", systemdUnit: "agent.service" }],
    ["a session", "0::/user.slice/user-1000.slice/session-3.scope\n", { cgroup: "/user.slice/user-1000.slice/session-3.scope", systemdUnit: "session-3.scope" }],
    ["a user's own unit proves only the user's manager", "0::/user.slice/user-1000.slice/user@1000.service/app.slice/agent.service\n", { cgroup: "/user.slice/user-1000.slice/user@1000.service/app.slice/agent.service", systemdUnit: "user@1000.service" }],
    ["a user's own container proves nothing", `0::/user.slice/user-1000.slice/user@1000.service/docker-${id}.scope\n`, { cgroup: `/user.slice/user-1000.slice/user@1000.service/docker-${id}.scope`, systemdUnit: "user@1000.service" }],
    ["docker", `0::/system.slice/docker-${id}.scope\n`, { cgroup: `/system.slice/docker-${id}.scope`, systemdUnit: `docker-${id}.scope`, containerId: id }],
    ["docker without systemd", `0::/docker/${id}\n`, { cgroup: `/docker/${id}`, containerId: id }],
    ["a container in a container is the outer one", `0::/docker/${id}/docker/${other}\n`, { cgroup: `/docker/${id}/docker/${other}`, containerId: id }],
    ["podman", `0::/machine.slice/libpod-${id}.scope/container\n`, { cgroup: `/machine.slice/libpod-${id}.scope/container`, systemdUnit: `libpod-${id}.scope`, containerId: id }],
    ["containerd in a pod", `0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-${id}.scope\n`, { cgroup: `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-${id}.scope`, systemdUnit: `cri-containerd-${id}.scope`, containerId: id }],
    ["a pod without systemd", `0::/kubepods/burstable/pod12/${id}\n`, { cgroup: `/kubepods/burstable/pod12/${id}`, containerId: id }],
    ["v1", `4:memory:/evil.service\n1:name=systemd:/system.slice/agent.service\n`, { cgroup: "/system.slice/agent.service", systemdUnit: "agent.service" }],
    ["v1 with an unused v2", `1:name=systemd:/docker/${id}\n0::/\n`, { cgroup: `/docker/${id}`, containerId: id }],
    ["colons in a name", "0::/a:b/0::x.service\n", { cgroup: "/a:b/0::x.service" }],
    ["63 digits are no container", `0::/docker/${id.slice(1)}\n`, { cgroup: `/docker/${id.slice(1)}` }],
    ["the root", "0::/\n", { cgroup: "/" }],
    ["outside our cgroup namespace", "0::/../system.slice/agent.service\n", {}],
    ["nothing", "", {}],
  ])("%s", (_, text, expected) => {
    expect(parseCgroup(text)).toEqual(expected);
  });
});

test("what this broker can see of processes", () => {
  expect(describePidNamespace()).toMatchObject({ pidNamespace: expect.stringMatching(/^pid:\[\d+\]$/), kernel: expect.any(String) });
  const mount = (options: string): string => `22 27 0:21 / /proc rw,relatime shared:5 - proc proc ${options}\n`;
  expect(parseHidepid(mount("rw,hidepid=2"))).toBe("2");
  expect(parseHidepid(mount("rw,hidepid=invisible,gid=5"))).toBe("invisible");
  expect(parseHidepid(mount("rw,hidepid=0"))).toBeUndefined();
  expect(parseHidepid(mount("rw"))).toBeUndefined();
  expect(parseHidepid(`${mount("rw,hidepid=2")}${mount("rw")}`)).toBeUndefined();
});
