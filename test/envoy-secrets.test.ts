// What does the broker hand to Envoy's TLS, and when anew?
// Asked as Envoy asks, by the world's own process, which is a service: names, versions, what an answer that
// was accepted or refused leads to, and that a new list, a rotation and an end reach an open stream.
// A task's own secrets come by the same code as the Workload API's (revoke.test.ts); a real Envoy with
// both is interop/envoy.test.ts's.
import { X509Certificate, createPrivateKey } from "node:crypto";
import { Client, Metadata, credentials } from "@grpc/grpc-js";
import type { ClientDuplexStream } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { decodeError } from "../src/client/status.ts";
import type { Secret__Output } from "../src/generated/envoy/extensions/transport_sockets/tls/v3/Secret.ts";
import type { DiscoveryRequest } from "../src/generated/envoy/service/discovery/v3/DiscoveryRequest.ts";
import type { DiscoveryResponse__Output } from "../src/generated/envoy/service/discovery/v3/DiscoveryResponse.ts";
import { readCrl } from "../src/identity/crl.ts";
import type { Crl } from "../src/identity/crl.ts";
import { readX509Svid } from "../src/identity/svid.ts";
import { envoyServices, messageType } from "../src/proto.ts";
import { agentUid, ownUid } from "./support/agent.ts";
import { World } from "./support/world.ts";
import { patienceMs } from "./support/patience.ts";

const catalog = `
agents:
  - { name: researcher, owner: lead@example.org, selectors: [{ uid: ${agentUid} }], openers: [{ uid: ${ownUid} }], tasksPerInstance: 8 }
services:
  - { name: crm, owner: lead@example.org, selectors: [{ uid: ${ownUid} }], x509Ttl: 6s }
`;
const asRoot = ownUid === 0;
const trustDomain = "spiffe://brevet.local";
const crm = `${trustDomain}/service/crm`;
const typeUrl = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
const { StreamSecrets, FetchSecrets, DeltaSecrets } = envoyServices.secrets;

let world: World;
let client: Client;
beforeAll(async () => {
  world = await World.start({ catalog });
  client = new Client(world.broker.workloadSocket.replace("unix://", "unix:"), credentials.createInsecure());
});
afterAll(async () => {
  client.close();
  await world?.end();
});

type Answer = { readonly version: string; readonly nonce: string; readonly secrets: Secret__Output[] };

function metadata(): Metadata {
  const sent = new Metadata();
  sent.set("workload.spiffe.io", "true");
  return sent;
}

function read({ versionInfo, nonce, resources, typeUrl: type }: DiscoveryResponse__Output): Answer {
  expect(type).toBe(typeUrl);
  const secrets = resources.map((any) => messageType("envoy.extensions.transport_sockets.tls.v3.Secret").deserialize((any as unknown as { value: Buffer }).value) as Secret__Output);
  for (const { tlsCertificate } of secrets) {
    if (!tlsCertificate) continue;
    const key = createPrivateKey(text(tlsCertificate.privateKey?.inlineBytes));
    world.keepSecret("an Envoy's key", key.export({ format: "der", type: "pkcs8" }).subarray(36, 68));
    world.sawIdentity({ cert: text(tlsCertificate.certificateChain?.inlineBytes), key: text(tlsCertificate.privateKey?.inlineBytes) });
  }
  return { version: versionInfo, nonce, secrets };
}

const text = (bytes: Buffer | undefined): string => bytes?.toString("utf8") ?? "";
const codeOf = (error: unknown): string => decodeError(error, "the socket").code;

async function fetchOnce(names: readonly string[], type = typeUrl): Promise<Answer> {
  return await new Promise((resolve, reject) => {
    client.makeUnaryRequest(FetchSecrets.path, FetchSecrets.requestSerialize, FetchSecrets.responseDeserialize, { resourceNames: [...names], typeUrl: type }, metadata(),
      { deadline: Date.now() + patienceMs }, (error, answer) => (error ? reject(decodeError(error, "the socket")) : resolve(read(answer as DiscoveryResponse__Output))));
  });
}

class Subscription {
  readonly answers: Answer[] = [];
  ended: string | undefined;
  readonly #stream: ClientDuplexStream<DiscoveryRequest, DiscoveryResponse__Output>;
  readonly #names: readonly string[];

  constructor(names: readonly string[]) {
    this.#names = names;
    this.#stream = client.makeBidiStreamRequest(StreamSecrets.path, StreamSecrets.requestSerialize, StreamSecrets.responseDeserialize, metadata());
    this.#stream.on("data", (answer: DiscoveryResponse__Output) => this.answers.push(read(answer)));
    this.#stream.on("error", (error) => (this.ended = codeOf(error)));
    this.send({ resourceNames: [...names] });
    onTestFinished(() => this.#stream.cancel());
  }

  send(request: DiscoveryRequest): void {
    this.#stream.write({ typeUrl, ...request });
  }

  async next(count: number): Promise<Answer> {
    return await world.until(`answer ${count}`, () => {
      if (this.ended !== undefined) throw new Error(`the stream ended: ${this.ended}`);
      return this.answers[count - 1];
    });
  }

  accept({ version, nonce }: Answer): void {
    this.send({ resourceNames: [...this.#names], versionInfo: version, responseNonce: nonce });
  }

  refuse({ nonce }: Answer, message: string): void {
    this.send({ resourceNames: [...this.#names], responseNonce: nonce, errorDetail: { code: 3, message } });
  }
}

function listsOf(answer: Answer): Crl[] {
  const crls = text(answer.secrets[0]?.validationContext?.crl?.inlineBytes).match(/(?<=-----BEGIN X509 CRL-----)[^-]+/g) ?? [];
  return crls.map((base64) => readCrl(Buffer.from(base64, "base64")));
}

describe("a name stands for", () => {
  test.each(["ROOTCA", "ALL", trustDomain])("%s: the authorities, and a list of each", async (name) => {
    const answer = await fetchOnce([name]);
    expect(answer.secrets.map((secret) => secret.name)).toEqual([name]);
    const trusted = text(answer.secrets[0]?.validationContext?.trustedCa?.inlineBytes);
    expect(new X509Certificate(trusted)).toMatchObject({ ca: true, subjectAltName: `URI:${trustDomain}` });
    expect(listsOf(answer).length).toBeGreaterThanOrEqual(2);
  });

  test.each(["default", crm])("%s: the caller's own certificate and key", async (name) => {
    const { secrets } = await fetchOnce([name]);
    const leaf = new X509Certificate(text(secrets[0]?.tlsCertificate?.certificateChain?.inlineBytes));
    expect(leaf.subjectAltName).toBe(`URI:${crm}`);
    expect(leaf.checkPrivateKey(createPrivateKey(text(secrets[0]?.tlsCertificate?.privateKey?.inlineBytes)))).toBe(true);
    expect(secrets[0]?.name).toBe(name);
  });

  test("nothing else", async () => {
    for (const name of ["crm", `${trustDomain}/service/another`, "spiffe://other.example"]) await expect(fetchOnce([name])).rejects.toMatchObject({ code: "DENIED_IDENTITY" });
    await expect(fetchOnce([])).rejects.toMatchObject({ code: "INVALID_FIELD" });
    await expect(fetchOnce(["default"], "type.googleapis.com/envoy.config.cluster.v3.Cluster")).rejects.toMatchObject({ code: "INVALID_FIELD" });
  });

  test.skipIf(!asRoot)("what is everybody's, for a process that is nobody", async () => {
    const stranger = await world.agent({ uid: 54_321 });
    expect(await stranger.x509().catch(codeOf)).toBe("DENIED_NO_MATCH"); // SDS asks the same question (held.ts)
  });
});

test("the incremental protocol is refused by name", async () => {
  const stream = client.makeBidiStreamRequest(DeltaSecrets.path, DeltaSecrets.requestSerialize, DeltaSecrets.responseDeserialize, metadata());
  const ended = new Promise((resolve) => stream.on("error", (error) => resolve(codeOf(error))));
  stream.on("data", () => undefined);
  stream.write({});
  expect(await ended).toBe("UNIMPLEMENTED");
});

test("a certificate is renewed on the open stream, with a new key, once the last was answered", async () => {
  const stream = new Subscription(["default"]);
  const first = await stream.next(1);
  await world.until("half of its life is over", () => new Promise<boolean>((resolve) => setTimeout(() => resolve(true), 4_000)));
  expect(stream.answers).toHaveLength(1); // unanswered: nothing more is sent
  stream.accept(first);
  const second = await stream.next(2);
  const keys = [first, second].map(({ secrets }) => text(secrets[0]?.tlsCertificate?.privateKey?.inlineBytes));
  expect(keys[0]).not.toBe(keys[1]);
  expect(first.version).not.toBe(second.version);
  const serials = [first, second].map(({ secrets }) => readX509Svid(new X509Certificate(text(secrets[0]?.tlsCertificate?.certificateChain?.inlineBytes)).raw).serial);
  expect(new Set(serials).size).toBe(2);
});

test("a new list comes as soon as there is one, and lists what died; a refused answer is not repeated", async () => {
  const agent = await world.agent();
  const task = await world.open();
  await agent.claim(task.id);
  const [svid] = await agent.x509();
  const stream = new Subscription(["ROOTCA"]);
  const first = await stream.next(1);
  stream.refuse(first, "a proxy's reason");
  await world.until("it is logged", () => world.broker.output.includes("a proxy's reason"));
  expect(stream.answers).toHaveLength(1);
  await world.close(task.id);
  const second = await stream.next(2);
  const isListed = (answer: Answer): boolean => listsOf(answer).some((crl) => crl.has(svid?.serial ?? ""));
  expect([first, second].map(isListed)).toEqual([false, true]);
  expect(second.version).not.toBe(first.version);
  stream.send({ resourceNames: ["ROOTCA"], versionInfo: first.version, responseNonce: first.nonce }); // about what is history
  stream.send({ resourceNames: ["ALL"], versionInfo: second.version, responseNonce: second.nonce }); // another name is another answer
  expect((await stream.next(3)).secrets.map(({ name }) => name)).toEqual(["ALL"]);
});

test("the stream ends with what the caller was", async () => {
  const stream = new Subscription(["default"]);
  stream.accept(await stream.next(1));
  await world.apply(catalog.replace(/services:[^]*/, ""));
  await world.until("it ends", () => stream.ended);
  expect(stream.ended).toMatch(/^DENIED_/);
  await world.apply(catalog);
});
