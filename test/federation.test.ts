// Are other trust domains known as they publish themselves, and no further than we were told?
// Two brokers that federate both ways; an endpoint of a stranger's that lies, goes back, redirects, is slow or too
// long; what a workload is handed, what a verifier accepts of it, and what a restart remembers.
// SPIFFE Federation sections 4.1, 5.1, 5.2; Workload API sections 4.5, 5.2, 6.2. Threats T9, T24.
// Other people's endpoints and clients are test/interop's business.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import https from "node:https";
import type { ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { bundleOf } from "../ca/authority.ts";
import { issueJwt } from "../ca/jwt.ts";
import { issueX509, newSerial } from "../ca/x509.ts";
import { encodeSpiffeBundle } from "../src/identity/bundle.ts";
import { Federation } from "../src/federation/federation.ts";
import type { FederatedBundle } from "../src/federation/federation.ts";
import type { FederatedDomain } from "../src/federation/federation.ts";
import { Verifier } from "../src/verify/verifier.ts";
import { newAuthorities, trustDomain as stranger } from "./support/authorities.ts";
import { ownUid } from "./support/agent.ts";
import { patienceMs } from "./support/patience.ts";
import { freePort } from "./support/port.ts";
import { webCertificate } from "./support/web-certificate.ts";
import { Ledger } from "./support/ledger.ts";
import { World } from "./support/world.ts";

const folder = mkdtempSync(join(tmpdir(), "brevet-federation-"));
const theirs = newAuthorities();
const file = (name: string, content: string | Buffer): string => {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
};
const published = (sequence: number, records = [theirs.root.record, theirs.jwt.record]): Buffer =>
  encodeSpiffeBundle(bundleOf(records, { trustDomain: stranger, sequence, refreshHintSeconds: 0 }));

const services = (name: string): string => `
agents: [{ name: researcher, owner: lead@example.org, selectors: [{ uid: 65534 }] }]
services: [{ name: ${name}, owner: lead@example.org, selectors: [{ uid: ${ownUid} }] }]
`;
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** An endpoint as a stranger might run one. */
class Endpoint {
  answer: (response: ServerResponse) => void = (response) => response.end(published(1));
  readonly conditions: (string | undefined)[] = [];
  readonly #server: https.Server;
  readonly caFile: string;

  private constructor(server: https.Server, caFile: string) {
    this.#server = server;
    this.caFile = caFile;
  }

  static async open(): Promise<Endpoint> {
    const certificate = await webCertificate();
    const server = https.createServer(certificate);
    const endpoint = new Endpoint(server, file(`ca-${Math.random()}.pem`, certificate.cert));
    server.on("request", ({ headers }, response: ServerResponse) => {
      endpoint.conditions.push(headers["if-none-match"]);
      endpoint.answer(response);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return endpoint;
  }

  get url(): string {
    return `https://127.0.0.1:${(this.#server.address() as AddressInfo).port}/`;
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

const patience = async <T>(what: string, probe: () => T | undefined | false): Promise<T> => {
  for (const deadline = performance.now() + patienceMs; performance.now() < deadline; ) {
    const found = probe();
    if (found !== undefined && found !== false) return found;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`never came: ${what}`);
};

describe("a stranger's endpoint", () => {
  let ledger: Ledger;
  let endpoint: Endpoint;
  let known: ReadonlyMap<string, FederatedBundle>;
  const refusals: string[] = [];
  const open: Federation[] = [];

  beforeAll(async () => {
    ledger = await Ledger.start();
    endpoint = await Endpoint.open();
  });
  beforeEach(async () => {
    for (const federation of open.splice(0)) await federation.close();
    refusals.length = 0;
    endpoint.conditions.length = 0;
    endpoint.answer = (response) => response.end(published(1));
    await ledger.owner.rows("delete from federated_bundles");
  });
  afterAll(async () => {
    for (const federation of open) await federation.close();
    endpoint?.close();
    await ledger?.close();
  });

  const federate = async (domain: Partial<FederatedDomain> = {}): Promise<Federation> => {
    known = new Map();
    const domains = [{ trustDomain: stranger, endpoint: endpoint.url, profile: "https_web" as const, caFile: endpoint.caFile, ...domain }];
    const federation = new Federation({
      store: ledger.store, domains, shortestMs: 50, changed: (bundles) => (known = bundles), log: (event, { message = "" }) => event === "federation.failed" && refusals.push(String(message)),
    });
    open.push(federation);
    await federation.start();
    return federation;
  };
  const sequence = (): number | undefined => known.get(stranger)?.bundle.sequence;

  test("is asked at its hint, by condition, and each newer document replaces the one before, with what it no longer holds", async () => {
    endpoint.answer = (response) => response.writeHead(200, { etag: '"one"' }).end(published(5));
    await federate();
    await patience("the first", () => sequence() === 5);
    expect(known.get(stranger)?.bundle).toMatchObject({ trustDomain: stranger, x509: [theirs.root.certificate] });
    await patience("a condition", () => endpoint.conditions.includes('"one"'));
    endpoint.answer = (response) => response.end(published(6, [theirs.jwt.record]));
    await patience("the second", () => sequence() === 6);
    expect(known.get(stranger)?.bundle.x509).toEqual([]);
    endpoint.answer = (response) => response.end(published(7, []));
    await patience("no key at all", () => sequence() === 7);
    expect(known.get(stranger)?.bundle).toMatchObject({ x509: [], jwt: [] });
  });

  test.each<[string, (response: ServerResponse) => void, string]>([
    ["goes back", (response) => response.end(published(1)), "older than 9"],
    ["redirects", (response) => response.writeHead(302, { location: endpoint.url }).end(published(10)), "redirects"],
    ["fails", (response) => response.writeHead(500).end(published(10)), "HTTP 500"],
    ["says nothing readable", (response) => response.end("<html>secret</html>"), "JSON"],
    ["says one key twice", (response) => response.end('{"keys":[],"keys":[]}'), "stands twice"],
    ["has more keys than anybody needs", (response) => response.end(JSON.stringify({ spiffe_sequence: 10, keys: Array.from({ length: 101 }, () => ({ kty: "EC" })) })), "more than 100 keys"],
    ["is too long", (response) => response.end(`{"keys":[],"x":"${"x".repeat(2 << 20)}"}`), "larger than"],
    ["breaks off", (response) => response.writeHead(200, { "content-length": 1000 }).write("{", () => response.destroy()), "broke off"],
    ["gives a signing key for a leaf's", (response) => response.end(JSON.stringify({ spiffe_sequence: 10, keys: [{ kty: "EC", use: "x509-svid", x5c: ["AAAA"] }] })), ""],
  ])("that %s changes nothing, and nothing of it is told", async (_what, answer, why) => {
    endpoint.answer = (response) => response.end(published(9));
    await federate();
    await patience("the first", () => sequence() === 9);
    endpoint.answer = answer;
    expect(await patience("the refusal", () => refusals[0])).toContain(why);
    expect(refusals.join()).not.toContain("secret");
    expect(sequence()).toBe(9);
    endpoint.answer = (response) => response.end(published(10));
    await patience("what is good again", () => sequence() === 10);
  });

  test("whose certificate nobody vouches for is not believed", async () => {
    await federate({ caFile: undefined });
    expect(await patience("the refusal", () => refusals[0])).toMatch(/certificate|self.signed/i);
    expect(endpoint.conditions).toEqual([]);
    expect(known.size).toBe(0);
  });

  test("is remembered over a restart while it is away; a changed configuration begins anew", async () => {
    endpoint.answer = (response) => response.end(published(20));
    const first = await federate();
    await patience("the first", () => sequence() === 20);
    await first.close();
    endpoint.answer = (response) => response.writeHead(503).end();
    await federate();
    expect(sequence()).toBe(20);
    await federate({ bundleFile: file("first.json", published(3)) });
    expect(sequence()).toBe(3);
  });

  test("a file is read again when it changes, and not when it is broken", async () => {
    const path = file("static.json", published(1));
    await federate({ endpoint: undefined, profile: undefined, caFile: undefined, bundleFile: path });
    expect(sequence()).toBe(1);
    file("static.json", "{}");
    await patience("it is refused", () => refusals.some((message) => message.includes("static.json")));
    expect(sequence()).toBe(1);
    file("static.json", published(2));
    await patience("the newer one", () => sequence() === 2);
    await expect(federate({ endpoint: undefined, profile: undefined, caFile: undefined, bundleFile: file("broken.json", "{}") })).rejects.toMatchObject({ code: "START_REFUSED", message: expect.stringContaining("broken.json") });
  });
});

describe("two brokers that know each other", () => {
  const names = ["east.example", "west.example"] as const;
  let worlds: World[];

  beforeAll(async () => {
    const ports = [await freePort(), await freePort()];
    const start = async (i: 0 | 1, lines: string): Promise<World> => await World.start({
      catalog: services(i === 0 ? "crm" : "search"), configFile: file(`${names[i]}.yaml`, lines),
      env: { BREVET_TRUST_DOMAIN: names[i], BREVET_LISTEN_BUNDLE: `127.0.0.1:${ports[i]}` },
    });
    // neither can be first with the other's bundle: the second begins, the first starts again with what it learnt
    const domain = (of: 0 | 1, bundleFile: string): string => `federation:
  - { trustDomain: ${names[of]}, endpoint: "https://127.0.0.1:${ports[of]}/", profile: https_spiffe, endpointSpiffeId: "spiffe://${names[of]}/brevet/broker", bundleFile: ${bundleFile} }\n`;
    const east = await start(0, "");
    const eastBundle = file("east.json", (await east.workload.trust.getBundle({})).spiffe);
    const west = await start(1, domain(0, eastBundle));
    writeFileSync(join(folder, "east.example.yaml"), domain(1, file("west.json", (await west.workload.trust.getBundle({})).spiffe)));
    await east.restart();
    worlds = [east, west];
  });
  afterAll(async () => {
    for (const world of worlds ?? []) await world.end();
  });
  const [east, west] = [(): World => worlds[0] as World, (): World => worlds[1] as World];

  test("hand out each other's bundle beside their own, on every way, and fetch it by https_spiffe", async () => {
    const theirBundle = await west().workload.trust.getBundle({});
    const eastern = await east().workload.trust.getBundle({});
    expect(Object.keys(eastern.federated)).toEqual(["west.example"]);
    expect(JSON.parse(eastern.federated["west.example"]?.toString() ?? "")).toEqual(JSON.parse(theirBundle.spiffe.toString()));
    for await (const { svids, federatedBundles } of east().workload.workload.fetchX509SVID({})) {
      expect(svids[0]?.bundle).toEqual(eastern.x509);
      expect(federatedBundles).toEqual({ "spiffe://west.example": theirBundle.x509 });
      break;
    }
    for await (const { bundles } of east().workload.workload.fetchX509Bundles({})) {
      expect(bundles).toEqual({ "spiffe://east.example": eastern.x509, "spiffe://west.example": theirBundle.x509 });
      break;
    }
    for await (const { bundles } of east().workload.workload.fetchJWTBundles({})) {
      expect(bundles).toEqual({ "spiffe://east.example": eastern.jwks, "spiffe://west.example": theirBundle.jwks });
      break;
    }
    await west().until("a fetch", async () => (await west().sql<{ n: number }>("select count(*)::int as n from federated_bundles"))[0]?.n === 1);
  });

  const tokenOfWest = async (): Promise<string> => {
    const { svids } = await west().workload.workload.fetchJWTSVID({ audience: ["crm"] });
    west().sawToken(svids[0]?.svid ?? "");
    return svids[0]?.svid ?? "";
  };

  test("a verifier knows which is its own, and accepts the other's only where it was told to, by its authorizer alone", async () => {
    const token = await tokenOfWest();
    const address = east().broker.workloadSocket;
    using plain = new Verifier({ address, audience: "crm", accept: ["agent", "service"] });
    using told = new Verifier({ address, audience: "crm", accept: ["agent", "service"], trustDomains: ["west.example"] });
    await Promise.all([plain, told].map((verifier) => verifier.ready()));
    const authorize = ({ spiffeId }: { spiffeId: string }): true | string => spiffeId === "spiffe://west.example/service/search" || "not them";
    expect(plain.jwt(token, { authorize })).toMatchObject({ accepted: false, reason: "VERIFY_UNKNOWN_TRUST_DOMAIN" });
    expect(told.jwt(token)).toMatchObject({ accepted: false, reason: "VERIFY_NOT_AUTHORIZED" });
    expect(told.jwt(token, { authorize: () => "nobody" })).toMatchObject({ accepted: false, reason: "VERIFY_NOT_AUTHORIZED" });
    expect(told.jwt(token, { authorize })).toMatchObject({ accepted: true, spiffeId: "spiffe://west.example/service/search", agent: null, service: null, task: "" });
    expect(told.jwt(token, { authorize, audience: "other" })).toMatchObject({ accepted: false, reason: "VERIFY_AUDIENCE" });
    const { svids: own } = await east().workload.workload.fetchJWTSVID({ audience: ["crm"] });
    east().sawToken(own[0]?.svid ?? "");
    for (const verifier of [plain, told]) expect(verifier.jwt(own[0]?.svid ?? "")).toMatchObject({ accepted: true, service: "crm", task: "service/crm" });
  });

  test("neither can speak for the other: a key proves IDs of its own trust domain only", async () => {
    const forged = newAuthorities();
    const address = east().broker.workloadSocket;
    const impostor = file("impostor.json", encodeSpiffeBundle(bundleOf([forged.root.record, forged.jwt.record], { trustDomain: stranger, sequence: 1, refreshHintSeconds: 60 })));
    writeFileSync(join(folder, "east.example.yaml"), `federation: [{ trustDomain: example.org, bundleFile: ${impostor} }]\n`);
    await east().restart();
    using told = new Verifier({ address, audience: "crm", accept: ["agent", "service"], trustDomains: ["example.org", "west.example"] });
    await told.ready();
    const [issuedAt, expiresAt] = [new Date(Date.now() - 1000), new Date(Date.now() + 60_000)];
    const good = issueJwt({ signer: forged.jwt, subject: "spiffe://example.org/x", audience: ["crm"], jti: "1", issuedAt, expiresAt, binding: null });
    expect(told.jwt(good, { authorize: () => true })).toMatchObject({ accepted: true, spiffeId: "spiffe://example.org/x" });
    const { chain } = issueX509({ signer: forged.x509, spiffeId: "spiffe://example.org/x", binding: null, serial: newSerial(), notBefore: issuedAt, notAfter: expiresAt });
    expect(told.x509(chain, { authorize: () => true })).toMatchObject({ accepted: true, spiffeId: "spiffe://example.org/x" });
    // the same keys under our own name, and under that of a domain that is told of but not known
    for (const domain of ["east.example", "west.example"]) {
      const lying = { ...forged.jwt, record: { ...forged.jwt.record, trustDomain: domain } };
      const token = issueJwt({ signer: lying, subject: `spiffe://${domain}/service/crm`, audience: ["crm"], jti: "1", issuedAt, expiresAt, binding: null });
      expect(told.jwt(token, { authorize: () => true })).toMatchObject({ accepted: false, reason: domain === "east.example" ? "VERIFY_UNKNOWN_AUTHORITY" : "VERIFY_UNKNOWN_TRUST_DOMAIN" });
      const svid = issueX509({ signer: { ...forged.x509, record: { ...forged.x509.record, trustDomain: domain } }, spiffeId: `spiffe://${domain}/service/crm`, binding: null, serial: newSerial(), notBefore: issuedAt, notAfter: expiresAt });
      expect(told.x509(svid.chain, { authorize: () => true })).toMatchObject({ accepted: false, reason: domain === "east.example" ? "VERIFY_UNKNOWN_AUTHORITY" : "VERIFY_UNKNOWN_TRUST_DOMAIN" });
    }
  });
});
