// What does a proxy's TLS get, and when does it get it anew? envoy.service.secret.v3.SecretDiscoveryService.
// Whoever asks is attested as on the Workload API and gets what it would get there: its own X.509-SVIDs, by
// the same streams, and the trust domain's authorities together with their revocation lists. At most one
// answer is under way: the next, which then holds all that changed, waits until the proxy has said what it
// made of the last. When the caller's last SVID is gone the stream ends with PermissionDenied.
// The xDS protocol, state of the world, as Envoy's secrets use it. Messages: proto/envoy.
// What a caller holds is held.ts's business; whether a request may pass, envoy-check.ts's.
import { createHash } from "node:crypto";
import type { ServerDuplexStream } from "@grpc/grpc-js";
import type { Claims } from "../claim/claim.ts";
import { BrevetError } from "../errors.ts";
import type { Secret } from "../generated/envoy/extensions/transport_sockets/tls/v3/Secret.ts";
import type { DiscoveryRequest__Output } from "../generated/envoy/service/discovery/v3/DiscoveryRequest.ts";
import type { DiscoveryResponse } from "../generated/envoy/service/discovery/v3/DiscoveryResponse.ts";
import type { SecretDiscoveryServiceHandlers } from "../generated/envoy/service/secret/v3/SecretDiscoveryService.ts";
import { splitDer } from "../identity/der.ts";
import { pem } from "../identity/pem.ts";
import type { X509Svid } from "../issue/issue.ts";
import type { Trust } from "../issue/trust.ts";
import { messageType } from "../proto.ts";
import type { Crls } from "../revoke/crl.ts";
import type { Log } from "../telemetry.ts";
import { Fields } from "./fields.ts";
import { HeldX509, holdersOf } from "./held.ts";
import type { HeldParts } from "./held.ts";
import type { Call } from "./call.ts";
import type { ApiServer } from "./server.ts";
import { Malformed } from "./wire.ts";

export type SecretParts = HeldParts & {
  readonly trustDomain: string;
  readonly claims: Claims;
  readonly trust: Trust;
  readonly crls: Crls;
  readonly log: Log;
};

/** A secret, encoded, and what tells it from the one before. */
type Made = { readonly name: string; readonly value: Buffer; readonly version: string };
type Stream = ServerDuplexStream<DiscoveryRequest__Output, DiscoveryResponse>;

const secretName = "envoy.extensions.transport_sockets.tls.v3.Secret";
const secretUrl = `type.googleapis.com/${secretName}`;
const secretMessage = messageType(secretName);
const mostNames = 16;
const longestName = 2048;
const longestText = 256;
const pauseMs = 20;

export function secretHandlers(server: ApiServer, parts: SecretParts): SecretDiscoveryServiceHandlers {
  const secrets = new Secrets(parts);
  return {
    StreamSecrets: server.dialogue("StreamSecrets", async (first: DiscoveryRequest__Output, call, stream: Stream) => {
      await new SecretStream(parts, secrets, call, stream).run(first);
    }),

    FetchSecrets: server.unary("FetchSecrets", async (request: DiscoveryRequest__Output, call) => {
      check(request);
      if (request.resourceNames.length === 0) throw new BrevetError("INVALID_FIELD", "resource_names: at least one is required");
      const svids = request.resourceNames.some((name) => secrets.isOwn(name)) ? await heldNow(parts, call) : [];
      return response(request.resourceNames.map((name) => secrets.make(name, svids)), "");
    }),

    DeltaSecrets: server.dialogue("DeltaSecrets", async () => {
      throw new BrevetError("UNIMPLEMENTED", "incremental discovery is not spoken here: set api_type GRPC");
    }),
  };
}

async function heldNow(parts: SecretParts, call: Call): Promise<X509Svid[]> {
  const { caller, endpointTask } = call.connection;
  const holding = await parts.claims.hold(caller, endpointTask, call);
  return await Promise.all(holdersOf(parts, call, holding).map((holder) => parts.issuer.x509(holder)));
}

function check({ versionInfo, resourceNames, typeUrl, responseNonce }: DiscoveryRequest__Output): void {
  const fields = new Fields();
  fields.text("version_info", versionInfo, longestText);
  fields.text("response_nonce", responseNonce, longestText);
  if (typeUrl !== "" && typeUrl !== secretUrl) fields.wrong("type_url", `only ${secretUrl} is served here`);
  if (resourceNames.length > mostNames) fields.wrong("resource_names", `at most ${mostNames}`);
  else for (const [i, name] of resourceNames.entries()) fields.text(`resource_names[${i}]`, name, longestName, true);
  fields.check();
}

function response(made: readonly Made[], nonce: string): DiscoveryResponse {
  return { versionInfo: versionOf(made), typeUrl: secretUrl, nonce, resources: made.map(({ value }) => ({ type_url: secretUrl, value })) };
}

function versionOf(made: readonly Made[]): string {
  return digest(made.flatMap(({ name, version }) => [Buffer.from(name), Buffer.from(version)]));
}

function digest(parts: readonly Buffer[]): string {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(`${part.length}:`).update(part);
  return hash.digest("base64url");
}

/** Names and what stands behind them. The authorities' secret is the same for all, and is made once for each list. */
class Secrets {
  readonly #parts: SecretParts;
  #authorities: { readonly of: string; readonly trusted: Buffer; readonly crl: Buffer; readonly version: string } | undefined;

  constructor(parts: SecretParts) {
    this.#parts = parts;
  }

  /** Is this name one of the caller's own, rather than everybody's? */
  isOwn(name: string): boolean {
    return name !== "ROOTCA" && name !== "ALL" && name !== `spiffe://${this.#parts.trustDomain}`;
  }

  make(name: string, svids: readonly X509Svid[]): Made {
    if (!this.isOwn(name)) {
      const { trusted, crl, version } = this.#trusted;
      return { name, value: encode({ name, validationContext: { trustedCa: { inlineBytes: trusted }, crl: { inlineBytes: crl } } }), version };
    }
    const svid = name === "default" ? svids[0] : svids.find(({ spiffeId }) => spiffeId === name);
    if (!svid) throw new BrevetError("DENIED_IDENTITY", `resource_names: ${name}: the caller holds no such identity (there are default, ROOTCA, ALL, and SPIFFE IDs)`);
    const chain = allPem("CERTIFICATE", splitDer(svid.chain));
    const key = allPem("PRIVATE KEY", [svid.key]);
    // each chain has a key of its own, so the key need not be in what is shown as version
    return { name, value: encode({ name, tlsCertificate: { certificateChain: { inlineBytes: chain }, privateKey: { inlineBytes: key } } }), version: digest([chain]) };
  }

  get #trusted(): { readonly trusted: Buffer; readonly crl: Buffer; readonly version: string } {
    const { trust, crls } = this.#parts;
    const { bundle } = trust.published;
    const of = [bundle.sequence, ...crls.published.map(({ authority, number }) => `${authority} ${number}`)].join();
    if (this.#authorities?.of === of) return this.#authorities;
    const trusted = allPem("CERTIFICATE", bundle.x509);
    const crl = allPem("X509 CRL", crls.published.map(({ der }) => der));
    this.#authorities = { of, trusted, crl, version: digest([trusted, crl]) };
    return this.#authorities;
  }
}

function allPem(label: Parameters<typeof pem>[0], ders: readonly Buffer[]): Buffer {
  return Buffer.from(ders.map((der) => pem(label, der)).join(""));
}

function encode(secret: Secret): Buffer {
  return secretMessage.serialize(secret);
}

/** One proxy's subscription, from its first request to the end of the stream. */
class SecretStream {
  readonly #parts: SecretParts;
  readonly #secrets: Secrets;
  readonly #call: Call;
  readonly #stream: Stream;
  #names: readonly string[] = [];
  #svids: readonly X509Svid[] | undefined;
  #following = false;
  /** Of the last answer; refused or accepted, the same is not sent again. */
  #version = "";
  #answers = 0;
  #isAnswerUnderWay = false;
  readonly #over = new AbortController();

  constructor(parts: SecretParts, secrets: Secrets, call: Call, stream: Stream) {
    this.#parts = parts;
    this.#secrets = secrets;
    this.#call = call;
    this.#stream = stream;
  }

  async run(first: DiscoveryRequest__Output): Promise<void> {
    const { trust, crls } = this.#parts;
    const aborted = (): void => this.#fail(this.#call.signal.reason);
    const off = [trust.onChange(() => this.#send()), crls.onChange(() => this.#send())];
    this.#call.signal.addEventListener("abort", aborted, { once: true });
    try {
      await new Promise<void>((_, reject) => {
        this.#over.signal.addEventListener("abort", () => reject(this.#over.signal.reason as Error), { once: true });
        if (this.#call.signal.aborted) aborted();
        this.#stream.on("data", (request: DiscoveryRequest__Output | Malformed) => {
          this.#stream.pause(); // what comes too fast stays in the caller's own buffers
          setTimeout(() => this.#stream.resume(), pauseMs).unref();
          this.#hear(request);
        });
        this.#hear(first);
        this.#stream.resume();
      });
    } finally {
      for (const stop of off) stop();
      this.#call.signal.removeEventListener("abort", aborted);
    }
  }

  #fail(error: unknown): void {
    this.#over.abort(error);
  }

  #hear(request: DiscoveryRequest__Output | Malformed): void {
    try {
      if (request instanceof Malformed) throw request.error;
      check(request);
      if (request.responseNonce !== "" && request.responseNonce !== String(this.#answers)) return; // about an answer that is history
      if (request.responseNonce !== "") this.#isAnswerUnderWay = false;
      if (request.errorDetail) this.#parts.log("secrets.refused", { message: request.errorDetail.message, pid: this.#call.connection.caller.pid }, "warn");
      this.#names = request.resourceNames;
      if (!this.#following && this.#names.some((name) => this.#secrets.isOwn(name))) {
        this.#following = true;
        this.#follow().catch((error: unknown) => this.#fail(error));
      }
      this.#send();
    } catch (error) {
      this.#fail(error);
    }
  }

  async #follow(): Promise<void> {
    const { connection, method } = this.#call;
    const { signal } = this.#over;
    const onGone: Call["onGone"] = (callback) => {
      const gone = (): void => callback(signal.reason as BrevetError);
      if (signal.aborted) gone();
      else signal.addEventListener("abort", gone, { once: true });
      return () => signal.removeEventListener("abort", gone);
    };
    const call: Call = { connection, method, signal, onGone };
    const holding = await this.#parts.claims.hold(connection.caller, connection.endpointTask, call);
    await new HeldX509(this.#parts, call, holding, (svids) => {
      this.#svids = svids;
      this.#send();
    }).run();
  }

  #send(): void {
    if (this.#over.signal.aborted || this.#isAnswerUnderWay || this.#names.length === 0) return;
    if (this.#svids === undefined && this.#names.some((name) => this.#secrets.isOwn(name))) return;
    try {
      const made = this.#names.map((name) => this.#secrets.make(name, this.#svids ?? []));
      const version = versionOf(made);
      if (version === this.#version) return;
      this.#version = version;
      this.#isAnswerUnderWay = true;
      this.#stream.write(response(made, String(++this.#answers)));
    } catch (error) {
      this.#fail(error);
    }
  }
}
