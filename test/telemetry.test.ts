// Can a broker's log be filled, or be made to say what it must not?
// The log writes to standard error of its own process, so a real one is started and read.
import { spawnSync } from "node:child_process";
import { expect, test } from "vitest";

function logged(script: string): Record<string, unknown>[] {
  const telemetry = new URL("../dist/src/telemetry.js", import.meta.url).href;
  const text = `import { createLog } from ${JSON.stringify(telemetry)}; const log = createLog("info"); ${script}`;
  const { stderr, status } = spawnSync(process.execPath, ["--input-type=module", "--eval", text], { encoding: "utf8" });
  expect(status).toBe(0);
  return stderr.trimEnd().split("\n").map((line) => JSON.parse(line) as Record<string, unknown>);
}

test("an event that comes without end is cut, counted, and hides no other", () => {
  const lines = logged(`
    for (let i = 0; i < 5000; i++) log("call.failed", { code: "INTERNAL" }, "error");
    log("broker.stopping");
    setTimeout(() => log("call.failed", { code: "INTERNAL" }, "error"), 1100);`);
  expect(lines.filter(({ msg }) => msg === "broker.stopping")).toHaveLength(1);
  const failed = lines.filter(({ msg }) => msg === "call.failed");
  expect(failed.length).toBeLessThan(200);
  expect(failed.reduce((sum, line) => sum + Number(line["leftOut"] ?? 0), failed.length)).toBe(5001);
});

test("one event is one line: no field that is not allowed, no control character, no end of text", () => {
  const [line, ...others] = logged(`log("x", { message: "a\\n\\u001b[31mb\\u202e" + "c".repeat(5000), token: "eyJ", uid: 7 })`);
  expect(others).toEqual([]);
  expect(line).toMatchObject({ msg: "x", dropped: "token", uid: 7 });
  expect(String(line?.["message"])).toMatch(/^a\ufffd\ufffd\[31mb\ufffdc+$/);
  expect(String(line?.["message"])).toHaveLength(1000);
});
