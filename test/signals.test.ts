// What becomes of a broker that gets a signal?
// Whatever would end it lets it drain, and its PostgreSQL ends with it, also while it starts; nothing opens
// a debugger in it, by which everybody on this machine could read its keys.
// Threat model: process. signal(7). What a kill leaves is restart.test.ts's.
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { BrokerProcess } from "./support/broker.ts";
import { patienceMs } from "./support/patience.ts";

let folder: string;
let broker: BrokerProcess;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "brevet-s-"));
  broker = new BrokerProcess(folder, {});
});
afterEach(async () => {
  await broker.kill9();
  broker.hangUp();
  rmSync(folder, { recursive: true, force: true });
});

const leftBehind = (): boolean => [["postgres", "data", "postmaster.pid"], ["workload.sock"], ["admin.sock"]].some((path) => existsSync(join(folder, ...path)));
/** Its exit code, as whoever started it sees it. */
const over = async (): Promise<number | null> => {
  await expect.poll(() => broker.isRunning, { timeout: patienceMs }).toBe(false);
  return await broker.stop();
};

test.each(["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR2"] as const)("%s lets it drain: nothing is left", async (signal) => {
  await broker.start();
  broker.signal(signal);
  expect(await over()).toBe(0);
  expect(leftBehind()).toBe(false);
  expect(broker.output).toContain(signal);
});

test("while it starts, what it has begun ends with it", async () => {
  const starting = broker.start().then(() => "ready", () => "ended");
  await expect.poll(() => broker.output, { timeout: patienceMs }).toContain("postgres_started");
  broker.signal("SIGTERM");
  expect(await over()).toBe(0);
  expect(await starting).toBe("ended");
  expect(leftBehind()).toBe(false);
});

test("none opens a debugger", async () => {
  await broker.start();
  broker.signal("SIGUSR1");
  expect(await broker.admin.trust.getInfo({})).toMatchObject({ trustDomain: "brevet.local" });
  expect(await broker.stop()).toBe(0);
  expect(broker.output).not.toMatch(/debugger/i);
});

test("nor does it start with one", async () => {
  const debugged = new BrokerProcess(folder, { NODE_OPTIONS: "--inspect=127.0.0.1:0" });
  await expect(debugged.start()).rejects.toThrow(/--inspect.*\[START_REFUSED\]/s);
  debugged.hangUp();
});
