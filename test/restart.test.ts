// What does a broker take up again after it was killed?
// Rows, not memory: live instances keep their tasks, streams reconnect, those that died meanwhile have
// lost theirs; its orphaned PostgreSQL is adopted, its dead endpoints are swept. Nothing is ever
// generated anew over what is there, and nobody else may use a data directory that is in use.
// DESIGN 3 (after a start), 5 (keys).
// What a crash in the middle of a transaction leaves is faults.test.ts's.
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { existsSync, readFileSync, readdirSync, readlinkSync, renameSync, statSync, writeFileSync } from "node:fs";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WorkloadSource } from "../src/client/source.ts";
import type { BrevetError } from "../src/errors.ts";
import { Verifier } from "../src/verify/verifier.ts";
import { ownUid } from "./support/agent.ts";
import type { HeldX509 } from "./support/agent.ts";
import { BrokerProcess } from "./support/broker.ts";
import { World, defaultCatalog } from "./support/world.ts";

const refusal = async (call: Promise<unknown>): Promise<string> => await call.then(() => "none", (error: unknown) => (error as BrevetError).code);

let world: World;
let kek: string;

beforeAll(async () => {
  world = await World.start({ embedded: true, catalog: `${defaultCatalog}
  - { name: tester, owner: l@example.org, selectors: [{ uid: ${ownUid}, path: ${JSON.stringify(process.execPath)} }] }
  - { name: shifter, owner: l@example.org, selectors: [{ uid: ${ownUid} }] }` });
  kek = world.broker.env["BREVET_KEY_ENCRYPTION_KEY_FILE"] ?? "";
});
afterAll(() => world[Symbol.asyncDispose]());

const postgresPid = (): number => Number(readFileSync(join(world.broker.dataDir, "postgres", "data", "postmaster.pid"), "utf8").split("\n")[0]);
const endpoints = (): string[] => readdirSync(join(world.broker.dataDir, "t")).map((name) => `unix://${world.broker.dataDir}/t/${name}`);

test("killed with live agents: the same tasks, the same instances, the same database; who died meanwhile is out", async () => {
  const [staying, dying, late] = [await world.agent(), await world.agent(), await world.agent()];
  const [one, two, ready] = [await world.open({ scope: "tree" }), await world.open(), await world.open({ bind: "ticket" })];
  await staying.claim(one.id);
  await dying.claim(two.id);
  const stream = staying.follow();
  const [before] = await stream.next();
  const [theirs] = await dying.x509();
  const own = await world.admin.tasks.open({ agent: "tester" });
  const source = await WorkloadSource.claim({ address: world.broker.workloadSocket, task: own.id });
  world.sawIdentity(source.svid());
  const verifier = new Verifier({ address: world.broker.workloadSocket });
  await verifier.ready();
  const postgres = postgresPid();
  await world.kill9();
  expect((await stream.ended)?.code).toBe("BROKER_UNREACHABLE");
  await dying.kill();
  expect(endpoints()).toHaveLength(3);

  await world.broker.start();
  expect(postgresPid()).toBe(postgres);
  expect(await world.get(one.id)).toMatchObject({ state: "active", epoch: 1 });
  await world.until("the dead one's task ended", async () => (await world.get(two.id)).state === "aborted");
  const alive = [await world.get(one.id), await world.get(own.id)].map(({ endpoint }) => endpoint);
  await world.until("the dead one's endpoint is gone", () => endpoints().toSorted().join() === alive.toSorted().join());
  const [after] = await staying.x509();
  expect(after).toMatchObject({ spiffeId: before?.spiffeId, binding: before?.binding });
  expect((await staying.x509({ socket: (await world.get(one.id)).endpoint }))[0]?.spiffeId).toBe(before?.spiffeId);
  expect((await staying.jwt(["crm"]))[0]?.spiffeId).toBe(before?.spiffeId);
  await world.until("the verifier is fresh", () => verifier.feed.fresh && verifier.feed.epochOf(two.id) === 2);
  expect(verifier.x509((before as HeldX509).chain)).toMatchObject({ accepted: true });
  expect(verifier.x509((theirs as HeldX509).chain)).toMatchObject({ accepted: false, reason: "VERIFY_REVOKED" });
  await late.claim(ready.id, { ticket: ready.ticket });
  await world.check();

  // the SDK's stream came back by itself, and hears the end
  const { signal } = source;
  await world.close(own.id, world.admin);
  await world.until("the source has ended", () => signal.aborted);
  source.close();
  verifier.close();
  await world.close(one.id);
  await world.close(ready.id);
  await world.check();
});

describe("a process that executes another file", () => {
  const program = `import(${JSON.stringify(new URL("../dist/src/index.js", import.meta.url).href)}).then(async ({ WorkloadSource }) => {
    const source = await WorkloadSource.open();
    source.on("update", () => console.log("again " + source.svid().spiffeId));
    console.log("holds " + source.svid().spiffeId);
  });`;
  /** A shell that becomes Node when it is told to. */
  const shell = (): { child: ChildProcess; become: () => void; said: () => string } => {
    const child = spawn("/bin/sh", ["-c", 'read -r _; exec "$0" -e "$1"', process.execPath, program], {
      env: { ...process.env, SPIFFE_ENDPOINT_SOCKET: world.broker.workloadSocket }, stdio: ["pipe", "pipe", "inherit"],
    });
    let said = "";
    child.stdout?.setEncoding("utf8").on("data", (text: string) => (said += text));
    return { child, become: () => void child.stdin?.write("\n"), said: () => said };
  };

  test("while it holds a task is attested anew, and taken up as what it is now", async () => {
    const { child, become, said } = shell();
    const { id, spiffeId } = await world.admin.tasks.open({ agent: "shifter" });
    await world.workload.agent.claim({ task: id, pid: child.pid ?? 0 });
    become();
    await world.until("it has its SVID", () => said().includes(`holds ${spiffeId}`));
    expect(await world.sql("select 1 from attestations a join tasks t on t.instance = a.instance where t.id = $1", [id])).toHaveLength(2);
    await world.kill9();
    await world.broker.start();
    await world.until("it has its SVID again", () => said().includes(`again ${spiffeId}`));
    expect(await world.get(id)).toMatchObject({ state: "active" });
    child.kill();
    await world.until("its exit is seen", async () => (await world.get(id)).state === "aborted");
  });

  test("between two tasks claims the second as what it is now", async () => {
    const { child, become, said } = shell();
    const claim = async (): Promise<string> => {
      const { id } = await world.admin.tasks.open({ agent: "shifter" });
      await world.workload.agent.claim({ task: id, pid: child.pid ?? 0 });
      return id;
    };
    await world.close(await claim(), world.admin);
    await world.restart();
    become();
    await world.until("it is another program", () => readlinkSync(`/proc/${child.pid}/exe`) === process.execPath);
    const second = await claim();
    await world.until("it has its SVID", () => said().includes(second));
    expect(await world.get(second)).toMatchObject({ state: "active" });
    await world.close(second, world.admin);
    child.kill();
  });
});

test("a task that expired while no broker was up is over, and its SVIDs are in the feed and the lists", async () => {
  const agent = await world.agent();
  const { id } = await world.open({ ttlSeconds: 6 });
  await agent.claim(id);
  await agent.x509();
  await world.kill9();
  await world.until("its time is over", async () => (await world.sql("select 1 from tasks where id = $1 and expires_at < now()", [id])).length === 1);
  await world.broker.start();
  expect(await world.get(id)).toMatchObject({ state: "expired" });
  expect(await refusal(agent.x509())).toMatch(/^DENIED_/);
  await world.until("the row says so", async () => (await world.sql("select 1 from tasks where id = $1 and state = 'expired'", [id])).length === 1);
  await world.check();
});

test("a disabled agent stays disabled, a spent ticket spent, a revoked service revoked", async () => {
  const agent = await world.agent();
  const { id, ticket } = await world.open({ bind: "ticket" });
  await agent.claim(id, { ticket });
  await world.admin.catalog.disableAgent({ name: "researcher", reason: "leak" });
  await world.until("its tasks ended", async () => (await world.get(id)).state === "aborted");
  await world.restart();
  expect(await refusal(world.open())).toBe("AGENT_DISABLED");
  await world.admin.catalog.enableAgent({ name: "researcher" });
  expect(await refusal((await world.agent()).claim(id, { ticket }))).not.toBe("none");
  await world.close((await world.open()).id);
  await world.check();
});

test("a second broker on the same data directory is refused, and harms nothing of the first", async () => {
  const agent = await world.agent();
  const { id } = await world.open();
  const { endpoint } = await agent.claim(id);
  const second = new BrokerProcess(world.broker.dataDir, { BREVET_KEY_ENCRYPTION_KEY_FILE: kek });
  await expect(second.start()).rejects.toThrow(new RegExp(`in use by another broker \\(pid ${world.broker.pid}\\)`));
  second.hangUp();
  expect(existsSync(endpoint.replace("unix://", ""))).toBe(true);
  expect((await agent.x509({ socket: endpoint }))[0]).toMatchObject({ hint: id });
  await agent.jwt(["crm"]);
  await world.close(id);
  await world.check();
});

test("without its key-encryption key, or with another, it refuses to start, and makes none", async () => {
  const rows = async (): Promise<unknown[]> => await world.sql("select id, state, sealed_key from authorities order by id");
  const before = await rows();
  await world.kill9(); // PostgreSQL stays up, to be looked at
  const attempt = async (): Promise<string> => await world.broker.start().then(() => "it started", (error: Error) => error.message);
  renameSync(kek, `${kek}.away`);
  expect(await attempt()).toMatch(/is missing, but the database holds keys sealed with it/);
  expect(existsSync(kek)).toBe(false);
  for (const [content, message] of [[`${randomBytes(32).toString("base64")}\n`, new RegExp(`keyEncryptionKeyFile: ${kek} is not what sealed the keys in the database .*copy the first one's`)], ["", /must hold 32 bytes/], ["AAAA\n", /must hold 32 bytes/]] as const) {
    writeFileSync(kek, content, { mode: 0o600 });
    expect(await attempt()).toMatch(message);
    expect(readFileSync(kek, "utf8")).toBe(content);
  }
  renameSync(`${kek}.away`, kek);
  expect(statSync(kek).mode & 0o077).toBe(0);
  await world.broker.start();
  expect(await rows()).toEqual(before);
  await world.check();
});

test("the record is brought within its retention soon after a start, not only after an hour, and by as much as there is", async () => {
  await world.sql(`insert into entries (at, kind, actor, body, digest)
    select now() - interval '91 days', 'old', 'x', '{}', '' from generate_series(1, 25000)`); // more than two pieces
  await world.restart();
  await world.until("the old is gone", async () => (await world.sql("select from entries where kind = 'old' limit 1")).length === 0);
  expect(await world.sql("select retention = interval '90 days' as is from settings")).toEqual([{ is: true }]);
});

test("a start ends what an earlier boot of its machine held, and leaves another machine's tasks to it", async () => {
  const agent = await world.agent();
  const [earlier, elsewhere] = [await world.open({}), await world.open({})];
  await agent.claim(earlier.id);
  const another = await world.agent();
  await another.claim(elsewhere.id);
  const boot = async (task: string, name: string): Promise<void> => {
    await world.sql("update instances set boot_id = $2 where id = (select instance from tasks where id = $1)", [task, name]);
  };
  await world.kill9();
  await boot(earlier.id, "an earlier boot");
  await boot(elsewhere.id, "a boot of another machine");
  const machine = readFileSync(join(world.broker.dataDir, "machine"), "utf8").trim();
  await world.sql("insert into boots (machine, boot_id) values ($1, 'an earlier boot'), ('another', 'a boot of another machine')", [machine]);
  await world.broker.start();
  expect(await world.get(earlier.id)).toMatchObject({ state: "aborted", endReason: "the machine was restarted" });
  expect((await world.get(elsewhere.id)).state).toBe("active");
  await world.close(elsewhere.id);
  await agent.kill();
  await another.kill();
});
