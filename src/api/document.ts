// How is a document handed out that others fetch again and again?
// It has a strong ETag of its bytes, says for how long it may be kept, and is not sent again to whoever
// has it already. Everything here is public, so any web page may read it too.
// RFC 9110 sections 8.8.3, 13.1.2 and 15.4.5; RFC 9111 section 5.2.2.
// What stands in a document is its own file's business.
import { createHash } from "node:crypto";
import type { FastifyReply, FastifyRequest } from "fastify";

export type Document = { readonly type: string; readonly body: Buffer; readonly maxAgeSeconds: number };

const etags = new WeakMap<Buffer, string>();

export function sendDocument(request: FastifyRequest, reply: FastifyReply, { type, body, maxAgeSeconds }: Document): unknown {
  const etag = etagOf(body);
  void reply.header("etag", etag).header("cache-control", `public, max-age=${maxAgeSeconds}`).header("access-control-allow-origin", "*");
  if (isHeld(request.headers["if-none-match"], etag)) return reply.code(304).send();
  return reply.type(type).send(body);
}

/** Bodies are encoded once per change: so are their tags. */
function etagOf(body: Buffer): string {
  const known = etags.get(body);
  if (known !== undefined) return known;
  const etag = `"${createHash("sha256").update(body).digest("base64url").slice(0, 22)}"`;
  etags.set(body, etag);
  return etag;
}

/** Compared weakly, as a condition on reading is. */
function isHeld(condition: string | undefined, etag: string): boolean {
  if (condition === undefined) return false;
  return condition.split(",").map((tag) => tag.trim().replace(/^W\//, "")).some((tag) => tag === etag || tag === "*");
}
