// What does the broker tell those that nobody asked who they are?
// Nothing but the paths that are meant, problems as RFC 9457 says, no label that names a task or an SVID; whoever
// sends slowly or much is cut, and the others are answered.
// SPIFFE Trust Domain and Bundle section 4.
// The calls over the sockets are the other tests' business.
import net from "node:net";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { decodeSpiffeBundle } from "../src/identity/bundle.ts";
import { World } from "./support/world.ts";

let world: World;
const secrets: string[] = [];

beforeAll(async () => {
  world = await World.start({ catalog: "" });
  await world.apply(`
agents:
  - { name: researcher, owner: lead@example.org, selectors: [{ uid: 65534 }], openers: [{ uid: ${process.getuid?.() ?? 0} }] }
services:
  - { name: crm, owner: lead@example.org, selectors: [{ uid: ${process.getuid?.() ?? 0} }] }
`);
  const task = await world.open();
  for await (const { svids } of world.workload.workload.fetchX509SVID({})) {
    secrets.push(...svids.map(({ spiffeId }) => spiffeId));
    break;
  }
  await world.close(task.id);
  secrets.push(task.id, ...(await world.admin.log.listSvids({})).svids.flatMap(({ serial, jti }) => [serial, jti]).filter((text) => text !== ""));
});

afterAll(async () => await world?.[Symbol.asyncDispose]());

const get = async (path: string, init: RequestInit = {}): Promise<{ status: number; type: string; text: string }> => {
  const response = await fetch(`${world.broker.httpUrl}${path}`, init);
  return { status: response.status, type: response.headers.get("content-type") ?? "", text: await response.text() };
};

test("it lives, it is ready part by part, and its bundle is the trust domain's", async () => {
  expect(await get("/livez")).toMatchObject({ status: 200 });
  const ready = await get("/readyz");
  expect(ready.status).toBe(200);
  const { parts } = JSON.parse(ready.text) as { parts: { name: string; ready: boolean }[] };
  expect(parts.map(({ name, ready: well }) => [name, well])).toEqual([["database", true], ["authorities", true], ["feed", true], ["workload socket", true]]);
  const bundle = await get("/bundle");
  expect(bundle).toMatchObject({ status: 200, type: expect.stringContaining("application/json") });
  expect(decodeSpiffeBundle("brevet.local", Buffer.from(bundle.text)).jwt.length).toBeGreaterThan(0);
});

test("no metric carries a task, an SVID or whom it is for", async () => {
  const { status, text } = await get("/metrics");
  expect(status).toBe(200);
  expect(secrets.length).toBeGreaterThanOrEqual(3);
  for (const secret of secrets) expect(text).not.toContain(secret);
  expect(text).not.toMatch(/spiffe:\/\/|[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}/);
  const labels = new Set([...text.matchAll(/(\w+)="/g)].map(([, name]) => name));
  for (const name of labels) expect(["task", "instance", "spiffe_id", "serial", "jti", "uid", "pid"]).not.toContain(name);
});

test("without publicUrl and statusList it is no issuer, and says so; keys are there all the same, lists of bits are not", async () => {
  const { status, text } = await get("/.well-known/openid-configuration");
  expect([status, JSON.parse(text)]).toEqual([404, expect.objectContaining({ type: "urn:brevet:error:NOT_FOUND", title: expect.stringContaining("BREVET_PUBLIC_URL") as string })]);
  expect((await get("/jwks")).status).toBe(200);
  expect((await get("/status-list/1")).status).toBe(404);
});

describe("anything else is a problem", () => {
  test.each([
    ["/", "GET"], ["/metrics/", "GET"], ["/livez/../metrics", "POST"], ["/LIVEZ", "GET"], ["/bundle", "DELETE"], ["/__proto__", "GET"], ["/constructor", "GET"],
    ["/livez", "POST"], ["/%00", "GET"], ["/debug/pprof", "GET"], [`/${"x".repeat(3000)}`, "GET"],
  ])("%s by %s", async (path, method) => {
    const { status, type, text } = await get(path, { method });
    expect(status).toBe(404);
    expect(type).toContain("application/problem+json");
    expect(JSON.parse(text)).toMatchObject({ type: "urn:brevet:error:NOT_FOUND", status: 404 });
  });

  test.each([
    ["a path that can't be decoded", "/%zz", {}],
    ["a body that is too large", "/livez", { method: "POST", body: "x".repeat(100_000), headers: { "content-type": "application/json" } }],
    ["a body that is not JSON", "/livez", { method: "POST", body: "{", headers: { "content-type": "application/json" } }],
    ["JSON that reaches for the prototype", "/livez", { method: "POST", body: '{"__proto__":{"x":1}}', headers: { "content-type": "application/json" } }],
  ])("%s is the caller's fault, and nothing of the inside is told", async (_, path, init) => {
    const { status, type, text } = await get(path, init);
    expect(status).toBeGreaterThanOrEqual(400);
    expect(status).toBeLessThan(500);
    expect(type).toContain("application/problem+json");
    expect(text).not.toMatch(/node_modules|FST_ERR|at .*\.js/);
  });
});

describe("whoever holds on", () => {
  const { hostname, port } = { hostname: "127.0.0.1", port: (): number => Number(new URL(world.broker.httpUrl).port) };
  const open = (text: string): { socket: net.Socket; heard: () => string; closed: Promise<void> } => {
    const socket = net.connect(port(), hostname);
    let heard = "";
    socket.on("error", () => {});
    socket.on("data", (chunk) => (heard += String(chunk)));
    onTestFinished(() => void socket.destroy());
    socket.write(text);
    return { socket, heard: () => heard, closed: new Promise((resolve) => socket.once("close", () => resolve())) };
  };

  test("sends no end of a request is cut, and others are answered meanwhile", async () => {
    const slow = [open("GET /livez HTTP/1.1\r\nHost: x\r\nX-"), open("POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\nx"), open("")];
    expect((await get("/livez")).status).toBe(200);
    await Promise.all(slow.map(({ closed }) => closed));
  });

  test.each([
    ["headers without end", `GET /livez HTTP/1.1\r\nHost: x\r\n${"X-A: y\r\n".repeat(20_000)}`],
    ["two lengths", "POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx"],
    ["a length and chunks", "POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"],
    ["no HTTP", "\u0016\u0003\u0001 hello\r\n\r\n"],
  ])("sends %s is refused", async (_, text) => {
    const { heard, closed } = open(text);
    await closed;
    expect(heard()).toMatch(/^HTTP\/1\.1 4\d\d |^$/);
    expect(heard()).not.toContain("brevet_");
    expect((await get("/livez")).status).toBe(200);
  });
});
