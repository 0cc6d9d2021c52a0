// Does a dead SVID open nothing, and close what it had opened?
// Real TLS between two sides that each hold their own SVID, their own bundle and their own view of the
// feed: who is accepted, who is refused and when, what a revocation cuts and what it leaves alone.
// SPIFFE X509-SVID section 5; DESIGN "Verifier": no resumption, registered and then checked again.
// Verdicts by themselves: verify.test.ts.
import * as https from "node:https";
import type { AddressInfo } from "node:net";
import * as tls from "node:tls";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { WorkloadSource } from "../src/client/source.ts";
import { agentIs, serviceIs } from "../src/verify/authorize.ts";
import { MtlsAgent, callerOf, connectMtls, createHttpsServer, createMtlsServer } from "../src/verify/tls.ts";
import type { MtlsOptions } from "../src/verify/tls.ts";
import { Verifier } from "../src/verify/verifier.ts";
import type { Refused } from "../src/verify/verdict.ts";
import { newAuthorities, pem } from "./support/authorities.ts";
import { Outside, agentSvid, bindingOf, serviceSvid, svidOf, taskA, taskB, until } from "./support/outside.ts";

type Side = { outside: Outside; verifier: Verifier; source: WorkloadSource };

const closing: (() => void)[] = [];
const authorities = newAuthorities();
let crm: Side;
let agent: Side;
let refused: Refused[];

async function side(task: string, issued: ReturnType<typeof agentSvid>, maxStaleness: number): Promise<Side> {
  const outside = await Outside.start(authorities);
  outside.held = outside.holding(issued, task);
  const verifier = new Verifier({ address: outside.address, maxStaleness });
  const source = await WorkloadSource.open({ address: outside.address });
  await verifier.ready();
  closing.push(() => {
    verifier.close();
    source.close();
    outside.close();
  });
  return { outside, verifier, source };
}

beforeEach(async () => {
  refused = [];
  crm = await side("service/crm", serviceSvid(authorities, "crm"), 60);
  agent = await side(taskA, agentSvid(authorities, taskA), 60);
});
afterEach(() => {
  for (const close of closing.splice(0).reverse()) close();
});

const own = ({ verifier, source }: Side): MtlsOptions => ({ verifier, source, onRefused: (verdict) => refused.push(verdict) });
const toCrm = ({ verifier, source }: Side, port: number): Parameters<typeof connectMtls>[0] => ({ verifier, source, authorize: serviceIs("crm"), host: "127.0.0.1", port });

/** An echo server of the crm; `seen` holds the sockets that reached its application. */
async function echo(options: Partial<MtlsOptions> = {}): Promise<{ port: number; seen: tls.TLSSocket[]; server: tls.Server }> {
  const seen: tls.TLSSocket[] = [];
  const server = createMtlsServer({ ...own(crm), ...options }, (socket) => {
    seen.push(socket);
    socket.pipe(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closing.push(() => {
    for (const socket of seen) socket.destroy();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, seen, server };
}

/** Whether a word comes back, or why not. */
async function spoke(socket: tls.TLSSocket): Promise<string> {
  closing.push(() => socket.destroy());
  return await new Promise((resolve) => {
    let why: (Error & { code?: string }) | undefined;
    socket.on("error", (error) => (why = error));
    socket.on("close", () => resolve(why?.code ?? why?.message ?? "closed"));
    socket.once("data", (data) => resolve(data.toString()));
    socket.write("hello");
  });
}

describe("two workloads", () => {
  it("talk, and each knows who the other is", async () => {
    const { port, seen } = await echo();
    const socket = connectMtls(toCrm(agent, port));
    expect(await spoke(socket)).toBe("hello");
    expect(callerOf(seen[0] as tls.TLSSocket)).toMatchObject({ agent: "researcher", task: taskA });
    expect(callerOf(socket)).toMatchObject({ service: "crm" });
    expect(socket.getProtocol()).toBe("TLSv1.3");
  });

  it("talk https; the handler hears only of accepted callers", async () => {
    const server = createHttpsServer(own(crm), (request, response) => {
      response.end(`${callerOf(request.socket).task} ${request.url}`);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const client = new MtlsAgent({ ...own(agent), authorize: serviceIs("crm") });
    closing.push(() => {
      client.destroy();
      server.closeAllConnections();
      server.close();
    });
    const get = async (path: string): Promise<string> => await new Promise((resolve, reject) => {
      const { port } = server.address() as AddressInfo;
      https.get({ host: "127.0.0.1", port, path, agent: client }, (response) => {
        response.setEncoding("utf8").once("data", resolve);
      }).once("error", reject);
    });
    expect(await get("/a")).toBe(`${taskA} /a`);
    expect(await get("/b")).toBe(`${taskA} /b`);
    const idle = (): number => Object.values(client.freeSockets).flat().length;
    await until(() => idle() === 1);
    agent.outside.pushSvids();
    await until(() => idle() === 0);
    expect(await get("/b")).toBe(`${taskA} /b`);
    crm.outside.revoke(taskA, 1);
    await until(() => crm.verifier.feed.epochOf(taskA) === 1);
    await expect(get("/c")).rejects.toThrow();
  });
});

describe("a server refuses", () => {
  it.each<[string, () => ReturnType<typeof agentSvid>, string, string]>([
    ["a service where an agent is expected", () => serviceSvid(authorities, "search"), "service/search", "VERIFY_NOT_AN_AGENT"],
    ["an agent that is not bound to its task", () => svidOf(authorities, `spiffe://example.org/agent/researcher/task/${taskA}`, bindingOf(taskB)), taskA, "VERIFY_MALFORMED"],
    ["an epoch that is revoked", () => agentSvid(authorities, taskB), taskB, "VERIFY_REVOKED"],
  ])("%s: nothing of it reaches the application", async (_what, issued, task, reason) => {
    crm.outside.revoke(taskB, 1);
    await until(() => crm.verifier.feed.epochOf(taskB) === 1);
    const { port, seen } = await echo();
    const other = await side(task, issued(), 60);
    expect(await spoke(connectMtls(toCrm(other, port)))).not.toBe("hello");
    await until(() => refused.length > 0);
    expect(refused.map((verdict) => verdict.reason)).toEqual([reason]);
    expect(seen).toEqual([]);
  });

  it("whom the authorizer does not want", async () => {
    const { port, seen } = await echo({ authorize: agentIs("writer") });
    expect(await spoke(connectMtls(toCrm(agent, port)))).not.toBe("hello");
    await until(() => refused.length > 0);
    expect(refused[0]?.reason).toBe("VERIFY_NOT_AUTHORIZED");
    expect(seen).toEqual([]);
  });

  it("during the handshake: no certificate, another CA's, an older protocol", async () => {
    const { port, seen } = await echo();
    const stranger = newAuthorities();
    const foreign = agentSvid(stranger, taskA);
    const [leaf, signer] = [foreign.certificate, stranger.x509.certificate].map((der) => pem("CERTIFICATE", der));
    const bare = { host: "127.0.0.1", port, rejectUnauthorized: false };
    expect(await spoke(tls.connect(bare))).not.toBe("hello");
    expect(await spoke(tls.connect({ ...bare, cert: `${leaf}${signer}`, key: pem("PRIVATE KEY", foreign.key) }))).not.toBe("hello");
    expect(await spoke(tls.connect({ ...bare, ...agent.source.tlsOptions(), maxVersion: "TLSv1.2" }))).not.toBe("hello");
    expect([seen, refused]).toEqual([[], []]);
  });

  it("everybody while it has heard nothing", async () => {
    const silent = new Verifier({ address: `unix://${crm.outside.directory}/nobody.sock` });
    closing.push(() => silent.close());
    const { port, seen } = await echo({ verifier: silent });
    expect(await spoke(connectMtls(toCrm(agent, port)))).not.toBe("hello");
    expect(seen).toEqual([]);
  });

  it("to resume: a second connection shows its certificate again", async () => {
    const { port, seen } = await echo();
    const connect = (session?: Buffer): tls.TLSSocket => tls.connect({
      host: "127.0.0.1", port, ...agent.source.tlsOptions(), rejectUnauthorized: false, ...(session && { session }),
    });
    const first = connect();
    let session: Buffer | undefined;
    first.on("session", (ticket) => (session = ticket));
    expect(await spoke(first)).toBe("hello");
    const ticket = session ?? first.getSession();
    const second = connect(ticket);
    expect(await spoke(second)).toBe("hello");
    expect([second.isSessionReused(), seen.map((socket) => socket.isSessionReused())]).toEqual([false, [false, false]]);
    expect(second.getPeerCertificate().raw).toBeInstanceOf(Buffer);
    crm.outside.revoke(taskA, 1);
    await until(() => crm.verifier.feed.epochOf(taskA) === 1);
    expect(await spoke(connect(ticket))).not.toBe("hello");
  });

  it("listeners that were added later hear no more than the others", async () => {
    const { port, server } = await echo({ authorize: agentIs("writer") });
    let heard = 0;
    server.on("secureConnection", () => heard++);
    expect(await spoke(connectMtls(toCrm(agent, port)))).not.toBe("hello");
    await until(() => refused.length > 0);
    expect(heard).toBe(0);
  });
});

describe("a client refuses", () => {
  it("a server that is somebody else, before a byte is answered", async () => {
    const { port } = await echo();
    const { verifier, source } = agent;
    expect(await spoke(connectMtls({ verifier, source, authorize: serviceIs("search"), host: "127.0.0.1", port }))).toMatch(/^VERIFY_NOT_AUTHORIZED/);
  });

  it("a server whose SVID is revoked", async () => {
    const { port } = await echo();
    agent.outside.revoke("service/crm", 1);
    await until(() => agent.verifier.feed.epochOf("service/crm") === 1);
    expect(await spoke(connectMtls(toCrm(agent, port)))).toMatch(/^VERIFY_REVOKED/);
  });
});

describe("a live connection", () => {
  it("is cut when its task's epoch is revoked, and no other is", async () => {
    const { port, seen } = await echo();
    const other = await side(taskB, agentSvid(authorities, taskB), 60);
    const newer = await side(taskA, agentSvid(authorities, taskA, 1), 60);
    const [dead, sameTask, otherTask] = [agent, newer, other].map((who) => connectMtls(toCrm(who, port))) as [tls.TLSSocket, tls.TLSSocket, tls.TLSSocket];
    for (const socket of [dead, sameTask, otherTask]) expect(await spoke(socket)).toBe("hello");
    crm.outside.revoke(taskA, 1);
    await until(() => dead.destroyed);
    expect([sameTask.destroyed, otherTask.destroyed]).toEqual([false, false]);
    for (const socket of [sameTask, otherTask]) {
      const again = new Promise((resolve) => socket.once("data", (data) => resolve(data.toString())));
      socket.write("still here");
      expect(await again).toBe("still here");
    }
    expect(seen.filter((socket) => socket.destroyed)).toHaveLength(1);
  });

  it("is cut from the client's side too", async () => {
    const { port } = await echo();
    const socket = connectMtls(toCrm(agent, port));
    expect(await spoke(socket)).toBe("hello");
    agent.outside.revoke("service/crm", 1);
    await until(() => socket.destroyed);
  });

  it.each<[string, (crm: Outside) => void]>([
    ["the end of its task", (outside) => outside.revoke(taskB, 1)],
    ["the loss of the feed", (outside) => outside.stop()],
  ])("outlives its SVID while the feed is heard, since its peer renews that and not its connections, but not %s", async (_what, happens) => {
    const { port, seen } = await echo();
    const issued = agentSvid(authorities, taskB, 0, 5);
    const socket = connectMtls(toCrm(await side(taskB, issued, 60), port));
    expect(await spoke(socket)).toBe("hello");
    const reason = (): string => {
      const verdict = crm.verifier.x509(issued.chain);
      return verdict.accepted ? "" : verdict.reason;
    };
    await until(() => reason() === "VERIFY_EXPIRED");
    const again = new Promise((resolve) => socket.once("data", (data) => resolve(data.toString())));
    socket.write("still here");
    expect(await again).toBe("still here");
    happens(crm.outside);
    await until(() => socket.destroyed);
    expect(seen[0]?.destroyed).toBe(true);
  });

  it("does not outlive its SVID where the feed is lost already", async () => {
    const { port } = await echo();
    const socket = connectMtls(toCrm(await side(taskB, agentSvid(authorities, taskB, 0, 5), 60), port));
    expect(await spoke(socket)).toBe("hello");
    crm.outside.stop();
    await until(() => socket.destroyed);
  });

  it.each<[string, (outside: Outside) => void]>([
    ["a silent feed", (outside) => (outside.mute = true)],
    ["a feed whose broker is gone", (outside) => outside.stop()],
  ])("does not outlive the trust in %s", async (_what, cutOff) => {
    const watchful = await side("service/crm", serviceSvid(authorities, "crm"), 2);
    const { port } = await echo(own(watchful));
    const socket = connectMtls(toCrm(agent, port));
    expect(await spoke(socket)).toBe("hello");
    cutOff(watchful.outside);
    await until(() => socket.destroyed);
  });

  it("is not lost between its verdict and its guard", async () => {
    const verdict = crm.verifier.x509(agentSvid(authorities, taskA).chain);
    crm.outside.revoke(taskA, 1);
    await until(() => crm.verifier.feed.epochOf(taskA) === 1);
    const socket = new tls.TLSSocket(undefined as never);
    expect(verdict.accepted && crm.verifier.guard(socket, verdict)).toBe(false);
    expect(socket.destroyed).toBe(true);
  });
});

it("a server follows its own SVID and the bundle", async () => {
  const { port } = await echo();
  const first = connectMtls(toCrm(agent, port));
  expect(await spoke(first)).toBe("hello");
  const before = first.getPeerCertificate().fingerprint256;
  const serials = (): string | undefined => crm.source.svid().cert;
  const old = serials();
  crm.outside.held = crm.outside.holding(serviceSvid(authorities, "crm"), "service/crm");
  crm.outside.pushSvids();
  await until(() => serials() !== old);
  const second = connectMtls(toCrm(agent, port));
  expect(await spoke(second)).toBe("hello");
  expect(second.getPeerCertificate().fingerprint256).not.toBe(before);
  const other = newAuthorities();
  crm.outside.bundles = { "spiffe://example.org": other.root.certificate };
  crm.outside.pushBundles();
  await until(() => crm.verifier.authorities[0]?.replace(/\s/g, "") === pem("CERTIFICATE", other.root.certificate).replace(/\s/g, ""));
  expect(await spoke(connectMtls(toCrm(agent, port)))).not.toBe("hello");
});
