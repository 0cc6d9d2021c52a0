// Which serials does a CRL name?
// Only a full v2 list is read, with issuer, key ID, number and both times; a critical extension that
// is not understood (a delta, a part of a list, an indirect one) refuses it, for it would be misread.
// RFC 5280 sections 5.1-5.3 and 6.3.3.
// Its signature, and that numbers never go back, are left to src/verify; writing, to ca/crl.ts.
import { BrevetError } from "../errors.ts";
import { oids, readAuthorityKeyId, readExtensions } from "./certificate.ts";
import type { Extension } from "./certificate.ts";
import { derTag, readDer } from "./der.ts";
import type { DerReader } from "./der.ts";

export type Crl = {
  /** The issuer's name, as encoded. */
  readonly issuer: Buffer;
  readonly authorityKeyId: Buffer;
  readonly number: bigint;
  readonly thisUpdate: Date;
  readonly nextUpdate: Date;
  readonly size: number;
  /** Lower-case hex, without leading zero bytes. */
  has(serial: string): boolean;
  /** What is signed, and the ECDSA signature over it. */
  readonly tbs: Buffer;
  readonly signature: Buffer;
};

/** Where the list of an authority is found; its DER stands there, and in its certificates the URL. */
export function crlUrl(publicUrl: string, authority: string): string {
  return `${publicUrl}/crl/${authority}.crl`;
}

const maxCrlBytes = 32 * 1024 * 1024;
const version2 = 1;

export function readCrl(der: Buffer): Crl {
  const list = readDer(der, { maxBytes: maxCrlBytes }).sequence();
  const tbs = list.raw();
  const algorithm = list.raw();
  const signature = list.bitString();
  list.end();
  if (signature.unusedBits !== 0) throw malformed("signature");

  const reader = readDer(tbs, { maxBytes: maxCrlBytes }).sequence();
  if (reader.integer() !== version2) throw malformed("not version 2");
  if (!reader.raw().equals(algorithm)) throw malformed("two signature algorithms");
  if (reader.peekTag() !== derTag.sequence) throw malformed("issuer");
  const issuer = reader.raw();
  const [thisUpdate, nextUpdate] = [reader.time(), reader.time()];
  const serials = reader.peekTag() === derTag.sequence ? readEntries(reader.sequence()) : new Set<string>();
  const wrapped = reader.context(0);
  const extensions = readExtensions(wrapped.sequence());
  wrapped.end();
  reader.end();

  refuseCritical(extensions);
  const keyId = readAuthorityKeyId(valueOf(extensions, oids.authorityKeyId));
  if (keyId === null) throw malformed("no authority key ID");
  const number = readDer(valueOf(extensions, oids.crlNumber)).integerBytes();
  if (number.length > 20) throw malformed("number");
  return {
    issuer,
    authorityKeyId: keyId,
    number: BigInt(`0x${number.toString("hex")}`),
    thisUpdate,
    nextUpdate,
    size: serials.size,
    has: (serial) => serials.has(serial),
    tbs,
    signature: signature.bytes,
  };
}

function readEntries(entries: DerReader): Set<string> {
  if (entries.atEnd) throw malformed("an empty list of entries");
  const serials = new Set<string>();
  while (!entries.atEnd) {
    const entry = entries.sequence();
    serials.add(entry.integerBytes().toString("hex"));
    entry.time();
    if (!entry.atEnd) refuseCritical(readExtensions(entry.sequence()));
    entry.end();
  }
  return serials;
}

function refuseCritical(extensions: ReadonlyMap<string, Extension>): void {
  for (const [oid, { critical }] of extensions) {
    if (critical) throw malformed(`unknown critical extension ${oid}`);
  }
}

function valueOf(extensions: ReadonlyMap<string, Extension>, oid: string): Buffer {
  const found = extensions.get(oid);
  if (found === undefined) throw malformed(`extension ${oid} is missing`);
  return found.value;
}

function malformed(what: string): BrevetError {
  return new BrevetError("VERIFY_MALFORMED", `CRL: ${what}`);
}
