// What does opening a task promise, and to whom?
// Openers open, see and end the tasks of their agents, and of no others; a task one may not see is
// answered exactly as one that is not there. Opening twice with one key opens once. Expiry needs nobody.
// Claiming what was opened is claim.test.ts's; ending it, revoke.test.ts's; changing it, context.test.ts's.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { newTaskId } from "../src/identity/id.ts";
import { agentUid, ownUid } from "./support/agent.ts";
import { World } from "./support/world.ts";

const catalog = `
agents:
  - name: researcher
    owner: lead@example.org
    selectors: [{ uid: ${agentUid} }]
    openers: [{ uid: ${ownUid} }]
    context: [user, model]
    maxTaskTtl: 1h
    tasksPerInstance: 8
  - name: elsewhere
    owner: other@example.org
    selectors: [{ uid: 54321 }]
    openers: [{ uid: 54322 }]
  - name: nobodys
    owner: other@example.org
    selectors: [{ uid: 54321 }]
`;

let world: World;
beforeAll(async () => {
  world = await World.start({ catalog });
});
afterAll(async () => {
  await world.end();
});

const seconds = (at: { seconds: unknown } | null): number => Number(at?.seconds);

describe("a task", () => {
  test("says all that was said of it, and has a SPIFFE ID and an end of its own", async () => {
    const task = await world.open({ context: { user: "alice" }, purpose: "tests", onBehalfOf: "alice@example.org", refs: { issue: "42" }, scope: "tree" });
    expect(task).toMatchObject({
      state: "ready", spiffeId: `spiffe://brevet.local/agent/researcher/task/${task.id}`, context: { user: "alice" }, purpose: "tests",
      onBehalfOf: "alice@example.org", refs: { issue: "42" }, bind: "claim", scope: "tree", owner: "lead@example.org", ticket: "", endpoint: "", instance: null,
      openedBy: expect.stringMatching(new RegExp(`^uid:${ownUid}\\b`)),
    });
    expect(seconds(task.expiresAt) - seconds(task.openedAt)).toBe(900);
    expect(await world.get(task.id)).toEqual(task);
  });

  test("lives no longer than its agent's maxTaskTtl", async () => {
    const longest = await world.open({ ttlSeconds: 3_600 });
    expect(seconds(longest.expiresAt) - seconds(longest.openedAt)).toBe(3_600);
    await expect(world.open({ ttlSeconds: 3_601 })).rejects.toMatchObject({ code: "INVALID_FIELD", violations: [{ field: "ttl_seconds" }] });
  });

  test("is refused with all that is wrong with it at once, each by its field", async () => {
    const bad = world.open({ ttlSeconds: -1, context: { colour: "red" }, bind: "any", scope: "galaxy", purpose: "\u0000", refs: { "": "x" }, idempotencyKey: "x".repeat(129) });
    const { violations } = await bad.then(() => expect.unreachable(), (error: { violations: { field: string }[] }) => error);
    expect(violations.map(({ field }) => field).sort()).toEqual(
      ["bind", 'context["colour"]', "idempotency_key", "purpose", 'refs[""]', "scope", "ttl_seconds"]);
  });
});

describe("the same idempotency key", () => {
  test("opens one task, however often and from however many callers at once", async () => {
    const key = "workflow run 7";
    const opened = await Promise.all(Array.from({ length: 8 }, (_, i) => world.open({ idempotencyKey: key, purpose: `try ${i}` })));
    expect(new Set(opened.map(({ id }) => id)).size).toBe(1);
    const id = opened[0]?.id ?? "";
    await world.close(id);
    expect(await world.open({ idempotencyKey: key })).toMatchObject({ id, state: "closed" });
    expect(await world.sql("select 1 from entries where kind = 'task.opened' and task = $1", [id])).toHaveLength(1);
  });

  test("of another agent is another key, and no key never repeats", async () => {
    const mine = await world.open({ idempotencyKey: "k" });
    const other = await world.open({ agent: "nobodys", idempotencyKey: "k" }, world.admin);
    expect(other.id).not.toBe(mine.id);
    expect((await world.open()).id).not.toBe((await world.open()).id);
  });

  test("never shows a ticket twice: who lost the answer gets another, as long as it is of use", async () => {
    const first = await world.open({ bind: "ticket", idempotencyKey: "t" });
    expect(first.ticket).toMatch(/^[A-Za-z0-9_-]{43}$/);
    expect(await world.get(first.id)).toMatchObject({ ticket: "" });
    const again = await world.open({ bind: "ticket", idempotencyKey: "t" });
    expect(again).toMatchObject({ id: first.id, ticket: expect.stringMatching(/^[A-Za-z0-9_-]{43}$/) as string });
    expect(again.ticket).not.toBe(first.ticket);
    const agent = await world.agent();
    await expect(agent.claim(first.id, { ticket: first.ticket })).rejects.toMatchObject({ code: "DENIED_TICKET" });
    await agent.claim(first.id, { ticket: again.ticket });
    expect(await world.open({ bind: "ticket", idempotencyKey: "t" })).toMatchObject({ id: first.id, ticket: "", state: "active" });
  });
});

describe("an opener", () => {
  test.each(["elsewhere", "nobodys", "never-registered"])("can't open for an agent that does not name it, nor tell it from one that is not there: %s", async (agent) => {
    await expect(world.open({ agent })).rejects.toMatchObject({ code: "NOT_FOUND", message: "agent: no such agent" });
  });

  test("gets the same answer for others' tasks as for none, whatever it asks", async () => {
    const theirs = await world.open({ agent: "elsewhere" }, world.admin);
    const { tasks } = world.workload;
    const asked = (task: string): Promise<unknown>[] => [
      tasks.get({ task }), tasks.close({ task }), tasks.abort({ task, reason: "r" }), tasks.issueTicket({ task }),
      tasks.changeContext({ task, set: { user: "x" }, remove: [] }), tasks.watch({ task }).next(),
    ];
    const references = [theirs.id, theirs.id.slice(0, 30), theirs.spiffeId, newTaskId(Date.now())];
    const answers = await Promise.allSettled(references.flatMap(asked));
    for (const answer of answers) expect(answer).toMatchObject({ status: "rejected", reason: { code: "NOT_FOUND", message: "task: no such task" } });
    expect(await world.get(theirs.id)).toMatchObject({ state: "ready", epoch: theirs.epoch });
    expect((await tasks.list({ agent: "elsewhere" })).tasks).toEqual([]);
    const agents = new Set((await tasks.list({ pageSize: 1_000 })).tasks.map(({ agent }) => agent));
    expect(agents).toEqual(new Set(["researcher"]));
  });
});

describe("a list", () => {
  test("is newest first, in pages, and finds by ref, agent and state", async () => {
    const ids: string[] = [];
    for (let i = 0; i < 5; i++) ids.unshift((await world.open({ refs: { batch: "7", item: String(i) } })).id);
    await world.close(ids[4] ?? "");
    const pages: string[][] = [];
    let pageToken = "";
    do {
      const page = await world.workload.tasks.list({ refs: { batch: "7" }, pageSize: 2, pageToken });
      pages.push(page.tasks.map(({ id }) => id));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    expect(pages.flat()).toEqual(ids);
    expect(pages.slice(0, 2).map(({ length }) => length)).toEqual([2, 2]);
    const found = async (request: object): Promise<string[]> => (await world.workload.tasks.list({ refs: { batch: "7" }, ...request })).tasks.map(({ id }) => id);
    expect(await found({ refs: { batch: "7", item: "2" } })).toEqual([ids[2]]);
    expect(await found({ state: "closed" })).toEqual([ids[4]]);
    expect(await found({ agent: "researcher", state: "ready" })).toEqual(ids.slice(0, 4));
    await expect(found({ pageToken: "no" })).rejects.toMatchObject({ violations: [{ field: "page_token" }] });
  });
});

test("a task is found by whatever an operator can paste", async () => {
  const agent = await world.agent();
  const task = await world.open();
  await agent.claim(task.id);
  const [x509] = await agent.x509();
  const [jwt] = await agent.jwt(["any"]);
  const colons = x509?.serial.toUpperCase().match(/../g)?.join(":") ?? "";
  for (const pasted of [task.id, task.id.toUpperCase(), task.id.slice(0, 30), task.spiffeId, x509?.serial ?? "", colons, jwt?.jti ?? "", `pid:${agent.pid}`]) {
    expect((await world.get(pasted)).id, pasted).toBe(task.id);
  }
  await expect(world.get(task.id.slice(0, 7))).rejects.toMatchObject({ violations: [{ field: "task" }] });
  await agent.exit();
});

describe("expiry", () => {
  test("is computed on every read, whether or not anybody has noted it yet", async () => {
    const task = await world.open({ context: { user: "alice" } });
    const agent = await world.agent();
    await world.sql("update tasks set expires_at = clock_timestamp() where id = $1", [task.id]);
    expect(await world.get(task.id)).toMatchObject({ state: "expired" });
    expect((await world.workload.tasks.list({ state: "expired" })).tasks.map(({ id }) => id)).toContain(task.id);
    expect((await world.workload.tasks.list({ state: "ready", pageSize: 1_000 })).tasks.map(({ id }) => id)).not.toContain(task.id);
    await expect(agent.claim(task.id)).rejects.toMatchObject({ code: "WRONG_STATE", status: 9, metadata: { state: "expired" } });
    await expect(world.change(task.id, { user: "bob" })).rejects.toMatchObject({ code: "WRONG_STATE", metadata: { state: "expired" } });
    await expect(world.close(task.id)).rejects.toMatchObject({ code: "WRONG_STATE", metadata: { state: "expired" } });
    expect(await world.get(task.id)).toMatchObject({ state: "expired", endedBy: "brevet" });
    await agent.exit();
  });

  test("ends the streams of a task that nobody ended, and is watched to its end", async () => {
    const agent = await world.agent();
    const task = await world.open({ ttlSeconds: 5 });
    const states: string[] = [];
    const watched = (async () => {
      for await (const { state } of world.workload.tasks.watch({ task: task.id })) states.push(state);
    })();
    await agent.claim(task.id);
    const stream = agent.follow();
    const [svid] = await stream.next();
    expect(svid?.notAfter.getTime()).toBeLessThanOrEqual(seconds(task.expiresAt) * 1_000 + 999);
    expect(await stream.ended).toMatchObject({ status: 7, code: "DENIED_TASK_ENDED" });
    await watched;
    expect(states.at(-1)).toBe("expired");
    await agent.exit();
  });
});
