// Do HTTP/2 and gRPC over mutual TLS open nothing to a dead SVID, and end what it had opened?
// Real grpc-js and node:http2 on both sides, each with its own SVID and its own view of the feed; the
// broker is one in memory. Calls and long streams, a close in their midst, a renewed SVID.
// Mutual TLS by itself: mtls.test.ts.
import type { ClientHttp2Session, Http2ServerResponse } from "node:http2";
import type { AddressInfo } from "node:net";
import { Client, Metadata, Server, status } from "@grpc/grpc-js";
import type { ServerWritableStream, ServiceError, sendUnaryData } from "@grpc/grpc-js";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Verifier, WorkloadSource, callerOf, connectHttp2, createHttp2Server, serviceIs } from "../src/index.ts";
import type { MtlsOptions, Refused } from "../src/index.ts";
import { GrpcListener, grpcCredentials } from "../src/verify/grpc.ts";
import { TestBroker } from "../src/testing/broker.ts";
import type { TestTask } from "../src/testing/broker.ts";
import { until } from "./support/outside.ts";
import { patienceMs } from "./support/patience.ts";

let broker: TestBroker;
let task: TestTask;
let crm: MtlsOptions;
let agent: MtlsOptions;
let refused: Refused[];
const closing: (() => void)[] = [];

async function side(address: string): Promise<MtlsOptions> {
  const [verifier, source] = [new Verifier({ address }), await WorkloadSource.open({ address })];
  closing.push(() => (verifier.close(), source.close()));
  await verifier.ready();
  return { verifier, source, onRefused: (verdict) => refused.push(verdict) };
}

beforeEach(async () => {
  refused = [];
  broker = await TestBroker.start();
  closing.push(() => broker.close());
  task = await broker.open({ agent: "researcher" });
  crm = await side((await broker.service("crm")).address);
  agent = await side(task.address);
});
afterEach(() => {
  for (const close of closing.splice(0).reverse()) close();
});

const text = { serialize: (value: string) => Buffer.from(value), deserialize: (bytes: Buffer) => bytes.toString() };
const method = (path: string, responseStream: boolean) => ({
  path, requestStream: false, responseStream,
  requestSerialize: text.serialize, requestDeserialize: text.deserialize, responseSerialize: text.serialize, responseDeserialize: text.deserialize,
});
const greeter = { hello: method("/t.Greeter/Hello", false), watch: method("/t.Greeter/Watch", true) };

async function grpcServer(): Promise<number> {
  const server = new Server();
  const listener = new GrpcListener(server, crm);
  server.addService(greeter, {
    hello: (call: { getPeer(): string }, done: sendUnaryData<string>) => done(null, listener.callerOf(call).task),
    watch: (call: ServerWritableStream<string, string>) => void call.write(listener.callerOf(call).task),
  });
  await new Promise<void>((resolve) => listener.tls.listen(0, "127.0.0.1", resolve));
  closing.push(() => {
    listener.close();
    server.forceShutdown();
  });
  return (listener.tls.address() as AddressInfo).port;
}

function grpcClient(port: number, options = agent, service = "crm"): Client {
  const client = new Client(`127.0.0.1:${port}`, grpcCredentials({ ...options, authorize: serviceIs(service) }), { "grpc.max_reconnect_backoff_ms": 100 });
  closing.push(() => client.close());
  return client;
}

async function hello(client: Client): Promise<string> {
  return await new Promise((resolve, reject) => {
    client.makeUnaryRequest<string, string>(greeter.hello.path, text.serialize, text.deserialize, "?", new Metadata(), { deadline: Date.now() + patienceMs },
      (error, answer) => (error ? reject(error) : resolve(answer ?? "")));
  });
}

describe("gRPC", () => {
  test("each side knows the other; a handler knows whose call it is", async () => {
    expect(await hello(grpcClient(await grpcServer()))).toBe(task.id);
  });

  test("a close ends the streams of its task, and no others", async () => {
    const port = await grpcServer();
    const other = await broker.open({ agent: "researcher" });
    const streams = [agent, await side(other.address)].map((options) => {
      const stream = grpcClient(port, options).makeServerStreamRequest<string, string>(greeter.watch.path, text.serialize, text.deserialize, "?");
      const seen: { task?: string; error?: ServiceError } = {};
      stream.on("data", (from: string) => (seen.task = from)).on("error", (error: ServiceError) => (seen.error = error));
      return seen;
    });
    await until(() => streams.every((seen) => seen.task !== undefined));
    expect(streams.map((seen) => seen.task)).toEqual([task.id, other.id]);
    task.close();
    await until(() => streams[0]?.error !== undefined);
    expect([streams[0]?.error?.code, streams[1]?.error]).toEqual([status.UNAVAILABLE, undefined]);
  });

  test("refuses a service that is another, and an agent whose task is closed", async () => {
    const port = await grpcServer();
    await expect(hello(grpcClient(port, agent, "search"))).rejects.toMatchObject({ code: status.UNAVAILABLE });
    const cached = agent.source.tlsOptions();
    const stolen = { ...agent, source: Object.assign(Object.create(agent.source) as WorkloadSource, { tlsOptions: () => cached }) };
    task.close();
    await until(() => crm.verifier.feed.epochOf(task.id) === 1);
    await expect(hello(grpcClient(port, stolen))).rejects.toMatchObject({ code: status.UNAVAILABLE });
    expect(refused[0]?.reason).toBe("VERIFY_REVOKED");
  });

  test("a new context: the old connection is cut, the next call comes with the new SVID", async () => {
    const client = grpcClient(await grpcServer());
    expect(await hello(client)).toBe(task.id);
    task.change({ user: "bob" });
    await until(() => agent.source.svid().binding?.epoch === 1 && crm.verifier.feed.epochOf(task.id) === 1);
    for (;;) {
      const answer = await hello(client).catch((error: ServiceError) => error.code);
      if (answer === task.id) break;
      expect(answer).toBe(status.UNAVAILABLE);
    }
  });
});

describe("HTTP/2", () => {
  test("requests know their caller; a close ends the session with all its streams", async () => {
    const open: Http2ServerResponse[] = [];
    const server = createHttp2Server(crm, (request, response) => {
      response.write(`${callerOf(request.socket).task} ${request.url}`);
      open.push(response);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    closing.push(() => server.close());
    const session: ClientHttp2Session = connectHttp2({ ...agent, authorize: serviceIs("crm"), host: "127.0.0.1", port: (server.address() as AddressInfo).port });
    session.on("error", () => {});
    closing.push(() => session.destroy());
    const stream = session.request({ ":path": "/a" });
    const said = await new Promise<string>((resolve, reject) => {
      stream.setEncoding("utf8").once("data", resolve).once("error", reject);
    });
    expect(said).toBe(`${task.id} /a`);
    task.close();
    await until(() => session.destroyed && stream.destroyed);
    expect(open).toHaveLength(1);
  });
});
