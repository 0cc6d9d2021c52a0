// Can a user test a service without a broker?
// This is such a test, written as a user would: a small service behind the SDK, a broker in memory,
// and what the service does when the task is changed, closed, or not heard of any more.
// A real broker: story.test.ts.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Tasks, Verifier, WorkloadSource, agentIs } from "../src/index.ts";
import { TestBroker } from "../src/testing/broker.ts";
import type { TestTask } from "../src/testing/broker.ts";
import { until } from "./support/outside.ts";

let broker: TestBroker;
const closing: (() => void)[] = [];

beforeEach(async () => {
  broker = await TestBroker.start();
  closing.push(() => broker.close());
});
afterEach(() => {
  for (const close of closing.splice(0).reverse()) close();
});

/** The service under test. */
async function crm(options: { readonly maxStaleness?: number } = {}): Promise<(token: string) => Promise<number>> {
  const verifier = new Verifier({ address: broker.address, audience: "crm", ...options });
  await verifier.ready();
  const server = createServer((request, response) => {
    const verdict = verifier.jwt(request.headers.authorization?.slice("Bearer ".length) ?? "", { authorize: agentIs("researcher") });
    response.writeHead(verdict.accepted ? 200 : verdict.reason === "VERIFY_STALE" ? 503 : 401).end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closing.push(() => {
    verifier.close();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return async (token) => (await fetch(`http://127.0.0.1:${port}`, { headers: { authorization: `Bearer ${token}` } })).status;
}

/** Asks until this is the answer. */
async function comes(ask: () => Promise<number>, status: number): Promise<void> {
  while ((await ask()) !== status) await new Promise((resolve) => setTimeout(resolve, 5));
}

describe("a service", () => {
  test("accepts the task while it is open, and refuses it when it is closed", async () => {
    const ask = await crm();
    const task = await broker.open({ agent: "researcher" });
    const token = task.jwt("crm");
    expect(await ask(token)).toBe(200);
    task.close();
    await comes(() => ask(token), 401);
    expect(() => task.jwt("crm")).toThrow("is closed");
  });

  test("refuses the token of an older context, and accepts the new one", async () => {
    const ask = await crm();
    const task = await broker.open({ agent: "researcher", context: { user: "alice" } });
    const old = task.jwt("crm");
    task.change({ user: "bob" });
    await comes(() => ask(old), 401);
    expect([task.epoch, await ask(task.jwt("crm"))]).toEqual([1, 200]);
    task.change({ user: "bob" });
    expect(task.epoch).toBe(1);
  });

  test("refuses another agent, another audience and another broker's token", async () => {
    const ask = await crm();
    const other = await broker.open({ agent: "writer" });
    expect(await ask(other.jwt("crm"))).toBe(401);
    const task = await broker.open({ agent: "researcher" });
    expect(await ask(task.jwt("search"))).toBe(401);
    using stranger = await TestBroker.start();
    expect(await ask((await stranger.open({ agent: "researcher" })).jwt("crm"))).toBe(401);
  });

  test("refuses all when it is cut off, and knows afterwards what was closed meanwhile", async () => {
    const ask = await crm({ maxStaleness: 1.5 });
    const [open, closed]: [TestTask, TestTask] = [await broker.open({ agent: "researcher" }), await broker.open({ agent: "researcher" })];
    const [good, dead] = [open.jwt("crm"), closed.jwt("crm")];
    expect(await ask(good)).toBe(200);
    broker.silence();
    closed.close();
    await comes(() => ask(good), 503);
    broker.speak();
    await comes(() => ask(good), 200);
    await comes(() => ask(dead), 401);
  });
});

describe("an agent and its orchestrator", () => {
  test("the agent holds what the task's address says, until the end", async () => {
    const task = await broker.open({ agent: "researcher" });
    const source = await WorkloadSource.open({ address: task.address });
    closing.push(() => source.close());
    expect(source.svid()).toMatchObject({ spiffeId: task.spiffeId, hint: task.id, binding: { task: task.id, epoch: 0 } });
    task.change({ user: "bob" });
    await until(() => source.svid().binding?.epoch === 1);
    let ended: string | undefined;
    source.on("end", ({ code }) => (ended = code));
    task.close();
    await until(() => ended === "DENIED_TASK_ENDED");
    expect(source.svids).toEqual([]);
    await expect(WorkloadSource.open({ address: task.address })).rejects.toMatchObject({ code: "DENIED_TASK_ENDED" });
  });

  test("a claimed task ends with it; nobody is at the broker's own address", async () => {
    const task = await broker.open({ agent: "researcher" });
    const source = await WorkloadSource.claim({ task: task.id, address: task.address });
    closing.push(() => source.close());
    task.close("aborted");
    await until(() => source.signal.aborted);
    await expect(WorkloadSource.open({ address: broker.address })).rejects.toMatchObject({ code: "DENIED_NO_TASK" });
  });

  test("an orchestrator opens, changes and closes", async () => {
    using tasks = new Tasks({ address: broker.address });
    const task = await tasks.open({ agent: "researcher", context: { user: "alice" }, for: "alice@example.org" });
    expect(task).toMatchObject({ state: "active", agent: "researcher" });
    expect((await task.changeContext({ user: "bob" })).epoch).toBe(1);
    const { signal } = task;
    await task.close();
    expect([task.state, signal.aborted]).toEqual(["closed", true]);
    await expect(tasks.get("01999999-0000-7000-8000-000000000000")).rejects.toMatchObject({ code: "NOT_FOUND" });
  });
});
