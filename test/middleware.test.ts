// Does each framework let only live tasks in, and tell the others no more than it must?
// The same questions to real node:http, Express, Fastify and Hono servers: tokens good, bad and dead,
// another agent, a cut feed; then the same by mutual TLS. The broker is one in memory.
// Verdicts by themselves: verify.test.ts; connections: mtls.test.ts.
import { createServer } from "node:http";
import type { RequestListener, Server } from "node:http";
import * as https from "node:https";
import type { AddressInfo } from "node:net";
import { getRequestListener } from "@hono/node-server";
import express from "express";
import Fastify from "fastify";
import { Hono } from "hono";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { MtlsAgent, Verifier, WorkloadSource, agentIs, createHttpsServer, guard, serviceIs, taskOf } from "../src/index.ts";
import type { Accepted, Guard, MtlsOptions, Refused } from "../src/index.ts";
import { TestBroker } from "../src/testing/broker.ts";
import { until } from "./support/outside.ts";

type Make = (only: Guard, create: (listener: RequestListener) => Server) => Promise<Server> | Server;

const told = ({ agent, task, epoch, audience, onBehalfOf }: Accepted): string => JSON.stringify({ agent, task, epoch, audience, onBehalfOf });

const frameworks: readonly (readonly [string, Make])[] = [
  ["node:http", (only, create) => create(only.node((request, response) => void response.end(told(request.task))))],
  ["Express", (only, create) => {
    const app = express();
    app.use(only.express);
    app.get("/", (request, response) => void response.send(told(taskOf(request))));
    return create(app);
  }],
  ["Fastify", async (only, create) => {
    const app = Fastify({ serverFactory: (handler) => create(handler) });
    app.addHook("onRequest", only.fastify);
    app.get("/", async (request) => told(taskOf(request)));
    await app.ready();
    return app.server;
  }],
  ["Hono", (only, create) => {
    const app = new Hono<{ Variables: { task: Accepted } }>();
    app.use(only.hono);
    app.get("/", (context) => context.text(told(context.get("task"))));
    const listener = getRequestListener(app.fetch);
    return create((request, response) => void listener(request, response));
  }],
];

let broker: TestBroker;
let refused: Refused[];
const closing: (() => void)[] = [];

beforeEach(async () => {
  refused = [];
  broker = await TestBroker.start();
  closing.push(() => broker.close());
});
afterEach(() => {
  for (const close of closing.splice(0).reverse()) close();
});

async function verifierOf(options: ConstructorParameters<typeof Verifier>[0]): Promise<Verifier> {
  const verifier = new Verifier(options);
  closing.push(() => verifier.close());
  await verifier.ready();
  return verifier;
}

async function listening(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closing.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

const onRefused = (verdict: Refused): void => void refused.push(verdict);

describe.each(frameworks)("%s, by bearer token", (_name, make) => {
  async function serve(verifier: Verifier): Promise<(authorization?: string) => Promise<Response>> {
    const server = await make(guard({ verifier, authorize: agentIs("researcher"), onRefused }), (listener) => createServer(listener));
    const port = await listening(server);
    return async (authorization) => await fetch(`http://127.0.0.1:${port}/`, authorization === undefined ? {} : { headers: { authorization } });
  }

  test("a live task comes in, with all that its token says", async () => {
    const ask = await serve(await verifierOf({ address: broker.address, audience: "crm" }));
    const task = await broker.open({ agent: "researcher", for: "alice@example.org" });
    const answer = await ask(`Bearer ${task.jwt("crm")}`);
    expect([answer.status, await answer.json()]).toEqual([200, { agent: "researcher", task: task.id, epoch: 0, audience: ["crm"], onBehalfOf: "alice@example.org" }]);
    expect(refused).toEqual([]);
  });

  test("the others hear a status and no reason; the log hears the reason", async () => {
    const verifier = await verifierOf({ address: broker.address, audience: "crm" });
    const ask = await serve(verifier);
    const [task, writer] = [await broker.open({ agent: "researcher" }), await broker.open({ agent: "writer" })];
    const dead = task.jwt("crm");
    task.close();
    await until(() => verifier.feed.epochOf(task.id) === 1);
    const cases: [string | undefined, number, string, string][] = [
      [undefined, 401, "Bearer", "VERIFY_NO_SVID"],
      ["Basic YTpi", 401, "Bearer", "VERIFY_NO_SVID"],
      ["Bearer", 401, 'Bearer error="invalid_token"', "VERIFY_MALFORMED"],
      ["Bearer a.b.c", 401, 'Bearer error="invalid_token"', "VERIFY_MALFORMED"],
      [`Bearer ${dead}`, 401, 'Bearer error="invalid_token"', "VERIFY_REVOKED"],
      [`Bearer ${writer.jwt("search")}`, 401, 'Bearer error="invalid_token"', "VERIFY_AUDIENCE"],
      [`Bearer ${writer.jwt("crm")}`, 403, 'Bearer error="insufficient_scope"', "VERIFY_NOT_AUTHORIZED"],
    ];
    for (const [authorization, status, challenge, reason] of cases) {
      const answer = await ask(authorization);
      expect([answer.status, answer.headers.get("www-authenticate"), answer.headers.get("content-type")?.split(";")[0]]).toEqual([status, challenge, "application/problem+json"]);
      expect(await answer.json()).toEqual({ type: "about:blank", title: status === 401 ? "Unauthorized" : "Forbidden", status });
      expect(refused.pop()?.reason).toBe(reason);
    }
  });

  test("while nothing can be judged: 503, and come again", async () => {
    const verifier = await verifierOf({ address: broker.address, audience: "crm", maxStaleness: 0.3 });
    const ask = await serve(verifier);
    const token = (await broker.open({ agent: "researcher" })).jwt("crm");
    broker.silence();
    await until(() => !verifier.feed.fresh);
    const answer = await ask(`Bearer ${token}`);
    expect([answer.status, answer.headers.get("retry-after"), refused[0]?.reason]).toEqual([503, "1", "VERIFY_STALE"]);
  });
});

describe.each(frameworks)("%s, by mutual TLS", (_name, make) => {
  test("the connection says who it is; each route has its own rule; a bad token is not made good", async () => {
    const crm = await broker.service("crm");
    const source = await WorkloadSource.open({ address: crm.address });
    const task = await broker.open({ agent: "researcher" });
    const agentSource = await WorkloadSource.open({ address: task.address });
    closing.push(() => (source.close(), agentSource.close()));
    const own: MtlsOptions = { verifier: await verifierOf({ address: crm.address, audience: "crm" }), source };
    const servers = await Promise.all([agentIs("researcher"), agentIs("writer")].map(async (authorize) => {
      return await listening(await make(guard({ verifier: own.verifier, authorize, onRefused }), (listener) => createHttpsServer(own, listener)));
    }));
    const agent = new MtlsAgent({ verifier: await verifierOf({ address: task.address }), source: agentSource, authorize: serviceIs("crm") });
    closing.push(() => agent.destroy());
    const ask = async (port: number | undefined, headers = {}): Promise<[number | undefined, string]> => await new Promise((resolve, reject) => {
      https.get({ host: "127.0.0.1", port, path: "/", agent, headers }, (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (part: string) => (text += part)).once("end", () => resolve([response.statusCode, text]));
      }).once("error", reject);
    });
    expect(await ask(servers[0])).toEqual([200, JSON.stringify({ agent: "researcher", task: task.id, epoch: 0 })]);
    expect((await ask(servers[1]))[0]).toBe(403);
    expect((await ask(servers[0], { authorization: "Bearer a.b.c" }))[0]).toBe(401);
    expect(refused.map(({ reason }) => reason)).toEqual(["VERIFY_NOT_AUTHORIZED", "VERIFY_MALFORMED"]);
  });
});

test("a request that passed no guard has no task", () => {
  expect(() => taskOf({})).toThrow("passed no guard");
});
