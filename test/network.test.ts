// Is the network a way in for those who have a role, and for nobody else?
// Real brokers on listen.grpc, certificates that an administrator made, SVIDs of agents and services; what is removed
// is cut, what is not one's own is not there, and the first contact trusts only what a person compared.
// Which role may call what is roles.test.ts's.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import * as net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as tls from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connect } from "../src/client/connect.ts";
import type { Connection } from "../src/client/connect.ts";
import { BrevetError } from "../src/errors.ts";
import { splitDer } from "../src/identity/der.ts";
import { Verifier } from "../src/verify/verifier.ts";
import { FeedView } from "../src/verify/feed.ts";
import { agentUid, ownUid } from "./support/agent.ts";
import { newAuthorities, pem } from "./support/authorities.ts";
import { addOperator } from "./support/operator.ts";
import type { Identity } from "./support/operator.ts";
import { svidOf } from "./support/outside.ts";
import { patienceMs } from "./support/patience.ts";
import { Sidecar } from "./support/sidecar.ts";
import { World } from "./support/world.ts";

const catalog = `
agents:
  - { name: researcher, owner: o@example.org, purpose: p, selectors: [{ uid: ${agentUid} }], openers: [{ uid: ${ownUid} }], tasksPerInstance: 8 }
  - { name: clerk, owner: o@example.org, purpose: p, selectors: [{ uid: ${agentUid}, path: /nowhere }], openers: [{ uid: ${ownUid} }] }
services:
  - { name: ledger, owner: o@example.org, selectors: [{ uid: ${ownUid} }] }
`;

let world: World;
let folder: string;
const open: { close(): void }[] = [];
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "brevet-net-"));
  world = await World.start({ catalog, brokers: 2, env: { BREVET_LISTEN_GRPC: "127.0.0.1:0" } });
});
afterAll(async () => {
  for (const one of open.splice(0)) one.close();
  await world.end();
  rmSync(folder, { recursive: true });
});

const servers = (): string[] => world.brokers.map(({ grpc }) => grpc);
const reach = ({ key, cert, ca }: Identity, server: string | readonly string[] = world.broker.grpc): Connection => {
  const connection = connect({ server, identity: { key, cert }, trustBundle: ca });
  open.push(connection);
  return connection;
};
const codeOf = async (promise: Promise<unknown>): Promise<string> =>
  await promise.then(() => "none", (error: unknown) => (error instanceof BrevetError ? error.code : String(error)));

/** What the TLS layer makes of a client. */
async function handshake(options: tls.ConnectionOptions & { readonly localAddress?: string }): Promise<string> {
  const [, port] = world.broker.grpc.split(":");
  return await new Promise((resolve) => {
    const socket = tls.connect({ host: "127.0.0.1", port: Number(port), rejectUnauthorized: false, ALPNProtocols: ["h2"], ...options });
    socket.once("data", () => resolve(`served ${socket.getProtocol()}`));
    socket.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    socket.once("close", () => resolve("closed"));
    setTimeout(() => socket.destroy(), patienceMs).unref();
  });
}

describe("who comes in", () => {
  test("an operator, who is named as such in the log", async () => {
    const alice = reach(await addOperator(world, { name: "alice", role: "operator" }));
    const task = await alice.tasks.open({ agent: "researcher" });
    expect(task.openedBy).toBe("spiffe://brevet.local/brevet/operator/alice");
    const ended = await alice.revocations.revoke({ task: task.id, reason: "from afar" });
    expect(ended.tasks.map(({ id }) => id)).toEqual([task.id]);
    expect((await alice.trust.getInfo({})).ready).toBe(true);
    expect((await alice.operators.list({})).operators.map(({ name }) => name)).toContain("alice");
  });

  test("a service of the catalog, by the SVID that its own broker gave it; and no agent", async () => {
    for await (const { svids: [svid] } of world.workload.workload.fetchX509SVID({})) {
      const ca = splitDer(svid?.bundle ?? Buffer.alloc(0)).map((der) => pem("CERTIFICATE", der)).join("");
      const cert = splitDer(svid?.x509Svid ?? Buffer.alloc(0)).map((der) => pem("CERTIFICATE", der)).join("");
      const ledger = reach({ key: pem("PRIVATE KEY", svid?.x509SvidKey ?? Buffer.alloc(0)), cert, ca });
      expect((await ledger.trust.getBundle({})).trustDomain).toBe("brevet.local");
      expect(await codeOf(ledger.tasks.list({}))).toBe("DENIED_ROLE");
      break;
    }
    const agent = await world.agent();
    const { id } = await world.open({});
    await agent.claim(id);
    const [held] = await agent.x509();
    if (!held) throw new Error("no SVID");
    const cert = splitDer(held.chain).map((der) => pem("CERTIFICATE", der)).join("");
    const ca = splitDer(held.bundle).map((der) => pem("CERTIFICATE", der)).join("");
    expect(await codeOf(reach({ key: pem("PRIVATE KEY", held.key), cert, ca }).trust.getBundle({}))).toBe("DENIED_ROLE");
    await agent.kill();
  });

  test("nobody without a certificate, with a foreign one, by older TLS, or speaking another protocol", async () => {
    const { key, cert } = await addOperator(world, { name: "anna", role: "auditor" });
    expect(await handshake({ key, cert })).toBe("served TLSv1.3");
    expect(await handshake({})).not.toMatch(/served/);
    expect(await handshake({ key, cert, maxVersion: "TLSv1.2" })).not.toMatch(/served/);
    expect(await handshake({ key, cert, ALPNProtocols: ["http/1.1"] })).not.toMatch(/served/);
    expect(await handshake({ key, cert, ALPNProtocols: [] })).not.toMatch(/served/);
    const theirs = newAuthorities();
    const issued = svidOf({ ...theirs, x509: { ...theirs.x509, record: { ...theirs.x509.record, trustDomain: "brevet.local" } } }, "spiffe://brevet.local/brevet/operator/anna", null);
    const foreign = { key: pem("PRIVATE KEY", issued.key), cert: splitDer(issued.chain).map((der) => pem("CERTIFICATE", der)).join("") };
    expect(await handshake({ key: foreign.key, cert: foreign.cert })).not.toMatch(/served/);
    const { ca } = await addOperator(world, { name: "anton", role: "auditor" });
    expect(await codeOf(reach({ ...foreign, ca }).trust.getBundle({}))).toBe("BROKER_UNREACHABLE");
  });

  test("handshakes that ended, well or badly, take no place from later ones of the same address; connections stay open", async () => {
    const { key, cert } = await addOperator(world, { name: "amir", role: "auditor" });
    const many = Array.from({ length: 8 }, () => Array.from({ length: 12 }));
    for (const some of many) await Promise.all(some.map(() => handshake({}))); // no certificate
    for (const some of many) expect(new Set(await Promise.all(some.map(() => handshake({ key, cert }))))).toEqual(new Set(["served TLSv1.3"]));
  });

  test("handshakes that are begun and not ended take no place from another address", async () => {
    const { key, cert } = await addOperator(world, { name: "aziz", role: "auditor" });
    const [, port] = world.broker.grpc.split(":");
    const connected = async (): Promise<net.Socket> => await new Promise((resolve, reject) => {
      const socket = net.connect({ host: "127.0.0.1", port: Number(port) });
      socket.on("error", () => {}).once("connect", () => resolve(socket)).once("close", () => reject(new Error("closed")));
    });
    const silent = await Promise.all(Array.from({ length: 64 }, connected));
    expect(await handshake({ key, cert })).not.toMatch(/served/);
    expect(await handshake({ key, cert, localAddress: "127.0.0.2" })).toBe("served TLSv1.3");
    for (const socket of silent) socket.destroy();
    await world.until("a place", async () => (await handshake({ key, cert })) === "served TLSv1.3");
  });

  test("and no session is resumed: each connection is judged by its own handshake", async () => {
    const identity = await addOperator(world, { name: "ticket", role: "auditor" });
    const [, port] = world.broker.grpc.split(":");
    const once = async (session?: Buffer): Promise<{ session: Buffer | undefined; reused: boolean }> => await new Promise((resolve) => {
      let last: Buffer | undefined;
      let reused = true;
      const socket = tls.connect({ host: "127.0.0.1", port: Number(port), ...identity, session, checkServerIdentity: () => undefined, ALPNProtocols: ["h2"] });
      socket.on("session", (given: Buffer) => (last = given));
      socket.once("secureConnect", () => (reused = socket.isSessionReused()));
      socket.once("data", () => setTimeout(() => socket.destroy(), 200));
      socket.once("close", () => resolve({ session: last, reused }));
    });
    const first = await once();
    expect(await once(first.session)).toMatchObject({ reused: false });
  });
});

test("nobody but the broker is believed, not even a service of the same trust domain at its address", async () => {
  const identity = await addOperator(world, { name: "wary", role: "service" });
  const { value } = await world.workload.workload.fetchX509SVID({}).next();
  const [svid] = value?.svids ?? [];
  const cert = splitDer(svid?.x509Svid ?? Buffer.alloc(0)).map((der) => pem("CERTIFICATE", der)).join("");
  const asked: string[] = [];
  const impostor = tls.createServer({ key: pem("PRIVATE KEY", svid?.x509SvidKey ?? Buffer.alloc(0)), cert, minVersion: "TLSv1.3", ALPNProtocols: ["h2"] }, (socket) => {
    socket.on("error", () => {}).on("data", (bytes: Buffer) => asked.push(bytes.toString("latin1")));
  });
  await new Promise<void>((resolve) => impostor.listen(0, "127.0.0.1", resolve));
  open.push(impostor);
  const address = `127.0.0.1:${(impostor.address() as net.AddressInfo).port}`;
  const refused = await reach(identity, address).trust.getBundle({}).catch((error: unknown) => error as BrevetError);
  expect(refused).toMatchObject({ code: "BROKER_UNREACHABLE", message: expect.stringContaining("not a broker's") });
  const verifier = new Verifier({ server: [address, world.broker.grpc], identity, trustBundle: identity.ca });
  await verifier.ready(); // by the other
  verifier.close();
  expect(asked).toEqual([]);
});

describe("what is one's own", () => {
  test("an orchestrator handles the tasks of its agents; another's is not there, as one that is not", async () => {
    const runner = reach(await addOperator(world, { name: "runner", role: "orchestrator", agents: ["clerk"] }));
    const own = await runner.tasks.open({ agent: "clerk" });
    const others = await world.open({});
    const refusal = async (task: string): Promise<unknown> => await runner.tasks.get({ task }).catch((error: unknown) => {
      const { code, message, metadata } = error as BrevetError;
      return { code, message, field: metadata["field"] };
    });
    expect(await refusal(others.id)).toEqual(await refusal("01900000-0000-7000-8000-000000000000"));
    const tries = [runner.tasks.close({ task: others.id }), runner.tasks.abort({ task: others.id, reason: "r" }),
      runner.tasks.changeContext({ task: others.id, set: { a: "b" } }), runner.tasks.open({ agent: "researcher" })];
    expect(await Promise.all(tries.map(codeOf))).toEqual(["NOT_FOUND", "NOT_FOUND", "NOT_FOUND", "NOT_FOUND"]);
    expect((await runner.tasks.list({})).tasks.map(({ id }) => id)).toEqual([own.id]);
    expect((await runner.tasks.close({ task: own.id })).state).toBe("closed");
  });

  test("an auditor sees all and changes nothing", async () => {
    const auditor = reach(await addOperator(world, { name: "auditor", role: "auditor" }));
    const { id } = await world.open({});
    expect((await auditor.tasks.get({ task: id })).id).toBe(id);
    expect(await codeOf(auditor.tasks.close({ task: id }))).toBe("DENIED_ROLE");
    expect((await world.get(id)).state).toBe("ready");
  });
});

describe("an operator who is removed", () => {
  test("is cut off at both brokers, and told why when it comes again", async () => {
    const identity = await addOperator(world, { name: "mallory", role: "operator" });
    const streams = servers().map(async (server) => {
      const connection = reach(identity, server);
      for await (const message of connection.feed.watch({})) if (message.complete) heard.push(server);
    });
    const heard: string[] = [];
    const ended = streams.map((stream) => codeOf(stream));
    await world.until("both listen", () => new Set(heard).size === 2);
    await world.admin.operators.remove({ name: "mallory", reason: "laptop lost" });
    expect(await Promise.all(ended)).toEqual(["BROKER_UNREACHABLE", "BROKER_UNREACHABLE"]);
    for (const server of servers()) expect(await codeOf(reach(identity, server).tasks.list({}))).toBe("VERIFY_REVOKED");
    const again = await addOperator(world, { name: "mallory", role: "auditor" });
    expect((await reach(again).tasks.list({})).tasks.length).toBeGreaterThan(0);
    expect(await codeOf(reach(identity).tasks.list({}))).toBe("VERIFY_REVOKED");
    expect(await codeOf(addOperator(world, { name: "mallory", role: "operator" }))).toBe("WRONG_STATE");
    await addOperator(world, { name: "mallory", role: "operator", replace: true });
    expect(await codeOf(reach(again).tasks.list({}))).toBe("VERIFY_REVOKED");
  });

  test("is no agent and no service to a verifier, and what is asked of it is checked", async () => {
    const { cert } = await addOperator(world, { name: "bob", role: "operator" });
    const verifier = new Verifier({ address: world.broker.workloadSocket, accept: ["agent", "service"] });
    await verifier.ready();
    const chain = Buffer.concat((cert.match(/(?<=-----BEGIN CERTIFICATE-----)[^-]+/g) ?? []).map((block) => Buffer.from(block, "base64")));
    expect(verifier.x509(chain)).toMatchObject({ accepted: false, reason: "VERIFY_NOT_AN_AGENT" });
    verifier.close();
    for (const wrong of [{ role: "king" }, { role: "orchestrator" }, { role: "auditor", agents: ["researcher"] }, { role: "orchestrator", agents: ["nobody"] }, { role: "auditor", ttlSeconds: 10 ** 7 }]) {
      expect(await codeOf(addOperator(world, { name: "carol", ...wrong }))).toBe("INVALID_FIELD");
    }
    expect(await codeOf(addOperator(world, { name: "../carol", role: "auditor" }))).toBe("INVALID_FIELD");
    expect(await codeOf(world.admin.operators.add({ name: "carol", role: "auditor", publicKey: Buffer.alloc(91) }))).toBe("INVALID_FIELD");
    expect(await codeOf(world.admin.operators.renew({ publicKey: Buffer.alloc(91) }))).toBe("UNIMPLEMENTED");
  });
});

/** Follows the feed; how that ended. */
async function untilCut(connection: Connection): Promise<string> {
  return await codeOf((async () => {
    for await (const _ of connection.feed.watch({}));
  })());
}

test("another trust domain's SVID has the role that `roles` gives it and no other, whatever its path says, while its bundle vouches for it; a service has one while the catalog names it; neither has the whole broker", async () => {
  const foreign = await World.start({ catalog, env: { BREVET_TRUST_DOMAIN: "foreign.example" } });
  const bundle = join(folder, "foreign.json");
  writeFileSync(bundle, (await foreign.admin.trust.getBundle({})).spiffe);
  const config = join(folder, "brevet.yaml");
  writeFileSync(config, `federation: [{ trustDomain: foreign.example, bundleFile: ${bundle} }]
roles: [{ spiffeId: spiffe://foreign.example/service/*, role: orchestrator, agents: [clerk] }]\n`);
  const here = await World.start({ catalog, configFile: config, env: { BREVET_LISTEN_GRPC: "127.0.0.1:0", BREVET_LIMITS_PER_IDENTITY_CONNECTIONS: "4" } });
  const { ca } = await addOperator(here, { name: "trust", role: "auditor" });
  const mallory = await addOperator(foreign, { name: "trust", role: "operator" });
  for await (const { svids: [svid] } of foreign.workload.workload.fetchX509SVID({})) {
    const cert = splitDer(svid?.x509Svid ?? Buffer.alloc(0)).map((der) => pem("CERTIFICATE", der)).join("");
    const ledger = reach({ key: pem("PRIVATE KEY", svid?.x509SvidKey ?? Buffer.alloc(0)), cert, ca }, here.broker.grpc);
    expect((await ledger.tasks.open({ agent: "clerk" })).openedBy).toBe("spiffe://foreign.example/service/ledger");
    expect(await codeOf(ledger.tasks.open({ agent: "researcher" }))).toBe("NOT_FOUND");
    expect(await codeOf(ledger.operators.list({}))).toBe("DENIED_ROLE");
    // an operator there is nobody here, though one of that name is
    expect(await codeOf(reach({ ...mallory, ca }, here.broker.grpc).tasks.list({}))).toBe("DENIED_ROLE");

    // its bundle vouches for it no more
    const cut = untilCut(ledger);
    const { keys, spiffe_sequence: sequence, ...rest } = JSON.parse(readFileSync(bundle, "utf8")) as { keys: { use: string }[]; spiffe_sequence: number };
    writeFileSync(bundle, JSON.stringify({ ...rest, spiffe_sequence: sequence + 1, keys: keys.filter(({ use }) => use !== "x509-svid") }));
    expect(await cut).toBe("BROKER_UNREACHABLE");
    expect(await codeOf(ledger.tasks.open({ agent: "clerk" }))).toBe("BROKER_UNREACHABLE");
    break;
  }

  for await (const { svids: [svid] } of here.workload.workload.fetchX509SVID({})) {
    const cert = splitDer(svid?.x509Svid ?? Buffer.alloc(0)).map((der) => pem("CERTIFICATE", der)).join("");
    const own = reach({ key: pem("PRIVATE KEY", svid?.x509SvidKey ?? Buffer.alloc(0)), cert, ca }, here.broker.grpc);
    const cut = untilCut(own);
    expect((await own.trust.getBundle({})).trustDomain).toBe("brevet.local");
    await here.apply(catalog.slice(0, catalog.indexOf("services:"))); // a service of the catalog no more
    expect(await cut).toBe("BROKER_UNREACHABLE");
    expect(await codeOf(own.trust.getBundle({}))).toBe("DENIED_ROLE");
    break;
  }

  const crowd = await addOperator(here, { name: "crowd", role: "auditor" });
  const four = Array.from({ length: 4 }, () => reach(crowd, here.broker.grpc));
  expect(await Promise.all(four.map(async (one) => await codeOf(one.trust.getBundle({}))))).toEqual(["none", "none", "none", "none"]);
  expect(await codeOf(reach(crowd, here.broker.grpc).trust.getBundle({}))).toBe("RATE_LIMITED");
  expect(await codeOf(reach(await addOperator(here, { name: "other", role: "auditor" }), here.broker.grpc).trust.getBundle({}))).toBe("none");
  four[0]?.close();
  await here.until("a place", async () => (await codeOf(reach(crowd, here.broker.grpc).trust.getBundle({}))) === "none");
  await here.end();
  await foreign.end();
});

describe("several addresses", () => {
  /** Takes every connection, and says nothing. */
  const silentHost = async (): Promise<string> => {
    const sockets: net.Socket[] = [];
    const server = net.createServer((socket) => void sockets.push(socket));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    open.push({ close: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    } });
    return `127.0.0.1:${(server.address() as net.AddressInfo).port}`;
  };

  test("one where nobody listens, or somebody who says nothing, is left for the next, by every kind of call; what was sent is sent once", async () => {
    const identity = await addOperator(world, { name: "patient", role: "operator" });
    for (const first of ["127.0.0.1:1", await silentHost()]) {
      const addresses = [first, world.broker.grpc];
      const before = (await world.admin.tasks.list({})).tasks.length;
      const verifier = new Verifier({ server: addresses, identity, trustBundle: identity.ca, maxStaleness: "60s" });
      const [, { value: piece }] = await Promise.all([
        reach(identity, addresses).tasks.open({ agent: "researcher" }), // not one that may be repeated
        reach(identity, addresses).trust.watchBundle({}).next(),
        verifier.ready(),
      ]);
      verifier.close();
      expect(piece?.bundle.length).toBeGreaterThan(0);
      expect((await world.admin.tasks.list({})).tasks).toHaveLength(before + 1);
    }
  });

  test("a verifier whose broker is killed goes on at the other, past a host that is silent: same sequence, no snapshot, nothing accepted wrongly", async () => {
    const identity = await addOperator(world, { name: "gateway", role: "service" });
    const agent = await world.agent({ broker: world.brokers[1] as never });
    const tasks = [await world.open({}), await world.open({})];
    for (const { id } of tasks) await agent.claim(id);
    const held = await agent.x509();
    const chainOf = (task: string | undefined): Buffer => held.find(({ hint }) => hint === task)?.chain ?? Buffer.alloc(0);

    const [first = "", second = ""] = servers();
    const addresses = [first, await silentHost(), second];
    const verifier = new Verifier({ server: addresses, identity, trustBundle: identity.ca });
    open.push(verifier);
    await verifier.ready();
    const snapshots: boolean[] = [];
    const watch = reach(identity, addresses).feed.watch;
    const view = new FeedView(async function* (request, options) {
      for await (const message of watch(request, options)) {
        snapshots.push(message.snapshot);
        yield message;
      }
    }, 10_000, { name: "t", graceMs: 0 });
    const stop = new AbortController();
    const running = view.run(stop.signal);
    await world.until("fresh", () => view.fresh);
    const counted = snapshots.filter(Boolean).length;
    for (const { id } of tasks) expect(verifier.x509(chainOf(id)).accepted).toBe(true);

    await world.brokers[0]?.kill9();
    const [closed, kept] = tasks;
    await world.brokers[1]?.admin.tasks.close({ task: closed?.id ?? "" });
    await world.until("both have heard", () => verifier.feed.epochOf(closed?.id ?? "") === 2 && view.epochOf(closed?.id ?? "") === 2);
    expect(verifier.x509(chainOf(closed?.id))).toMatchObject({ accepted: false, reason: "VERIFY_REVOKED" });
    expect(verifier.x509(chainOf(kept?.id)).accepted).toBe(true);
    expect(snapshots.filter(Boolean)).toHaveLength(counted);
    stop.abort();
    await running;
    await world.brokers[0]?.start();
    await agent.kill();
  });
});

describe("the command line from another machine", () => {
  const command = async (args: readonly string[]): ReturnType<typeof world.broker.command> => await world.broker.command(...args);

  test("compares a fingerprint first, works, renews its certificate by itself, and refuses what it can't know", async () => {
    const dir = join(folder, "dora");
    const made = await command(["operator", "add", "dora", "--role", "operator", "--ttl", "60s", "--out", dir]);
    expect(made).toMatchObject({ code: 0, stderr: "" });
    const file = join(dir, "identity.pem");
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect((await command(["operator", "add", "dora2", "--role", "operator", "--out", dir])).stderr).toContain("holds an identity already");
    rmSync(join(dir, "bundle.pem"));

    const there = ["--server", world.broker.grpc, "--identity", dir];
    const untrusted = await command(["task", "list", ...there]);
    expect(untrusted.code).toBe(1);
    expect(untrusted.stderr).toContain("--trust-fingerprint");
    const shown = (await command(["bundle", "show", "--format", "fingerprint"])).stdout.trim();
    expect(shown).toMatch(/^([0-9A-F]{2}:){31}[0-9A-F]{2}$/);
    const wrong = await command(["task", "list", ...there, "--trust-fingerprint", shown.replace(/^../, (two) => (two === "00" ? "01" : "00"))]);
    expect(wrong.stderr).toContain("VERIFY_UNKNOWN_AUTHORITY");

    const before = readFileSync(file, "utf8");
    const opened = await command(["task", "open", "--agent", "researcher", "-o", "json", ...there, "--trust-fingerprint", shown]);
    expect(opened).toMatchObject({ code: 0 });
    const { id } = JSON.parse(opened.stdout) as { id: string };
    expect((await world.get(id)).openedBy).toBe("spiffe://brevet.local/brevet/operator/dora");
    const after = readFileSync(file, "utf8"); // a minute's certificate is dated back by a minute: past its half at once
    expect(after).not.toBe(before);
    expect(/PRIVATE KEY-----\n([^-]+)/.exec(after)?.[1]).not.toBe(/PRIVATE KEY-----\n([^-]+)/.exec(before)?.[1]);
    expect((await command(["revoke", "--task", id, "--reason", "from afar", ...there])).stdout).toContain("1 task ended");
    expect((await command(["log", "list", ...there])).code).toBe(0);
    const doctor = JSON.parse((await command(["doctor", "-o", "json", ...there])).stdout) as { checks: { check: string; result: string }[] };
    expect(doctor.checks.filter(({ check }) => ["broker", "clock"].includes(check)).map(({ result }) => result)).toEqual(["ok", "ok"]);
    expect(doctor.checks.map(({ check }) => check)).not.toContain("kernel"); // that is this machine's
    expect((await command(["bundle", "show", ...there, "--format", "pem"])).stdout).toContain("BEGIN CERTIFICATE");
    const local = await command(["svid", "x509", ...there]);
    expect(local.code).toBe(2);
    expect(local.stderr).toContain("broker's own machine");
    expect((await command(["operator", "add", "eve", "--role", "operator", "--out", join(folder, "eve"), ...there])).stderr).toContain("on the broker's own machine");
    expect((await command(["operator", "list", ...there])).stdout).toContain("dora");
    await world.admin.operators.remove({ name: "dora", reason: "done" });
    expect((await command(["task", "list", ...there])).stderr).toContain("VERIFY_REVOKED");
  });

  test("keeps bundle and lists as files where there is no broker", async () => {
    const { key, cert, ca } = await addOperator(world, { name: "nginx", role: "service" });
    const dir = join(folder, "nginx");
    mkdirSync(dir);
    writeFileSync(join(dir, "identity.pem"), key + cert, { mode: 0o600 });
    writeFileSync(join(dir, "bundle.pem"), ca);
    const files = join(folder, "nginx-files");
    const sidecar = await Sidecar.start(world, files, ["--verifier", "--server", world.broker.grpc, "--identity", dir]);
    try {
      await world.until("ready", () => existsSync(join(files, ".ready")));
      expect([...sidecar.files.keys()].sort()).toEqual(["bundle.pem", "crl.pem"]);
      const before = sidecar.files.get("crl.pem");
      const agent = await world.agent();
      const { id } = await world.open({});
      await agent.claim(id);
      await agent.x509();
      await world.close(id);
      await world.until("the next list", () => sidecar.files.get("crl.pem") !== undefined && sidecar.files.get("crl.pem") !== before);
      await agent.kill();
    } finally {
      sidecar.child.kill("SIGTERM");
    }
    expect(await sidecar.exit()).toBe(0);
  });

  test("takes certificate and key from files, or a key store is made", async () => {
    const { key, cert, ca } = await addOperator(world, { name: "files", role: "auditor" });
    const at = (name: string, content: string): string => {
      const path = join(folder, name);
      writeFileSync(path, content, { mode: 0o600 });
      return path;
    };
    const there = ["--server", world.broker.grpc, "--cert", at("cert.pem", cert), "--key", at("key.pem", key)];
    expect((await command(["agent", "list", ...there, "--trust-bundle", at("ca.pem", ca)])).stdout).toContain("researcher");
    expect((await command(["agent", "list", ...there])).stderr).toContain("which broker to trust");
    const store = join(folder, "store.p12");
    expect((await command(["operator", "add", "store", "--role", "auditor", "--p12", store])).code).toBe(0);
    expect(statSync(store).mode & 0o777).toBe(0o600);
    expect(readFileSync(`${store}.password`, "utf8").length).toBeGreaterThan(20);
  });

  test("an SDK's connection renews its folder's certificate while it is used", async () => {
    const dir = join(folder, "frank");
    await command(["operator", "add", "frank", "--role", "service", "--ttl", "60s", "--out", dir]);
    const file = join(dir, "identity.pem");
    const before = readFileSync(file, "utf8");
    const verifier = new Verifier({ server: servers(), identity: dir });
    open.push(verifier);
    await verifier.ready();
    await world.until("another certificate", () => readFileSync(file, "utf8") !== before);
  });
});
