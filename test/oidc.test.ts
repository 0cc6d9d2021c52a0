// Can a relying party that knows nothing of SPIFFE verify our JWT-SVIDs, and match them as it must?
// The broker is an OpenID Connect issuer; jose finds its keys by discovery alone. Per audience the
// subject is the task or the agent, and the task's end is the same to our own verifiers either way.
// A broker without publicUrl is no issuer: http.test.ts, fetch.test.ts.
// OpenID Connect Discovery 1.0; RFC 9110 (conditional requests); JWT-SVID section 3.1.
// Other people's relying parties are test/interop's business.
import { createRemoteJWKSet, jwtVerify } from "jose";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Verifier } from "../src/verify/verifier.ts";
import { agentUid, ownUid } from "./support/agent.ts";
import type { Agent } from "./support/agent.ts";
import { freePort } from "./support/port.ts";
import { World } from "./support/world.ts";

const catalog = `
agents:
  - name: researcher
    owner: lead@example.org
    selectors: [{ uid: ${agentUid} }]
    openers: [{ uid: ${ownUid} }]
    audiences: [crm, { name: sts.example.org, subject: agent }, { name: search, subject: task }]
    tasksPerInstance: 8
`;

let world: World;
let agent: Agent;
let issuer: string;

beforeAll(async () => {
  issuer = `http://127.0.0.1:${await freePort()}`;
  world = await World.start({ catalog, env: { BREVET_LISTEN_HTTP: new URL(issuer).host, BREVET_PUBLIC_URL: issuer } });
  agent = await world.agent();
});
afterAll(async () => await world?.end());

const claimed = async (): Promise<Awaited<ReturnType<World["open"]>>> => {
  const task = await world.open({ context: { user: "alice" } });
  await agent.claim(task.id);
  return task;
};

const discover = async (): Promise<Record<string, unknown>> => (await (await fetch(`${issuer}/.well-known/openid-configuration`)).json()) as Record<string, unknown>;

describe("discovery", () => {
  test("names the issuer as the tokens do, and the keys that verify them", async () => {
    const task = await claimed();
    const document = await discover();
    expect(document).toMatchObject({ issuer, jwks_uri: `${issuer}/jwks`, id_token_signing_alg_values_supported: ["ES256", "RS256"], subject_types_supported: ["public"], response_types_supported: ["id_token"] });
    const keys = createRemoteJWKSet(new URL(document["jwks_uri"] as string));
    const [svid] = await agent.jwt(["crm"]);
    const { payload } = await jwtVerify(svid?.token ?? "", keys, { issuer, audience: "crm", algorithms: ["ES256"] });
    expect(payload).toMatchObject({ sub: `spiffe://brevet.local/agent/researcher/task/${task.id}`, brevet: { task: task.id } });
    await world.close(task.id);
  });

  test("the JWK Set holds JWT keys only, each with its use, algorithm and ID, and nothing of SPIFFE", async () => {
    const response = await fetch(`${issuer}/jwks`);
    expect(response.headers.get("content-type")).toContain("application/jwk-set+json");
    const { keys, ...more } = (await response.json()) as { keys: Record<string, unknown>[] };
    expect(more).toEqual({});
    expect(keys.length).toBeGreaterThan(0);
    for (const key of keys) expect(key).toEqual({ kty: "EC", crv: "P-256", use: "sig", alg: "ES256", kid: expect.any(String), x: expect.any(String), y: expect.any(String) });
  });

});

describe.each(["/bundle", "/jwks", "/.well-known/openid-configuration"])("%s is fetched again and again", (path) => {
  const get = async (condition: string): Promise<{ status: number; body: string; tag: string; caching: string }> => {
    const response = await fetch(`${issuer}${path}`, { headers: condition === "" ? {} : { "if-none-match": condition } });
    return { status: response.status, body: await response.text(), tag: response.headers.get("etag") ?? "", caching: response.headers.get("cache-control") ?? "" };
  };

  test("and sent only to those who do not have it", async () => {
    const first = await get("");
    expect(first.status).toBe(200);
    expect(first.tag).toMatch(/^"[\w-]{22}"$/);
    expect(first.caching).toMatch(/^public, max-age=\d+$/);
    for (const held of [first.tag, `W/${first.tag}`, `"other", ${first.tag}`, "*"]) expect(await get(held)).toMatchObject({ status: 304, body: "", tag: first.tag, caching: first.caching });
    for (const other of ['"other"', first.tag.slice(1, -1), ""]) expect(await get(other)).toMatchObject({ status: 200, body: first.body });
  });
});

test("the bundle may be kept as long as it says itself", async () => {
  const response = await fetch(`${issuer}/bundle`);
  const { spiffe_refresh_hint: hint, spiffe_sequence: sequence } = (await response.json()) as Record<string, number>;
  expect(response.headers.get("cache-control")).toBe(`public, max-age=${hint}`);
  expect(sequence).toBeGreaterThan(0);
});

describe("an audience that matches exactly", () => {
  const agentId = "spiffe://brevet.local/agent/researcher";

  test("sees the agent as the subject; the task is in the claim, and its end is the token's", async () => {
    const task = await claimed();
    using verifier = new Verifier({ address: world.broker.workloadSocket, audience: "sts.example.org" });
    await verifier.ready();
    const [svid] = await agent.jwt(["sts.example.org"]);
    const token = svid?.token ?? "";
    expect(svid).toMatchObject({ spiffeId: agentId, hint: task.id, binding: { task: task.id } });
    expect(verifier.jwt(token)).toMatchObject({ accepted: true, spiffeId: agentId, agent: "researcher", task: task.id });
    const validated = await world.workload.workload.validateJWTSVID({ audience: "sts.example.org", svid: token });
    expect(validated).toMatchObject({ spiffeId: agentId, claims: { fields: { brevet: { structValue: { fields: { task: { stringValue: task.id } } } } } } });

    await world.close(task.id);
    await world.until("the refusal", () => !verifier.jwt(token).accepted);
    expect(verifier.jwt(token)).toMatchObject({ accepted: false, reason: "VERIFY_REVOKED" });
    await expect(world.workload.workload.validateJWTSVID({ audience: "sts.example.org", svid: token })).rejects.toMatchObject({ code: "INVALID_FIELD" });
  });

  test("a new context ends it too, and not the one that is made after", async () => {
    const task = await claimed();
    const [before] = await agent.jwt(["sts.example.org"]);
    await world.change(task.id, { user: "bob" });
    const [after] = await agent.jwt(["sts.example.org"]);
    await expect(world.workload.workload.validateJWTSVID({ audience: "sts.example.org", svid: before?.token ?? "" })).rejects.toMatchObject({ code: "INVALID_FIELD" });
    expect(await world.workload.workload.validateJWTSVID({ audience: "sts.example.org", svid: after?.token ?? "" })).toMatchObject({ spiffeId: agentId });
    await world.close(task.id);
  });

  test("others still see the task, and the two can't share a token", async () => {
    const task = await claimed();
    for (const audience of ["crm", "search"]) expect((await agent.jwt([audience]))[0]?.spiffeId).toBe(`${agentId}/task/${task.id}`);
    await expect(agent.jwt(["crm", "sts.example.org"])).rejects.toMatchObject({ code: "DENIED_AUDIENCE", message: expect.stringContaining("a token each") });
    await expect(agent.jwt(["elsewhere"])).rejects.toMatchObject({ code: "DENIED_AUDIENCE" });
    await world.close(task.id);
  });
});
