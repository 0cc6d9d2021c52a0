// Is what was ended dead, everywhere, and nothing else?
// Close, abort and revoke by task, agent, service and everything; what each says of a task that is over
// already; disabling an agent; two brokers on one database. Success is said after the commit, and from
// then on nobody gets or passes with an SVID of it. DESIGN section 3, invariants 1 and 3.
// The feed by itself is feed.test.ts's; exit and expiry are claim.test.ts's and open.test.ts's.
import { existsSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WorkloadSource } from "../src/client/source.ts";
import { Verifier } from "../src/verify/verifier.ts";
import { agentUid, ownUid } from "./support/agent.ts";
import type { Agent, HeldJwt, HeldX509, Stream } from "./support/agent.ts";
import type { BrokerProcess } from "./support/broker.ts";
import { World } from "./support/world.ts";

const agentNamed = (name: string): string => `
  - name: ${name}
    owner: lead@example.org
    selectors: [{ uid: ${agentUid} }]
    openers: [{ uid: ${ownUid} }]
    tasksPerInstance: 100`;
const asRoot = ownUid === 0;
/** Where all run as one user, an agent without a task would pass for the services. */
const serviceUid = asRoot ? ownUid : 54_321;
const catalog = `
agents:${agentNamed("researcher")}${agentNamed("writer")}${agentNamed("painter")}
services:
  - name: crm
    owner: crm@example.org
    selectors: [{ uid: ${serviceUid} }]
  - name: search
    owner: search@example.org
    selectors: [{ uid: ${serviceUid} }]
`;

let world: World;
let second: BrokerProcess;
let agent: Agent;
let verifier: Verifier;

beforeAll(async () => {
  world = await World.start({ catalog, brokers: 2 });
  second = world.brokers[1] as BrokerProcess;
  agent = await world.agent();
  verifier = new Verifier({ address: second.workloadSocket, audience: "any", accept: ["agent", "service"] });
  await verifier.ready();
});
afterAll(async () => {
  verifier.close();
  await world.end();
});

type Held = { id: string; endpoint: string; stream: Stream<HeldX509[]>; x509: HeldX509; jwt: HeldJwt };

/** A task that our agent holds, with an open stream on its own endpoint. */
async function held(name = "researcher"): Promise<Held> {
  const { id } = await world.open({ agent: name });
  const { endpoint } = await agent.claim(id);
  const stream = agent.follow({ socket: endpoint });
  const [x509] = (await stream.next()) as [HeldX509];
  const [jwt] = (await agent.jwt(["any"], { socket: endpoint })) as [HeldJwt];
  return { id, endpoint, stream, x509, jwt };
}

async function isDead({ id, endpoint, stream, x509, jwt }: Held): Promise<void> {
  expect(await stream.ended).toMatchObject({ status: 7, code: "DENIED_TASK_ENDED" });
  await world.until("the verifier hears", () => !verifier.x509(x509.chain).accepted);
  for (const verdict of [verifier.x509(x509.chain), verifier.jwt(jwt.token)]) expect(verdict).toMatchObject({ reason: "VERIFY_REVOKED", task: id });
  await world.until("its endpoint is gone", () => !existsSync(endpoint.replace("unix://", "")));
}

async function isAlive({ stream, x509, jwt, endpoint, id }: Held): Promise<void> {
  expect(stream.isOver).toBe(false);
  for (const verdict of [verifier.x509(x509.chain), verifier.jwt(jwt.token)]) expect(verdict).toMatchObject({ accepted: true, task: id });
  expect((await agent.jwt(["any"], { socket: endpoint }))[0]?.hint).toBe(id);
}

const head = async (): Promise<number> => (await world.sql<{ sequence: number }>("select sequence::int from feed_head"))[0]?.sequence ?? -1;

describe("close and abort", () => {
  test("end the task they name, and no other", async () => {
    const [done, failed, other] = [await held(), await held(), await held()];
    expect(await world.close(done.id)).toMatchObject({ state: "closed", endedBy: expect.stringMatching(new RegExp(`^uid:${ownUid}\\b`)), endpoint: "" });
    expect(await world.abort(failed.id, "the model was wrong")).toMatchObject({ state: "aborted", endReason: "the model was wrong" });
    await isDead(done);
    await isDead(failed);
    await isAlive(other);
    expect((await agent.status()).map(({ id }) => id)).toEqual([other.id]);
    await world.close(other.id);
  });

  test("repeated, answer with the ended task as it was", async () => {
    const [{ id: closed }, { id: aborted }] = [await world.open(), await world.open()];
    const first = await world.close(closed);
    expect(await world.close(closed)).toEqual(first);
    const other = await world.abort(aborted, "first");
    expect(await world.abort(aborted, "second")).toEqual(other);
    const kinds = (await world.admin.log.listEntries({ task: aborted })).entries.map(({ kind }) => kind);
    expect(kinds).toEqual(["task.opened", "task.aborted"]);
  });

  test("of a task that ended otherwise say how", async () => {
    const [{ id: closed }, { id: aborted }] = [await world.open(), await world.open()];
    await world.close(closed);
    await world.abort(aborted);
    await expect(world.abort(closed)).rejects.toMatchObject({ code: "WRONG_STATE", metadata: { state: "closed" } });
    await expect(world.close(aborted)).rejects.toMatchObject({ code: "WRONG_STATE", metadata: { state: "aborted" } });
    await expect(world.abort(closed, " ")).rejects.toMatchObject({ violations: [{ field: "reason" }] });
  });

  test("of a task nobody claimed tell verifiers nothing; of one with many SVIDs, one thing", async () => {
    const before = await head();
    await world.close((await world.open()).id);
    expect(await head()).toBe(before);
    const busy = await held();
    await Promise.all(Array.from({ length: 20 }, () => agent.jwt(["any"], { socket: busy.endpoint })));
    await world.close(busy.id);
    expect(await head()).toBe(before + 1);
    await isDead(busy);
  });

  test("asked for while the agent fetches as fast as it can: none that asked after the answer gets anything", async () => {
    for (let round = 0; round < 10; round++) {
      const { id, endpoint } = await held();
      let [asked, isOver] = [0, false];
      const fetching = Promise.all(["a", "b", "c"].map(async (connection) => {
        while (!isOver) {
          asked++;
          await agent.jwt(["any"], { socket: endpoint, connection: `${round}${connection}` });
        }
      })).catch((error: unknown) => expect(error).toMatchObject({ status: 7 }));
      await world.until("some fetches", () => asked > 5);
      await world.close(id);
      isOver = true;
      await expect(agent.jwt(["any"], { spiffeId: `spiffe://brevet.local/agent/researcher/task/${id}` })).rejects.toMatchObject({ status: 7 });
      await fetching;
    }
  });
});

describe("revoke", () => {
  test("by task, says what died; a repeat finds it dead and changes nothing", async () => {
    const [target, other] = [await held(), await held()];
    await isAlive(target); // and has one JWT-SVID more
    const dry = await world.revoke({ task: target.id, dryRun: true });
    expect(dry).toMatchObject({ dryRun: true, tasks: [{ id: target.id, stateBefore: "active", svids: 3 }] });
    expect(await world.get(target.id)).toMatchObject({ state: "active" });
    const revoked = await world.revoke({ task: target.x509.serial }, "wrong repository");
    expect(revoked).toMatchObject({ tasks: [{ id: target.id, agent: "researcher", stateBefore: "active", epoch: 2, svids: 3 }], alreadyEnded: 0 });
    expect(revoked.newTasks).toContain("brevet agent disable researcher");
    await isDead(target);
    await isAlive(other);
    const [before, task] = [await head(), await world.get(target.id)];
    expect(task).toMatchObject({ state: "aborted", endReason: "wrong repository" });
    expect(await world.revoke({ task: target.id }, "again")).toMatchObject({ tasks: [], alreadyEnded: 1, svids: 0 });
    expect([await head(), await world.get(target.id)]).toEqual([before, task]);
    await world.close(other.id);
  });

  test("by agent, ends all of its tasks, claimed or not, and no other agent's", async () => {
    const [one, two, other, ready] = [await held("writer"), await held("writer"), await held("researcher"), await world.open({ agent: "writer" })];
    const revoked = await world.revoke({ agent: "writer" });
    expect(revoked.tasks.map(({ id }) => id).sort()).toEqual([one.id, two.id, ready.id].sort());
    await isDead(one);
    await isDead(two);
    await isAlive(other);
    expect(await world.get(ready.id)).toMatchObject({ state: "aborted" });
    expect(await world.revoke({ agent: "writer" })).toMatchObject({ tasks: [] });
    expect(await world.open({ agent: "writer" })).toMatchObject({ state: "ready" });
    await world.close(other.id);
  });

  test.runIf(asRoot)("by service, ends the SVIDs it had; it gets new ones at once, and another service keeps its own", async () => {
    using source = await WorkloadSource.open({ address: world.broker.workloadSocket });
    const [old, kept] = [source.svid("crm"), source.svid("search")];
    const chain = (svid: { cert: string }): Buffer => Buffer.concat((svid.cert.match(/(?<=CERTIFICATE-----)[^-]+(?=-----END)/g) ?? []).map((b) => Buffer.from(b, "base64")));
    const token = await source.jwt("any", "crm");
    for (const svid of [old, kept]) world.sawIdentity(svid);
    world.sawToken(token);
    expect(verifier.x509(chain(old))).toMatchObject({ accepted: true, service: "crm" });
    const revoked = await world.revoke({ service: "crm" });
    expect(revoked).toMatchObject({ services: ["crm"], tasks: [] });
    expect(revoked.svids).toBeGreaterThanOrEqual(2); // an X.509-SVID and a JWT-SVID
    await world.until("the verifier hears", () => !verifier.x509(chain(old)).accepted);
    expect(verifier.jwt(token)).toMatchObject({ reason: "VERIFY_REVOKED" });
    expect(verifier.x509(chain(kept))).toMatchObject({ accepted: true, service: "search" });
    const next = await world.until("a new SVID", () => source.svids.find(({ hint, binding }) => hint === "crm" && binding?.epoch === 2));
    world.sawIdentity(next);
    expect(verifier.x509(chain(next))).toMatchObject({ accepted: true, service: "crm" });
  });

  test("of a service that has no SVID alive changes nothing", async () => {
    await world.revoke({ service: "crm" });
    const head = async (): Promise<object[]> => await world.sql("select h.sequence, s.epoch from feed_head h, services s where s.name = 'crm'");
    const before = await head();
    expect(await world.revoke({ service: "crm" })).toMatchObject({ svids: 0 });
    expect(await head()).toEqual(before);
  });

  test("of everything wants the trust domain's name, and then leaves nothing", async () => {
    const [one, two] = [await held("researcher"), await held("writer")];
    for (const all of ["yes", "", "other.org"]) await expect(world.revoke({ all })).rejects.toMatchObject({ violations: [{ field: "all" }] });
    await isAlive(one);
    const revoked = await world.revoke({ all: "brevet.local" });
    expect(revoked.tasks.map(({ id }) => id)).toEqual(expect.arrayContaining([one.id, two.id]));
    expect(revoked.services).toEqual(["crm", "search"]);
    await isDead(one);
    await isDead(two);
    expect((await world.admin.tasks.list({ state: "active" })).tasks).toEqual([]);
  });

  test("wants a reason and a target that is there", async () => {
    const { id } = await world.open();
    await expect(world.revoke({ task: id }, "")).rejects.toMatchObject({ violations: [{ field: "reason" }] });
    await expect(world.revoke({})).rejects.toMatchObject({ violations: [{ field: "target" }] });
    for (const target of [{ agent: "nobody" }, { service: "nothing" }, { task: "ffffffff" }]) {
      await expect(world.revoke(target)).rejects.toMatchObject({ code: "NOT_FOUND" });
    }
    expect(await world.get(id)).toMatchObject({ state: "ready" });
  });
});

describe("an agent that is disabled", () => {
  test("loses its tasks and gets no new ones until it is enabled, whatever is restarted", async () => {
    const mine = await held("painter");
    const { tasks } = await world.admin.catalog.disableAgent({ name: "painter", reason: "paints the wrong wall" });
    expect(tasks.map(({ id }) => id)).toEqual([mine.id]);
    await isDead(mine);
    const refused = { code: "AGENT_DISABLED", message: expect.stringContaining("paints the wrong wall") };
    for (const broker of world.brokers) await expect(world.open({ agent: "painter" }, broker.workload)).rejects.toMatchObject(refused);
    await world.restart(second);
    await expect(world.open({ agent: "painter" }, second.workload)).rejects.toMatchObject(refused);
    expect(await second.admin.catalog.getAgent({ name: "painter" })).toMatchObject({ enabled: false, disabledReason: "paints the wrong wall", liveTasks: 0 });
    expect(await world.open({ agent: "researcher" })).toMatchObject({ state: "ready" });
    await world.admin.catalog.enableAgent({ name: "painter" });
    expect(await world.open({ agent: "painter" }, second.workload)).toMatchObject({ state: "ready" });
  });
});

describe("two brokers on one database", () => {
  test("what one acknowledged is final at the other: streams, fetches, verifiers", async () => {
    const { id } = await world.open({}, second.workload);
    await agent.claim(id);
    const streams = world.brokers.map(({ workloadSocket }) => agent.follow({ socket: workloadSocket }));
    const got = await Promise.all(streams.map(async (stream) => ((await stream.next()) as [HeldX509])[0]));
    expect(new Set(got.map(({ binding }) => JSON.stringify(binding))).size).toBe(1);
    await world.close(id, second.workload);
    await expect(agent.jwt(["any"])).rejects.toMatchObject({ status: 7 });
    for (const stream of streams) expect(await stream.ended).toMatchObject({ status: 7 });
    await world.until("the verifier hears", () => got.every(({ chain }) => !verifier.x509(chain).accepted));
  });

  test("one closing while the other changes the context: one verdict, one order", async () => {
    for (let round = 0; round < 5; round++) {
      const { id } = await world.open({ context: { user: "alice" } });
      await agent.claim(id);
      const [changed] = await Promise.allSettled([world.change(id, { user: "bob" }), world.close(id, second.workload)]);
      expect(await world.get(id)).toMatchObject({ state: "closed", epoch: changed.status === "fulfilled" ? 3 : 2 });
      if (changed.status === "rejected") expect(changed.reason).toMatchObject({ code: "WRONG_STATE", metadata: { state: "closed" } });
    }
  });
});
