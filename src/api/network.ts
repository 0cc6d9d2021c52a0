// How is the broker reached from other machines?
// TLS 1.3 with certificates on both sides and nothing else: no resumption, no early data, no other protocol. The
// broker shows its own SVID, followed by the CA and root that it leads to, so that whoever comes for the first time
// can hold the root's fingerprint against what it was told. Nothing of a connection reaches a handler before its
// certificate gave it a role.
// RFC 8446; X509-SVID section 5. Who is let in is peers.ts's business, what they may call roles.ts's.
import { constants } from "node:crypto";
import type { Socket } from "node:net";
import * as tls from "node:tls";
import { BrevetError, asBrevetError } from "../errors.ts";
import { readCertificate } from "../identity/certificate.ts";
import { pem } from "../identity/pem.ts";
import { splitChain } from "../identity/svid.ts";
import type { OwnSvid } from "../issue/own.ts";
import type { Trust } from "../issue/trust.ts";
import { Connection } from "./connection.ts";
import type { Peers } from "./peers.ts";
import type { ApiServer } from "./server.ts";

export type NetworkOptions = {
  readonly api: ApiServer;
  readonly peers: Peers;
  readonly own: OwnSvid;
  readonly trust: Trust;
  readonly maxConnections: number;
  readonly onRefused: (error: BrevetError, from: string) => void;
};

const handshakeMs = 5000;
const backlog = 1024;
const told: ReadonlySet<string> = new Set(["DENIED_ROLE", "VERIFY_REVOKED", "RATE_LIMITED"]);
/** Of one address, before anybody has said who he is. */
const mostHandshakes = 64;

/** @returns the address and how to stop. @throws BrevetError START_REFUSED */
export async function serveNetwork(
  address: { readonly host: string; readonly port: number }, o: NetworkOptions,
): Promise<{ readonly address: string; close(): Promise<void> }> {
  await o.own.start();
  const handshakes = new Handshakes();
  const server = tls.createServer({ ...context(o), requestCert: true, rejectUnauthorized: true, handshakeTimeout: handshakeMs, ALPNProtocols: ["h2"] });
  server.maxConnections = o.maxConnections;
  const sockets = new Set<tls.TLSSocket>();
  server.on("connection", (socket) => handshakes.begun(socket));
  server.on("secureConnection", (socket) => {
    handshakes.done(socket);
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    void admit(socket, o);
  });
  server.on("tlsClientError", (error, socket) => {
    o.onRefused(new BrevetError("VERIFY_SIGNATURE", "handshake: refused", { cause: error }), socket.remoteAddress ?? "");
    socket.destroy();
  });
  const renew = (): void => server.setSecureContext(context(o));
  const off = [o.own.onChange(renew), o.trust.onChange(renew)];
  await listen(server, address);
  const bound = server.address() as { address: string; family: string; port: number };
  return {
    address: `${bound.family === "IPv6" ? `[${bound.address}]` : bound.address}:${bound.port}`,
    close: async () => {
      for (const stop of off) stop();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      setTimeout(() => {
        for (const socket of sockets) socket.destroy();
      }, 250).unref();
      await closed;
    },
  };
}

function context({ own, trust, peers }: NetworkOptions): tls.SecureContextOptions {
  const { key, chain } = own.current;
  const [leaf, ca] = splitChain(chain);
  const issuer = ca && readCertificate(ca).issuer;
  const root = trust.published.bundle.x509.filter((der) => issuer && readCertificate(der).subject.equals(issuer));
  return {
    key: pem("PRIVATE KEY", key),
    cert: [leaf, ca, ...root].map((der) => (der ? pem("CERTIFICATE", der) : "")).join(""),
    ca: peers.authorities.map((der) => pem("CERTIFICATE", der)),
    minVersion: "TLSv1.3",
    secureOptions: constants.SSL_OP_NO_TICKET, // and no session store: nothing can be resumed
  };
}

/** One address that begins handshakes and does not end them takes no place from others. */
class Handshakes {
  /** By address, the ports of those under way. */
  readonly #underWay = new Map<string, Set<number>>();

  begun(socket: Socket): void {
    const { remoteAddress: from = "", remotePort: port = 0 } = socket;
    const ports = this.#underWay.get(from) ?? new Set();
    if (ports.size >= mostHandshakes) return void socket.destroy();
    this.#underWay.set(from, ports.add(port));
    socket.once("close", () => this.#over(from, port));
  }

  /** Its TLS stands: `socket` has the same other end. */
  done({ remoteAddress = "", remotePort = 0 }: Socket): void {
    this.#over(remoteAddress, remotePort);
  }

  #over(from: string, port: number): void {
    const ports = this.#underWay.get(from);
    ports?.delete(port);
    if (ports?.size === 0) this.#underWay.delete(from);
  }
}

async function admit(socket: tls.TLSSocket, { api, peers, onRefused }: NetworkOptions): Promise<void> {
  const from = socket.remoteAddress ?? "";
  socket.on("error", () => socket.destroy());
  try {
    if (socket.alpnProtocol !== "h2") throw new BrevetError("INVALID_FIELD", "only HTTP/2 is spoken here (ALPN h2)");
    const peer = await peers.admit(socket);
    if (!socket.destroyed) api.serve(socket, Connection.ofPeer(peer));
  } catch (error) {
    const refusal = asBrevetError(error);
    onRefused(refusal, from);
    if (socket.destroyed || !told.has(refusal.code)) return void socket.destroy();
    // whoever proved who it is, is told why it is not served; the others have no claim to an answer
    api.tellWhy(socket, Connection.ofRefused(refusal));
  }
}

async function listen(server: tls.Server, { host, port }: { readonly host: string; readonly port: number }): Promise<void> {
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen({ host, port, backlog }, () => resolve());
    });
  } catch (error) {
    const taken = (error as NodeJS.ErrnoException).code === "EADDRINUSE";
    throw new BrevetError("START_REFUSED", `listen.grpc: ${host}:${port}: ${taken ? "is in use" : (error as Error).message}`, { cause: error });
  }
}
