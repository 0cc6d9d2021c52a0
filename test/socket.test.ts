// Who can get at the sockets, and what stands in their place?
// A path that a socket can't have, or that holds something else, is refused with its name and left as it
// is; what a dead broker left is taken over, what a living one serves is not; and whoever opens the admin
// socket's door for all finds that the kernel's word still counts.
// Whoever is let in to no call is told why.
// SPIFFE Workload Endpoint section 4 (unix sockets).
// How callers are attested is attest.test.ts's; what goes over the sockets, wire.test.ts's.
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, lstatSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { agentUid, ownUid, refusalOf } from "./support/agent.ts";
import type { Refusal, WireRefusal } from "./support/agent.ts";
import { BrokerProcess } from "./support/broker.ts";
import { World } from "./support/world.ts";

let world: World;

beforeAll(async () => {
  world = await World.start();
});

afterAll(async () => await world?.[Symbol.asyncDispose]());

const at = (name: string): string => join(world.broker.dataDir, name);
const modeOf = (path: string): string => (lstatSync(path).mode & 0o7777).toString(8);

async function refusedStart(dataDir: string, env: Record<string, string> = {}): Promise<string> {
  const other = new BrokerProcess(dataDir, { ...(world.broker.env as Record<string, string>), BREVET_DATA_DIR: dataDir, ...env });
  onTestFinished(async () => {
    other.hangUp();
    await other.stop();
  });
  return await other.start().then(() => "it started", (error: Error) => error.message);
}

test("directories and sockets are open to those that they are for, and to nobody's writing", () => {
  expect([".", "t"].map((name) => modeOf(at(name)))).toEqual(["711", "711"]);
  expect(modeOf(at("workload.sock"))).toBe("666");
  expect(modeOf(at("admin.sock"))).toBe("600");
  const { BREVET_KEY_ENCRYPTION_KEY_FILE: key = "" } = world.broker.env;
  expect(modeOf(key)).toBe("600");
  expect(statSync(at(".")).uid).toBe(ownUid);
});

describe("a path", () => {
  test("that is too long for a socket is refused with its length", async () => {
    const dataDir = join(tmpdir(), "x".repeat(100));
    const bin = fileURLToPath(new URL("../bin/brevet.js", import.meta.url));
    const { status, stderr } = spawnSync(process.execPath, [bin, "broker"], { env: { PATH: process.env["PATH"], BREVET_DATA_DIR: dataDir }, encoding: "utf8" });
    expect(status).toBe(1);
    expect(stderr).toContain(`${dataDir}/workload.sock has `);
    expect(stderr).toContain("at most 107");
    expect(existsSync(dataDir)).toBe(false);
  });

  test("that everybody may write to is refused, and its mode left as it is", async () => {
    const dataDir = mkdtempSync(join(tmpdir(), "brevet-s-"));
    onTestFinished(() => rmSync(dataDir, { recursive: true }));
    chmodSync(dataDir, 0o1777);
    expect(await refusedStart(dataDir)).toContain(`dataDir: ${dataDir} can't be used: ${dataDir} is writable for everyone`);
    expect(modeOf(dataDir)).toBe("1777");
  });

  test.each(["workload.sock", "admin.sock"])("at which a living broker serves is refused to a second: %s", async (name) => {
    const { ino } = lstatSync(at(name));
    const task = await world.open();
    const agent = await world.agent();
    const { endpoint } = await agent.claim(task.id);
    expect(await refusedStart(world.broker.dataDir)).toMatch(/another process serves this socket|another broker/);
    expect(lstatSync(at(name)).ino).toBe(ino);
    expect((await world.admin.tasks.get({ task: task.id })).state).toBe("active");
    expect(await agent.x509({ socket: endpoint, connection: "after" })).toHaveLength(1);
    await world.close(task.id);
    await agent.kill();
  });
});

describe("the admin socket", () => {
  test.skipIf(agentUid === ownUid)("with its mode opened by mistake is still for administrators", async () => {
    const agent = await world.agent();
    const list = (connection: string): Promise<unknown> => agent.call("List", {}, { service: "tasks", socket: world.broker.adminSocket, connection });
    await expect(list("closed")).rejects.toThrow();
    chmodSync(at("admin.sock"), 0o666);
    const refusal = await list("open").then(() => undefined, (error: Refusal) => error);
    expect(refusal).toMatchObject({ status: 7, code: "DENIED_ROLE", message: expect.stringContaining("only administrators") });
    await world.until("the refusal's count", async () => (await world.broker.metric(`brevet_calls_total{method="connect",code="DENIED_ROLE"}`)) > 0);
    await isOnRecord(refusal?.metadata["attempt"] ?? "", { verdict: "DENIED_ROLE", pid: agent.pid });
    expect(await agent.call("List", {}, { service: "tasks" })).toMatchObject({ tasks: [] });
    chmodSync(at("admin.sock"), 0o600);
    expect((await world.admin.tasks.list({})).tasks.length).toBeGreaterThan(0);
  });
});

test.runIf(ownUid === 0 && existsSync("/usr/bin/unshare"))("a caller that can't be attested is told so by every call, and is on record", async () => {
  const asking = `
    const { Client, Metadata, credentials } = require("@grpc/grpc-js");
    const client = new Client(${JSON.stringify(world.broker.workloadSocket.replace("unix://", "unix:"))}, credentials.createInsecure());
    const metadata = new Metadata();
    metadata.set("workload.spiffe.io", "true");
    const same = (bytes) => bytes;
    client.makeUnaryRequest(process.argv[1], same, same, Buffer.alloc(0), metadata, {}, (error) => {
      console.log(JSON.stringify({ code: error?.code, message: error?.details, bytes: error?.metadata.get("grpc-status-details-bin")[0]?.toString("base64") }));
      process.exit();
    });`;
  for (const path of ["/brevet.v1.Trust/GetInfo", "/grpc.health.v1.Health/Check"]) {
    const { stdout } = spawnSync("unshare", ["--pid", "--fork", "--kill-child", process.execPath, "-e", asking, path], { cwd: fileURLToPath(new URL("..", import.meta.url)), encoding: "utf8" });
    const refusal = refusalOf(JSON.parse(stdout) as WireRefusal);
    expect(refusal).toMatchObject({ status: 7, code: "DENIED_UNATTESTED", message: expect.stringContaining("pid namespace") });
    await isOnRecord(refusal.metadata["attempt"] ?? "", { verdict: "DENIED_UNATTESTED" });
  }
});

/** In the database, and in the log. */
async function isOnRecord(attempt: string, { verdict, pid }: { readonly verdict: string; readonly pid?: number }): Promise<void> {
  expect(await world.admin.log.explain({ attempt })).toMatchObject({ attempt, verdict });
  const [row] = await world.sql<{ pid: number; uid: string }>("select pid, uid from attestations where attempt = $1", [attempt]);
  expect(Number(row?.uid)).toBe(pid === undefined ? ownUid : agentUid);
  if (pid !== undefined) expect(row?.pid).toBe(pid);
  await world.until("its line in the log", () => world.broker.output.split("\n").some((line) => line.includes("connection.refused") && line.includes(attempt)));
}

describe("after a broker's end", () => {
  test("its sockets are gone; those of one that was killed are taken over", async () => {
    await world.kill9();
    expect(lstatSync(at("workload.sock")).isSocket()).toBe(true);
    await world.broker.start();
    expect((await world.admin.catalog.listAgents({})).agents).toHaveLength(1);
    await world.broker.stop();
    expect([existsSync(at("workload.sock")), existsSync(at("admin.sock"))]).toEqual([false, false]);
  });

  const obstacles: Record<string, { of: string; put: (path: string) => void; left: (path: string) => boolean; remove: (path: string) => void }> = {
    "a file": { of: "workload.sock", put: (path) => writeFileSync(path, "precious"), left: (path) => readFileSync(path, "utf8") === "precious", remove: unlinkSync },
    "a directory": { of: "admin.sock", put: (path) => mkdirSync(path), left: (path) => lstatSync(path).isDirectory(), remove: (path) => rmSync(path, { recursive: true }) },
    "a link to a file": {
      of: "workload.sock",
      put: (path) => {
        writeFileSync(`${path}.target`, "precious");
        symlinkSync(`${path}.target`, path);
      },
      left: (path) => lstatSync(path).isSymbolicLink() && readFileSync(path, "utf8") === "precious",
      remove: (path) => {
        unlinkSync(path);
        unlinkSync(`${path}.target`);
      },
    },
    "a link to nothing": { of: "admin.sock", put: (path) => symlinkSync("/nonexistent/socket", path), left: (path) => lstatSync(path).isSymbolicLink(), remove: unlinkSync },
  };

  test.each(Object.entries(obstacles))("%s in a socket's place is refused by its path, and left as it is", async (_, { of, put, left, remove }) => {
    put(at(of));
    await expect(world.broker.start()).rejects.toThrow(`${at(of)}: is there already and is not a socket`);
    expect(left(at(of))).toBe(true);
    remove(at(of));
  });

  test("a socket of some other program is not taken from it", async () => {
    const server = net.createServer((socket) => socket.destroy());
    await new Promise<void>((resolve) => server.listen(at("workload.sock"), resolve));
    await expect(world.broker.start()).rejects.toThrow(`${at("workload.sock")}: another process serves this socket`);
    expect(lstatSync(at("workload.sock")).isSocket()).toBe(true);
    await new Promise((resolve) => server.close(resolve));
  });

  test("one that says it is ready can be ended at once, and ends well", async () => {
    await world.broker.start();
    expect(await world.broker.stop()).toBe(0);
  });
});
