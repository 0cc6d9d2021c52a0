// What is Brevet for?
// One story on real processes, real sockets and a real PostgreSQL: an orchestrator, an agent that has no
// code of ours, a service that knows the SDK, an operator at the command line. After each step all that
// must always be true is derived again from the database, the feed, the lists and what clients hold.
// Each verb by itself has a file of its own: open, claim, fetch, context, revoke, feed, catalog-apply.
import type { AddressInfo } from "node:net";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Server, TLSSocket } from "node:tls";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { Tasks, Verifier, WorkloadSource, agentIs, callerOf, createMtlsServer } from "../src/index.ts";
import type { Refused, Task } from "../src/index.ts";
import { readCrl } from "../src/identity/crl.ts";
import { agentUid, ownUid } from "./support/agent.ts";
import type { Agent, HeldJwt, HeldX509, Stream } from "./support/agent.ts";
import { World } from "./support/world.ts";

const catalog = `
agents:
  - name: researcher
    owner: research-lead@example.org
    purpose: answers questions from the product wiki
    selectors: [{ uid: ${agentUid} }]
    openers: [{ uid: ${ownUid} }]
    context: [user, repository, model]
    audiences: [crm]
services:
  - name: crm
    owner: crm-lead@example.org
    selectors: [{ uid: ${ownUid} }]
`;

let world: World;
let tasks: Tasks;
let task: Task;
let agent: Agent;
let svids: Stream<HeldX509[]>;
let x509: HeldX509;
let jwt: HeldJwt;
let crm: { source: WorkloadSource; verifier: Verifier; server: Server; port: number; callers: string[]; refused: Refused[] };
let conversation: ReturnType<Agent["connect"]>;

beforeAll(async () => {
  world = await World.start({ catalog: "" });
});

afterEach(async () => {
  await world.check();
});

afterAll(async () => {
  tasks?.close();
  crm?.server.close();
  crm?.source.close();
  crm?.verifier.close();
  await world[Symbol.asyncDispose]();
});

test("the operator applies the catalog, after seeing what it changes", async () => {
  const file = join(world.broker.dataDir, "catalog.yaml");
  writeFileSync(file, catalog);
  const dry = await world.broker.command("apply", "-f", file, "--dry-run");
  expect(dry).toMatchObject({ code: 0, stdout: expect.stringContaining("+ agent researcher") });
  expect((await world.admin.catalog.listAgents({})).agents).toEqual([]);
  expect(await world.broker.command("apply", "-f", file)).toMatchObject({ code: 0, stdout: expect.stringContaining("+ service crm") });
});

test("an orchestrator opens a task for it", async () => {
  tasks = new Tasks({ address: world.broker.workloadSocket });
  task = await tasks.open({ agent: "researcher", ttl: "15m", context: { user: "alice", model: "m1" }, purpose: "summarise the wiki", ref: { issue: "42" } });
  expect(task).toMatchObject({ state: "ready", agent: "researcher", spiffeId: `spiffe://brevet.local/agent/researcher/task/${task.id}` });
});

test("the agent's process claims it, and holds an X.509-SVID and a JWT-SVID of this task", async () => {
  agent = await world.agent();
  const { endpoint } = await agent.claim(task.id);
  svids = agent.follow({ socket: endpoint });
  [x509] = (await svids.next()) as [HeldX509];
  [jwt] = (await agent.jwt(["crm"], { socket: endpoint })) as [HeldJwt];
  for (const svid of [x509, jwt]) {
    expect(svid).toMatchObject({ spiffeId: task.spiffeId, hint: task.id, binding: { task: task.id, epoch: task.epoch } });
  }
  expect((await tasks.get(task.id)).record).toMatchObject({ state: "active", instance: { pid: agent.pid, uid: agentUid } });
});

test("a service with an identity of its own accepts it over mutual TLS, and knows its task", async () => {
  const address = world.broker.workloadSocket;
  const source = await WorkloadSource.open({ address });
  world.sawIdentity(source.svid());
  const verifier = new Verifier({ address, audience: "crm" });
  await verifier.ready();
  const [callers, refused]: [string[], Refused[]] = [[], []];
  const options = { verifier, source, authorize: agentIs("researcher"), onRefused: (verdict: Refused) => void refused.push(verdict) };
  const server = createMtlsServer(options, (socket: TLSSocket) => {
    callers.push(callerOf(socket).task);
    socket.pipe(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  crm = { source, verifier, server, port: (server.address() as AddressInfo).port, callers, refused };

  conversation = agent.connect(crm.port, x509, "spiffe://brevet.local/service/crm");
  expect(await conversation.next()).toBe("hello");
  expect(crm.callers).toEqual([task.id]);
  expect(crm.verifier.jwt(jwt.token)).toMatchObject({ accepted: true, agent: "researcher", task: task.id });
});

test("the context changes: the old SVIDs are dead, the new ones are there without asking", async () => {
  const old = { x509, jwt };
  await task.changeContext({ user: "bob" });
  expect(await conversation.ended).toBeUndefined();

  [x509] = (await svids.next()) as [HeldX509];
  [jwt] = (await agent.jwt(["crm"])) as [HeldJwt];
  expect(x509.binding?.epoch).toBe(task.epoch);
  expect(crm.verifier.x509(old.x509.chain)).toMatchObject({ accepted: false, reason: "VERIFY_REVOKED", task: task.id });
  expect(crm.verifier.jwt(old.jwt.token)).toMatchObject({ accepted: false, reason: "VERIFY_REVOKED", task: task.id });
  expect(crm.verifier.x509(x509.chain)).toMatchObject({ accepted: true });
  expect(crm.verifier.jwt(jwt.token)).toMatchObject({ accepted: true });

  const stubborn = agent.connect(crm.port, old.x509, "spiffe://brevet.local/service/crm");
  await stubborn.ended;
  expect(stubborn.messages).toEqual([]);
  expect(crm.refused.map(({ reason }) => reason)).toEqual(["VERIFY_REVOKED"]);
  conversation = agent.connect(crm.port, x509, "spiffe://brevet.local/service/crm");
  expect(await conversation.next()).toBe("hello");
});

test("the operator revokes it by its ID: streams end, connections are cut, nothing of it is accepted", async () => {
  const { signal } = task;
  const revoked = await world.broker.command("revoke", "--task", task.id, "--reason", "wrong repository", "-o", "json");
  expect(revoked).toMatchObject({ code: 0, stderr: "" });
  expect(JSON.parse(revoked.stdout)).toMatchObject({ tasks: [{ id: task.id, stateBefore: "active" }] });

  expect(await svids.ended).toMatchObject({ status: 7, code: "DENIED_TASK_ENDED" });
  expect(await conversation.ended).toBeUndefined();
  await refusedFromNowOn();
  await world.until("the orchestrator hears", () => signal.aborted);
  expect((await tasks.get(task.id)).record).toMatchObject({ state: "aborted", endReason: "wrong repository" });
  await theAgentGetsNothingOfIt();
});

test("lists for software that knows no feed carry its serial", async () => {
  await world.until("the list", async () => {
    const { crls } = await world.admin.trust.getBundle({});
    return crls.map((der) => readCrl(der)).some((list) => list.has(x509.serial));
  });
});

test("the log tells who did what", async () => {
  const { entries } = await world.admin.log.listEntries({ task: task.id });
  expect(entries.map(({ kind }) => kind).filter((kind) => kind !== "svid.issued")).toEqual([
    "task.opened", "task.claimed", "task.context_changed", "task.aborted",
  ]);
  expect(entries.filter(({ kind }) => kind === "svid.issued").length).toBe(4);
  expect(entries.at(0)?.actor).toMatch(new RegExp(`^uid:${ownUid}\\b`));
  expect(entries.find(({ kind }) => kind === "task.claimed")?.actor).toMatch(new RegExp(`^uid:${agentUid}\\b`));
  expect(entries.at(-1)).toMatchObject({ kind: "task.aborted", actor: expect.stringMatching(new RegExp(`^uid:${ownUid}\\b`)) });
});

test("a broker that was started again still refuses it, and so does a verifier that never heard of it", async () => {
  await world.restart();
  await refusedFromNowOn();
  crm.verifier.close();
  crm.verifier = new Verifier({ address: world.broker.workloadSocket, audience: "crm" });
  await crm.verifier.ready();
  await refusedFromNowOn();
  await theAgentGetsNothingOfIt();
  await expect(agent.call("ValidateJWTSVID", { audience: "crm", svid: jwt.token })).rejects.toMatchObject({ metadata: { verdict: "VERIFY_REVOKED" } });
});

async function refusedFromNowOn(): Promise<void> {
  await world.until("the verifier refuses", () => !crm.verifier.x509(x509.chain).accepted);
  const dead = { accepted: false, reason: "VERIFY_REVOKED", task: task.id };
  expect(crm.verifier.x509(x509.chain)).toMatchObject(dead);
  expect(crm.verifier.jwt(jwt.token)).toMatchObject(dead);
}

/** Where all run as one user, the agent's process may still pass for the service, which has the same user. */
async function theAgentGetsNothingOfIt(): Promise<void> {
  const refusals: unknown[] = [];
  const refused = (error: unknown): [] => (refusals.push(error), []);
  const connection = "made after the end";
  const got = [...(await agent.x509({ connection }).catch(refused)), ...(await agent.jwt(["crm"], { connection }).catch(refused))];
  expect(got.filter(({ binding }) => binding?.task !== "service/crm")).toEqual([]);
  if (agentUid !== ownUid) expect(got).toEqual([]);
  for (const refusal of refusals) expect(refusal).toMatchObject({ status: 7 });
}
