// How do two workloads talk over mutual TLS so that a dead SVID opens nothing?
// TLS 1.3 only, no resumption; OpenSSL refuses a chain that leads to no CA of the bundle during the handshake,
// and nothing of a connection reaches its user before the verifier accepted its SVID. Then it is
// guarded: cut when the SVID dies. Own certificates and the bundle follow every update.
// X509-SVID section 5; SPIFFE has no host names: the SPIFFE ID is the name that is checked.
// A TLS 1.3 client ends its handshake before the server judged its certificate: it may send
// a first message into a connection that is then cut unread.
// Who may be accepted is verifier.ts's business, where the own SVID comes from client/source.ts's.
import { constants } from "node:crypto";
import * as https from "node:https";
import type { RequestListener } from "node:http";
import type { Duplex } from "node:stream";
import * as tls from "node:tls";
import type { WorkloadSource } from "../client/source.ts";
import { BrevetError } from "../errors.ts";
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
};

const callers = new WeakMap<Duplex, Accepted>();

/** Who is at the other end of an mTLS socket (`request.socket`). Throws VERIFY_NOT_READY for a socket that is not one of ours. */
export function callerOf(socket: Duplex): Accepted {
  const caller = callers.get(socket);
  if (caller === undefined) throw new BrevetError("VERIFY_NOT_READY", "this socket was not verified");
  return caller;
}

/** A `tls.Server` whose connections all belong to accepted callers: `callerOf(socket)`. Listen on it as usual. */
export function createMtlsServer(options: MtlsOptions, onConnection: (socket: tls.TLSSocket) => void): tls.Server {
  return gated(tls.createServer(serverOptions(options), onConnection), options);
}

/** An `https.Server` whose requests all come from accepted callers: `callerOf(request.socket)`. */
export function createHttpsServer(options: MtlsOptions, onRequest: RequestListener): https.Server {
  return gated(https.createServer(serverOptions(options), onRequest), options);
}

/** Connects to a service or agent that `authorize` agrees to; `secureConnect` comes only for those. */
export function connectMtls(options: MtlsOptions & { readonly authorize: NonNullable<MtlsOptions["authorize"]>; readonly host: string; readonly port: number }): tls.TLSSocket {
  const { verifier, authorize, accept = ["agent", "service"] } = options;
  const socket: tls.TLSSocket = tls.connect({
    ...context(options),
    host: options.host,
    port: options.port,
    ALPNProtocols: ["http/1.1"],
    checkServerIdentity: (_host, certificate) => {
      const verdict = verifier.x509(chainOf(certificate as tls.DetailedPeerCertificate), { authorize, accept });
      if (!verdict.accepted) return new BrevetError(verdict.reason, verdict.message);
      callers.set(socket, verdict);
      return verifier.guard(socket, verdict) ? undefined : new BrevetError("VERIFY_REVOKED", "revoked meanwhile");
    },
  });
  return socket;
}

/**
 * An agent for `https.request`: its connections go through `connectMtls`. Idle ones are dropped when our own
 * SVID was renewed, long before they would be cut with the old one. `destroy()` it at the end.
 */
export class MtlsAgent extends https.Agent {
  readonly #options: MtlsOptions & { readonly authorize: NonNullable<MtlsOptions["authorize"]> };

  constructor(options: MtlsOptions & { readonly authorize: NonNullable<MtlsOptions["authorize"]> }) {
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

function serverOptions(options: MtlsOptions): tls.TlsOptions {
  return {
    ...contextOrNone(options),
    requestCert: true,
    rejectUnauthorized: true,
    handshakeTimeout: 10_000,
    ALPNProtocols: ["http/1.1"],
  };
}

/** No listener hears of a connection that was not admitted, not even one added later. */
function gated<S extends tls.Server>(server: S, options: MtlsOptions): S {
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

function admit(socket: tls.TLSSocket, { verifier, onRefused, ...check }: MtlsOptions): boolean {
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
  callers.set(socket, verdict);
  return verifier.guard(socket, verdict);
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
