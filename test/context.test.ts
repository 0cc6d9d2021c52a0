// What does a change of the context end, and what not?
// A fact that differs makes a new epoch: what was issued before is dead at once, what comes after is
// pushed unasked. A fact that is already so changes nothing at all. DESIGN section 2 (epoch), section 3.
// The end of a task is revoke.test.ts's business.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ChangeContextsResponse__Output } from "../src/generated/brevet/v1/ChangeContextsResponse.ts";
import { contextDigest } from "../src/identity/task.ts";
import { Verifier } from "../src/verify/verifier.ts";
import { agentUid, ownUid } from "./support/agent.ts";
import type { Agent, HeldJwt, HeldX509 } from "./support/agent.ts";
import { World } from "./support/world.ts";

const catalog = `
agents:
  - name: researcher
    owner: lead@example.org
    selectors: [{ uid: ${agentUid} }]
    openers: [{ uid: ${ownUid} }]
    context: [user, repository, model]
    tasksPerInstance: 100
  - name: anything
    owner: lead@example.org
    selectors: [{ uid: ${agentUid} }]
    openers: [{ uid: ${ownUid} }]
  - name: nobodys
    owner: lead@example.org
    selectors: [{ uid: ${agentUid} }]
`;

let world: World;
let agent: Agent;
let verifier: Verifier;

beforeAll(async () => {
  world = await World.start({ catalog, env: { BREVET_LIMITS_PER_UID_FETCHES_PER_SECOND: "0" } });
  agent = await world.agent();
  verifier = new Verifier({ address: world.broker.workloadSocket, audience: "any" });
  await verifier.ready();
});
afterAll(async () => {
  verifier.close();
  await world.end();
});

async function active(context: Record<string, string> = { user: "alice" }): Promise<{ id: string; endpoint: string }> {
  const { id } = await world.open({ context });
  return { id, endpoint: (await agent.claim(id)).endpoint };
}
const head = async (): Promise<number> => (await world.sql<{ sequence: number }>("select sequence::int from feed_head"))[0]?.sequence ?? -1;
const entries = async (task: string): Promise<number> => (await world.sql("select 1 from entries where task = $1", [task])).length;

describe("a fact that differs", () => {
  test("makes a new epoch: older SVIDs are dead, new ones come on the open stream", async () => {
    const { id, endpoint } = await active();
    const stream = agent.follow({ socket: endpoint });
    const [old] = (await stream.next()) as [HeldX509];
    const [oldJwt] = (await agent.jwt(["any"], { socket: endpoint })) as [HeldJwt];
    expect(verifier.x509(old.chain)).toMatchObject({ accepted: true });

    const changed = await world.change(id, { user: "bob", model: "m1" });
    expect(changed).toMatchObject({ epoch: 2, context: { user: "bob", model: "m1" }, contextDigest: contextDigest({ user: "bob", model: "m1" }), state: "active" });
    const [next] = (await stream.next()) as [HeldX509];
    expect(next.binding).toEqual({ ...old.binding, epoch: 2, context: changed.contextDigest });
    expect(next.key.equals(old.key)).toBe(false);
    await world.until("the verifier hears", () => !verifier.x509(old.chain).accepted);
    expect(verifier.x509(old.chain)).toMatchObject({ reason: "VERIFY_REVOKED", task: id });
    expect(verifier.jwt(oldJwt.token)).toMatchObject({ reason: "VERIFY_REVOKED", task: id });
    expect(verifier.x509(next.chain)).toMatchObject({ accepted: true, epoch: 2 });
    const [jwt] = (await agent.jwt(["any"], { socket: endpoint })) as [HeldJwt];
    expect(jwt.binding).toEqual(next.binding);
    expect(stream.messages).toHaveLength(2);
    stream.cancel();
    await world.close(id);
  });

  test("may also be one that is removed", async () => {
    const { id } = await active({ user: "alice", model: "m1" });
    expect(await world.change(id, {}, ["model"])).toMatchObject({ epoch: 2, context: { user: "alice" } });
    await world.close(id);
  });

  test("of a task nobody has claimed counts too, and costs verifiers nothing", async () => {
    const before = await head();
    const { id } = await world.open({ context: { user: "alice" } });
    expect(await world.change(id, { user: "bob" })).toMatchObject({ state: "ready", epoch: 2 });
    expect(await head()).toBe(before);
    const { endpoint } = await agent.claim(id);
    expect((await agent.x509({ socket: endpoint }))[0]?.binding).toMatchObject({ epoch: 2, context: contextDigest({ user: "bob" }) });
    await world.close(id);
  });

  test("leaves the other tasks of the same process alone", async () => {
    const [one, two] = [await active(), await active()];
    const [kept] = await agent.x509({ socket: two.endpoint });
    const common = agent.follow();
    await world.until("both", () => common.messages.at(-1)?.length === 2);
    await world.change(one.id, { user: "bob" });
    await world.until("the change", () => common.messages.at(-1)?.find(({ hint }) => hint === one.id)?.binding?.epoch === 2);
    expect(common.messages.at(-1)?.find(({ hint }) => hint === two.id)?.serial).toBe(kept?.serial);
    expect(verifier.x509(kept?.chain ?? Buffer.alloc(0))).toMatchObject({ accepted: true });
    common.cancel();
    for (const { id } of [one, two]) await world.close(id);
  });

  test("many times in a row: the stream ends up with the last, and none before it is accepted", async () => {
    const { id, endpoint } = await active();
    const stream = agent.follow({ socket: endpoint });
    await stream.next();
    for (let i = 0; i < 20; i++) await world.change(id, { user: `user ${i}` });
    await world.until("the last", () => stream.messages.at(-1)?.[0]?.binding?.epoch === 21);
    const chains = stream.messages.flat().map(({ chain, binding }) => ({ chain, epoch: binding?.epoch }));
    await world.until("the verifier hears", () => verifier.feed.epochOf(id) === 21);
    for (const { chain, epoch } of chains) expect(verifier.x509(chain).accepted, `epoch ${epoch}`).toBe(epoch === 21);
    stream.cancel();
    await world.close(id);
  });

  test("told by several at once: each gets its epoch, none is lost", async () => {
    const { id } = await active();
    const changed = await Promise.all(["user", "repository", "model"].map((key) => world.change(id, { [key]: "x" })));
    const now = await world.get(id);
    expect(now).toMatchObject({ epoch: 4, context: { user: "x", repository: "x", model: "x" } });
    expect(Math.max(...changed.map(({ epoch }) => epoch))).toBe(4);
    const kinds = (await world.admin.log.listEntries({ task: id })).entries.filter(({ kind }) => kind === "task.context_changed");
    expect(kinds).toHaveLength(3);
    await world.close(id);
  });
});

describe("a fact that is already so", () => {
  test("changes nothing: no epoch, no entry, no revocation, the same SVID", async () => {
    const { id, endpoint } = await active();
    const [svid] = await agent.x509({ socket: endpoint });
    const before = { head: await head(), entries: await entries(id), task: await world.get(id) };
    expect(await world.change(id, { user: "alice" })).toEqual(before.task);
    expect(await world.change(id, { user: "alice" }, ["model"])).toEqual(before.task);
    expect({ head: await head(), entries: await entries(id), task: await world.get(id) }).toEqual(before);
    expect((await agent.x509({ socket: endpoint }))[0]?.serial).toBe(svid?.serial);
    await world.close(id);
  });

  test("nor does a dry run, which shows what would be", async () => {
    const { id } = await active();
    const before = await world.get(id);
    const dry = await world.workload.tasks.changeContext({ task: id, set: { user: "bob" }, remove: [], dryRun: true });
    expect(dry).toMatchObject({ epoch: 2, context: { user: "bob" }, contextDigest: contextDigest({ user: "bob" }) });
    expect(await world.get(id)).toEqual(before);
    await world.close(id);
  });
});

describe("one change for many tasks", () => {
  const all = (request: object): Promise<ChangeContextsResponse__Output> => world.workload.tasks.changeContexts({ agent: "researcher", ...request });

  test("gives each that it makes a difference to a new epoch, pushed to its agent, and leaves the others", async () => {
    const run = { run: "7" };
    const bound = await world.open({ context: { model: "m1" }, refs: run });
    const { endpoint } = await agent.claim(bound.id);
    const stream = agent.follow({ socket: endpoint });
    const [old] = (await stream.next()) as [HeldX509];
    const waiting = await world.open({ context: { model: "m1" }, refs: run });
    const already = await world.open({ context: { model: "m2" }, refs: run });
    const over = await world.open({ context: { model: "m1" }, refs: run });
    await world.close(over.id);
    const elsewhere = await world.open({ context: { model: "m1" }, refs: { run: "8" } });

    const asked = { refs: run, set: { model: "m2" } };
    expect(await all({ ...asked, dryRun: true })).toEqual({ changed: [bound.id, waiting.id], unchanged: 1, dryRun: true });
    expect(await world.get(bound.id)).toMatchObject({ epoch: 1, context: { model: "m1" } });
    expect(await all(asked)).toEqual({ changed: [bound.id, waiting.id], unchanged: 1, dryRun: false });
    for (const { id } of [bound, waiting]) expect(await world.get(id)).toMatchObject({ epoch: 2, context: { model: "m2" }, contextDigest: contextDigest({ model: "m2" }) });
    for (const { id } of [already, elsewhere]) expect(await world.get(id)).toMatchObject({ epoch: 1 });
    const [next] = (await stream.next()) as [HeldX509];
    expect(next.binding).toMatchObject({ epoch: 2, context: contextDigest({ model: "m2" }) });
    await world.until("the verifier hears", () => !verifier.x509(old.chain).accepted);
    expect(verifier.x509(next.chain)).toMatchObject({ accepted: true });
    expect((await world.admin.log.listEntries({ task: bound.id })).entries.filter(({ kind }) => kind === "task.context_changed")).toHaveLength(1);
    expect(await all(asked)).toEqual({ changed: [], unchanged: 3, dryRun: false });
    stream.cancel();
    for (const { id } of [bound, waiting, already, elsewhere]) await world.close(id);
  });

  test("reaches all of an agent's, more than are changed at once, and none of another's", async () => {
    const ids: string[] = [];
    for (let i = 0; i < 1_100; i += 100) ids.push(...(await Promise.all(Array.from({ length: 100 }, () => world.open()))).map(({ id }) => id));
    const other = await world.open({ agent: "anything" });
    expect((await all({ set: { model: "m9" } })).changed).toEqual(ids.sort());
    expect(await world.get(other.id)).toMatchObject({ epoch: 1 });
    await Promise.all(ids.map((id) => world.close(id)));
  });

  test("names the tasks that would have too many facts, and changes the rest", async () => {
    const full = await world.open({ agent: "anything", refs: { run: "9" }, context: Object.fromEntries(Array.from({ length: 64 }, (_, i) => [`k${i}`, "v"])) });
    const empty = await world.open({ agent: "anything", refs: { run: "9" } });
    for (const dryRun of [true, false]) {
      await expect(all({ agent: "anything", refs: { run: "9" }, set: { another: "fact" }, dryRun })).rejects.toMatchObject({
        code: "INVALID_FIELD", violations: [{ field: "set", description: expect.stringContaining(full.id) as string }],
      });
    }
    expect(await world.get(full.id)).toMatchObject({ epoch: 1 });
    expect(await world.get(empty.id)).toMatchObject({ epoch: 2, context: { another: "fact" } });
  });

  test("is for those who may open for the agent", async () => {
    for (const name of ["nobodys", "never-registered"]) {
      await expect(all({ agent: name, set: { user: "x" } })).rejects.toMatchObject({ code: "NOT_FOUND", message: "agent: no such agent" });
    }
    await expect(all({ agent: "", set: { colour: "" }, remove: [""] })).rejects.toMatchObject({ violations: [{ field: "agent" }, { field: "remove[0]" }] });
    await expect(all({ set: { colour: "red" } })).rejects.toMatchObject({ violations: [{ field: 'set["colour"]' }] });
    await expect(all({})).rejects.toMatchObject({ violations: [{ field: "set" }] });
  });
});

describe("a change is refused", () => {
  test.each([
    ["with a key its agent does not allow", { colour: "red" }, [], 'set["colour"]'],
    ["with nothing in it", {}, [], "set"],
    ["with a value too long", { user: "x".repeat(1_025) }, [], 'set["user"]'],
    ["with control characters", { user: "a\u0000" }, [], 'set["user"]'],
    ["with an empty key to remove", {}, [""], "remove[0]"],
    ["with a key both to set and to remove", { user: "bob" }, ["user"], "remove[0]"],
  ])("%s", async (_what, set, remove, field) => {
    const { id } = await world.open();
    await expect(world.change(id, set as Record<string, string>, remove)).rejects.toMatchObject({ code: "INVALID_FIELD", violations: [{ field }] });
    expect(await world.get(id)).toMatchObject({ epoch: 1 });
  });

  test("beyond 64 facts, counted with those that stay", async () => {
    const facts = (from: number, n: number): Record<string, string> => Object.fromEntries(Array.from({ length: n }, (_, i) => [`k${from + i}`, "v"]));
    const { id } = await world.open({ agent: "anything", context: facts(0, 60) });
    expect(Object.keys((await world.change(id, facts(60, 4))).context)).toHaveLength(64);
    await expect(world.change(id, facts(64, 1))).rejects.toMatchObject({ violations: [{ field: "set" }] });
  });

  test("once the task is over, with the state it is in", async () => {
    const { id } = await world.open();
    await world.abort(id);
    await expect(world.change(id, { user: "bob" })).rejects.toMatchObject({ code: "WRONG_STATE", metadata: { state: "aborted" } });
  });
});
