// Who may ask whether a token is good, and what is said?
// Registered services alone, by a JWT-SVID of their own made for this path; a live token is described, every
// other is `active: false` and nothing else, from the commit of the task's end on; without the database nobody
// is answered.
// RFC 7662 sections 2.1-2.3 and 4; RFC 6750 section 3.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { agentUid, ownUid } from "./support/agent.ts";
import type { Agent, HeldJwt } from "./support/agent.ts";
import { freePort } from "./support/port.ts";
import { Wire } from "./support/wire.ts";
import { World } from "./support/world.ts";

const catalog = `
agents:
  - name: researcher
    owner: lead@example.org
    selectors: [{ uid: ${agentUid} }]
    openers: [{ uid: ${ownUid} }]
    audiences: [crm, { name: sts, subject: agent }]
    jwtTtl: 30s
    tasksPerInstance: 64
services:
  - { name: crm, owner: crm@example.org, selectors: [{ uid: ${ownUid} }], jwtTtl: 10m }
`;

type Answer = { readonly status: number; readonly headers: Headers; readonly body: Record<string, unknown> };

let world: World;
let publicUrl: string;
let bearer: string;
let wire: Wire;
let worker: Agent;

beforeAll(async () => {
  wire = await Wire.start(process.env["BREVET_TEST_DATABASE_URL"] ?? "");
  publicUrl = `http://127.0.0.1:${await freePort()}`;
  world = await World.start({ catalog, through: (url) => wire.through(url), env: { BREVET_LISTEN_HTTP: new URL(publicUrl).host, BREVET_PUBLIC_URL: publicUrl } });
  bearer = await tokenOfService([`${publicUrl}/introspect`]);
  worker = await world.agent();
});
afterAll(async () => {
  await world?.end();
  await wire?.close();
});

async function tokenOfService(audience: string[], of = world): Promise<string> {
  const { svids } = await of.workload.workload.fetchJWTSVID({ audience });
  const token = svids[0]?.svid ?? "";
  of.sawToken(token);
  return token;
}

async function ask(token: string, { authorization = `Bearer ${bearer}`, body = new URLSearchParams({ token, token_type_hint: "access_token" }).toString(), type = "application/x-www-form-urlencoded" } = {}): Promise<Answer> {
  const headers = { "content-type": type, ...(authorization === "" ? {} : { authorization }) };
  const response = await fetch(`${publicUrl}/introspect`, { method: "POST", headers, body });
  return { status: response.status, headers: response.headers, body: (await response.json()) as Record<string, unknown> };
}

const held = async (audience = "crm"): Promise<{ task: string; svid: HeldJwt }> => {
  const task = await world.open({ context: { user: "alice" }, onBehalfOf: "alice@example.org" });
  const { endpoint } = await worker.claim(task.id);
  const [svid] = await worker.jwt([audience], { socket: endpoint });
  if (!svid) throw new Error("no token");
  return { task: task.id, svid };
};

const inactive = { status: 200, body: { active: false } };

describe("a live token", () => {
  test.each([["crm", (task: string) => `spiffe://brevet.local/agent/researcher/task/${task}`], ["sts", () => "spiffe://brevet.local/agent/researcher"]])("for %s is described, and must not be kept", async (audience, subject) => {
    const { task, svid } = await held(audience);
    const { status, headers, body } = await ask(svid.token);
    expect(status).toBe(200);
    expect(headers.get("cache-control")).toBe("no-store");
    expect(body).toEqual({
      active: true, iss: publicUrl, sub: subject(task), aud: [audience], exp: svid.claims["exp"], iat: svid.claims["iat"], jti: svid.jti,
      brevet: { task, epoch: 1, instance: expect.any(String), context: expect.stringMatching(/^[0-9a-f]{64}$/), for: "alice@example.org" },
    });
    await world.close(task);
  });

  test("is dead from the very answer to the close on, and after a change of context", async () => {
    for (let round = 0; round < 4; round++) {
      const { task, svid } = await held();
      expect((await ask(svid.token)).body).toMatchObject({ active: true });
      if (round % 2 === 0) await world.change(task, { user: "bob" });
      else await world.close(task);
      expect(await ask(svid.token)).toMatchObject(inactive);
      if (round % 2 === 0) await world.close(task);
    }
  });

  test("of a service is described too", async () => {
    expect((await ask(await tokenOfService(["search"]))).body).toMatchObject({ active: true, sub: "spiffe://brevet.local/service/crm", aud: ["search"] });
  });
});

test("every other token is the same answer, to the last header", async () => {
  const { task, svid } = await held();
  const [header, claims, signature] = svid.token.split(".") as [string, string, string];
  const changed = Buffer.from(JSON.stringify({ ...svid.claims, aud: ["admin"] })).toString("base64url");
  const none = Buffer.from(JSON.stringify({ alg: "none", typ: "JWT" })).toString("base64url");
  const bad = [
    "x", "a.b.c", `${header}.${changed}.${signature}`, `${none}.${claims}.`, svid.token.slice(0, -4), `${svid.token} `, "\u0000", "é".repeat(50), "a".repeat(15_000),
    `${header}.${claims}.${"A".repeat(86)}`, task, svid.jti ?? "",
  ];
  await world.close(task);
  const shown = ({ status, headers, body }: Answer): object => ({ status, body, headers: [...headers.keys()].sort(), type: headers.get("content-type"), caching: headers.get("cache-control") });
  const revoked = shown(await ask(svid.token));
  expect(revoked).toMatchObject(inactive);
  for (const token of bad) expect(shown(await ask(token)), token.slice(0, 40)).toEqual(revoked);
});

describe("nobody else is answered", () => {
  test.each<[string, () => Promise<string> | string, string | null]>([
    ["without a token of its own", () => "", "Bearer"],
    ["with another scheme", () => "Basic Y3JtOmNybQ==", 'Bearer error="invalid_token"'],
    ["with a service's token for somebody else", async () => `Bearer ${await tokenOfService(["crm"])}`, 'Bearer error="invalid_token"'],
    ["with an agent's token", async () => `Bearer ${(await held()).svid.token}`, 'Bearer error="invalid_token"'],
    ["with a forged token", () => `Bearer ${bearer.slice(0, -6)}AAAAAA`, 'Bearer error="invalid_token"'],
  ])("%s", async (_what, authorization, challenge) => {
    const { svid } = await held();
    const { status, headers, body } = await ask(svid.token, { authorization: await authorization() });
    expect(status).toBe(401);
    expect(headers.get("www-authenticate")).toBe(challenge);
    expect(headers.get("cache-control")).toBe("no-store");
    expect(JSON.stringify(body)).not.toMatch(/active|researcher/);
  });

  test("a service whose SVIDs were revoked", async () => {
    const { svid } = await held();
    const mine = await tokenOfService([`${publicUrl}/introspect`]);
    expect((await ask(svid.token, { authorization: `Bearer ${mine}` })).body).toMatchObject({ active: true });
    await world.revoke({ service: "crm" });
    expect((await ask(svid.token, { authorization: `Bearer ${mine}` })).status).toBe(401);
    bearer = await tokenOfService([`${publicUrl}/introspect`]);
    expect((await ask(svid.token)).body).toMatchObject({ active: true });
  });

  test("what is no form, or names no token, or two", async () => {
    const { svid } = await held();
    for (const given of [{ body: "" }, { body: "token=" }, { body: `token=${svid.token}&token=x` }, { body: JSON.stringify({ token: svid.token }), type: "application/json" }, { body: `token=${"a".repeat(20_000)}` }]) {
      expect(await ask(svid.token, given)).toMatchObject({ status: 400, body: { type: "urn:brevet:error:INVALID_FIELD" } });
    }
  });
});

test("without the database nobody is answered, not even that a token is dead", async () => {
  const { svid } = await held();
  expect((await ask(svid.token)).body).toMatchObject({ active: true });
  wire.tear();
  const { status, headers, body } = await ask(svid.token);
  wire.mend();
  expect(status).toBe(503);
  expect(headers.get("cache-control")).toBe("no-store");
  expect(body).not.toHaveProperty("active");
  await world.until("the database again", async () => (await ask(svid.token)).status === 200);
});

test("without publicUrl a token is made for the listener's own address", async () => {
  await using plain = await World.start({ catalog });
  const at = `${plain.broker.httpUrl}/introspect`;
  const askPlain = async (headers: Record<string, string> = {}): Promise<Response> => await fetch(at, { method: "POST", headers, body: new URLSearchParams({ token: "x" }) });
  const refused = await askPlain();
  expect(refused.status).toBe(401);
  expect(await refused.json()).toMatchObject({ title: expect.stringContaining(at) });
  const mine = await tokenOfService([at], plain);
  const answered = await askPlain({ authorization: `Bearer ${mine}` });
  expect([answered.status, await answered.json()]).toEqual([200, { active: false }]);
});

test("a service that asks without end is slowed down", async () => {
  const there = `http://127.0.0.1:${await freePort()}`;
  await using slow = await World.start({ catalog, env: { BREVET_LISTEN_HTTP: new URL(there).host, BREVET_PUBLIC_URL: there, BREVET_LIMITS_PER_SERVICE_INTROSPECTIONS_PER_SECOND: "1" } });
  const { svids } = await slow.workload.workload.fetchJWTSVID({ audience: [`${there}/introspect`] });
  const question = { method: "POST", headers: { authorization: `Bearer ${svids[0]?.svid}` }, body: new URLSearchParams({ token: "x" }) };
  const refused = await slow.until("the refusal", async () => {
    const answers = await Promise.all(Array.from({ length: 5 }, () => fetch(`${there}/introspect`, question)));
    return answers.find(({ status }) => status !== 200);
  });
  expect([refused.status, refused.headers.get("retry-after")]).toEqual([429, "1"]);
  await slow.until("patience", async () => (await fetch(`${there}/introspect`, question)).status === 200);
});
