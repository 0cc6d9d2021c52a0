// Does the small package do without a database what it says, where nothing else of the project is?
// The tarball of this tree is installed into an empty folder by npm, from its registry; its size is
// counted, its exports verify, refuse and type-check, and its command talks to a real broker, run under
// the kernel's words (FFI) included.
// What the SDK does is proved elsewhere; here only that it is all there.
import { execFileSync, spawnSync } from "node:child_process";
import { lstatSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { World } from "./world.ts";

const tree = fileURLToPath(new URL("../../", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "brevet-pack-"));
const installed = join(folder, "app", "node_modules");

beforeAll(() => {
  const tarball = execFileSync(process.execPath, [join(tree, "dist/scripts/pack-sdk.js"), folder], { encoding: "utf8" }).trim();
  execFileSync("npm", ["install", "--prefix", join(folder, "app"), "--no-audit", "--no-fund", tarball], { cwd: folder, stdio: "pipe" });
}, 180_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function bytesBelow(path: string): number {
  const entries = readdirSync(path, { recursive: true, encoding: "utf8" }).map((name) => lstatSync(join(path, name)));
  return entries.reduce((sum, entry) => sum + (entry.isFile() ? entry.size : 0), 0);
}

const brevet = (args: readonly string[], env: NodeJS.ProcessEnv = {}): { status: number | null; stdout: string; stderr: string } =>
  spawnSync(process.execPath, [join(installed, "@brevet/sdk/bin/brevet.js"), ...args], { cwd: folder, encoding: "utf8", env: { ...process.env, ...env }, timeout: 60_000 });

test("it is small, and has no database", () => {
  expect(bytesBelow(installed)).toBeLessThan(15e6);
  const packages = readdirSync(installed).filter((name) => !name.startsWith("."));
  expect(packages.sort()).toEqual(["@brevet", "@koromix", "koffi", "undici"]);
});

test("its SDK accepts a live task and refuses a closed one", () => {
  writeFileSync(join(folder, "app", "try.mjs"), `
    import { Verifier } from "@brevet/sdk";
    import { TestBroker } from "@brevet/sdk/testing";
    const broker = await TestBroker.start();
    const verifier = new Verifier({ address: broker.address, audience: "crm" });
    await verifier.ready();
    const task = await broker.open({ agent: "researcher" });
    const token = task.jwt("crm");
    console.log(verifier.jwt(token).accepted);
    verifier.feed.once("revoked", () => {
      console.log(verifier.jwt(token).reason);
      verifier.close();
      broker.close();
    });
    task.close();`);
  expect(execFileSync(process.execPath, ["try.mjs"], { cwd: join(folder, "app"), encoding: "utf8", timeout: 60_000 })).toBe("true\nVERIFY_REVOKED\n");
});

test("its types are all there", () => {
  writeFileSync(join(folder, "app", "typed.mts"), `
    import { AgentTask, Verifier, guard, serviceIs } from "@brevet/sdk";
    import type { Accepted } from "@brevet/sdk";
    import { TestBroker } from "@brevet/sdk/testing";
    const broker = await TestBroker.start();
    const only = guard({ verifier: new Verifier({ address: broker.address }) });
    const task = await AgentTask.open({ address: broker.address, servers: serviceIs("crm") });
    const answer: number = (await task.fetch("https://crm/")).status;
    export const wrong: (caller: Accepted) => string = (caller) => caller.task + answer;
    // @ts-expect-error a number is no address
    new Verifier({ address: 7 });
    export default only.express;`);
  const tsc = spawnSync(process.execPath, [join(tree, "node_modules/typescript/bin/tsc"), "--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext",
    "--target", "es2023", "--types", "node", "--typeRoots", join(tree, "node_modules/@types"), "typed.mts"], { cwd: join(folder, "app"), encoding: "utf8" });
  expect([tsc.status, tsc.stdout]).toEqual([0, ""]);
});

test("its command asks a real broker, and is none", async () => {
  const world = await World.start();
  try {
    const env = { BREVET_DATA_DIR: join(world.folder, "d") };
    expect(JSON.parse(brevet(["version", "-o", "json"]).stdout)).toHaveProperty("version");
    expect(brevet(["broker"])).toMatchObject({ status: 2 });
    const ran = brevet(["run", "--agent", "shell", "--", process.execPath, "-e", "console.log(process.env.BREVET_TASK_ID)"], env);
    expect([ran.status, ran.stdout.trim()]).toEqual([0, expect.stringMatching(/^[0-9a-f-]{36}$/)]);
    const shown = JSON.parse(brevet(["task", "show", ran.stdout.trim(), "-o", "json"], env).stdout) as { state: string };
    expect(shown.state).toBe("closed");
  } finally {
    await world.close();
  }
}, 90_000);
