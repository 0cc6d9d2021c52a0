// Does the kernel layer say what is so, of real processes, sockets and files?
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, onTestFinished, test, vi } from "vitest";
import {
  closeFd, ExitWatch, flockExclusive, followChild, nodeSocketFd, peerCredentials, peerPidfd, pidfdExited, pidfdOpen, pidfdSignal, setChildSubreaper, stopAtExec,
} from "../src/kernel.ts";
import { patienceMs } from "./support/patience.ts";
import { kill, start } from "./support/spawn.ts";

const dir = mkdtempSync(join(tmpdir(), "brevet-kernel-"));
afterAll(() => rmSync(dir, { recursive: true }));

function open(pid: number): number {
  const pidfd = pidfdOpen(pid);
  if (pidfd === undefined) throw new Error(`no process ${pid}`);
  onTestFinished(() => closeFd(pidfd));
  return pidfd;
}

const deadline = { timeout: patienceMs, interval: 10 };

test("a socket's peer is named with its pid, uid, gid and a pidfd", async () => {
  const server = createServer().listen(join(dir, "peer.sock"));
  await once(server, "listening");
  const client = connect(join(dir, "peer.sock"));
  const [accepted] = await once(server, "connection");
  const fd = nodeSocketFd(accepted);
  expect(peerCredentials(fd)).toEqual({ pid: process.pid, uid: process.geteuid?.(), gid: process.getegid?.() });
  const pidfd = peerPidfd(fd);
  if (pidfd !== undefined) { // Linux 6.5 and newer
    expect(readFileSync(`/proc/self/fdinfo/${pidfd}`, "utf8")).toMatch(new RegExp(`^Pid:\\t${process.pid}$`, "m"));
    closeFd(pidfd);
  }
  client.destroy();
  accepted.destroy();
  expect(() => nodeSocketFd(accepted)).toThrow(/connection closed/);
  server.close();
});

test("a pidfd lives and dies with its process", async () => {
  const child = await start("sleep", ["60"]);
  const pidfd = open(child.pid);
  expect(pidfdExited(pidfd)).toBe(false);
  expect(pidfdSignal(pidfd, "SIGTERM")).toBe(true);
  await once(child, "exit");
  expect(child.signalCode).toBe("SIGTERM");
  expect(pidfdExited(pidfd)).toBe(true);
  expect(pidfdSignal(pidfd, "SIGTERM")).toBe(false);
  expect(pidfdOpen(child.pid)).toBeUndefined();
});

test.each([0, -1, 2 ** 22 + 1])("pid %i is no process", (pid) => {
  expect(pidfdOpen(pid)).toBeUndefined();
});

test("a closed pidfd never looks alive", async () => {
  const child = await start("sleep", ["60"]);
  const pidfd = pidfdOpen(child.pid) ?? -1;
  closeFd(pidfd);
  expect(pidfdExited(pidfd)).toBe(true);
});

test("a locked file is locked for others until it is closed, also by death", async () => {
  const path = join(dir, "lock");
  const mine = openSync(path, "w");
  const other = openSync(path, "w");
  expect(flockExclusive(mine)).toBe(true);
  expect(flockExclusive(mine)).toBe(true);
  expect(flockExclusive(other)).toBe(false);
  closeSync(mine);
  expect(flockExclusive(other)).toBe(true);
  spawnSync("true"); // a child does not carry the lock on
  closeSync(other);
  const third = openSync(path, "w");
  expect(flockExclusive(third)).toBe(true);
  closeSync(third);
});

test("orphans come to a subreaper", async () => {
  setChildSubreaper();
  const shell = await start("sh", ["-c", "sleep 60 & echo $!"], { stdio: ["ignore", "pipe", "ignore"] });
  const [output] = await once(shell.stdout ?? shell, "data");
  const orphan = Number(String(output));
  const pidfd = open(orphan);
  await vi.waitFor(() => expect(readFileSync(`/proc/${orphan}/status`, "utf8")).toContain(`PPid:\t${process.pid}\n`), deadline);
  pidfdSignal(pidfd, "SIGKILL");
  await vi.waitFor(() => expect(pidfdExited(pidfd)).toBe(true), deadline);
});

test.each(["SIGTERM", "SIGKILL", "SIGUSR1"] as const)("a child that is followed still gets %s, and its exit is Node's to hear of", async (signal) => {
  const child = spawn("sleep", ["60"], { stdio: "ignore" }); // all in the turn in which it came to be
  const pid = child.pid ?? 0;
  expect(followChild(pid)).toBe(true);
  process.kill(pid, signal);
  expect(stopAtExec(pid)).toBe(false);
  expect(await once(child, "exit")).toEqual([null, signal]);
});

test("ExitWatch says each exit once, whatever the way out", async () => {
  const watch = new ExitWatch();
  onTestFinished(() => watch.close());
  const exits: string[] = [];
  const killed = await start("sleep", ["60"]);
  const quits = await start("sh", ["-c", "read line"], { stdio: ["pipe", "ignore", "ignore"] });
  const stays = await start("sleep", ["60"]);
  const forgotten = await start("sleep", ["60"]);
  const forgottenPidfd = open(forgotten.pid);
  watch.add(open(killed.pid), () => exits.push("killed"));
  watch.add(open(quits.pid), () => exits.push("quits"));
  watch.add(open(stays.pid), () => exits.push("stays"));
  watch.add(forgottenPidfd, () => exits.push("forgotten"));
  watch.remove(forgottenPidfd);
  await Promise.all([kill(killed), kill(forgotten)]);
  quits.stdin?.end();
  await vi.waitFor(() => expect(exits.toSorted()).toEqual(["killed", "quits"]), deadline);
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(exits).toHaveLength(2);
});

test("ExitWatch says the exit of a process that was dead before it was watched", async () => {
  const watch = new ExitWatch();
  onTestFinished(() => watch.close());
  const child = await start("sleep", ["60"]);
  const pidfd = open(child.pid);
  await kill(child);
  await new Promise<void>((resolve) => watch.add(pidfd, resolve));
});

test("ExitWatch says more exits at once than one ask can hold", async () => {
  const watch = new ExitWatch();
  onTestFinished(() => watch.close());
  const child = await start("sleep", ["60"]);
  let exits = 0;
  for (let i = 0; i < 200; i++) watch.add(open(child.pid), () => exits++);
  await kill(child);
  await vi.waitFor(() => expect(exits).toBe(200), deadline);
});

test("a watch that is closed leaves no descriptor and says nothing", async () => {
  const before = readdirSync("/proc/self/fd").length;
  const watch = new ExitWatch();
  const child = await start("sleep", ["60"]);
  let said = false;
  watch.add(open(child.pid), () => (said = true));
  watch.close();
  await kill(child);
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(said).toBe(false);
  expect(readdirSync("/proc/self/fd").length).toBe(before + 1); // the pidfd, closed after the test
});
