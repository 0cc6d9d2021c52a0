// What does the broker answer when Envoy asks about a request?
// Asked as Envoy asks, over the workload socket, about SVIDs of real agents: what passes and with which
// headers, what is refused and how little the refused one learns, that a rule which is misspelt refuses
// all, and that nothing is accepted once the database is gone.
// The same through a real Envoy is interop/envoy.test.ts's; the rules of verification, verify.test.ts's.
import { Client, Metadata, credentials, status } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { CheckResponse__Output } from "../src/generated/envoy/service/auth/v3/CheckResponse.ts";
import { envoyServices } from "../src/proto.ts";
import { splitChain } from "../src/identity/svid.ts";
import { agentUid, ownUid, pem } from "./support/agent.ts";
import type { Agent, HeldX509 } from "./support/agent.ts";
import type { BrokerProcess } from "./support/broker.ts";
import { Wire } from "./support/wire.ts";
import { World } from "./support/world.ts";
import { patienceMs } from "./support/patience.ts";

const catalog = `
agents:
  - { name: researcher, owner: lead@example.org, selectors: [{ uid: ${agentUid} }], openers: [{ uid: ${ownUid} }], tasksPerInstance: 64, jwtTtl: 10m }
services:
  - { name: gateway, owner: lead@example.org, selectors: [{ uid: ${agentUid === ownUid ? 54321 : ownUid} }] }
`;
const { Check } = envoyServices.authorization;

let wire: Wire;
let world: World;
let agent: Agent;
let task: Awaited<ReturnType<World["open"]>>;
let x509: HeldX509;
let token: string;
const clients = new Map<BrokerProcess, Client>();

beforeAll(async () => {
  wire = await Wire.start(process.env["BREVET_TEST_DATABASE_URL"] ?? "");
  world = await World.start({ catalog, brokers: 2, through: (url, broker) => (broker === 1 ? wire.through(url) : url) });
  for (const broker of world.brokers) clients.set(broker, new Client(broker.workloadSocket.replace("unix://", "unix:"), credentials.createInsecure()));
  agent = await world.agent();
  ({ task, x509, token } = await newTask());
});
afterAll(async () => {
  for (const client of clients.values()) client.close();
  await world?.[Symbol.asyncDispose]();
  await wire?.close();
});

async function newTask(): Promise<{ task: Awaited<ReturnType<World["open"]>>; x509: HeldX509; token: string }> {
  const opened = await world.open({ context: { user: "alice" } });
  const { endpoint } = await agent.claim(opened.id);
  const socket = `unix://${endpoint.replace("unix://", "")}`;
  const [held] = await agent.x509({ socket });
  const [jwt] = await agent.jwt(["crm"], { socket });
  if (!held || !jwt) throw new Error("the agent got no SVIDs");
  return { task: opened, x509: held, token: jwt.token };
}

type Asked = {
  readonly peer?: { readonly chain: Buffer; readonly spiffeId: string } | undefined; readonly certificate?: string; readonly principal?: string;
  readonly bearer?: string; readonly headers?: Record<string, string>; readonly rules?: Record<string, string>;
};

async function ask({ peer, certificate, principal, bearer, headers = {}, rules = {} }: Asked, broker: BrokerProcess = world.broker): Promise<CheckResponse__Output> {
  const [leaf] = peer ? splitChain(peer.chain) : [];
  const request = {
    attributes: {
      source: { principal: principal ?? peer?.spiffeId ?? "", certificate: certificate ?? (leaf ? encodeURIComponent(pem("CERTIFICATE", leaf)) : "") },
      request: { http: { headers: { ...headers, ...(bearer !== undefined && { authorization: `Bearer ${bearer}` }) } } },
      contextExtensions: rules,
    },
  };
  const metadata = new Metadata();
  metadata.set("workload.spiffe.io", "true");
  return await new Promise((resolve, reject) => {
    clients.get(broker)?.makeUnaryRequest(Check.path, Check.requestSerialize, Check.responseDeserialize, request, metadata, { deadline: Date.now() + patienceMs },
      (error, answer) => (error ? reject(error) : resolve(answer as CheckResponse__Output)));
  });
}

/** What goes to the upstream, or the code and status of the refusal. */
async function answerTo(asked: Asked, broker?: BrokerProcess): Promise<Record<string, unknown>> {
  const { status, okResponse, deniedResponse } = await ask(asked, broker);
  if (status?.code === 0 && okResponse) {
    expect(okResponse.headers.every(({ appendAction }) => appendAction === "OVERWRITE_IF_EXISTS_OR_ADD")).toBe(true);
    return { headers: Object.fromEntries(okResponse.headers.map(({ header }) => [header?.key, header?.value])), removed: okResponse.headersToRemove };
  }
  expect(okResponse).toBeFalsy();
  const { type, status: shown, ...more } = JSON.parse(deniedResponse?.body ?? "") as { type: string; status: number };
  expect(more).toEqual({});
  expect(deniedResponse?.headers.map(({ header }) => header?.key).every((key) => key === "content-type" || key === "www-authenticate")).toBe(true);
  expect(deniedResponse?.status?.code).toBe({ 401: "Unauthorized", 403: "Forbidden", 503: "ServiceUnavailable" }[shown]);
  return { refused: type.replace("urn:brevet:error:", ""), status: shown };
}

const passes = (of: { id: string } = task): object => ({ headers: { "x-brevet-task": of.id, "x-brevet-agent": "researcher" }, removed: [] });
const refuses = (refused: string, status = 401): object => ({ refused, status });
const forCrm = { "brevet-audience": "crm" };

describe("a request passes", () => {
  test("with the certificate of a live task", async () => expect(await answerTo({ peer: x509 })).toEqual(passes()));
  test("with a token for this audience", async () => expect(await answerTo({ bearer: token, rules: forCrm })).toEqual(passes()));
  test("with both, of one task", async () => expect(await answerTo({ peer: x509, bearer: token, rules: forCrm })).toEqual(passes()));
  test("with a bearer token that is not for us, where no audience is said", async () => expect(await answerTo({ peer: x509, bearer: "opaque" })).toEqual(passes()));
  test("when its agent is among those that are named", async () => {
    expect(await answerTo({ peer: x509, rules: { "brevet-agents": "writer, researcher" } })).toEqual(passes());
  });
  test("and what it said of itself is gone, however it was spelt", async () => {
    const headers = { "x-brevet-task": "another", "x_brevet_task": "another", "x-brevet-for": "root", "x-brevetish": "kept", "x-request-id": "1" };
    expect(await answerTo({ peer: x509, headers })).toEqual({ ...passes(), removed: ["x_brevet_task", "x-brevet-for"] });
  });
});

describe("a request is refused", () => {
  test.each<[string, () => Asked, object]>([
    ["with nothing shown", () => ({}), refuses("VERIFY_MALFORMED")],
    ["with a token for another audience", () => ({ bearer: token, rules: { "brevet-audience": "search" } }), refuses("VERIFY_AUDIENCE")],
    ["with a token where no audience is said", () => ({ bearer: token }), refuses("VERIFY_MALFORMED")],
    ["with a token that is none", () => ({ bearer: "a.b.c", rules: forCrm }), refuses("VERIFY_MALFORMED")],
    ["with two tokens in one header", () => ({ bearer: `${token},Bearer ${token}`, rules: forCrm }), refuses("VERIFY_MALFORMED")],
    ["with a bad token beside a good certificate", () => ({ peer: x509, bearer: "a.b.c", rules: forCrm }), refuses("VERIFY_MALFORMED")],
    ["with a certificate that is none", () => ({ certificate: encodeURIComponent(pem("CERTIFICATE", Buffer.from("x"))) }), refuses("VERIFY_MALFORMED")],
    ["with a certificate that can't be decoded", () => ({ certificate: "%zz" }), refuses("VERIFY_MALFORMED")],
    ["with a chain where a leaf belongs", () => ({ certificate: encodeURIComponent(splitChain(x509.chain).map((der) => pem("CERTIFICATE", der)).join("")) }), refuses("VERIFY_MALFORMED")],
    ["with a principal that the certificate is not of", () => ({ peer: { ...x509, spiffeId: "spiffe://brevet.local/agent/writer" } }), refuses("VERIFY_MALFORMED")],
    ["when its agent is not among those that are named", () => ({ peer: x509, rules: { "brevet-agents": "writer" } }), refuses("VERIFY_NOT_AUTHORIZED", 403)],
    ["when a rule is misspelt", () => ({ peer: x509, rules: { "brevet-agent": "researcher" } }), refuses("CONFIG_INVALID", 503)],
    ["when a rule is empty", () => ({ peer: x509, rules: { "brevet-agents": "" } }), refuses("CONFIG_INVALID", 503)],
    ["when the filter does not pass the certificate on", () => ({ principal: x509.spiffeId }), refuses("CONFIG_INVALID", 503)],
  ])("%s", async (_, asked, expected) => expect(await answerTo(asked())).toEqual(expected));

  test("with a genuine certificate altered in its last byte", async () => {
    const [leaf = Buffer.alloc(0)] = splitChain(x509.chain);
    const altered = Buffer.from(leaf);
    altered[altered.length - 1] = (altered.at(-1) ?? 0) ^ 1;
    expect(await answerTo({ certificate: encodeURIComponent(pem("CERTIFICATE", altered)) })).toEqual(refuses("VERIFY_SIGNATURE"));
  });

  test("with one task's token over another's connection", async () => {
    const other = await newTask();
    expect(await answerTo({ peer: x509, bearer: other.token, rules: forCrm })).toEqual(refuses("VERIFY_NOT_AUTHORIZED", 403));
    await world.close(other.task.id);
  });

  test.skipIf(agentUid === ownUid)("of a service; one that passes an agent's token on may", async () => {
    const gateway = await world.agent({ uid: ownUid });
    const [peer] = await gateway.x509();
    expect(peer?.spiffeId).toContain("/service/gateway");
    expect(await answerTo({ peer })).toEqual(refuses("VERIFY_NOT_AN_AGENT"));
    expect(await answerTo({ peer, bearer: token, rules: forCrm })).toEqual(passes());
  });
});

test("what a change of context or an end has killed is refused by the next answer, at every broker", async () => {
  const [here, there] = world.brokers as [BrokerProcess, BrokerProcess];
  const { task: short, x509: peer, token: bearer } = await newTask();
  for (const broker of [here, there]) expect(await answerTo({ peer }, broker)).toEqual(passes(short));
  await world.change(short.id, { user: "bob" });
  for (const asked of [{ peer }, { bearer, rules: forCrm }]) expect(await answerTo(asked)).toEqual(refuses("VERIFY_REVOKED"));
  const [renewed] = (await agent.x509()).filter(({ hint }) => hint === short.id);
  expect(await answerTo({ peer: renewed })).toEqual(passes(short));
  await world.close(short.id);
  expect(await answerTo({ peer: renewed })).toEqual(refuses("VERIFY_REVOKED"));
  await world.until("the other broker has heard", async () => "refused" in (await answerTo({ peer: renewed }, there)));
});

test("a broker without its database refuses what it can't know to be alive, and recovers", async () => {
  const [here, there] = world.brokers as [BrokerProcess, BrokerProcess];
  const [validated, elsewhere] = [{ audience: "crm", svid: token }, { socket: there.workloadSocket }];
  expect(await answerTo({ peer: x509 }, there)).toEqual(passes());
  expect(await agent.call("ValidateJWTSVID", validated, elsewhere)).toMatchObject({ spiffeId: task.spiffeId });
  wire.tear();
  await world.until("it is stale", async () => "refused" in (await answerTo({ peer: x509 }, there)));
  expect(await answerTo({ peer: x509 }, there)).toEqual(refuses("VERIFY_STALE", 503));
  await expect(agent.call("ValidateJWTSVID", validated, elsewhere)).rejects.toMatchObject({ code: "VERIFY_STALE", status: status.UNAVAILABLE });
  expect(await answerTo({ peer: x509 }, here)).toEqual(passes());
  wire.mend();
  await world.until("it is fresh", async () => "headers" in (await answerTo({ peer: x509 }, there)));
});

test("the metrics count verdicts", async () => {
  expect(await world.broker.metric('brevet_checks_total{verdict="accepted"}')).toBeGreaterThan(0);
  expect(await world.broker.metric('brevet_checks_total{verdict="VERIFY_REVOKED"}')).toBeGreaterThan(0);
});
