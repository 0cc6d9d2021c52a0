// Is this the broker whose fingerprint I was told?
// The first time, a root's SHA-256 that a person read off the broker's machine stands for all trust. The server's
// chain is fetched and nothing is sent; the root in it must have that fingerprint, byte by byte in constant time.
// Only then is it trusted, and every connection after this is verified against it in full.
// RFC 8446: what a server shows before it is verified proves nothing, so nothing of it is used but that root.
import { createHash, timingSafeEqual } from "node:crypto";
import * as tls from "node:tls";
import { BrevetError } from "../errors.ts";
import { splitServer } from "./line.ts";

const patienceMs = 10_000;

/** SHA-256 of a certificate's DER, as `openssl x509 -fingerprint -sha256` and `brevet bundle show` print it. */
export function fingerprintOf(der: Buffer): string {
  return createHash("sha256").update(der).digest("hex").toUpperCase().replace(/(..)(?=.)/g, "$1:");
}

/** The root (DER) of the broker at `server`. Throws VERIFY_UNKNOWN_AUTHORITY if it has another fingerprint. */
export async function meet(server: string, fingerprint: string): Promise<Buffer> {
  const wanted = Buffer.from(fingerprint.replaceAll(":", ""), "hex");
  if (!/^[0-9A-Fa-f:]+$/.test(fingerprint) || wanted.length !== 32) {
    throw new BrevetError("CONFIG_INVALID", "trust fingerprint: must be a SHA-256, 64 hexadecimal digits with or without colons");
  }
  const { host, port } = splitServer(server);
  const chain = await chainOf(host, port, server);
  const root = chain.find((der) => timingSafeEqual(createHash("sha256").update(der).digest(), wanted));
  if (root) return root;
  throw new BrevetError("VERIFY_UNKNOWN_AUTHORITY", `${server}: shows no authority with this fingerprint: it is another broker, its root has changed, or somebody stands between`, {
    metadata: { try: "brevet bundle show on the broker's machine, and compare" },
  });
}

async function chainOf(host: string, port: number, server: string): Promise<Buffer[]> {
  return await new Promise((resolve, reject) => {
    const fail = (cause: unknown): void => {
      socket.destroy();
      const code = (cause as NodeJS.ErrnoException).code ?? "no answer";
      reject(new BrevetError("BROKER_UNREACHABLE", `${server}: ${code === "ECONNREFUSED" ? "nobody listens" : `no TLS connection (${code})`}`, { cause }));
    };
    const socket = tls.connect({ host, port, minVersion: "TLSv1.3", rejectUnauthorized: false, ALPNProtocols: ["h2"], timeout: patienceMs }, () => {
      const chain: Buffer[] = [];
      for (let next: tls.DetailedPeerCertificate | undefined = socket.getPeerCertificate(true); next?.raw; next = next.issuerCertificate) {
        if (chain.some((der) => der.equals(next.raw))) break;
        chain.push(next.raw);
      }
      socket.destroy();
      resolve(chain);
    });
    socket.once("error", fail).once("timeout", () => fail(new BrevetError("DEADLINE", "no answer")));
  });
}
