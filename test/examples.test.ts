// Do the examples of docs/api.md do what they say?
// What stands between `// example` and `// end` is cut out into the document as it is; around it each
// test makes the world that the example speaks of and holds the result against what was promised.
// The parts by themselves: middleware.test.ts, call.test.ts, grpc.test.ts, testing.test.ts.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Client, Metadata, Server } from "@grpc/grpc-js";
import type { sendUnaryData } from "@grpc/grpc-js";
import { afterEach, beforeEach, expect, test } from "vitest";
import { AgentTask, Tasks, Verifier, WorkloadSource, agentIs, callerOf, createHttpsServer, guard, serviceIs } from "../src/index.ts";
import { TestBroker } from "../src/testing/broker.ts";
import { GrpcListener, grpcCredentials } from "../src/verify/grpc.ts";
import { until } from "./support/outside.ts";

let broker: TestBroker;
let warned: string[];
const log = { warn: (what: object): void => void warned.push(JSON.stringify(what)) };
const closing: (() => void)[] = [];

beforeEach(async () => {
  warned = [];
  broker = await TestBroker.start();
});
afterEach(() => {
  for (const close of closing.splice(0).reverse()) close();
  broker.close();
});

test("a service that takes bearer tokens", async () => {
  const { address } = broker;
  // example: services
  // A JWT-SVID as bearer token, in whatever framework: node, express, fastify, hono.
  const verifier = new Verifier({ address, audience: "crm" });
  await verifier.ready();
  const only = guard({ verifier, authorize: agentIs("researcher"), onRefused: (verdict) => log.warn(verdict) });
  const server = createServer(only.node((request, response) => {
    response.end(`hello ${request.task.agent}, for ${request.task.onBehalfOf}`);
  }));
  // end
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closing.push(() => (server.close(), verifier.close()));
  const task = await broker.open({ agent: "researcher", for: "alice" });
  const ask = async (token: string): Promise<string> => {
    return await (await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, { headers: { authorization: `Bearer ${token}` } })).text();
  };
  expect(await ask(task.jwt("crm"))).toBe("hello researcher, for alice");
  expect(await ask("x")).toContain("Unauthorized");
  expect(warned).toHaveLength(1);
});

test("a service over mutual TLS, and its events", async () => {
  const { address } = await broker.service("crm");
  let metric = 0;
  // example: services
  // Mutual TLS: nothing reaches the handler that was not accepted; a connection is cut when its task ends.
  const verifier = new Verifier({ address });
  const source = await WorkloadSource.open({ address });
  await verifier.ready();
  const server = createHttpsServer({ verifier, source }, (request, response) => {
    response.end(`hello ${callerOf(request.socket).agent}`);
  });
  verifier.feed
    .on("revoked", (_task, _epoch, latencyMs) => void (metric = latencyMs ?? metric))
    .on("silent", (ms) => log.warn({ silentMs: ms }))
    .on("stale", () => log.warn({ refusing: "everybody" }))
    .on("lost", (error) => log.warn({ reconnecting: error?.code }));
  // end
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closing.push(() => (server.closeAllConnections(), server.close(), verifier.close(), source.close()));
  const opened = await broker.open({ agent: "researcher" });
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  await callOut(opened.address, url);
  opened.close();
  await until(() => verifier.feed.epochOf(opened.id) === 1);
  expect(metric).toBeGreaterThanOrEqual(0);
});

async function callOut(address: string, url: string): Promise<void> {
  // example: agents
  // Under `brevet run` the task is there already; otherwise name it: { task: id }.
  using task = await AgentTask.open({ address, servers: serviceIs("crm") });
  const answer = await task.fetch(url, { signal: task.signal });
  const greeting = await answer.text();
  const token = await task.jwt("search"); // for whoever wants a bearer token
  // end
  expect([greeting, token.split(".").length]).toEqual(["hello researcher", 3]);
}

test("an orchestrator", async () => {
  const { address } = broker;
  // example: orchestrators
  using tasks = new Tasks({ address });
  const task = await tasks.open({ agent: "researcher", for: "alice@example.org", context: { repository: "acme/web@1f2e" }, ttl: "15m" });
  await task.changeContext({ repository: "acme/web@3d4c" }); // a new epoch: older SVIDs are dead
  await task.close(); // and now all of them
  // end
  expect([task.epoch, task.state]).toEqual([2, "closed"]);
});

test("a user's own test", async () => {
  // example: testing
  using world = await TestBroker.start();
  const verifier = new Verifier({ address: world.address, audience: "crm" });
  await verifier.ready();
  const task = await world.open({ agent: "researcher", context: { user: "alice" } });
  const token = task.jwt("crm");
  const before = verifier.jwt(token);
  task.close();
  while (verifier.jwt(token).accepted) await new Promise((resolve) => setTimeout(resolve, 1));
  // end
  verifier.close();
  expect(before).toMatchObject({ accepted: true, task: task.id });
});

test("gRPC, both sides", async () => {
  const crm = await broker.service("crm");
  const opened = await broker.open({ agent: "researcher" });
  const [verifier, source] = [new Verifier({ address: crm.address }), await WorkloadSource.open({ address: crm.address })];
  const [agentVerifier, agentSource] = [new Verifier({ address: opened.address, accept: ["service"] }), await WorkloadSource.open({ address: opened.address })];
  await Promise.all([verifier.ready(), agentVerifier.ready()]);
  const bytes = (value: Buffer): Buffer => value;
  const whoAmI = { path: "/t.Who/AmI", requestStream: false, responseStream: false, requestSerialize: bytes, requestDeserialize: bytes, responseSerialize: bytes, responseDeserialize: bytes };
  // example: grpc
  const server = new Server();
  const listener = new GrpcListener(server, { verifier, source });
  server.addService({ whoAmI }, {
    whoAmI: (call: { getPeer(): string }, done: sendUnaryData<Buffer>) => done(null, Buffer.from(listener.callerOf(call).task)),
  });
  listener.tls.listen(0, "127.0.0.1");

  const credentials = grpcCredentials({ verifier: agentVerifier, source: agentSource, authorize: serviceIs("crm") });
  // end
  await until(() => listener.tls.listening);
  const client = new Client(`127.0.0.1:${(listener.tls.address() as AddressInfo).port}`, credentials);
  closing.push(() => (client.close(), listener.close(), server.forceShutdown(), verifier.close(), source.close(), agentVerifier.close(), agentSource.close()));
  const answer = await new Promise<Buffer | undefined>((resolve, reject) => {
    client.makeUnaryRequest(whoAmI.path, bytes, bytes, Buffer.from("?"), new Metadata(), (error, value) => (error ? reject(error) : resolve(value)));
  });
  expect(answer?.toString()).toBe(opened.id);
});
