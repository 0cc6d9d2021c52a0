// What can be done to the broker below gRPC?
// Wrong headers, wrong paths, wrong messages, and HTTP/2 used as a weapon: each is refused or cut, the
// broker's memory stays bounded, and meanwhile a process of another user gets what it asks for.
// SPIFFE Workload Endpoint section 3.
// What well-formed calls may hold is bad-input.test.ts's; how many there may be, limits.test.ts's.
import { readFileSync } from "node:fs";
import http2 from "node:http2";
import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { deflateSync, gzipSync } from "node:zlib";
import { ReflectionService } from "@grpc/reflection";
import { service as healthService } from "grpc-health-check";
import type { ServiceDefinition } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { packageDefinition, services } from "../src/proto.ts";
import type { Agent, HeldX509, Stream } from "./support/agent.ts";
import { Peer, block, callFields, endHeaders, endStream, frame, message, text } from "./support/frames.ts";
import { patienceMs } from "./support/patience.ts";
import { RawClient, bytesField, header, isOurs } from "./support/raw.ts";
import type { Wire } from "./support/raw.ts";
import { World } from "./support/world.ts";

let world: World;
let neighbour: Agent;
let held: Stream<HeldX509[]>;
let silent: Peer[] = [];

const socketOf = (name: "workload" | "admin"): string => (name === "workload" ? world.broker.workloadSocket : world.broker.adminSocket);

beforeAll(async () => {
  world = await World.start();
  neighbour = await world.agent();
  const { id } = await world.open();
  await neighbour.claim(id);
  held = neighbour.follow({ connection: "held" });
  await held.next();
});

afterAll(async () => {
  await world?.[Symbol.asyncDispose]();
});

/** In kB. */
function memory(): number {
  const status = readFileSync(`/proc/${world.broker.pid}/status`, "utf8");
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]);
}

/** While it goes on, and after it, the neighbour is served and the broker is the same process, not much larger. */
async function survives(attack: () => Promise<void>): Promise<void> {
  const { pid } = world.broker;
  const before = memory();
  let over = false;
  const serve = async (): Promise<void> => {
    do {
      const [jwt] = await neighbour.jwt(["crm"]);
      expect(jwt?.audience).toEqual(["crm"]);
      await sleep(10);
    } while (!over);
  };
  await Promise.all([attack().finally(() => (over = true)), serve()]);
  expect(held.isOver).toBe(false);
  expect(world.broker.isRunning).toBe(true);
  expect(world.broker.pid).toBe(pid);
  expect(memory()).toBeLessThan(before + 150_000);
}

/** Every method of every service that the sockets serve, ours or not. */
function served(): Record<"workload" | "admin", Wire[]> {
  const standard: ServiceDefinition[] = [healthService as unknown as ServiceDefinition];
  new ReflectionService(packageDefinition).addToServer({ addService: (definition) => void standard.push(definition) });
  const all = (names: readonly (keyof typeof services)[]): Wire[] =>
    [...names.map((name) => services[name] as unknown as ServiceDefinition), ...standard].flatMap((service) => Object.values(service));
  return {
    workload: all(["workload", "tasks", "agent", "feed", "trust"]),
    admin: all(["tasks", "feed", "trust", "revocations", "catalog", "log"]),
  };
}

describe("the security header", () => {
  const wrong: Record<string, readonly string[]> = {
    absent: [], empty: [""], "in other letters": ["True"], "in capitals": ["TRUE"], "sent twice": ["true", "true"], "sent twice, once right": ["false", "true"],
    joined: ["true,true"], "joined with a space": ["true, true"], "a number": ["1"], "something else": ["truex"],
  };

  test.each(["workload", "admin"] as const)("is asked for by every method on the %s socket before anything else", async (socket) => {
    using client = new RawClient(socketOf(socket));
    const garbage = Buffer.from("0bff", "hex");
    for (const [how, values] of Object.entries(wrong)) {
      const answers = await Promise.all(served()[socket].map(async (method) => ({ path: method.path, answer: await client.call(method, garbage, header(...values)) })));
      const served_ = answers.filter(({ answer }) => answer.status !== "INVALID_ARGUMENT" || answer.info?.reason !== "SECURITY_HEADER_MISSING" || !isOurs(answer));
      expect(served_, how).toEqual([]);
    }
  });

  test("is not asked for in another name or in binary", async () => {
    using client = new RawClient(world.broker.workloadSocket);
    const info = services.trust.GetInfo;
    for (const [name, value] of [["workload.spiffe.io-bin", Buffer.from("true")], ["workload.spiffe.iO.", "true"], ["x-workload.spiffe.io", "true"]] as const) {
      const metadata = header();
      metadata.add(name, value);
      expect(await client.call(info, Buffer.alloc(0), metadata), name).toMatchObject({ status: "INVALID_ARGUMENT" });
    }
  });

  test("with spaces around it never reaches a method", async () => {
    for (const value of [" true", "true ", "\ttrue"]) {
      const answer = await request({ "workload.spiffe.io": value, ":path": "/brevet.v1.Trust/GetInfo" }, message(Buffer.alloc(0)));
      expect(answer.status, JSON.stringify(value)).not.toBe("0");
    }
  });
});

/** `details`: of the status, as text. */
type Reply = { readonly status: string | undefined; readonly http: number | undefined; readonly bytes: number; readonly details: string };

/** One request from node:http2, as it was told. `waitMs`: for an answer that may never come. */
async function request(headers: Record<string, string>, body: Buffer, waitMs = patienceMs): Promise<Reply> {
  const session = http2.connect("http://localhost", { createConnection: () => net.connect(world.broker.workloadSocket.replace("unix://", "")) });
  session.on("error", () => {});
  onTestFinished(() => session.destroy());
  const reply = await new Promise<Reply>((resolve) => {
    let [status, http, bytes, details]: [string | undefined, number | undefined, number, string] = [undefined, undefined, 0, ""];
    const stream = session.request({ ":method": "POST", "content-type": "application/grpc", te: "trailers", "workload.spiffe.io": "true", ...headers }, { endStream: false });
    const take = (fields: http2.IncomingHttpHeaders): void => {
      status ??= fields["grpc-status"] as string | undefined;
      details ||= Buffer.from(String(fields["grpc-status-details-bin"] ?? ""), "base64").toString("latin1");
    };
    stream.on("response", (fields) => {
      http = fields[":status"];
      take(fields);
    });
    stream.on("trailers", take);
    stream.on("data", (chunk: Buffer) => void (bytes += chunk.length));
    stream.on("error", () => {});
    stream.on("close", () => resolve({ status, http, bytes, details }));
    stream.end(body);
    setTimeout(() => stream.close(), waitMs).unref();
  });
  session.destroy();
  return reply;
}

describe("a path", () => {
  const good = "/brevet.v1.Trust/GetInfo";

  test("that is a method's is served", async () => {
    expect(await request({ ":path": good }, message(Buffer.alloc(0)))).toMatchObject({ status: "0", http: 200 });
  });

  test.each([
    "brevet.v1.Trust/GetInfo", "//brevet.v1.Trust/GetInfo", "/brevet.v1.Trust//GetInfo", "/brevet.v1.Trust/GetInfo/", "/BREVET.v1.Trust/GetInfo", "/brevet.v1.Trust/getInfo",
    "/brevet.v1.Trust%2fGetInfo", "/brevet.v1.Trust%2FGetInfo", "/brevet.v1.Trust/GetInfo?x=1", "/brevet.v1.Trust/GetInfo#x", "/x/../brevet.v1.Trust/GetInfo", "/brevet.v1.Trust\\GetInfo",
    "/brevet.v1.Trust/GetInfo%00", "/", "*", "/brevet.v1.Catalog/ListAgents", "/brevet.v1.Log/ListEntries", "/brevet.v1.Revocations/Revoke", "/constructor", "/__proto__",
    "http://localhost/brevet.v1.Trust/GetInfo",
  ])("that is not one is no way to a method: %s", async (path) => {
    const { status, bytes } = await request({ ":path": path }, message(Buffer.alloc(0)), 1_500);
    expect(["12", undefined]).toContain(status);
    expect(bytes).toBe(0);
  });
});

describe("a message", () => {
  const path = "/SpiffeWorkloadAPI/FetchJWTSVID";
  const good = bytesField(1, "crm");
  const bomb = gzipSync(Buffer.alloc(64 << 20));
  const cases: Record<string, { headers?: Record<string, string>; body: Buffer; status: readonly string[] }> = {
    "that is a gzip bomb": { headers: { "grpc-encoding": "gzip" }, body: message(bomb, 1), status: ["12"] },
    "that is cut short within gzip": { headers: { "grpc-encoding": "gzip" }, body: message(gzipSync(good).subarray(0, 12), 1), status: ["12"] },
    "in deflate": { headers: { "grpc-encoding": "deflate" }, body: message(deflateSync(good), 1), status: ["12"] },
    "in an encoding that nobody knows": { headers: { "grpc-encoding": "br" }, body: message(good, 1), status: ["12"] },
    "said to be compressed, with nothing said of how": { body: message(gzipSync(good), 1), status: ["3"] },
    "said to be compressed as it is": { headers: { "grpc-encoding": "identity" }, body: message(good, 1), status: ["3"] },
    "with a flag that has no meaning": { body: message(good, 7), status: ["3"] },
    "longer than the limit": { body: message(bytesField(1, "x".repeat(270_000))), status: ["8"] },
    "that claims 4 GiB": { body: message(good, 0, 0xffff_ffff), status: ["8"] },
    "that ends before its length": { body: message(good, 0, 500), status: ["3"] },
    "that ends within its length": { body: Buffer.alloc(3), status: ["3"] },
    "that is missing": { body: Buffer.alloc(0), status: ["3"] },
    "that comes twice": { body: Buffer.concat([message(good), message(good)]), status: ["3"] },
    "with a timeout that is no time": { headers: { "grpc-timeout": "soon" }, body: message(good), status: ["3"] },
    "with a timeout of all time": { headers: { "grpc-timeout": "99999999H" }, body: message(good), status: ["4", "7"] },
  };

  test.each(Object.entries(cases))("%s is refused", async (_, { headers = {}, body, status }) => {
    await survives(async () => {
      const answer = await request({ ":path": path, ...headers }, body);
      expect(status).toContain(answer.status);
      if (answer.status === "3") expect(answer.details).toContain("INVALID_FIELD");
    });
  });

  test.each([
    [{ ":method": "GET" }, 405], [{ "content-type": "application/grpcfoo" }, 415], [{ "content-type": "application/grpc-web" }, 415], [{ "content-type": "application/json" }, 415],
  ])("that is none of gRPC's is answered in HTTP: %j", async (headers, http) => {
    expect(await request({ ":path": path, ...headers }, message(good))).toMatchObject({ http, status: undefined });
  });

  test.each(["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"])("may come as %s", async (type) => {
    expect(await request({ ":path": "/brevet.v1.Trust/GetInfo", "content-type": type }, message(Buffer.alloc(0)))).toMatchObject({ http: 200, status: "0" });
  });

  test("in a stream with a wrong flag ends it, the first or a later one", async () => {
    const watch = "/brevet.v1.Feed/Watch";
    expect(await request({ ":path": watch }, message(Buffer.alloc(0), 1))).toMatchObject({ status: "3" });
    await survives(async () => {
      const late = await request({ ":path": watch }, Buffer.concat([message(Buffer.alloc(0)), message(Buffer.alloc(0), 7)]));
      expect(late.status).not.toBe("0");
    });
  });

  test("never ends is closed with its connection, and holds no more than its limit", async () => {
    await survives(async () => {
      const peer = new Peer(world.broker.workloadSocket);
      for (let stream = 1; stream < 200; stream += 2) {
        peer.write(frame("headers", endHeaders, stream, block(callFields(path))), frame("data", 0, stream, message(Buffer.alloc(8000), 0, 60_000)));
      }
      await peer.drained();
    });
  });
});

describe("HTTP/2", () => {
  const call = (stream: number, path = "/SpiffeWorkloadAPI/FetchX509Bundles", flags = endHeaders | endStream): Buffer =>
    frame("headers", flags, stream, block(callFields(path)));
  const times = (count: number, make: (i: number) => Buffer): Buffer => Buffer.concat(Array.from({ length: count }, (_, i) => make(i)));

  test("streams reset before their answer end the connection", async () => {
    await survives(async () => {
      const peer = new Peer(world.broker.workloadSocket);
      peer.write(times(20_000, (i) => Buffer.concat([call(i * 2 + 1, "/brevet.v1.Trust/GetInfo", endHeaders), frame("reset", 0, i * 2 + 1, Buffer.from([0, 0, 0, 8]))])));
      await peer.closed;
    });
  });

  test("streams that make the broker reset them end the connection", async () => {
    await survives(async () => {
      const peer = new Peer(world.broker.workloadSocket);
      // a window update of 0 is an error of the stream
      peer.write(times(20_000, (i) => Buffer.concat([call(i * 2 + 1, "/brevet.v1.Trust/GetInfo", endHeaders), frame("window", 0, i * 2 + 1, Buffer.alloc(4))])));
      await peer.closed;
    });
  });

  test("headers without end end the connection", async () => {
    await survives(async () => {
      const peer = new Peer(world.broker.workloadSocket);
      peer.write(frame("headers", 0, 1, block(callFields("/x"))), times(10_000, (i) => frame("continuation", 0, 1, block([[`x-${i}`, "y".repeat(500)]]))));
      await peer.closed;
    });
  });

  test("headers that grow when they are unpacked are not unpacked", async () => {
    await survives(async () => {
      const peer = new Peer(world.broker.workloadSocket);
      const entry = Buffer.concat([Buffer.from([0x40]), text("x-big"), text("y".repeat(3900))]);
      const base = block(callFields("/brevet.v1.Trust/GetInfo"));
      peer.write(times(100, (i) => frame("headers", endHeaders | endStream, i * 2 + 1, Buffer.concat([base, entry, Buffer.alloc(8000, 0xbe)]))));
      await peer.drained();
    });
  });

  test("metadata beyond its limit is refused, and names of its properties are only names", async () => {
    const path = "/brevet.v1.Trust/GetInfo";
    expect((await request({ ":path": path, big: "x".repeat(7_500) }, message(Buffer.alloc(0)))).status).toBe("0");
    for (const size of [8_000, 20_000, 60_000, 200_000]) expect((await request({ ":path": path, big: "x".repeat(size) }, message(Buffer.alloc(0)))).status, String(size)).not.toBe("0");
    const many = Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`x-${i}`, "y"]));
    expect((await request({ ":path": path, ...many }, message(Buffer.alloc(0)))).status).not.toBe("0");
    await survives(async () => {
      const peer = new Peer(world.broker.workloadSocket);
      peer.write(...["__proto__", "constructor", "prototype", "hasownproperty"].map((name, i) =>
        frame("headers", endHeaders | endStream, i * 2 + 1, block(callFields(path, [["workload.spiffe.io", "true"], [name, "x"]])))));
      await peer.drained();
    });
  });

  test.each([
    ["pings", frame("ping", 0, 0, Buffer.alloc(8))],
    ["settings", frame("settings", 0, 0)],
    ["settings that say something", frame("settings", 0, 0, Buffer.from([0, 4, 0, 1, 0, 0]))],
  ])("a flood of %s ends the connection", async (_, bytes) => {
    await survives(async () => {
      const peer = new Peer(world.broker.workloadSocket);
      peer.write(times(50_000, () => bytes));
      await peer.closed;
    });
  });

  test.each([
    ["empty data", call(1, undefined, endHeaders), frame("data", 0, 1)],
    ["window updates", call(1, undefined, endHeaders), frame("window", 0, 0, Buffer.from([0, 0, 0, 1]))],
    ["priorities", call(1, undefined, endHeaders), frame("priority", 0, 1, Buffer.alloc(5, 3))],
    ["frames of no known type", call(1), Buffer.from([0, 0, 4, 0xf0, 0, 0, 0, 0, 0, 1, 2, 3, 4])],
  ])("a flood of %s takes nothing from others", async (_, first, bytes) => {
    await survives(async () => {
      const peer = new Peer(world.broker.workloadSocket);
      peer.write(first, times(50_000, () => bytes));
      await peer.drained();
    });
  });

  test("whoever never reads is not waited for", async () => {
    await survives(async () => {
      for (const read of [true, false]) {
        const peer = new Peer(world.broker.workloadSocket, { read });
        peer.write(frame("settings", 0, 0, Buffer.from([0, 4, 0, 0, 0, 0]))); // a window of 0 bytes
        peer.write(times(250, (i) => call(i * 2 + 1)));
        await peer.drained();
      }
    });
  });

  test.each([
    ["no path", callFields("/x").filter(([name]) => name !== ":path")],
    ["no method", callFields("/x").filter(([name]) => name !== ":method")],
    ["two paths", [...callFields("/brevet.v1.Trust/GetInfo"), [":path", "/x"]] as const],
    ["no content type", callFields("/brevet.v1.Trust/GetInfo").filter(([name]) => name !== "content-type")],
    ["another content type", callFields("/brevet.v1.Trust/GetInfo").map(([name, value]) => [name, name === "content-type" ? "text/html" : value] as const)],
    ["CONNECT", [[":method", "CONNECT"], [":authority", "x"], ["workload.spiffe.io", "true"], ["content-type", "application/grpc"]] as const],
    ["status in a request", [...callFields("/brevet.v1.Trust/GetInfo"), [":status", "200"]] as const],
    ["empty -bin metadata", [...callFields("/brevet.v1.Trust/GetInfo"), ["x-bin", "%%%not base64"]] as const],
    ["bytes above ASCII", [...callFields("/brevet.v1.Trust/GetInfo"), ["x-y", "\u00ff\u0080"]] as const],
  ])("a call that begins wrongly breaks nothing: %s", async (_, fields) => {
    await survives(async () => {
      const peer = new Peer(world.broker.workloadSocket);
      peer.write(frame("headers", endHeaders | endStream, 1, block(fields)));
      peer.write(frame("headers", endHeaders, 3, block(fields)), frame("data", endStream, 3, message(Buffer.alloc(0))));
      await peer.drained();
    });
  });

  test("a client that takes one answer of each stream and cancels it loses none, however often", async () => {
    using client = new RawClient(world.broker.adminSocket);
    for (let round = 0; round < 40; round++) {
      const answers = await Promise.all(Array.from({ length: 50 }, () => client.call(services.feed.Watch, Buffer.alloc(0))));
      expect(answers.filter(({ status }) => status !== "OK")).toEqual([]);
    }
  });

  test("a connection that does not speak it is closed", async () => {
    silent = [
      new Peer(world.broker.workloadSocket, { hello: false }),
      new Peer(world.broker.workloadSocket, { hello: false }),
      new Peer(world.broker.workloadSocket, { hello: false }),
      new Peer(world.broker.adminSocket, { hello: false }),
    ];
    silent[1]?.write(Buffer.from("PRI * HTTP"));
    silent[2]?.write(Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
    await Promise.all(silent.map(({ closed }) => closed));
  });
});
