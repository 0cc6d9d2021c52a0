// How do two workloads talk over mutual TLS so that a dead SVID opens nothing?
// TLS 1.3 only, no resumption; OpenSSL refuses a chain that leads to no CA of the bundle during the handshake,
// and nothing of a connection reaches its user before the verifier accepted its SVID. Then it is
// guarded: cut when the SVID dies. Own certificates and the bundle follow every update.
// X509-SVID section 5; SPIFFE has no host names: the SPIFFE ID is the name that is checked.
// A TLS 1.3 client ends its handshake before the server judged its certificate: it may send
// a first message into a connection that is then cut unread.
// Who may be accepted is verifier.ts's business, where the own SVID comes from client/source.ts's.
import { constants } from "node:crypto";
import * as http2 from "node:http2";
import * as https from "node:https";
import type { RequestListener } from "node:http";
import type { Duplex } from "node:stream";
import * as tls from "node:tls";
import type { WorkloadSource } from "../client/source.ts";
import { BrevetError } from "../errors.ts";
import { aFunction, anything, checkOptions, filledText, listOf, text } from "../identity/options.ts";
import type { Rules } from "../identity/options.ts";
import { checkRules } from "./verifier.ts";
import type { CheckOptions, Verifier } from "./verifier.ts";
import type { Accepted, Refused } from "./verdict.ts";

export type MtlsOptions = CheckOptions & {
  readonly verifier: Verifier;
  /** Our own SVID. */
  readonly source: WorkloadSource;
  /** Which SVID of the source: the task's ID. Default: its first. */
  readonly hint?: string;
  /** Hears of each caller that was refused after the handshake, for the log. */
  readonly onRefused?: (verdict: Refused) => void;
  /** ALPN. Default: `http/1.1`. */
  readonly protocols?: readonly string[];
};

/** Of a client: whom it wants at the other end. */
export type PeerOptions = MtlsOptions & { readonly authorize: NonNullable<MtlsOptions["authorize"]> };
export type ConnectOptions = PeerOptions & { readonly host: string; readonly port: number };

export const mtlsRules: Rules<MtlsOptions> = { ...checkRules, verifier: anything, source: anything, hint: text, onRefused: aFunction, protocols: listOf(filledText) };
const connectRules: Rules<ConnectOptions> = { ...mtlsRules, host: anything, port: anything };

/** On the socket itself, since HTTP/2 shows its users only a proxy of it. */
const callerKey = Symbol("the accepted caller");

type Marked = Duplex & { [callerKey]?: Accepted };

/** Who is at the other end of an mTLS socket (`request.socket`). Throws VERIFY_NOT_READY for a socket that is not one of ours. */
export function callerOf(socket: Duplex): Accepted {
  const caller = callerAt(socket);
  if (caller === undefined) throw new BrevetError("VERIFY_NOT_READY", "this socket was not verified");
  return caller;
}

/** The same for a socket that may be any. */
export function callerAt(socket: Duplex | undefined): Accepted | undefined {
  return (socket as Marked | undefined)?.[callerKey];
}

/** A `tls.Server` whose connections all belong to accepted callers: `callerOf(socket)`. Listen on it as usual. */
export function createMtlsServer(options: MtlsOptions, onConnection: (socket: tls.TLSSocket) => void): tls.Server {
  return gated(tls.createServer(serverOptions(options, options.protocols), onConnection), options);
}

/** An `https.Server` whose requests all come from accepted callers: `callerOf(request.socket)`. */
export function createHttpsServer(options: MtlsOptions, onRequest: RequestListener): https.Server {
  return gated(https.createServer(serverOptions(options), onRequest), options);
}

/** The same for HTTP/2 alone: its sessions all belong to accepted callers, and end when their connection is cut. */
export function createHttp2Server(options: MtlsOptions, onRequest: (request: http2.Http2ServerRequest, response: http2.Http2ServerResponse) => void): http2.Http2SecureServer {
  return gated(http2.createSecureServer(serverOptions(options, ["h2"]), onRequest), options);
}

/** An HTTP/2 session with a service or agent that `authorize` agrees to. Close it at the end. */
export function connectHttp2(options: ConnectOptions): http2.ClientHttp2Session {
  checkOptions(options, connectRules, ["verifier", "source", "authorize"]);
  const createConnection = (): tls.TLSSocket => connectMtls({ ...options, protocols: ["h2"] });
  return http2.connect(`https://${options.host}:${options.port}`, { createConnection });
}

/** Connects to a service or agent that `authorize` agrees to; `secureConnect` comes only for those. */
export function connectMtls(options: ConnectOptions): tls.TLSSocket {
  checkOptions(options, connectRules, ["verifier", "source", "authorize"]);
  return secured(options, { host: options.host, port: options.port });
}

/** The same over a connection that is there already. */
export function secured(options: PeerOptions, over: tls.ConnectionOptions): tls.TLSSocket {
  const { verifier, authorize, accept = ["agent", "service"] } = options;
  const socket: tls.TLSSocket = tls.connect({
    ...context(options),
    ...over,
    ALPNProtocols: [...(options.protocols ?? ["http/1.1"])],
    checkServerIdentity: (_host, certificate) => {
      const verdict = verifier.x509(chainOf(certificate as tls.DetailedPeerCertificate), { authorize, accept });
      if (!verdict.accepted) return new BrevetError(verdict.reason, verdict.message);
      mark(socket, verdict);
      return verifier.guard(socket, verdict) ? undefined : new BrevetError("VERIFY_REVOKED", "revoked meanwhile");
    },
  });
  return socket;
}

/**
 * An agent for `https.request`: its connections go through `connectMtls`. Idle ones are dropped when our own
 * SVID was renewed: what comes next shows the new one. `destroy()` it at the end.
 */
export class MtlsAgent extends https.Agent {
  readonly #options: PeerOptions;

  constructor(options: PeerOptions) {
    checkOptions(options, mtlsRules, ["verifier", "source", "authorize"]);
    super({ keepAlive: true, maxCachedSessions: 0 });
    this.#options = options;
    options.source.on("update", this.#dropIdle);
  }

  override createConnection({ host, port }: { host: string; port: number }): tls.TLSSocket {
    return connectMtls({ ...this.#options, host, port });
  }

  override destroy(): void {
    this.#options.source.off("update", this.#dropIdle);
    super.destroy();
  }

  readonly #dropIdle = (): void => {
    for (const sockets of Object.values(this.freeSockets)) {
      for (const socket of sockets ?? []) socket.destroy();
    }
  };
}

function context({ verifier, source, hint }: MtlsOptions): tls.SecureContextOptions {
  return {
    ...source.tlsOptions(hint),
    ca: verifier.authorities,
    minVersion: "TLSv1.3",
    secureOptions: constants.SSL_OP_NO_TICKET, // and no session store: nothing can be resumed
  };
}

/** While no SVID is held: a context that can finish no handshake. */
function contextOrNone(options: MtlsOptions): tls.SecureContextOptions {
  try {
    return context(options);
  } catch {
    return { ca: [], minVersion: "TLSv1.3" };
  }
}

function serverOptions(options: MtlsOptions, protocols: readonly string[] = ["http/1.1"]): tls.TlsOptions {
  checkOptions(options, mtlsRules, ["verifier", "source"]);
  return {
    ...contextOrNone(options),
    requestCert: true,
    rejectUnauthorized: true,
    handshakeTimeout: 10_000,
    ALPNProtocols: [...protocols],
  };
}

/** No listener hears of a connection that was not admitted, not even one added later. */
function gated<S extends tls.Server | http2.Http2SecureServer>(server: S, options: MtlsOptions): S {
  const emit = server.emit.bind(server) as (event: string, ...values: unknown[]) => boolean;
  server.emit = (event: string, ...values: unknown[]): boolean => {
    if (event === "secureConnection" && !admit(values[0] as tls.TLSSocket, options)) return true;
    return emit(event, ...values);
  };
  const renew = (): void => server.setSecureContext(contextOrNone(options));
  const { source, verifier } = options;
  source.on("update", renew).on("end", renew);
  verifier.bundles.on("update", renew);
  server.once("close", () => {
    source.off("update", renew).off("end", renew);
    verifier.bundles.off("update", renew);
  });
  return server;
}

function admit(socket: tls.TLSSocket, { verifier, onRefused, accept, authorize }: MtlsOptions): boolean {
  const check = { accept, authorize };
  socket.on("error", () => {}); // a refused or cut connection must not end the process
  const fresh = socket.authorized && !socket.isSessionReused();
  const leaf = socket.getPeerCertificate(true);
  // Node 24.21 hands a server the caller's leaf without its CAs (nodejs/node#65579); OpenSSL had them all
  const alone = (leaf as { issuerCertificate?: unknown }).issuerCertificate === undefined;
  const verdict = fresh
    ? alone ? verifier.x509OfHandshake(leaf.raw, check) : verifier.x509(chainOf(leaf), check)
    : { accepted: false as const, reason: "VERIFY_SIGNATURE" as const, message: "no certificate was verified in this handshake" };
  if (!verdict.accepted) {
    socket.destroy();
    onRefused?.(verdict);
    return false;
  }
  mark(socket, verdict);
  return verifier.guard(socket, verdict);
}

function mark(socket: Marked, caller: Accepted): void {
  socket[callerKey] = caller;
}

/** What the other side sent, leaf first, with the CA that OpenSSL found for it. A root names itself as issuer. */
function chainOf(leaf: tls.DetailedPeerCertificate): Buffer {
  const chain: Buffer[] = [];
  for (let next: tls.DetailedPeerCertificate | undefined = leaf; next?.raw; next = next.issuerCertificate) {
    if (chain.some((der) => der.equals(next.raw))) break;
    chain.push(next.raw);
  }
  return Buffer.concat(chain);
}
