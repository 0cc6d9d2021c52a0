// Does what an agent sends rest on one epoch of its task, and does it hear why it was cut?
// Real requests by fetch, undici and node:https to a real service over mutual TLS: the context changes
// and the task ends before, during and after them. The broker is one in memory.
// Who is accepted: mtls.test.ts; the source by itself: client.test.ts.
import type { IncomingMessage, RequestListener, ServerResponse } from "node:http";
import * as https from "node:https";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { request as undiciRequest } from "undici";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { AgentTask, Verifier, WorkloadSource, anyAgent, callerOf, createHttpsServer, oneOf, serviceIs } from "../src/index.ts";
import { TestBroker } from "../src/testing/broker.ts";
import type { TestTask } from "../src/testing/broker.ts";
import { until } from "./support/outside.ts";
import { freePort } from "./support/port.ts";

type Seen = { readonly method: string; readonly epoch: number; readonly socket: unknown; readonly response: ServerResponse };

let broker: TestBroker;
let opened: TestTask;
let task: AgentTask;
let url: string;
/** Every request that reached the service. */
let seen: Seen[];
/** How it answers. */
let answer: (request: IncomingMessage, response: ServerResponse) => void;
let verifier: Verifier;
const closing: (() => void)[] = [];

beforeEach(async () => {
  seen = [];
  answer = (request, response) => void request.resume().once("end", () => response.end(`epoch ${callerOf(request.socket).epoch}`));
  broker = await TestBroker.start();
  const { address } = await broker.service("crm");
  const source = await WorkloadSource.open({ address });
  verifier = new Verifier({ address });
  await verifier.ready();
  const listener: RequestListener = (request, response) => {
    seen.push({ method: request.method ?? "", epoch: callerOf(request.socket).epoch, socket: request.socket, response });
    answer(request, response);
  };
  const server = createHttpsServer({ verifier, source }, listener);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `https://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  opened = await broker.open({ agent: "researcher", context: { user: "alice" } });
  task = await AgentTask.open({ address: opened.address, task: opened.id, servers: serviceIs("crm") });
  closing.push(() => {
    task.close();
    server.closeAllConnections();
    server.close();
    verifier.close();
    source.close();
    broker.close();
  });
});
afterEach(() => {
  for (const close of closing.splice(0).reverse()) close();
});

/** A new context, known to both sides. */
async function change(user: string): Promise<void> {
  const { epoch } = opened.change({ user });
  await until(() => task.epoch === epoch && verifier.feed.epochOf(opened.id) === epoch);
}

const text = async (init?: Parameters<AgentTask["fetch"]>[1]): Promise<string> => await (await task.fetch(url, init)).text();
const codeOf = async (work: Promise<unknown>): Promise<unknown> => await work.then(() => "resolved", (error: unknown) => (error as { code?: unknown }).code ?? error);

describe("fetch", () => {
  test("goes to whom the authorizer wants, on connections of one epoch each", async () => {
    expect([await text(), await text({ method: "POST", body: "x" })]).toEqual(["epoch 0", "epoch 0"]);
    await change("bob");
    expect(await text()).toBe("epoch 1");
    expect(seen.map(({ socket }) => (socket as Duplex).destroyed)).toEqual([true, true, false]);
  });

  test.each([
    ["GET", undefined], ["HEAD", undefined], ["OPTIONS", undefined], ["PUT", "text"], ["PUT", new Uint8Array(3)], ["DELETE", new URLSearchParams({ a: "b" })],
  ])("%s that a change of context cut is sent once more", async (method, body) => {
    const patient = answer;
    answer = () => {};
    const asked = task.fetch(url, { method, ...(body !== undefined && { body }) });
    await until(() => seen.length === 1);
    answer = patient;
    opened.change({ user: "bob" });
    expect((await asked).status).toBe(200);
    expect(seen.map((one) => [one.method, one.epoch])).toEqual([[method, 0], [method, 1]]);
  });

  test("what a second change cuts is not sent a third time", async () => {
    answer = () => {};
    const asked = codeOf(task.fetch(url));
    await until(() => seen.length === 1);
    await change("bob");
    await until(() => seen.length === 2);
    await change("carol");
    expect([await asked, seen.length]).toEqual(["CONTEXT_CHANGED", 2]);
  });

  test.each([
    ["POST", "text"], ["PATCH", "text"], ["PUT", "a stream"],
  ])("%s of %s is not: its caller hears that the context changed", async (method, body) => {
    answer = (request) => void request.resume();
    const sent = body === "a stream" ? { body: new Blob(["x"]).stream(), duplex: "half" as const } : { body };
    const asked = codeOf(task.fetch(url, { method, ...sent }));
    await until(() => seen.length === 1);
    opened.change({ user: "bob" });
    expect([await asked, seen.length]).toEqual(["CONTEXT_CHANGED", 1]);
  });

  test("the end of the task: rejected with that, in the midst and ever after", async () => {
    answer = () => {};
    const asked = codeOf(task.fetch(url));
    await until(() => seen.length === 1);
    opened.close();
    expect([await asked, task.signal.aborted]).toEqual(["DENIED_TASK_ENDED", true]);
    expect(await codeOf(task.fetch(url))).toBe("DENIED_TASK_ENDED");
    expect(await codeOf(task.jwt("crm"))).toBe("DENIED_TASK_ENDED");
  });

  test("an answer that was cut in its midst tells why", async () => {
    answer = (_request, response) => void response.write("the beginning");
    const reader = (await task.fetch(url)).body?.getReader();
    expect(Buffer.from((await reader?.read())?.value as Uint8Array).toString()).toBe("the beginning");
    opened.change({ user: "bob" });
    expect(await codeOf(reader?.read() ?? Promise.resolve())).toBe("CONTEXT_CHANGED");
  });

  test("a server that is somebody else is told nothing", async () => {
    const other = await AgentTask.open({ address: opened.address, servers: oneOf(serviceIs("search"), anyAgent()) });
    closing.push(() => other.close());
    expect([await codeOf(other.fetch(url)), seen]).toEqual(["VERIFY_NOT_AUTHORIZED", []]);
  });

  test("where nobody listens, or without TLS, or without saying who may answer", async () => {
    expect(await codeOf(task.fetch(`https://127.0.0.1:${await freePort()}/`))).toMatchObject({ cause: { code: "ECONNREFUSED" } });
    expect(await codeOf(task.fetch(url.replace("https", "http")))).toBe("INVALID_FIELD");
    using mute = await AgentTask.open({ address: opened.address });
    expect(await codeOf(mute.fetch(url))).toBe("INVALID_FIELD");
  });

  test("what its caller gives up is given up", async () => {
    answer = () => {};
    const stop = new AbortController();
    const asked = task.fetch(url, { signal: stop.signal });
    await until(() => seen.length === 1);
    stop.abort();
    await expect(asked).rejects.toMatchObject({ name: "AbortError" });
  });
});

describe("the dispatcher", () => {
  test("serves undici's own request, and repeats as fetch does", async () => {
    const patient = answer;
    answer = () => {};
    const asked = undiciRequest(url, { dispatcher: task.dispatcher });
    await until(() => seen.length === 1);
    answer = patient;
    opened.change({ user: "bob" });
    expect(await (await asked).body.text()).toBe("epoch 1");
    answer = () => {};
    const posted = codeOf(undiciRequest(url, { dispatcher: task.dispatcher, method: "POST", body: "x" }));
    await until(() => seen.length === 3);
    opened.close();
    expect(await posted).toBe("DENIED_TASK_ENDED");
  });
});

describe("the agent for node:https", () => {
  const get = async (): Promise<string> => await new Promise((resolve, reject) => {
    https.get(url, { agent: task.agent }, (response) => {
      response.setEncoding("utf8").once("data", resolve).once("error", reject);
    }).once("error", reject);
  });

  test("goes out with the SVID of the epoch; a cut request tells why", async () => {
    expect(await get()).toBe("epoch 0");
    await change("bob");
    expect(await get()).toBe("epoch 1");
    answer = () => {};
    const asked = codeOf(get());
    await until(() => seen.length === 3);
    opened.change({ user: "carol" });
    expect(await asked).toBe("CONTEXT_CHANGED");
    const last = codeOf(get());
    await until(() => seen.length === 4);
    opened.close();
    expect(await last).toBe("DENIED_TASK_ENDED");
  });
});

describe("the token", () => {
  test("is one for all who ask at once, and another after a change of context", async () => {
    const [one, two] = await Promise.all([task.jwt("crm"), task.jwt("crm")]);
    expect(one).toBe(two);
    await change("bob");
    expect(await task.jwt("crm")).not.toBe(one);
  });
});
