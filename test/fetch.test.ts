// What does the Workload API give to whom?
// All five calls of the standard, asked by processes that speak plain gRPC: the fields of each answer,
// who gets bundles, whose audiences, what is new and what is the same, rotation, and services.
// SPIFFE Workload API sections 3-6; interop tests ask the same with other people's clients.
// Who is bound to which task is claim.test.ts's; what revocation does, revoke.test.ts's.
import { X509Certificate, createPrivateKey } from "node:crypto";
import { status } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readCrl } from "../src/identity/crl.ts";
import { WorkloadSource } from "../src/client/source.ts";
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
    audiences: [crm, search]
    tasksPerInstance: 8
  - name: brief
    owner: lead@example.org
    selectors: [{ uid: ${agentUid} }]
    openers: [{ uid: ${ownUid} }]
    x509Ttl: 6s
    jwtTtl: 10s
    tasksPerInstance: 8
services:
  - name: crm
    owner: crm@example.org
    selectors: [{ uid: ${ownUid} }]
    audiences: [search]
  - name: search
    owner: search@example.org
    selectors: [{ uid: ${ownUid} }]
  - name: passer-by
    owner: search@example.org
    selectors: [{ uid: 54322 }]
    x509Ttl: 2s
`;
const asRoot = ownUid === 0;
const trustDomain = "spiffe://brevet.local";

let world: World;
let agent: Agent;
let task: Awaited<ReturnType<World["open"]>>;
let verifier: Verifier;

beforeAll(async () => {
  world = await World.start({ catalog });
  agent = await world.agent();
  task = await world.open({ context: { user: "alice" }, onBehalfOf: "alice@example.org" });
  await agent.claim(task.id);
  verifier = new Verifier({ address: world.broker.workloadSocket, accept: ["agent", "service"] });
  await verifier.ready();
});
afterAll(async () => {
  verifier.close();
  await world.end();
});

describe("every call", () => {
  test.each(["FetchX509SVID", "FetchX509Bundles", "FetchJWTBundles"])("%s without the security header is refused before anything else", async (method) => {
    for (const header of ["", "false", "TRUE"]) {
      const refusal = await agent.stream(method, {}, { header }, (message) => message).ended;
      expect(refusal).toMatchObject({ status: status.INVALID_ARGUMENT, code: "SECURITY_HEADER_MISSING" });
    }
  });

  test.each([["FetchJWTSVID", { audience: [] }], ["ValidateJWTSVID", {}]])("%s too", async (method, request) => {
    await expect(agent.call(method, request, { header: "" })).rejects.toMatchObject({ status: status.INVALID_ARGUMENT, code: "SECURITY_HEADER_MISSING" });
  });

  test("of the profile that is not implemented says so", async () => {
    for (const method of ["FetchWITSVID", "FetchWITBundles"]) {
      expect(await agent.stream(method, {}, {}, (message) => message).ended).toMatchObject({ status: status.UNIMPLEMENTED });
    }
  });
});

describe("an X.509-SVID", () => {
  test("comes with its key, its chain and its bundle, and says task, epoch, instance and context", async () => {
    const [svid] = (await agent.x509()) as [HeldX509];
    const now = await world.get(task.id);
    expect(svid).toMatchObject({
      spiffeId: task.spiffeId, hint: task.id,
      binding: { task: task.id, epoch: now.epoch, instance: now.instance?.id, context: now.contextDigest },
    });
    const leaf = new X509Certificate(svid.chain);
    expect(leaf.checkPrivateKey(createPrivateKey({ key: svid.key, format: "der", type: "pkcs8" }))).toBe(true);
    expect(leaf.subjectAltName).toBe(`URI:${task.spiffeId}`);
    expect(new X509Certificate(svid.bundle).ca).toBe(true);
    expect(verifier.x509(svid.chain)).toMatchObject({ accepted: true, task: task.id, epoch: now.epoch });
    const seconds = (svid.notAfter.getTime() - svid.notBefore.getTime()) / 1_000;
    expect(seconds).toBeLessThanOrEqual(300 + 60);
  });

  test("comes with the lists of every authority, and so do the bundles", async () => {
    const { crls } = await world.admin.trust.getBundle({});
    const known = crls.map((der) => readCrl(der).authorityKeyId.toString("hex")).sort();
    for (const method of ["FetchX509SVID", "FetchX509Bundles"]) {
      const stream = agent.stream(method, {}, {}, (message) => (message as { crl: string[] }).crl);
      const lists = (await stream.next()).map((list) => readCrl(Buffer.from(list, "base64")));
      stream.cancel();
      expect(lists.map(({ authorityKeyId }) => authorityKeyId.toString("hex")).sort()).toEqual(known);
      expect(known.length).toBeGreaterThanOrEqual(2);
    }
  });

  test("fetched again is the same one, for the instance on any of its connections", async () => {
    const fetched = await Promise.all(["", "b", "c"].map(async (connection) => (await agent.x509({ connection }))[0] as HeldX509));
    expect(new Set(fetched.map(({ serial }) => serial)).size).toBe(1);
    expect(new Set(fetched.map(({ key }) => key.toString("hex"))).size).toBe(1);
  });

  test("is renewed on the open stream before it expires, each time with a new key, while the old one is still good", async () => {
    const mine = await world.agent();
    await mine.claim((await world.open({ agent: "brief" })).id);
    const stream = mine.follow();
    const seen: HeldX509[] = [];
    for (let i = 0; i < 3; i++) seen.push(((await stream.next()) as [HeldX509])[0]);
    stream.cancel();
    expect(new Set(seen.map(({ serial }) => serial)).size).toBe(3);
    expect(new Set(seen.map(({ key }) => key.toString("hex"))).size).toBe(3);
    expect(new Set(seen.map(({ binding }) => binding?.epoch)).size).toBe(1);
    for (const [i, { notBefore }] of seen.slice(1).entries()) {
      // backdated by a minute: issued before the one it replaces expires
      expect(notBefore.getTime() + 60_000).toBeLessThanOrEqual(seen[i]?.notAfter.getTime() ?? 0);
    }
    await mine.exit();
  });

  test("of a task that ends soon ends with it", async () => {
    const mine = await world.agent();
    const short = await world.open({ ttlSeconds: 30 });
    await mine.claim(short.id);
    const ends = Number(short.expiresAt?.seconds) * 1_000 + 999;
    for (const svid of await mine.x509()) expect(svid.notAfter.getTime()).toBeLessThanOrEqual(ends);
    for (const svid of await mine.jwt(["crm"])) expect(svid.expiresAt.getTime()).toBeLessThanOrEqual(ends);
    await mine.exit();
  });

  test("that lives as long as its task is not renewed: none would live longer", async () => {
    const mine = await world.agent();
    const short = await world.open({ agent: "brief", ttlSeconds: 3 });
    await mine.claim(short.id);
    const stream = mine.follow();
    await stream.next();
    expect(await stream.ended).toMatchObject({ code: "DENIED_TASK_ENDED" });
    expect(await world.sql("select 1 from svids where task = $1", [short.id])).toHaveLength(1);
    expect(stream.messages).toHaveLength(1);
    await mine.exit();
  });
});

describe("a JWT-SVID", () => {
  test("is for the audiences asked for, and carries its binding beside the registered claims", async () => {
    const [svid] = (await agent.jwt(["crm", "search"])) as [HeldJwt];
    const now = await world.get(task.id);
    expect(svid.audience).toEqual(["crm", "search"]);
    expect(Object.keys(svid.claims).sort()).toEqual(["aud", "brevet", "exp", "iat", "iss", "jti", "sub"]);
    expect(svid.claims).toMatchObject({
      iss: trustDomain, sub: task.spiffeId, brevet: { task: task.id, epoch: now.epoch, instance: now.instance?.id, context: now.contextDigest, for: "alice@example.org" },
    });
    expect(Number(svid.claims["exp"]) - Number(svid.claims["iat"])).toBeLessThanOrEqual(120);
    expect(verifier.jwt(svid.token, { audience: "search" })).toMatchObject({ accepted: true, task: task.id });
    expect(verifier.jwt(svid.token, { audience: "git" })).toMatchObject({ accepted: false, reason: "VERIFY_AUDIENCE" });
  });

  test("is new each time", async () => {
    const tokens = await Promise.all(Array.from({ length: 8 }, () => agent.jwt(["crm"])));
    expect(new Set(tokens.flat().map(({ jti }) => jti)).size).toBe(8);
  });

  test("is for no audience that the catalog does not allow", async () => {
    for (const audience of [["git"], ["crm", "git"]]) {
      await expect(agent.jwt(audience)).rejects.toMatchObject({ status: 7, code: "DENIED_AUDIENCE", message: expect.stringContaining("git") });
    }
    await expect(agent.jwt(["crm", "search", "git"])).rejects.not.toMatchObject({ message: expect.stringContaining("crm") });
  });

  test.each([[[]], [[""]], [["a", ""]], [["\u0000"]], [["x".repeat(257)]], [["a", "b", "c", "d", "e"]]])("for the audiences %j is an invalid request", async (audience) => {
    await expect(agent.jwt(audience)).rejects.toMatchObject({ status: status.INVALID_ARGUMENT, violations: [{ field: expect.stringMatching(/^audience/) }] });
  });

  test("comes for each identity, or for the one asked for", async () => {
    const mine = await world.agent();
    const both = [await world.open({ agent: "brief" }), await world.open({ agent: "brief" })];
    for (const { id } of both) await mine.claim(id);
    expect((await mine.jwt(["x"])).map(({ spiffeId }) => spiffeId).sort()).toEqual(both.map(({ spiffeId }) => spiffeId).sort());
    for (const { spiffeId } of both) expect((await mine.jwt(["x"], { spiffeId })).map((svid) => svid.spiffeId)).toEqual([spiffeId]);
    for (const spiffeId of [task.spiffeId, `${trustDomain}/service/crm`, "spiffe://elsewhere.org/agent/brief"]) {
      await expect(mine.jwt(["x"], { spiffeId })).rejects.toMatchObject({ status: 7, code: "DENIED_IDENTITY" });
    }
    await expect(mine.jwt(["x"], { spiffeId: "https://x" })).rejects.toMatchObject({ status: status.INVALID_ARGUMENT });
    await mine.exit();
  });
});

describe("bundles", () => {
  const read = async (of: Agent, method: string): Promise<Record<string, string>> => {
    const stream = of.stream(method, {}, {}, (message) => (message as { bundles: Record<string, string> }).bundles);
    const bundles = await stream.next();
    stream.cancel();
    return bundles;
  };

  test("are for any process of this machine, known or not, and bind nobody", async () => {
    const stranger = asRoot ? await world.agent({ uid: 54_321 }) : agent;
    const [x509, jwt] = [await read(stranger, "FetchX509Bundles"), await read(stranger, "FetchJWTBundles")];
    expect([Object.keys(x509), Object.keys(jwt)]).toEqual([[trustDomain], [trustDomain]]);
    const ca = new X509Certificate(Buffer.from(x509[trustDomain] ?? "", "base64"));
    expect(ca.verify(ca.publicKey)).toBe(true);
    const { keys } = JSON.parse(Buffer.from(jwt[trustDomain] ?? "", "base64").toString()) as { keys: { kid: string; kty: string; d?: string }[] };
    const [svid] = (await agent.jwt(["crm"])) as [HeldJwt];
    expect(keys.map(({ kid }) => kid)).toContain(svid.header.kid);
    expect(keys.map(({ d }) => d)).not.toContainEqual(expect.anything());
    if (asRoot) {
      await expect(stranger.x509()).rejects.toMatchObject({ status: 7, code: "DENIED_NO_MATCH", metadata: { attempt: expect.any(String) } });
      await expect(stranger.jwt(["crm"])).rejects.toMatchObject({ status: 7, code: "DENIED_NO_MATCH" });
      await stranger.exit();
    }
  });

  test("stream on: the answer to a fetch is not the end of it", async () => {
    const stream = agent.stream("FetchX509Bundles", {}, {}, () => true);
    await stream.next();
    await agent.jwt(["crm"]);
    expect(stream.isOver).toBe(false);
    stream.cancel();
    expect(await stream.ended).toMatchObject({ status: status.CANCELLED });
  });
});

describe("ValidateJWTSVID", () => {
  const validate = async (svid: string, audience: string): Promise<{ spiffeId: string; claims: { fields: Record<string, unknown> } }> =>
    await agent.call("ValidateJWTSVID", { svid, audience });

  test("answers with the ID and all claims of a good one", async () => {
    const [svid] = (await agent.jwt(["crm"])) as [HeldJwt];
    const answer = await validate(svid.token, "crm");
    expect(answer.spiffeId).toBe(task.spiffeId);
    expect(Object.keys(answer.claims.fields).sort()).toEqual(Object.keys(svid.claims).sort());
  });

  test("refuses another audience, another signature, and nonsense", async () => {
    const [svid] = (await agent.jwt(["crm"])) as [HeldJwt];
    const invalid = { status: status.INVALID_ARGUMENT };
    await expect(validate(svid.token, "search")).rejects.toMatchObject({ ...invalid, metadata: { verdict: "VERIFY_AUDIENCE" } });
    const forged = `${svid.token.slice(0, -86)}${"A".repeat(86)}`;
    await expect(validate(forged, "crm")).rejects.toMatchObject({ ...invalid, metadata: { verdict: "VERIFY_SIGNATURE" } });
    await expect(validate("no token", "crm")).rejects.toMatchObject({ ...invalid, violations: [{ field: "svid" }] });
    await expect(validate("no token", "")).rejects.toMatchObject({ ...invalid, violations: [{ field: "audience" }, { field: "svid" }] });
    await expect(validate("", "")).rejects.toMatchObject({ ...invalid, violations: [{ field: "audience" }, { field: "svid" }] });
  });

  test("refuses one of an older epoch, or of a task that is over", async () => {
    const mine = await world.agent();
    const { id } = await world.open();
    await mine.claim(id);
    const dead = { status: status.INVALID_ARGUMENT, metadata: { verdict: "VERIFY_REVOKED" } };
    const [first] = (await mine.jwt(["crm"])) as [HeldJwt];
    await world.change(id, { user: "bob" });
    await expect(validate(first.token, "crm")).rejects.toMatchObject(dead);
    const [second] = (await mine.jwt(["crm"])) as [HeldJwt];
    expect((await validate(second.token, "crm")).spiffeId).toBe(second.spiffeId);
    await world.close(id);
    await expect(validate(second.token, "crm")).rejects.toMatchObject(dead);
    await mine.exit();
  });
});

describe.runIf(asRoot)("a service", () => {
  test("gets an SVID for each name it matches, bound to no task, with its own epoch", async () => {
    using source = await WorkloadSource.open({ address: world.broker.workloadSocket });
    expect(source.svids.map(({ spiffeId, hint }) => [spiffeId, hint])).toEqual([[`${trustDomain}/service/crm`, "crm"], [`${trustDomain}/service/search`, "search"]]);
    for (const svid of source.svids) {
      world.sawIdentity(svid);
      expect(svid.binding).toMatchObject({ task: `service/${svid.hint}`, epoch: 1 });
    }
    const token = await source.jwt("search", "crm");
    world.sawToken(token);
    expect(verifier.jwt(token, { audience: "search" })).toMatchObject({ accepted: true, service: "crm" });
    expect(verifier.jwt(token, { audience: "search", accept: ["agent"] })).toMatchObject({ accepted: false, reason: "VERIFY_NOT_AN_AGENT" });
    await expect(source.jwt("git", "crm")).rejects.toMatchObject({ code: "DENIED_AUDIENCE" });
  });

  test("whose process is gone leaves no key behind", async () => {
    const held = async (): Promise<number> => await world.broker.metric('brevet_now{what="held"}');
    const before = await held();
    const passer = await world.agent({ uid: 54_322 });
    expect((await passer.x509()).map(({ hint }) => hint)).toEqual(["passer-by"]);
    await passer.exit();
    await world.until("its SVID is dropped", async () => (await held()) <= before);
  });

  test("has no task to claim, and no status", async () => {
    await expect(world.workload.agent.claim({ task: task.id, ticket: "", pid: 0 })).rejects.toMatchObject({ code: "NOT_FOUND" });
    expect((await world.workload.agent.status({})).tasks).toEqual([]);
  });
});
