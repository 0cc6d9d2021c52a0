// Which process gets which task, and when does it lose it?
// Real processes of another user: alone, as parents and children, as workers with many tasks. Whoever
// matches the agent's selectors may claim; a binding names one process, the nearest one decides, and
// its exit ends the task. What is then fetched is fetch.test.ts's; who may call at all, attest.test.ts's.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { BrevetError } from "../src/errors.ts";
import { newTaskId } from "../src/identity/id.ts";
import { agentUid, ownUid } from "./support/agent.ts";
import type { Agent } from "./support/agent.ts";
import { World } from "./support/world.ts";

const agentNamed = (name: string, more: string): string => `
  - name: ${name}
    owner: lead@example.org
    selectors: [{ uid: ${agentUid} }]
    openers: [{ uid: ${ownUid} }]
${more}`;
const catalog = `
agents:${agentNamed("researcher", "    tasksPerInstance: 2")}${agentNamed("worker", "    tasksPerInstance: 100\n    onExit: close")}${agentNamed("shy", "")}
  - name: shifter
    owner: lead@example.org
    selectors: [{ uid: ${ownUid} }]
  - name: stranger
    owner: lead@example.org
    selectors: [{ uid: 54321 }]
  - name: loner
    owner: lead@example.org
    selectors: [{ uid: 54322 }]
`;
const asRoot = ownUid === 0;

let world: World;
/** Matches every agent, and is never bound to a task. */
let bystander: Agent;
beforeAll(async () => {
  world = await World.start({ catalog });
  bystander = await world.agent();
});
const living = new Set<Agent>();
afterEach(async () => {
  await Promise.all([...living].map((agent) => agent.kill()));
  living.clear();
});
afterAll(async () => {
  await world.end();
});

async function family(size: number): Promise<Agent[]> {
  const agents = await world.family(size);
  for (const agent of agents) living.add(agent);
  return agents;
}
const agent = async (): Promise<Agent> => (await family(1))[0] as Agent;
const hints = async (of: Agent, socket?: string): Promise<string[]> => (await of.x509(socket === undefined ? {} : { socket })).map(({ hint }) => hint);
const open = async (request: Parameters<World["open"]>[0] = {}): Promise<string> => (await world.open(request)).id;
const ended = async (task: string): Promise<{ state: string; endReason: string; endedBy: string }> =>
  await world.until("the task's end", async () => {
    const now = await world.get(task);
    return ["closed", "aborted", "expired"].includes(now.state) && now;
  });

describe("a claim by ID", () => {
  test("binds the calling process, and a repeat of it is answered alike", async () => {
    const [task, mine] = [await open(), await agent()];
    const first = await mine.claim(task);
    expect(first).toMatchObject({ task: { id: task, state: "active" }, endpoint: expect.stringMatching(/^unix:\/\//) });
    expect(await mine.claim(task, { connection: "another" })).toEqual(first);
    expect((await mine.status()).map(({ id }) => id)).toEqual([task]);
    expect(await world.get(task)).toMatchObject({ instance: { pid: mine.pid, uid: agentUid }, endpoint: first.endpoint });
    expect(await hints(mine, first.endpoint)).toEqual([task]);
  });

  test("is refused to another process, which learns nothing more", async () => {
    const [task, mine, other] = [await open(), await agent(), bystander];
    const { endpoint } = await mine.claim(task);
    await expect(other.claim(task)).rejects.toMatchObject({ status: 7, code: "DENIED_TASK_TAKEN", metadata: { attempt: expect.any(String) } });
    await expect(other.x509({ socket: endpoint })).rejects.toMatchObject({ status: 7, code: "DENIED_TASK_ENDED" });
    expect(await other.status()).toEqual([]);
  });

  test("of a task whose agent the caller is not, is answered as of a task that is not there", async () => {
    const { id: task } = await world.open({ agent: "stranger" }, world.admin);
    const refusals = await Promise.allSettled([bystander.claim(task), bystander.claim(newTaskId(Date.now()))]);
    for (const refusal of refusals) expect(refusal).toMatchObject({ reason: { status: 5, code: "NOT_FOUND", message: "task: no such task" } });
    expect(await world.get(task)).toMatchObject({ state: "ready" });
  });

  test.runIf(asRoot)("by a prefix finds tasks of its own agents alone, however many others begin alike", async () => {
    const loner = await world.agent({ uid: 54_322 });
    living.add(loner);
    const opened = (of: string): Promise<string> => world.open({ agent: of }, world.admin).then(({ id }) => id);
    // the first eight characters are the same for a minute
    const [prefix, task] = await world.until("tasks that begin alike", async () => {
      const [own, ...others] = [await opened("loner"), ...(await Promise.all(Array.from({ length: 8 }, () => opened("stranger"))))];
      const start = own.slice(0, 8);
      return others.every((id) => id.startsWith(start)) && ([start, own] as const);
    });
    expect((await loner.claim(prefix)).task.id).toBe(task);
    const refusal = await bystander.claim(prefix).then(() => "", (error: Error) => error.message);
    expect(refusal).not.toContain(task);
  });

  test("for a process that the caller may not claim for is refused alike, whether or not there is such a task", async () => {
    const { id } = await world.open({ agent: "stranger" }, world.admin);
    const other = { pid: 1 };
    const refusals = await Promise.allSettled([bystander.claim(id, other), bystander.claim(newTaskId(Date.now()), other)]);
    expect(new Set(refusals.map((refusal) => String((refusal as PromiseRejectedResult).reason))).size).toBe(1);
    expect(refusals[0]).toMatchObject({ reason: { code: "DENIED_ROLE" } });
  });

  test("of a task that is over says in which state it is", async () => {
    const task = await open();
    await world.close(task);
    await expect(bystander.claim(task)).rejects.toMatchObject({ status: 9, code: "WRONG_STATE", metadata: { state: "closed" } });
  });

  test("may be made for another process of the same user, and by root for any", async () => {
    const mine = await agent();
    const [task, second] = [await open(), await open()];
    expect((await bystander.claim(task, { pid: mine.pid })).task.id).toBe(task);
    expect(await hints(mine)).toEqual([task]);
    expect(await bystander.status()).toEqual([]);
    await world.workload.agent.claim({ task: second, pid: mine.pid, ticket: "" });
    expect(await hints(mine)).toEqual([task, second]);
    await expect(bystander.claim(await open(), { pid: 4_194_303 })).rejects.toMatchObject({ status: 7, code: "DENIED_ROLE" });
  });

  test.runIf(asRoot)("is never made for a process of another user", async () => {
    const task = await open();
    await expect(bystander.claim(task, { pid: process.pid })).rejects.toMatchObject({ status: 7, code: "DENIED_ROLE" });
    await expect(world.workload.agent.claim({ task, pid: process.pid, ticket: "" })).rejects.toMatchObject({ code: "NOT_FOUND" });
  });

  test("is found by a process that has been waiting for it", async () => {
    await world.until("a claim within the wait", async () => {
      const [task, mine] = [await open(), await agent()];
      const early = mine.follow();
      await world.until("the caller is held", async () => early.isOver || (await world.broker.metric('brevet_now{what="waiting"}')) > 0);
      await mine.claim(task);
      const found = await early.next().catch((error: unknown) => expect(error).toMatchObject({ code: "DENIED_NO_TASK" }));
      if (!found) return false; // its wait was over before
      expect(found.map(({ hint }) => hint)).toEqual([task]);
      early.cancel();
      return true;
    });
  });

  test("that never comes is waited for no longer than waitForTask", async () => {
    await expect(bystander.x509()).rejects.toMatchObject({ status: 7, code: "DENIED_NO_TASK", metadata: { attempt: expect.any(String) } });
  });
});

describe("a ticket", () => {
  const bad = { status: 7, code: "DENIED_TICKET" };

  test("is wanted with the claim, works once, and is void when a new one was made", async () => {
    const task = await world.open({ bind: "ticket" });
    const [mine, other] = [await agent(), bystander];
    await expect(mine.claim(task.id)).rejects.toMatchObject(bad);
    const renewed = await world.workload.tasks.issueTicket({ task: task.id });
    world.keepSecret("second ticket", renewed.ticket);
    const wrong = "A".repeat(43);
    const refusals = await Promise.allSettled([wrong, task.ticket, "x"].map((ticket) => mine.claim(task.id, { ticket })));
    await world.sql("update tasks set ticket_expires_at = clock_timestamp() where id = $1", [task.id]);
    refusals.push(...(await Promise.allSettled([mine.claim(task.id, { ticket: renewed.ticket })])));
    const said = refusals.map((refusal) => (refusal as PromiseRejectedResult).reason as Error & { status: number });
    expect(new Set(said.map(({ message, status }) => `${status} ${message}`)).size).toBe(1);
    expect(said[0]).toMatchObject(bad);

    const last = await world.workload.tasks.issueTicket({ task: task.id });
    world.keepSecret("last ticket", last.ticket);
    await mine.claim(task.id, { ticket: last.ticket });
    const late = await Promise.allSettled([last.ticket, wrong].map((ticket) => other.claim(task.id, { ticket })));
    expect(new Set(late.map((refusal) => String((refusal as PromiseRejectedResult).reason))).size).toBe(1);
    await expect(world.workload.tasks.issueTicket({ task: task.id })).rejects.toMatchObject({ code: "WRONG_STATE", metadata: { state: "active" } });
  });

  test("is won by one of many who have it", async () => {
    const task = await world.open({ bind: "ticket" });
    const racers = await Promise.all(Array.from({ length: 4 }, agent));
    const claims = await Promise.allSettled(racers.flatMap((racer) =>
      ["a", "b", "c"].map(async (connection) => (await racer.claim(task.id, { ticket: task.ticket, connection }), racer.pid))));
    const winners = new Set(claims.flatMap((claim) => (claim.status === "fulfilled" ? [claim.value] : [])));
    expect(winners.size).toBe(1);
    expect((await world.get(task.id)).instance?.pid).toBe([...winners][0]);
  });

  test("is for tasks that want one", async () => {
    await expect(world.workload.tasks.issueTicket({ task: await open() })).rejects.toMatchObject({ code: "WRONG_STATE" });
  });
});

/** Speaks over a connection that another process had opened: prints the broker's refusal. */
const heir = `
  const session = require("node:http2").connect("http://localhost", { createConnection: () => new (require("node:net").Socket)({ fd: Number(process.argv[1]), readable: true, writable: true }) });
  const call = session.request({ ":method": "POST", ":path": "/SpiffeWorkloadAPI/FetchX509SVID", "content-type": "application/grpc", te: "trailers", "workload.spiffe.io": "true" });
  const said = (headers) => headers["grpc-message"] && (console.log(headers["grpc-message"]), process.exit());
  call.on("response", said).on("trailers", said).end(Buffer.alloc(5));`;
/** Becomes a shell when the broker has taken in its connection: it answers on a later one. */
const testator = `
  const { connect } = require("node:net");
  const socket = connect(process.argv[1], () => {
    const session = require("node:http2").connect("http://localhost", { createConnection: () => connect(process.argv[1]) });
    session.request({ ":path": "/" }).on("response", () => {
      const libc = require("koffi").load(null);
      const fcntl = libc.func("int fcntl(int fd, int command, int value)");
      for (const fd of [1, 2, socket._handle.fd]) fcntl(fd, 2, 0); // not closed by what comes now
      libc.func("int execv(const char *path, const char **args)")("/bin/sh", ["sh", "-c", '"$0" -e "$1" "$2"; :', process.execPath, process.argv[2], String(socket._handle.fd), null]);
    });
  });`;
describe("a refused claim is explained", () => {
  const attemptOf = async (claim: Promise<unknown>): Promise<string> =>
    await claim.then(() => { throw new Error("it was not refused"); }, (error: BrevetError) => error.metadata["attempt"] ?? "");
  const recorded = async (attempt: string): Promise<{ pid: number; uid: number; task: string } | undefined> =>
    (await world.admin.log.listAttestations({ denied: true })).attestations.find(({ id }) => id === attempt);

  test("by what the process is that was to be bound, not by who asked", async () => {
    const mine = await agent();
    const task = (await world.open({ agent: "stranger" }, world.admin)).id;
    const attempt = await attemptOf(bystander.claim(task, { pid: mine.pid }));
    expect(await world.admin.log.explain({ attempt })).toMatchObject({ verdict: "NOT_FOUND" });
    expect(await recorded(attempt)).toMatchObject({ pid: mine.pid, uid: agentUid });
  });

  test("by what would mend it: a ticket is made, a role is given", async () => {
    const { id: task } = await world.open({ bind: "ticket" });
    const attempt = await attemptOf(bystander.claim(task));
    expect(await recorded(attempt)).toMatchObject({ task });
    expect((await world.admin.log.explain({ attempt })).remedy).toMatch(new RegExp(`^brevet task ticket ${task} .*brevet task claim ${task} --ticket-file FILE --pid ${bystander.pid}$`));
    const role = await attemptOf(bystander.claim(task, { pid: 4_194_303 }));
    expect((await world.admin.log.explain({ attempt: role })).remedy).toMatch(/sidecars/);
    expect(await recorded(role)).toMatchObject({ pid: bystander.pid });
  });

  test("and what an administrator mistypes is no refusal", async () => {
    const attempt = await attemptOf(bystander.claim(newTaskId(Date.now())));
    const typo = newTaskId(Date.now());
    const { tasks, log, catalog: known } = world.admin;
    for (const look of [() => tasks.get({ task: typo }), () => log.explain({ attempt: typo }), () => known.getAgent({ name: "nobody" })]) {
      await expect(look()).rejects.toMatchObject({ code: "NOT_FOUND", metadata: expect.not.objectContaining({ attempt: expect.anything() }) });
    }
    expect((await world.admin.log.explain({ last: true })).attempt).toBe(attempt);
    await expect(world.admin.log.explain({ last: false })).rejects.toMatchObject({ code: "INVALID_FIELD", violations: [{ field: "last" }] });
  });
});

describe("bind auto", () => {
  test("gives nothing to a connection whose opener executes another file by now, and the task waits on", async () => {
    const { id } = await world.admin.tasks.open({ agent: "shifter", bind: "auto" });
    const child = spawn(process.execPath, ["-e", testator, world.broker.workloadSocket.replace("unix://", ""), heir], { stdio: ["ignore", "pipe", "inherit"] });
    let said = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (said += text));
    await world.until("it was refused", () => said !== "");
    expect(decodeURIComponent(said)).toContain("connect again");
    expect(await world.get(id)).toMatchObject({ state: "ready" });
    await world.close(id, world.admin);
  });

  test("gives the task to the first matching caller that fetches, and to nobody who does not", async () => {
    const [task, first] = [await open({ bind: "auto" }), await agent()];
    for (const method of ["FetchX509Bundles", "FetchJWTBundles"]) {
      const bundles = first.stream(method, {}, {}, (message) => message);
      await bundles.next();
      bundles.cancel();
    }
    await first.status();
    expect(await world.get(task)).toMatchObject({ state: "ready" });
    expect((await first.jwt(["a"])).map(({ hint }) => hint)).toEqual([task]);
    expect(await world.get(task)).toMatchObject({ state: "active", instance: { pid: first.pid } });
    await expect(bystander.x509()).rejects.toMatchObject({ code: "DENIED_NO_TASK" });
  });

  test("is what a caller that came early is held for, and only one gets it", async () => {
    const { waiting, task, got } = await world.until("a task within the wait", async () => {
      const agents = await Promise.all([agent(), agent()]);
      const streams = agents.map((mine) => mine.follow());
      await world.until("both are held", async () => streams.some(({ isOver }) => isOver) || (await world.broker.metric('brevet_now{what="waiting"}')) >= 2);
      const opened = await open({ bind: "auto" });
      const answers = await Promise.allSettled(streams.map((stream) => stream.next()));
      if (answers.some(({ status }) => status === "fulfilled")) return { waiting: agents, task: opened, got: answers };
      await world.close(opened); // both waits were over before
      return false;
    });
    expect(got.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    expect(got.find(({ status }) => status === "rejected")).toMatchObject({ reason: { code: "DENIED_NO_TASK" } });
    expect(waiting.map(({ pid }) => pid)).toContain((await world.get(task)).instance?.pid);
  });

  test("can still be claimed by its ID", async () => {
    const [task, mine] = [await open({ bind: "auto" }), await agent()];
    await mine.claim(task);
    expect(await hints(mine)).toEqual([task]);
  });
});

describe("scope process", () => {
  test("leaves out the children", async () => {
    const [parent, child] = (await family(2)) as [Agent, Agent];
    const task = await open({ scope: "process" });
    await parent.claim(task);
    expect(await hints(parent)).toEqual([task]);
    await expect(child.x509()).rejects.toMatchObject({ status: 7, message: expect.stringContaining(`holds task ${task}, whose scope process leaves out its children`) as string });
    expect(await world.admin.log.explain({ pid: child.pid })).toMatchObject({
      verdict: expect.stringContaining("leaves out its children") as string, remedy: "brevet task open --agent researcher --scope tree",
    });
  });
});

describe("scope tree", () => {
  test("takes in all that descend from the claimed process, as one instance", async () => {
    const relatives = await family(3);
    const task = await open({ scope: "tree" });
    const { endpoint } = await (relatives[0] as Agent).claim(task);
    const serials = await Promise.all(relatives.map(async (relative) => (await relative.x509({ socket: endpoint })).map(({ serial }) => serial)));
    expect(new Set(serials.flat()).size).toBe(1);
    expect((await (relatives[2] as Agent).jwt(["a"]))[0]?.binding?.instance).toBe((await world.get(task)).instance?.id);
  });

  test("does not reach upwards", async () => {
    const [parent, child] = (await family(2)) as [Agent, Agent];
    await child.claim(await open({ scope: "tree" }));
    await expect(parent.x509()).rejects.toMatchObject({ code: "DENIED_NO_TASK" });
  });

  test("loses whoever loses the chain to it", async () => {
    const [parent, between, orphan] = (await family(3)) as [Agent, Agent, Agent];
    const task = await open({ scope: "tree" });
    await parent.claim(task);
    expect(await hints(orphan)).toEqual([task]);
    await between.kill();
    await expect(orphan.jwt(["a"], { connection: "kept since before" })).rejects.toMatchObject({ status: 7 });
    await expect(orphan.jwt(["a"])).rejects.toMatchObject({ status: 7 });
    expect(await hints(parent)).toEqual([task]);
  });

  test("yields to a nearer bound process: bindings never add up", async () => {
    const [top, middle, low] = (await family(3)) as [Agent, Agent, Agent];
    const [outer, inner, narrow] = [await open({ scope: "tree" }), await open({ scope: "tree" }), await open({ scope: "process" })];
    await top.claim(outer);
    await middle.claim(inner);
    expect(await Promise.all([top, middle, low].map((each) => hints(each)))).toEqual([[outer], [inner], [inner]]);
    await low.claim(narrow);
    expect(await Promise.all([top, middle, low].map((each) => hints(each)))).toEqual([[outer], [inner], [narrow]]);
    // what the nearer one lost does not fall back to the one above
    await world.close(inner);
    await expect(middle.x509()).rejects.toMatchObject({ status: 7, code: "DENIED_TASK_ENDED" });
  });

  test("is hidden by a nearer process that is bound for itself alone", async () => {
    const [top, middle, low] = (await family(3)) as [Agent, Agent, Agent];
    await top.claim(await open({ scope: "tree" }));
    await middle.claim(await open({ scope: "process" }));
    await expect(low.x509()).rejects.toMatchObject({ status: 7 });
  });
});

describe("a worker", () => {
  test("holds as many tasks as its agent allows, and again as many when they are over", async () => {
    const mine = await agent();
    const [first, second, third] = [await open(), await open(), await open()];
    await mine.claim(first);
    await mine.claim(second);
    await expect(mine.claim(third)).rejects.toMatchObject({ status: 7, code: "DENIED_TOO_MANY_TASKS" });
    await world.close(first);
    await mine.claim(third);
    expect(await hints(mine)).toEqual([second, third]);
    const shy = await agent();
    await shy.claim(await open({ agent: "shy" }));
    await expect(shy.claim(await open({ agent: "shy" }))).rejects.toMatchObject({ code: "DENIED_TOO_MANY_TASKS" });
  });

  test("has ten at once: one SVID each with the task's ID as hint, one endpoint each that knows only its own", async () => {
    const mine = await agent();
    const tasks = await Promise.all(Array.from({ length: 10 }, () => open({ agent: "worker" })));
    const claims = await Promise.all(tasks.map((task) => mine.claim(task)));
    const stream = mine.follow();
    await world.until("all ten", () => stream.messages.at(-1)?.length === 10);
    const held = stream.messages.at(-1) ?? [];
    expect(held.map(({ hint }) => hint).sort()).toEqual([...tasks].sort());
    expect(held.map(({ hint, binding }) => hint === binding?.task)).not.toContain(false);
    expect(new Set(held.map(({ binding }) => binding?.instance)).size).toBe(1);
    for (const [i, { endpoint }] of claims.entries()) expect(await hints(mine, endpoint)).toEqual([tasks[i]]);
    expect((await mine.jwt(["a"])).map(({ hint }) => hint).sort()).toEqual([...tasks].sort());

    const [gone, ...left] = tasks as [string, ...string[]];
    const own = mine.follow({ socket: claims[0]?.endpoint ?? "" });
    await own.next();
    await world.close(gone);
    expect(await own.ended).toMatchObject({ status: 7 });
    await world.until("nine", () => stream.messages.at(-1)?.length === 9);
    expect(stream.messages.at(-1)?.map(({ hint }) => hint).sort()).toEqual(left.sort());
    await world.until("its endpoint is gone", () => !existsSync(claims[0]?.endpoint.replace("unix://", "") ?? ""));
    stream.cancel();
  });

  test("does a hundred, one after the other", async () => {
    const mine = await agent();
    for (let i = 0; i < 100; i++) {
      const task = await open({ agent: "worker" });
      const { endpoint } = await mine.claim(task);
      expect(await hints(mine, endpoint)).toEqual([task]);
      await world.close(task);
    }
    expect(await mine.status()).toEqual([]);
  });
});

describe("a supervisor", () => {
  type Ended = { readonly id: string; readonly state: string; readonly endReason: string };
  const finish = async (by: Agent, request: object): Promise<Ended> => await by.call<Ended>("Finish", { success: true, ...request }, { service: "agent" });
  const supervised = async (): Promise<{ supervisor: Agent; task: string; spiffeId: string }> => {
    const [{ id: task, spiffeId }, supervisor, mine] = [await world.open(), await agent(), await agent()];
    await supervisor.call("Claim", { task, pid: mine.pid, supervised: true }, { service: "agent" });
    return { supervisor, task, spiffeId };
  };

  test("says how it ended, by whatever names the task, and is answered alike when it says so again", async () => {
    const { supervisor, task, spiffeId } = await supervised();
    const ended = await finish(supervisor, { task: spiffeId });
    expect(ended).toMatchObject({ id: task, state: "closed" });
    for (const name of [task, task.toUpperCase(), spiffeId]) expect(await finish(supervisor, { task: name, success: false, reason: "exit 3" })).toEqual(ended);
  });

  test("that comes late is told how the task ended; so is whoever may see it, and nobody else", async () => {
    const { supervisor, task } = await supervised();
    await expect(world.workload.agent.finish({ task, success: true, reason: "" })).rejects.toMatchObject({ code: "NOT_FOUND" });
    await world.abort(task, "on second thoughts");
    const aborted = { id: task, state: "aborted", endReason: "on second thoughts" };
    expect(await finish(supervisor, { task })).toMatchObject(aborted);
    expect(await world.workload.agent.finish({ task, success: true, reason: "" })).toMatchObject(aborted);
    if (asRoot) await expect(finish(bystander, { task })).rejects.toMatchObject({ code: "NOT_FOUND", message: "task: no such task" });
  });
});

describe("the exit of the process", () => {
  test.each([["researcher", "aborted"], ["worker", "closed"]])("ends its tasks, as agent %s wants it: %s", async (name, state) => {
    const mine = await agent();
    const tasks = [await open({ agent: name }), await open({ agent: name })];
    for (const task of tasks) await mine.claim(task);
    await mine.x509();
    await mine.exit();
    for (const task of tasks) expect(await ended(task)).toMatchObject({ state, endReason: "the bound process exited", endedBy: "brevet" });
  });

  test("of a child ends nothing, of the claimed one everything below it too", async () => {
    const [parent, child] = (await family(2)) as [Agent, Agent];
    const task = await open({ scope: "tree" });
    await parent.claim(task);
    const stream = child.follow();
    await stream.next();
    await parent.kill();
    expect(await stream.ended).toMatchObject({ status: 7 });
    expect(await ended(task)).toMatchObject({ state: "aborted" });
  });

  test("while no broker was there is found by the next; who lives on keeps its task and gets its SVIDs", async () => {
    const [mine, other] = [await agent(), await agent()];
    const [task, lost] = [await open(), await open()];
    const { endpoint } = await mine.claim(task);
    await other.claim(lost);
    const [before] = await mine.x509();
    await world.kill9();
    await other.kill();
    await world.broker.start();
    expect(await ended(lost)).toMatchObject({ state: "aborted", endReason: "the bound process exited" });
    const [after] = await mine.x509({ socket: endpoint, connection: "after the restart" });
    expect(after?.binding).toEqual(before?.binding);
  });
});
