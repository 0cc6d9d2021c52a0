// Is every field of every call checked before anything is done?
// The cases are generated from the proto files: each field of each request with each kind of value that
// it must not hold. The answer names the field, changes nothing, and never is INTERNAL; a call that
// gets no cases here fails the suite.
// Bytes that are no gRPC at all are wire.test.ts's; how much is too much, limits.test.ts's.
import fc from "fast-check";
import { generateKeyPairSync } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { services } from "../src/proto.ts";
import { agentUid } from "./support/agent.ts";
import { RawClient, bytesField, header, isOurs, numberField } from "./support/raw.ts";
import type { Answer, Wire } from "./support/raw.ts";
import { World } from "./support/world.ts";

type Field = { readonly name: string; readonly number: number; readonly label: string; readonly type: string; readonly typeName: string };
type Type = { readonly field: readonly Field[]; readonly nestedType: readonly (Type & { readonly name: string })[]; readonly options: { readonly mapEntry?: boolean } | null };
type Method = Wire & { readonly requestSerialize: (value: object) => Buffer; readonly requestType: { readonly type: Type } };
type Socket = "workload" | "admin";

let world: World;
let [workload, admin]: RawClient[] = [];
let ids = { ready: "", ticket: "" };

beforeAll(async () => {
  world = await World.start();
  ids = { ready: (await world.open()).id, ticket: (await world.open({ bind: "ticket" })).id };
  workload = new RawClient(world.broker.workloadSocket);
  admin = new RawClient(world.broker.adminSocket);
});

afterAll(async () => {
  workload?.[Symbol.dispose]();
  admin?.[Symbol.dispose]();
  await world?.[Symbol.asyncDispose]();
});

const catalog = "agents:\n  - name: other\n    owner: lead@example.org\n    selectors: [{ uid: 4 }]\n";

const publicKey = generateKeyPairSync("ec", { namedCurve: "P-256" }).publicKey.export({ type: "spki", format: "der" });

/** Every call, on each socket that serves it, with a request that is well formed. */
const calls: Readonly<Record<string, { readonly on: readonly Socket[]; readonly request: () => object }>> = {
  "/SpiffeWorkloadAPI/FetchX509SVID": { on: ["workload"], request: () => ({}) },
  "/SpiffeWorkloadAPI/FetchX509Bundles": { on: ["workload"], request: () => ({}) },
  "/SpiffeWorkloadAPI/FetchJWTSVID": { on: ["workload"], request: () => ({ audience: ["crm"] }) },
  "/SpiffeWorkloadAPI/FetchJWTBundles": { on: ["workload"], request: () => ({}) },
  "/SpiffeWorkloadAPI/ValidateJWTSVID": { on: ["workload"], request: () => ({ audience: "crm", svid: "a.b.c" }) },
  "/SpiffeWorkloadAPI/FetchWITSVID": { on: ["workload"], request: () => ({}) },
  "/SpiffeWorkloadAPI/FetchWITBundles": { on: ["workload"], request: () => ({}) },
  "/brevet.v1.Tasks/Open": { on: ["workload", "admin"], request: () => ({ agent: "researcher" }) },
  "/brevet.v1.Tasks/Get": { on: ["workload", "admin"], request: () => ({ task: ids.ready }) },
  "/brevet.v1.Tasks/List": { on: ["workload", "admin"], request: () => ({}) },
  "/brevet.v1.Tasks/Watch": { on: ["workload", "admin"], request: () => ({ task: ids.ready }) },
  "/brevet.v1.Tasks/ChangeContext": { on: ["workload", "admin"], request: () => ({ task: ids.ready, set: { user: "ada" } }) },
  "/brevet.v1.Tasks/ChangeContexts": { on: ["workload", "admin"], request: () => ({ agent: "researcher", set: { user: "ada" }, dryRun: true }) },
  "/brevet.v1.Tasks/Close": { on: ["workload", "admin"], request: () => ({ task: ids.ready }) },
  "/brevet.v1.Tasks/Abort": { on: ["workload", "admin"], request: () => ({ task: ids.ready, reason: "tired" }) },
  "/brevet.v1.Tasks/IssueTicket": { on: ["workload", "admin"], request: () => ({ task: ids.ticket }) },
  "/brevet.v1.Agent/Claim": { on: ["workload"], request: () => ({ task: ids.ready }) },
  "/brevet.v1.Agent/Finish": { on: ["workload"], request: () => ({ task: ids.ready }) },
  "/brevet.v1.Agent/Status": { on: ["workload"], request: () => ({}) },
  "/brevet.v1.Feed/Watch": { on: ["workload", "admin"], request: () => ({}) },
  "/brevet.v1.Revocations/Revoke": { on: ["admin"], request: () => ({ reason: "tired", dryRun: true }) },
  "/brevet.v1.Revocations/WatchPropagation": { on: ["admin"], request: () => ({ subjects: [ids.ready], once: true }) },
  "/brevet.v1.Revocations/ListVerifiers": { on: ["admin"], request: () => ({}) },
  "/brevet.v1.Catalog/Apply": { on: ["admin"], request: () => ({ files: [{ name: "a.yaml", text: catalog }], dryRun: true }) },
  "/brevet.v1.Catalog/ListAgents": { on: ["admin"], request: () => ({}) },
  "/brevet.v1.Catalog/GetAgent": { on: ["admin"], request: () => ({ name: "researcher" }) },
  "/brevet.v1.Catalog/DisableAgent": { on: ["admin"], request: () => ({ name: "researcher", reason: "tired" }) },
  "/brevet.v1.Catalog/EnableAgent": { on: ["admin"], request: () => ({ name: "researcher" }) },
  "/brevet.v1.Log/ListEntries": { on: ["admin"], request: () => ({}) },
  "/brevet.v1.Log/ListSvids": { on: ["admin"], request: () => ({}) },
  "/brevet.v1.Log/ListAttestations": { on: ["admin"], request: () => ({}) },
  "/brevet.v1.Log/Explain": { on: ["admin"], request: () => ({}) },
  "/brevet.v1.Trust/GetBundle": { on: ["workload", "admin"], request: () => ({}) },
  "/brevet.v1.Trust/WatchBundle": { on: ["workload", "admin"], request: () => ({}) },
  "/brevet.v1.Trust/GetInfo": { on: ["workload", "admin"], request: () => ({}) },
  "/brevet.v1.Operators/Add": { on: ["admin"], request: () => ({ name: "ada", role: "auditor", publicKey }) },
  "/brevet.v1.Operators/List": { on: ["admin"], request: () => ({}) },
  "/brevet.v1.Operators/Remove": { on: ["admin"], request: () => ({ name: "ada", reason: "tired" }) },
  "/brevet.v1.Operators/Renew": { on: [], request: () => ({ publicKey }) }, // on the network alone: network.test.ts
};

const methods = Object.values(services).flatMap((service) => Object.values(service) as unknown as Method[]);
const methodOf = (path: string): Method => methods.find((method) => method.path === path) as Method;

/** What must not be empty; everything else has a meaning when it is. */
const required: ReadonlySet<string> = new Set([
  "/brevet.v1.Tasks/Open agent", "/brevet.v1.Tasks/Get task", "/brevet.v1.Tasks/Watch task", "/brevet.v1.Tasks/ChangeContext task", "/brevet.v1.Tasks/Close task",
  "/brevet.v1.Tasks/Abort task", "/brevet.v1.Tasks/Abort reason", "/brevet.v1.Tasks/IssueTicket task", "/brevet.v1.Agent/Claim task", "/brevet.v1.Agent/Finish task",
  "/brevet.v1.Tasks/ChangeContext remove", "/brevet.v1.Tasks/ChangeContexts agent", "/brevet.v1.Tasks/ChangeContexts remove", "/brevet.v1.Revocations/Revoke task", "/brevet.v1.Revocations/Revoke agent", "/brevet.v1.Revocations/Revoke service",
  "/brevet.v1.Revocations/Revoke all", "/brevet.v1.Revocations/Revoke reason", "/brevet.v1.Catalog/GetAgent name", "/brevet.v1.Catalog/DisableAgent name",
  "/brevet.v1.Operators/Add name", "/brevet.v1.Operators/Add role", "/brevet.v1.Operators/Remove name", "/brevet.v1.Operators/Remove reason",
  "/brevet.v1.Catalog/DisableAgent reason", "/brevet.v1.Catalog/EnableAgent name", "/brevet.v1.Log/Explain attempt",
  "/SpiffeWorkloadAPI/FetchJWTSVID audience", "/SpiffeWorkloadAPI/ValidateJWTSVID audience", "/SpiffeWorkloadAPI/ValidateJWTSVID svid",
]);
/** Text that any character may stand in, and whose length is the message's. */
const freeText: ReadonlySet<string> = new Set(["/brevet.v1.Catalog/Apply files[0].text"]);
const negativeMeansSomething: ReadonlySet<string> = new Set(["/brevet.v1.Log/ListEntries since.seconds", "/brevet.v1.Log/ListAttestations since.seconds"]);

type Case = { readonly what: string; readonly field: string; readonly bytes: Buffer };

const long = "x".repeat(5000);
const hostile = {
  "a control character": "researcher\u0007", "a line feed": "researcher\nresearcher", "a NUL": "researcher\u0000", "a right-to-left override": "a\u202erehcraeser",
  "an invisible character": "re\u200bsearcher", "an escape sequence": "\u001b[31mresearcher", "a filler": "re\u3164searcher", "a tag": "re\u{e0041}searcher",
  "nothing that can be seen": "\u2800",
};

function snake(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** What one field must not hold, as bytes that stand behind a good request: the last one counts. */
function casesOf(path: string, type: Type, within: string, wrap: (bytes: Buffer) => Buffer): Case[] {
  return type.field.flatMap((field): Case[] => {
    const { number } = field;
    const field_ = `${within}${snake(field.name)}`;
    const key = `${path} ${field_}`;
    const made = (what: string, bytes: Buffer): Case => ({ what, field: field_, bytes: wrap(bytes) });
    const isNumber = field.type !== "TYPE_STRING" && field.type !== "TYPE_MESSAGE";
    const structural = [
      made("is of another wire type", isNumber ? bytesField(number, "7") : numberField(number, 5n)),
      made("is a fixed64", Buffer.concat([Buffer.from([(number << 3) | 1]), Buffer.alloc(8, 1)])),
      made("is a group", Buffer.from([(number << 3) | 3])),
      made("is cut short", Buffer.from([(number << 3) | 2, 0x7f, 0x41])),
      made("has a length of 2^63", Buffer.from([(number << 3) | 2, ...Buffer.alloc(9, 0xff), 0x01])),
    ];
    if (field.type === "TYPE_MESSAGE") {
      const nested = type.nestedType.find(({ name }) => name === field.typeName);
      if (nested?.options?.mapEntry) return [...structural, ...mapCases(number, made)];
      const inner = messageNamed(field.typeName);
      const place = field.label === "LABEL_REPEATED" ? `${field_}[0]` : field_;
      // a repeated field's case replaces the good one
      return [...structural, ...casesOf(path, inner, `${place}.`, (bytes) => wrap(bytesField(number, bytes)))];
    }
    if (field.type === "TYPE_STRING") {
      const invalidText = ["c080", "ff", "eda080", "f4908080"].map((hex) => made(`is not UTF-8: ${hex}`, bytesField(number, Buffer.from(hex, "hex"))));
      const texts = freeText.has(key) ? [] : [
        made("is too long", bytesField(number, long)),
        ...Object.entries(hostile).map(([what, text]) => made(`holds ${what}`, bytesField(number, text))),
        ...(required.has(key) ? [made("is empty", bytesField(number, "")), made("is blank", bytesField(number, "  "))] : []),
      ];
      return [...structural, ...invalidText, ...texts];
    }
    if (field.type === "TYPE_BOOL") return [...structural, made("is neither true nor false", numberField(number, 2n))];
    const numbers = [
      made("is huge", numberField(number, 2n ** 63n - 1n)), made("is 2^53", numberField(number, 2n ** 53n)),
      ...(negativeMeansSomething.has(key) ? [] : [made("is negative", numberField(number, -5n)), made("is the most negative", numberField(number, -(2n ** 63n)))]),
      ...(field.type === "TYPE_INT32" ? [made("is 2^32 + 1", numberField(number, 2n ** 32n + 1n))] : []),
    ];
    return [...structural, ...numbers];
  });
}

function mapCases(number: number, made: (what: string, bytes: Buffer) => Case): Case[] {
  const pair = (key: Buffer | string, value: Buffer | string): Buffer => bytesField(number, Buffer.concat([bytesField(1, key), bytesField(2, value)]));
  return [
    ...["__proto__", "", "with space", "naïve", "a\u0000b", "a\u202eb", "x".repeat(65), "-x"].map((key) => made(`has the key ${JSON.stringify(key).slice(0, 20)}`, pair(key, "1"))),
    ...Object.entries(hostile).map(([what, text]) => made(`has a value with ${what}`, pair("k", text))),
    made("has a value that is too long", pair("k", long)),
    made("has a key that is not UTF-8", pair(Buffer.from([0xff]), "1")),
    made("has a value that is not UTF-8", pair("k", Buffer.from([0xff]))),
    made("has a key of another type", bytesField(number, numberField(1, 1n))),
    made("has too many keys", Buffer.concat(Array.from({ length: 70 }, (_, i) => pair(`k${i}`, "1")))),
  ];
}

function messageNamed(name: string): Type {
  const known: Readonly<Record<string, Type>> = {
    "google.protobuf.Timestamp": { field: [{ name: "seconds", number: 1, label: "", type: "TYPE_INT64", typeName: "" }, { name: "nanos", number: 2, label: "", type: "TYPE_INT32", typeName: "" }], nestedType: [], options: null },
    CatalogFile: { field: [{ name: "name", number: 1, label: "", type: "TYPE_STRING", typeName: "" }, { name: "text", number: 2, label: "", type: "TYPE_STRING", typeName: "" }], nestedType: [], options: null },
  };
  const found = known[name];
  if (!found) throw new Error(`${name}: give it cases`);
  return found;
}

/** All that a call could have changed. Refusals themselves are recorded, and brokers say that they live. */
async function contents(): Promise<unknown> {
  const tables = ["tasks", "svids", "revocations", "feed_head", "entries", "agents", "services", "catalog_versions", "instances", "operators"];
  return await Promise.all(tables.map((name) => world.sql(`select '${name}' as name, count(*)::int as rows, md5(string_agg(t::text, '' order by t::text)) as sum from ${name} t`)));
}

function clientOf(socket: Socket): RawClient {
  return (socket === "workload" ? workload : admin) as RawClient;
}

/** INVALID_ARGUMENT with the field, or for what names something, NOT_FOUND with the field. */
function namesField({ status, fields, info }: Answer, field: string): boolean {
  const [root = field] = field.split(/[.[]/);
  if (status === "INVALID_ARGUMENT") return fields.some((named) => named.split(/[.[]/)[0] === root || named === "message") || info?.reason === "CATALOG_INVALID";
  return status === "NOT_FOUND" && info?.metadata["field"] === root;
}

test("every call has its cases", () => {
  expect(Object.keys(calls).sort()).toEqual(methods.map(({ path }) => path).sort());
});

describe.each(Object.keys(calls))("%s", (path) => {
  const method = methodOf(path);
  const { on, request } = calls[path] as (typeof calls)[string];

  test("no field takes what it must not hold", async () => {
    const before = await contents();
    const good = method.requestSerialize(request());
    const cases = casesOf(path, method.requestType.type, "", (bytes) => bytes);
    const wrong: string[] = [];
    for (const socket of on) {
      await Promise.all(cases.map(async ({ what, field, bytes }) => {
        const replaces = field.includes("[0]") ? Buffer.alloc(0) : good;
        const answer = await clientOf(socket).call(method, Buffer.concat([replaces, bytes]));
        if (path === "/SpiffeWorkloadAPI/FetchWITSVID" && answer.status === "UNIMPLEMENTED") return;
        if (!namesField(answer, field) || !isOurs(answer)) wrong.push(`${socket}: ${field} ${what}: ${answer.status} ${answer.message} [${answer.fields.join()}]`);
      }));
    }
    expect(wrong).toEqual([]);
    expect(await contents()).toEqual(before);
  });

  test("a field that is not known is refused in brevet.v1 and ignored by the standard's calls", async () => {
    for (const socket of on) {
      const answer = await clientOf(socket).call(method, Buffer.concat([method.requestSerialize(request()), numberField(1000, 1n)]));
      if (path.startsWith("/brevet.")) expect(answer).toMatchObject({ status: "INVALID_ARGUMENT", fields: ["field 1000"] });
      else expect(answer.fields).not.toContain("field 1000");
    }
  });

  test("random bytes are refused, never a fault", async () => {
    for (const socket of on) {
      const random = fc.sample(fc.uint8Array({ minLength: 1, maxLength: 40 }), 25).map((bytes) => Buffer.from(bytes));
      const answers = await Promise.all(random.map((bytes) => clientOf(socket).call(method, bytes)));
      expect(answers.filter(({ status }) => ["INTERNAL", "UNKNOWN", "UNAVAILABLE", "CANCELLED"].includes(status))).toEqual([]);
    }
  });
});

describe("refusals", () => {
  test("a task that is not there and one that is not the caller's are told alike, but for the attempt", async () => {
    await world.apply(`
agents:
  - { name: researcher, owner: lead@example.org, selectors: [{ uid: ${agentUid} }], openers: [{ uid: ${process.getuid?.() ?? 0} }] }
  - { name: secretive, owner: lead@example.org, selectors: [{ uid: 4 }], openers: [{ uid: 4 }] }
`);
    const hidden = (await world.admin.tasks.open({ agent: "secretive" })).id;
    const missing = "01234567-89ab-7cde-8f01-23456789abcd";
    for (const [name, fields] of [["Get", {}], ["Watch", {}], ["Close", {}], ["Abort", { reason: "x" }], ["IssueTicket", {}], ["ChangeContext", { set: { a: "1" } }]] as const) {
      const method = methodOf(`/brevet.v1.Tasks/${name}`);
      const references = { id: [hidden, missing], prefix: [hidden.slice(0, 30), missing.slice(0, 30)] };
      for (const [theirs, none] of Object.values(references)) {
        const [a, b] = await Promise.all([theirs, none].map((task) => clientOf("workload").call(method, method.requestSerialize({ task, ...fields }))));
        const alike = ({ bytes, info, message, status }: Answer): unknown => ({ status, message, bytes: bytes.toString("latin1").replaceAll(info?.metadata["attempt"] ?? "none", "ATTEMPT") });
        expect(alike(a as Answer), name).toEqual(alike(b as Answer));
        expect(a).toMatchObject({ status: "NOT_FOUND", info: { reason: "NOT_FOUND" } });
      }
    }
    const open = methodOf("/brevet.v1.Tasks/Open");
    const [a, b] = await Promise.all(["secretive", "nobody"].map((agent) => clientOf("workload").call(open, open.requestSerialize({ agent, context: { x: "y" } }))));
    expect({ status: a?.status, message: a?.message }).toEqual({ status: b?.status, message: b?.message });
    expect(a?.status).toBe("NOT_FOUND");
    expect(await world.get(hidden)).toMatchObject({ state: "ready" });
  });

  test("a denial's attempt is one that an administrator can explain", async () => {
    const jwt = methodOf("/SpiffeWorkloadAPI/FetchJWTSVID");
    const denied = await clientOf("workload").call(jwt, jwt.requestSerialize({ audience: ["crm"] }));
    // with one user for all, this process is what the agent's selectors ask for, and has no task
    const reason = process.geteuid?.() === 0 ? "DENIED_NO_MATCH" : "DENIED_NO_TASK";
    expect(denied).toMatchObject({ status: "PERMISSION_DENIED", info: { reason } });
    const attempt = denied.info?.metadata["attempt"] ?? "";
    const explained = await world.until("the record of the refusal", () => world.admin.log.explain({ attempt }).catch(() => undefined));
    expect(explained).toMatchObject({ attempt, verdict: reason });
  });

  test.each<[string, Socket, object, string[]]>([
    ["/SpiffeWorkloadAPI/FetchJWTSVID", "workload", { audience: ["a\u202eb", ""], spiffeId: "not one" }, ["audience[0]", "audience[1]", "spiffe_id"]],
    ["/brevet.v1.Agent/Claim", "workload", { task: "short", pid: -1, scope: "wide" }, ["task", "pid", "scope"]],
    ["/brevet.v1.Tasks/Abort", "workload", {}, ["task", "reason"]],
    ["/brevet.v1.Tasks/ChangeContext", "workload", { set: { "": "x" }, remove: [""] }, ["task", 'set[""]', "remove[0]"]],
    ["/brevet.v1.Revocations/Revoke", "admin", { agent: "a\u202eb" }, ["reason", "agent"]],
    ["/brevet.v1.Catalog/DisableAgent", "admin", {}, ["name", "reason"]],
    ["/brevet.v1.Catalog/GetAgent", "admin", {}, ["name"]],
    ["/brevet.v1.Operators/Remove", "admin", {}, ["name", "reason"]],
    ["/brevet.v1.Log/ListSvids", "admin", { task: "short", pageToken: "x" }, ["page_token", "task"]],
    ["/brevet.v1.Log/ListEntries", "admin", { task: "short", pageToken: "x" }, ["page_token", "task"]],
    ["/brevet.v1.Log/ListAttestations", "admin", { pageSize: 1001, pageToken: "-1" }, ["page_size", "page_token"]],
    ["/brevet.v1.Catalog/Apply", "admin", { files: [{ name: "a\u0000b", text: "agents: []" }] }, ["files[0].name"]],
  ])("each field of %s that is wrong is named at once", async (path, socket, request, fields) => {
    const method = methodOf(path);
    expect(await clientOf(socket).call(method, method.requestSerialize(request))).toMatchObject({ status: "INVALID_ARGUMENT", fields });
  });

  test("a process that is not there is nothing that was refused", async () => {
    const explain = methodOf("/brevet.v1.Log/Explain");
    expect(await clientOf("admin").call(explain, explain.requestSerialize({ pid: 2 ** 22 + 1 }))).toMatchObject({ status: "NOT_FOUND" });
  });

  test("of two targets none is chosen", async () => {
    const revoke = methodOf("/brevet.v1.Revocations/Revoke");
    const two = Buffer.concat([revoke.requestSerialize({ task: ids.ready, reason: "tired" }), bytesField(4, "brevet.local")]);
    expect(await clientOf("admin").call(revoke, two)).toMatchObject({ status: "INVALID_ARGUMENT", fields: ["target"] });
    expect(await world.get(ids.ready)).toMatchObject({ state: "ready" });
    const explain = methodOf("/brevet.v1.Log/Explain");
    expect(await clientOf("admin").call(explain, Buffer.alloc(0))).toMatchObject({ status: "INVALID_ARGUMENT", fields: ["about"] });
  });

  test("keys that mean something to JavaScript are keys like others", async () => {
    const context = { constructor: "a", prototype: "b", toString: "c", hasOwnProperty: "d", isPrototypeOf: "e" };
    const task = await world.open({ context, refs: { valueOf: "f" } });
    expect(new Map(Object.entries(task.context))).toEqual(new Map(Object.entries(context)));
    expect((await world.workload.tasks.list({ refs: { valueOf: "f" } })).tasks.map(({ id }) => id)).toEqual([task.id]);
    expect(Object.keys((await world.change(task.id, { valueOf: "g" }, ["constructor"])).context).sort()).toEqual(["hasOwnProperty", "isPrototypeOf", "prototype", "toString", "valueOf"]);
  });

  const health: Wire = { path: "/grpc.health.v1.Health/Check", requestStream: false, responseStream: false };
  const asked = (socket: Socket, service: string | Buffer): Promise<Answer> => clientOf(socket).call(health, bytesField(1, service), header("true"));

  test("no health check and no reflection request is a fault either", async () => {
    expect(await clientOf("workload").call(health, Buffer.from("0aff", "hex"))).toMatchObject({ status: "INVALID_ARGUMENT" });
    expect(await asked("workload", "nothing")).toMatchObject({ status: "NOT_FOUND", info: { reason: "NOT_FOUND" } });
    expect(await asked("workload", "no\u202eservice\u0007")).toMatchObject({ status: "NOT_FOUND", message: "service: no such service on this socket" });
    expect(await asked("workload", Buffer.from("fffe", "hex"))).toMatchObject({ status: "INVALID_ARGUMENT", fields: ["service"] });
  });

  test.each<[Socket, readonly string[], readonly string[]]>([
    ["workload", ["", "SpiffeWorkloadAPI", "brevet.v1.Agent", "brevet.v1.Tasks", "envoy.service.auth.v3.Authorization"], ["brevet.v1.Log", "brevet.v1.Catalog"]],
    ["admin", ["", "brevet.v1.Revocations", "brevet.v1.Catalog", "brevet.v1.Log", "brevet.v1.Operators", "brevet.v1.Trust"], ["SpiffeWorkloadAPI", "brevet.v1.Agent"]],
  ])("the %s socket says of each service that it has whether it serves, and shows them and health by reflection", async (socket, here, elsewhere) => {
    for (const service of here) expect((await asked(socket, service)).body?.toString("hex"), service).toBe("0801");
    for (const service of elsewhere) expect((await asked(socket, service)).status, service).toBe("NOT_FOUND");
    const reflect: Wire = { path: "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", requestStream: true, responseStream: true };
    const shown = async (request: Buffer): Promise<string> => (await clientOf(socket).call(reflect, request)).body?.toString("latin1") ?? "";
    const list = await shown(bytesField(7, "*"));
    for (const service of [...here, "grpc.health.v1.Health"]) expect(list).toContain(service);
    expect(await shown(bytesField(4, "grpc.health.v1.Health"))).toContain("HealthCheckRequest");
  });
});
