// What does another trust domain's bundle endpoint say?
// One GET, bounded in time and size, to the configured address and nowhere else: no redirect, no proxy. The server
// is who the profile says before a byte of the answer is read: by the web's authorities, or by the bundle that we
// hold and the SPIFFE ID that was configured.
// SPIFFE Federation sections 5.2.1 and 5.2.2 (it lets clients follow redirects; we do not). Threats T9, T24.
// What the document says is identity/bundle.ts's business; when to ask, federation.ts's.
import https from "node:https";
import type { IncomingMessage } from "node:http";
import type { PeerCertificate } from "node:tls";
import { BrevetError } from "../errors.ts";
import { pem } from "../identity/pem.ts";
import { readSigningCertificate, verifyX509 } from "../verify/x509.ts";

export type Endpoint =
  | { readonly profile: "https_web"; readonly url: string; readonly ca: string | undefined }
  /** `roots`: of the trust domain of `serverId`. */
  | { readonly profile: "https_spiffe"; readonly url: string; readonly serverId: string; readonly roots: readonly Buffer[] };

const mostMs = 10_000;
const mostBytes = 1024 * 1024;

/** null: it still has what `etag` names. */
export async function fetchDocument(endpoint: Endpoint, etag: string | undefined, signal: AbortSignal): Promise<{ readonly body: Buffer; readonly etag: string | undefined } | null> {
  const within = AbortSignal.any([signal, AbortSignal.timeout(mostMs)]);
  const response = await ask(endpoint, etag, within);
  try {
    const { statusCode = 0, headers } = response;
    if (statusCode === 304 && etag !== undefined) return null;
    if (statusCode !== 200) throw failed(statusCode >= 300 && statusCode < 400 ? "it redirects, which is not followed" : `HTTP ${statusCode}`);
    return { body: await bodyOf(response), etag: headers.etag };
  } finally {
    response.destroy();
  }
}

async function ask(endpoint: Endpoint, etag: string | undefined, signal: AbortSignal): Promise<IncomingMessage> {
  const headers = { accept: "application/json", "accept-encoding": "identity", ...(etag === undefined ? {} : { "if-none-match": etag }) };
  return await new Promise((resolve, reject) => {
    const request = https.get(endpoint.url, { agent: false, signal, headers, minVersion: "TLSv1.2", maxHeaderSize: 16_384, ...trusting(endpoint) }, resolve);
    request.on("error", (error) => reject(failed(signal.aborted ? `no answer within ${mostMs / 1000} s` : error.message, error)));
  });
}

function trusting(endpoint: Endpoint): https.RequestOptions {
  if (endpoint.profile === "https_web") return endpoint.ca === undefined ? {} : { ca: endpoint.ca };
  const anchors = endpoint.roots.map(readSigningCertificate);
  return {
    ca: endpoint.roots.map((der) => pem("CERTIFICATE", der)),
    checkServerIdentity: (_host: string, { raw }: PeerCertificate): Error | undefined => {
      try {
        const { spiffeId } = verifyX509(raw, (trustDomain) => (endpoint.serverId.startsWith(`spiffe://${trustDomain}/`) ? anchors : undefined), Date.now(), "handshake");
        return spiffeId === endpoint.serverId ? undefined : failed(`the server is ${spiffeId}, not ${endpoint.serverId}`);
      } catch (error) {
        return error as Error;
      }
    },
  };
}

async function bodyOf(response: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > mostBytes) throw failed(`the document is larger than ${mostBytes} bytes`);
      chunks.push(chunk);
    }
  } catch (error) {
    throw error instanceof BrevetError ? error : failed("the answer broke off", error);
  }
  return Buffer.concat(chunks);
}

/** Never with a word of the answer. */
function failed(why: string, cause?: unknown): BrevetError {
  return new BrevetError("NOT_READY", `bundle endpoint: ${why}`, { cause });
}
