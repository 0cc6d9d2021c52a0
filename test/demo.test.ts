// Does the demo do what it shows, and leave nothing behind?
// It is run as a person runs it, in a temporary directory of its own, so that all it makes can be found
// again: to its end, interrupted in the middle, and as an ordinary user who is nobody's parent.
// What each line claims is asserted by demo/demo.ts itself: here its exit code is believed.
import { spawn } from "node:child_process";
import type { SpawnOptions } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, readFileSync, readdirSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { expect, onTestFinished, test } from "vitest";

const program = new URL("../dist/demo/demo.js", import.meta.url).pathname;
const isRoot = process.getuid?.() === 0;

type Ended = { readonly code: number | null; readonly lines: readonly string[]; readonly stderr: string; readonly files: readonly string[]; readonly processes: readonly string[] };

/** Runs it; once a line begins with `until`, interrupts it. */
async function demo({ until, ...options }: SpawnOptions & { until?: string } = {}): Promise<Ended> {
  const directory = mkdtempSync(join(tmpdir(), "bdemo-"));
  chmodSync(directory, 0o777);
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const child = spawn(process.execPath, [program], { ...options, env: { ...process.env, HOME: directory, TMPDIR: directory }, stdio: ["ignore", "pipe", "pipe"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  const lines: string[] = [];
  let stderr = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  createInterface({ input: child.stdout as NodeJS.ReadableStream }).on("line", (line) => {
    lines.push(line);
    if (until !== undefined && line.startsWith(until)) child.kill("SIGINT");
  });
  const [code] = (await once(child, "close")) as [number | null];
  return { code, lines, stderr, files: readdirSync(directory), processes: processesIn(directory) };
}

/** Whatever still runs a program, stands, or has an argument or a variable that lies in the directory. */
function processesIn(directory: string): string[] {
  return readdirSync("/proc").filter((pid) => /^\d+$/.test(pid) && Number(pid) !== process.pid).filter((pid) => {
    const told = ["cmdline", "environ"].map((name) => attempt(() => readFileSync(`/proc/${pid}/${name}`, "utf8")));
    const linked = ["cwd", "exe"].map((name) => attempt(() => readlinkSync(`/proc/${pid}/${name}`)));
    return [...told, ...linked].some((text) => text.includes(directory));
  });
}

/** Empty for a process that is gone. */
function attempt(read: () => string): string {
  try {
    return read();
  } catch {
    return "";
  }
}

const nothing = { files: [], processes: [] };

test("shows a task from its opening to its revocation", async () => {
  const accounts = readFileSync("/etc/passwd", "utf8");
  const { lines, ...rest } = await demo();
  expect(rest).toEqual({ code: 0, stderr: "", ...nothing });
  expect(lines.filter((line) => line.startsWith("✓")).map((line) => line.split(/\s+/)[1])).toEqual([
    "broker", "operator", "service", "agent", "orchestrator", "agent", "agent", "service", "orchestrator", "agent", "service",
    "operator", "agent", "service", "PostgreSQL", "broker",
  ]);
  expect(lines.at(-1)).toMatch(/^Every line was checked\. Nothing is left of it\./);
  expect(lines.join("\n")).not.toContain("\u001b");
  expect(readFileSync("/etc/passwd", "utf8")).toBe(accounts);
});

test("interrupted, it says so, stops what it started and takes its files with it", async () => {
  const { code, stderr, lines: _lines, ...left } = await demo({ until: "✓ service" });
  expect({ code, stderr, ...left }).toEqual({ code: 130, stderr: "✗ stopped by SIGINT\n", ...nothing });
});

test.runIf(isRoot)("as an ordinary user it says what is shared, and does the same", async ({ skip }) => {
  const reachable = spawn("test", ["-r", program], { uid: 65534, gid: 65534 });
  const [unreadable] = (await once(reachable, "close")) as [number];
  skip(unreadable !== 0, "this clone lies where no other user comes");
  const { code, lines, stderr, ...left } = await demo({ uid: 65534, gid: 65534 });
  expect({ code, stderr, ...left }).toEqual({ code: 0, stderr: "", ...nothing });
  expect(lines[0]).toContain("You are not root: agent, service and broker share your uid 65534");
});
