// What does applying a catalog do to what lives?
// All of it or nothing, recorded with who and when; nothing that would orphan a live task; what a file
// no longer names is gone, and what it changes holds from the next request on.
// What a catalog may say is catalog.test.ts's; the command is cli-broker.test.ts's.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { WorkloadSource } from "../src/client/source.ts";
import { Verifier } from "../src/verify/verifier.ts";
import { agentUid, ownUid } from "./support/agent.ts";
import type { Agent } from "./support/agent.ts";
import { World } from "./support/world.ts";

const agentNamed = (name: string, more = ""): string => `
  - name: ${name}
    owner: lead@example.org
    selectors: [{ uid: ${agentUid} }]
    openers: [{ uid: ${ownUid} }]
    tasksPerInstance: 100
${more}`;
const serviceNamed = (name: string): string => `
  - name: ${name}
    owner: crm@example.org
    selectors: [{ uid: ${ownUid} }]`;
const of = (agents: readonly string[], services: readonly string[] = []): string =>
  `agents: ${agents.length === 0 ? "[]" : agents.join("")}\nservices: ${services.length === 0 ? "[]" : services.join("")}\n`;
const asRoot = ownUid === 0;
const base = of([agentNamed("researcher"), agentNamed("writer")], [serviceNamed("crm")]);

let world: World;
let agent: Agent;
beforeAll(async () => {
  world = await World.start({ catalog: base });
  agent = await world.agent();
});
beforeEach(async () => {
  await world.revoke({ all: "brevet.local" });
  await world.apply(base);
});
afterAll(async () => {
  await world.end();
});

const apply = async (text: string, dryRun = false): Promise<Awaited<ReturnType<World["apply"]>>> =>
  await world.admin.catalog.apply({ files: [{ name: "catalog.yaml", text }], dryRun });
const versions = async (): Promise<number> => (await world.sql("select 1 from catalog_versions")).length;

describe("applying", () => {
  test("says what differs, and records it with who and when; the same again differs in nothing", async () => {
    const before = await versions();
    const next = of([agentNamed("researcher", "    purpose: answers\n    maxTaskTtl: 2h\n"), agentNamed("painter")], [serviceNamed("crm")]);
    const dry = await apply(next, true);
    expect(dry.changes).toEqual([
      { action: "add", kind: "agent", name: "painter", fields: [] },
      { action: "change", kind: "agent", name: "researcher", fields: ['purpose: "" → answers', "maxTaskTtl: 1h → 2h"] },
      { action: "remove", kind: "agent", name: "writer", fields: [] },
    ]);
    expect(await versions()).toBe(before);
    const applied = await apply(next);
    expect(applied).toEqual({ ...dry, dryRun: false });
    expect(await apply(next)).toMatchObject({ changes: [], digest: applied.digest });
    expect(await versions()).toBe(before + 1);
    const { entries } = await world.admin.log.listEntries({ pageSize: 1_000 });
    expect(entries.filter(({ kind }) => kind === "catalog.applied").at(-1)).toMatchObject({ actor: expect.stringMatching(new RegExp(`^uid:${ownUid}\\b`)) });
    const [row] = await world.sql<{ digest: string; applied_by: string }>("select digest, applied_by from catalog_versions order by id desc limit 1");
    expect(row).toMatchObject({ digest: applied.digest, applied_by: expect.stringMatching(new RegExp(`^uid:${ownUid}\\b`)) });
    expect((await world.admin.catalog.listAgents({})).agents.map(({ name }) => name)).toEqual(["painter", "researcher"]);
  });

  test("a catalog that is wrong anywhere changes nothing, and says all that is wrong and where", async () => {
    const before = [await versions(), await world.admin.catalog.listAgents({})];
    const wrong = `${of([agentNamed("painter")], []).replace("services: []", "")}  - name: Bad Name\n    colour: red\n`;
    const { violations } = await apply(wrong).then(() => expect.unreachable(), (error: { code: string; violations: { field: string }[] }) => error);
    expect(violations.length).toBeGreaterThanOrEqual(3);
    for (const { field } of violations) expect(field).toMatch(/^catalog\.yaml:\d+:\d+$/);
    expect([await versions(), await world.admin.catalog.listAgents({})]).toEqual(before);
  });

  test("several files make one catalog, and none make none", async () => {
    const files = [{ name: "a.yaml", text: `agents: ${agentNamed("researcher")}` }, { name: "b.yaml", text: `agents: ${agentNamed("writer")}\nservices: ${serviceNamed("crm")}` }];
    expect((await world.admin.catalog.apply({ files })).changes).toEqual([]);
    await expect(world.admin.catalog.apply({ files: [] })).rejects.toMatchObject({ violations: [{ field: "files" }] });
  });

  test("warns of facts that name a user or an interpreter, not an agent", async () => {
    const { warnings } = await apply(base, true);
    expect(warnings.map(({ message }) => message).join("\n")).toMatch(/any process of this user/);
    expect(warnings[0]).toMatchObject({ file: "catalog.yaml", line: expect.any(Number), column: expect.any(Number) });
  });

  test("is the administrator's alone", async () => {
    await expect(world.workload.catalog.apply({ files: [{ name: "c.yaml", text: "agents: []" }] })).rejects.toMatchObject({ code: "UNIMPLEMENTED" });
    await expect(world.workload.revocations.revoke({ all: "brevet.local", reason: "mine" })).rejects.toMatchObject({ code: "UNIMPLEMENTED" });
  });
});

describe("a catalog that leaves an agent out", () => {
  const without = of([agentNamed("researcher")], [serviceNamed("crm")]);

  test("is refused while the agent has a live task, naming it, dry or not", async () => {
    const { id } = await world.open({ agent: "writer" });
    for (const dryRun of [true, false]) {
      await expect(apply(without, dryRun)).rejects.toMatchObject({ code: "CATALOG_ORPHANS_TASKS", message: expect.stringContaining(id) });
    }
    expect((await world.admin.catalog.listAgents({})).agents.map(({ name }) => name)).toContain("writer");
    await world.close(id);
    expect((await apply(without)).changes).toEqual([{ action: "remove", kind: "agent", name: "writer", fields: [] }]);
    await expect(world.open({ agent: "writer" })).rejects.toMatchObject({ code: "NOT_FOUND" });
    expect(await world.get(id)).toMatchObject({ agent: "writer", state: "closed" });
  });

  test("doesn't enable it again: who was disabled comes back disabled", async () => {
    await world.admin.catalog.disableAgent({ name: "writer", reason: "on leave" });
    await apply(without);
    await apply(base);
    await expect(world.open({ agent: "writer" })).rejects.toMatchObject({ code: "AGENT_DISABLED" });
    await world.admin.catalog.enableAgent({ name: "writer" });
    expect(await world.open({ agent: "writer" })).toMatchObject({ state: "ready" });
  });

  test("races an opening: either the task is there and the catalog is refused, or the other way round", async () => {
    for (let round = 0; round < 10; round++) {
      const [opened, applied] = await Promise.allSettled([world.open({ agent: "writer" }), apply(without)]);
      expect([opened.status, applied.status].filter((status) => status === "fulfilled"), `round ${round}`).toHaveLength(1);
      await world.revoke({ all: "brevet.local" });
      await apply(base);
    }
  });
});

describe("a catalog that changes an agent", () => {
  test("holds for the next request: audiences, limits, openers", async () => {
    const { id } = await world.open();
    const { endpoint } = await agent.claim(id);
    await agent.jwt(["anything"], { socket: endpoint });
    await apply(of([agentNamed("researcher", "    audiences: [crm]\n    maxTaskTtl: 1m\n"), agentNamed("writer").replace(`openers: [{ uid: ${ownUid} }]`, "openers: []")], [serviceNamed("crm")]));
    await expect(agent.jwt(["anything"], { socket: endpoint })).rejects.toMatchObject({ code: "DENIED_AUDIENCE" });
    await agent.jwt(["crm"], { socket: endpoint });
    await expect(world.open({ ttlSeconds: 61 })).rejects.toMatchObject({ violations: [{ field: "ttl_seconds" }] });
    await expect(world.open({ agent: "writer" })).rejects.toMatchObject({ code: "NOT_FOUND" });
  });

  test("so that a bound process no longer matches, leaves it without", async () => {
    const { id } = await world.open();
    const { endpoint } = await agent.claim(id);
    const stream = agent.follow({ socket: endpoint });
    await stream.next();
    await apply(of([agentNamed("researcher").replace(`selectors: [{ uid: ${agentUid} }]`, "selectors: [{ uid: 54321 }]"), agentNamed("writer")], [serviceNamed("crm")]));
    expect(await stream.ended).toMatchObject({ status: 7 });
    await expect(agent.x509({ socket: endpoint })).rejects.toMatchObject({ status: 7 });
    await expect(agent.jwt(["a"], { socket: endpoint })).rejects.toMatchObject({ status: 7 });
    await apply(base);
    expect((await agent.x509({ socket: endpoint })).map(({ hint }) => hint)).toEqual([id]);
  });

  test("leaves what a task was opened with: its owner, its lifetimes, how it ends", async () => {
    const { id } = await world.open();
    const mine = await world.agent();
    await mine.claim(id);
    await apply(of([agentNamed("researcher", "    onExit: close\n").replace("lead@", "other@"), agentNamed("writer")], [serviceNamed("crm")]));
    expect(await world.get(id)).toMatchObject({ owner: "lead@example.org" });
    await mine.exit();
    await world.until("its end", async () => (await world.get(id)).state === "aborted");
    expect(await world.open()).toMatchObject({ owner: "other@example.org" });
  });
});

describe.runIf(asRoot)("a catalog that leaves a service out", () => {
  test("ends its SVIDs; when it is named again it starts with a new epoch", async () => {
    using verifier = new Verifier({ address: world.broker.workloadSocket, accept: ["service"] });
    await verifier.ready();
    using source = await WorkloadSource.open({ address: world.broker.workloadSocket });
    world.sawIdentity(source.svid());
    const token = await source.jwt("any");
    world.sawToken(token);
    expect(verifier.jwt(token, { audience: "any" })).toMatchObject({ accepted: true, service: "crm" });
    await apply(of([agentNamed("researcher"), agentNamed("writer")]));
    await world.until("its SVIDs are withdrawn", () => source.svids.length === 0);
    await world.until("the verifier hears", () => !verifier.jwt(token, { audience: "any" }).accepted);
    await expect(WorkloadSource.open({ address: world.broker.workloadSocket })).rejects.toMatchObject({ code: "DENIED_NO_MATCH" });
    await apply(base);
    using again = await WorkloadSource.open({ address: world.broker.workloadSocket });
    world.sawIdentity(again.svid());
    expect(again.svid().binding?.epoch).toBeGreaterThan(1);
  });
});
