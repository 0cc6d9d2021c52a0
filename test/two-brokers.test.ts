// Do two brokers on one database act as one?
// Real processes, each with sockets of its own, on one PostgreSQL. A close acknowledged by one is final at
// the other; streams, feeds and lists of either tell of what the other did; one that lost its database
// keeps nobody fresh while the other goes on.
// DESIGN 3, invariant 1; threats T11, T13.
// The same within one process, a thousand times, is race.test.ts's; how fast it is, the benchmark's.
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import type { BrevetError } from "../src/errors.ts";
import { Verifier } from "../src/verify/verifier.ts";
import { agentUid, ownUid } from "./support/agent.ts";
import type { HeldX509, Stream } from "./support/agent.ts";
import type { BrokerProcess } from "./support/broker.ts";
import { Wire } from "./support/wire.ts";
import { World } from "./support/world.ts";

const codeOf = (error: unknown): string => (error as BrevetError).code;
const refusal = async (call: Promise<unknown>): Promise<string> => await call.then(() => "none", codeOf);

let world: World;
let wire: Wire;
let here: BrokerProcess;
let there: BrokerProcess;

beforeAll(async () => {
  wire = await Wire.start(process.env["BREVET_TEST_DATABASE_URL"] ?? "");
  world = await World.start({
    brokers: 3, env: { BREVET_LIMITS_PER_UID_FETCHES_PER_SECOND: "0" },
    through: (url, broker) => (broker === 1 ? wire.through(url) : url),
    catalog: `agents: [{ name: researcher, owner: l@example.org, selectors: [{ uid: ${agentUid} }], openers: [{ uid: ${ownUid} }], tasksPerInstance: 64 }]`,
  });
  [here, there] = world.brokers as unknown as [BrokerProcess, BrokerProcess];
});
afterAll(async () => {
  await world[Symbol.asyncDispose]();
  await wire.close();
});
afterEach(() => wire.mend());

const at = (broker: BrokerProcess): { socket: string } => ({ socket: broker.workloadSocket });

test("what one has acknowledged is so at the other: open, claim, change, close", async () => {
  const agent = await world.agent();
  for (let turn = 0; turn < 6; turn++) {
    const [first, second] = turn % 2 ? [here, there] : [there, here];
    const { id } = await first.workload.tasks.open({ agent: "researcher", context: { turn: "0" } });
    await agent.claim(id, at(first));
    const [before] = await agent.x509(at(second)); // bound by the other
    expect(before).toMatchObject({ hint: id, binding: { task: id, epoch: 1 } });
    await world.until("one key is held", async () => (await second.metric(`brevet_now{what="held"}`)) === 1);
    await first.workload.tasks.changeContext({ task: id, set: { turn: "1" }, remove: [] });
    expect((await agent.x509(at(second)))[0]?.binding?.epoch).toBe(2);
    expect((await agent.jwt(["crm"], at(second)))[0]?.binding?.epoch).toBe(2);
    await first.workload.tasks.close({ task: id });
    const [x509, jwt] = await Promise.all([refusal(agent.x509(at(second))), refusal(agent.jwt(["crm"], at(second)))]);
    expect([x509, jwt]).toEqual(["DENIED_TASK_ENDED", "DENIED_TASK_ENDED"]);
    expect(await second.workload.tasks.get({ task: id })).toMatchObject({ state: "closed" });
  }
  await agent.kill();
  for (const broker of [here, there]) {
    await world.until("no key of an ended task is held", async () => (await broker.metric(`brevet_now{what="held"}`)) === 0);
  }
});

test("streams at both end, and feeds and verifiers of both tell, whichever closed it", async () => {
  for (const closer of [here, there]) {
    const agent = await world.agent();
    const { id } = await here.workload.tasks.open({ agent: "researcher" });
    await agent.claim(id, at(here));
    const streams: Stream<HeldX509[]>[] = [agent.follow(at(here)), agent.follow(at(there))];
    const [x509] = (await Promise.all(streams.map((stream) => stream.next())))[1] ?? [];
    const [jwt] = await agent.jwt(["crm"], at(there));
    const verifiers = [here, there].map((broker) => new Verifier({ address: broker.workloadSocket, audience: "crm" }));
    for (const verifier of verifiers) {
      await verifier.ready();
      expect(verifier.x509((x509 as HeldX509).chain)).toMatchObject({ accepted: true });
    }
    await closer.workload.tasks.close({ task: id });
    for (const stream of streams) expect(codeOf(await stream.ended)).toBe("DENIED_TASK_ENDED");
    for (const verifier of verifiers) {
      await world.until("the verifier has heard", () => verifier.feed.epochOf(id) === 2);
      expect(verifier.x509((x509 as HeldX509).chain)).toMatchObject({ accepted: false, reason: "VERIFY_REVOKED" });
      expect(verifier.jwt(jwt?.token ?? "")).toMatchObject({ accepted: false, reason: "VERIFY_REVOKED" });
      verifier.close();
    }
    for (const { workload } of [here, there]) {
      await world.until("it validates no more", async () => (await refusal(workload.workload.validateJWTSVID({ audience: "crm", svid: jwt?.token ?? "" }))) !== "none");
    }
    await agent.kill();
  }
});

test("a process whose task was claimed at one broker exits: it ends, once, with both watching", async () => {
  const agent = await world.agent();
  const { id } = await here.workload.tasks.open({ agent: "researcher" });
  await agent.claim(id, at(here));
  await agent.x509(at(there));
  await agent.exit();
  await world.until("it ended", async () => (await world.get(id)).state === "aborted");
  expect(await world.sql("select 1 from entries where task = $1 and kind = 'task.aborted'", [id])).toHaveLength(1);
});

test("one loses its database: its verifiers grow stale and accept nothing, the other goes on; back, it has missed nothing", async () => {
  const agent = await world.agent();
  const ending = await here.workload.tasks.open({ agent: "researcher" });
  const staying = await here.workload.tasks.open({ agent: "researcher" });
  const tasks = [ending, staying];
  for (const { id } of tasks) await agent.claim(id, at(here));
  const held = await world.until("the other broker to hear of both claims", async () => {
    const svids = await agent.x509(at(there));
    return svids.length === tasks.length ? svids : undefined;
  });
  const chainOf = (task: string): Buffer => held.find(({ hint }) => hint === task)?.chain ?? Buffer.alloc(0);
  const verifier = new Verifier({ address: there.workloadSocket, maxStaleness: "2s" });
  await verifier.ready();
  const stream = agent.follow(at(there));
  await stream.next();

  wire.tear();
  await here.workload.tasks.close({ task: ending.id });
  await world.until("the verifier is stale", () => !verifier.feed.fresh);
  for (const { id } of tasks) expect(verifier.x509(chainOf(id))).toMatchObject({ accepted: false, reason: "VERIFY_STALE" });
  expect(await refusal(agent.jwt(["crm"], at(there)))).toMatch(/DATABASE_UNAVAILABLE|OUTCOME_UNKNOWN/);
  expect((await fetch(`${there.httpUrl}/crl`)).status).toBe(200); // the lists it has
  await agent.jwt(["crm"], at(here));

  wire.mend();
  await world.until("the verifier is fresh", () => verifier.feed.fresh);
  expect(verifier.x509(chainOf(ending.id))).toMatchObject({ accepted: false, reason: "VERIFY_REVOKED" });
  expect(verifier.x509(chainOf(staying.id))).toMatchObject({ accepted: true });
  await world.until("the stream holds one", () => stream.messages.at(-1)?.length === 1);
  expect(stream.messages.at(-1)?.map(({ hint }) => hint)).toEqual([staying.id]);
  verifier.close();
  await agent.kill();
});

test("one hears of a change and can't look it up at once: its streams and endpoints stay, and get the new epoch", async () => {
  const agent = await world.agent();
  const { id } = await here.workload.tasks.open({ agent: "researcher", context: { model: "one" } });
  await agent.claim(id, at(here));
  const stream = agent.follow(at(there));
  await stream.next();
  const halt = wire.halt("get_tasks", "cut before");
  await here.workload.tasks.changeContext({ task: id, set: { model: "two" }, remove: [] });
  await halt.reached;
  expect((await stream.next())[0]?.binding?.epoch).toBe(2);
  const { endpoint } = await there.workload.tasks.get({ task: id });
  expect((await agent.x509({ socket: endpoint }))[0]).toMatchObject({ hint: id, binding: { epoch: 2 } });
  await here.workload.tasks.close({ task: id });
  expect(codeOf(await stream.ended)).toBe("DENIED_TASK_ENDED");
  await agent.kill();
});

test("one sleeps between recording an SVID and signing it, while the other ends its task: what it hands out is dead", async () => {
  const agent = await world.agent();
  const { id } = await here.workload.tasks.open({ agent: "researcher" });
  await agent.claim(id, at(here));
  const verifier = new Verifier({ address: here.workloadSocket, audience: "crm" });
  await verifier.ready();
  const halt = wire.halt("issue_svids", "hold after");
  const early = agent.jwt(["crm"], at(there));
  await halt.reached;
  there.signal("SIGSTOP");
  halt.release();
  await here.workload.tasks.close({ task: id });
  there.signal("SIGCONT");
  const [jwt] = await early;
  expect(jwt?.binding).toMatchObject({ task: id, epoch: 1 });
  await world.until("the verifier has heard", () => verifier.feed.epochOf(id) === 2);
  expect(verifier.jwt(jwt?.token ?? "")).toMatchObject({ accepted: false, reason: "VERIFY_REVOKED" });
  expect(await refusal(agent.jwt(["crm"], at(there)))).toBe("DENIED_TASK_ENDED");
  verifier.close();
  await agent.kill();
});

test("a close that other brokers flood with fetches is done, and final at all of them", async () => {
  const owner = await world.agent();
  const { id } = await here.workload.tasks.open({ agent: "researcher", scope: "process" });
  await owner.claim(id, at(here));
  let isOver = false;
  let fetched = 0;
  const late: string[] = [];
  const flood = world.brokers.flatMap((broker) => [1, 2, 3, 4].map(async (n) => {
    for (;;) {
      const invokedAfter = isOver;
      try {
        await owner.jwt(["crm"], { ...at(broker), connection: String(n) });
        fetched++;
        if (invokedAfter) late.push(broker.dataDir);
      } catch (error) {
        if (invokedAfter && codeOf(error) === "DENIED_TASK_ENDED") return; // any other refusal is for now only
      }
    }
  }));
  await world.until("the flood runs", () => fetched > 50);
  await here.workload.tasks.close({ task: id });
  isOver = true;
  await Promise.all(flood);
  expect(late).toEqual([]);
  await owner.kill();
});

test("of all that, every invariant holds at all three", async () => {
  await world.check();
});
