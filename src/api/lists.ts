// How does software that fetches lists get them?
// An index in JSON names them; each is there as DER and as PEM. A list's ETag is its number: whoever has that one,
// or a newer one from another broker, is told to keep it. What is sent is no older than any that was sent before. A date
// alone tells apart only lists of different seconds, so the date of a list is told once its second is over.
// Nothing here names a task. RFC 5280 section 4.2.1.13; RFC 2585 (types, names); RFC 7468 section 6; RFC 9110 section 13.
// What is on a list, and when it is made, is src/revoke/crl.ts's business.
import { setImmediate as nextTurn } from "node:timers/promises";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { BrevetError } from "../errors.ts";
import { crlUrl } from "../identity/crl.ts";
import type { Crls, PublishedCrl } from "../revoke/crl.ts";
import { sendDocument } from "./document.ts";

const maxAgeSeconds = 5;
/** Whoever takes longer to read a list is cut: each holds its list in memory. */
const mostSendMs = 30_000;
const pemLineBytes = 48;
const pemSliceLines = 1024;

export function serveLists(app: FastifyInstance, { crls, publicUrl = "" }: { readonly crls: Crls; readonly publicUrl: string | undefined }): void {
  let index: { readonly of: string; readonly body: Buffer } | undefined;
  app.get("/crl", async (request, reply) => {
    const lists = await crls.current();
    const of = lists.map(({ authority, number }) => `${authority} ${number}`).join();
    if (index?.of !== of) index = { of, body: encodeIndex(lists, publicUrl) };
    return sendDocument(request, reply, { type: "application/json", body: index.body, maxAgeSeconds });
  });
  app.get("/crl/:file", async (request: FastifyRequest<{ Params: { file: string } }>, reply) => {
    const [, authority, form] = /^([0-9a-f]{1,64})\.(crl|pem)$/.exec(request.params.file) ?? [];
    const list = (await crls.current()).find((found) => found.authority === authority);
    if (!list) throw new BrevetError("NOT_FOUND", "there is no list of this name; /crl names all");
    describe(list, reply);
    if (isHeld(list, request)) return reply.code(304).send();
    cutIfSlow(reply);
    return form === "pem" ? reply.type("application/x-pem-file").send(await pemOf(list)) : reply.type("application/pkix-crl").send(list.der);
  });
}

function encodeIndex(lists: readonly PublishedCrl[], publicUrl: string): Buffer {
  return Buffer.from(JSON.stringify({
    lists: lists.map(({ authority, number, thisUpdate, nextUpdate, entries }) => ({ authority, url: crlUrl(publicUrl, authority), number, thisUpdate, nextUpdate, entries })),
  }));
}

/** Two brokers' signatures on one list differ, so the tag is a weak one. */
function describe({ number, at }: PublishedCrl, reply: FastifyReply): void {
  void reply.header("etag", `W/"${number}"`).header("cache-control", `public, max-age=${maxAgeSeconds}`).header("access-control-allow-origin", "*");
  if (second(Date.now()) > second(at.getTime())) void reply.header("last-modified", new Date(at).toUTCString());
}

function isHeld({ number, at }: PublishedCrl, { headers }: FastifyRequest): boolean {
  const tags = headers["if-none-match"];
  if (tags !== undefined) return tags.split(",").some((tag) => tag.trim() === "*" || Number(/^(?:W\/)?"(\d{1,15})"$/.exec(tag.trim())?.[1] ?? -1) >= number);
  const since = headers["if-modified-since"];
  return since !== undefined && second(Date.parse(since)) >= second(at.getTime());
}

function second(ms: number): number {
  return Math.floor(ms / 1000);
}

function cutIfSlow({ raw }: FastifyReply): void {
  const timer = setTimeout(() => raw.destroy(), mostSendMs);
  timer.unref();
  raw.once("close", () => clearTimeout(timer));
}

const pems = new WeakMap<PublishedCrl, Promise<Buffer>>();

/** Once for each list that somebody wants so. */
function pemOf(list: PublishedCrl): Promise<Buffer> {
  let pem = pems.get(list);
  if (!pem) pems.set(list, (pem = encodePem(list.der)));
  return pem;
}

/** In slices of less than a millisecond: a long list is several megabytes. */
async function encodePem(der: Buffer): Promise<Buffer> {
  const [begin, end] = ["-----BEGIN X509 CRL-----\n", "-----END X509 CRL-----\n"];
  const lines = Math.ceil(der.length / pemLineBytes);
  const pem = Buffer.allocUnsafe(begin.length + 4 * Math.ceil(der.length / 3) + lines + end.length);
  let at = pem.write(begin, "latin1");
  for (let line = 0; line < lines; line++) {
    at += pem.write(der.toString("base64", line * pemLineBytes, Math.min(der.length, (line + 1) * pemLineBytes)), at, "latin1");
    pem[at++] = 0x0a;
    if (line % pemSliceLines === pemSliceLines - 1) await nextTurn();
  }
  pem.write(end, at, "latin1");
  return pem;
}
