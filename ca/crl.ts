// Which certificates of an authority are dead?
// A list is linear to make: entries come encoded, once each, and are joined into the bytes that are handed out,
// around which there is room for what the signature adds. So one thread may join and another sign, in slices:
// neither copies, and no list holds up an event loop. It is signed by the authority that it speaks of.
// RFC 5280 sections 5.1-5.3: v2, authority key ID and number always, no empty list of entries, reason
// left out when unspecified, nextUpdate always.
// Which entries belong, and that numbers only grow, is left to src/revoke; reading, to identity/crl.ts.
import { setImmediate as nextTurn } from "node:timers/promises";
import { BrevetError } from "../src/errors.ts";
import { oids } from "../src/identity/certificate.ts";
import { derBitString, derContext, derEnumerated, derHeader, derInteger, derSequence, derTime } from "../src/identity/der.ts";
import type { Signer } from "./authority.ts";
import { authorityKeyId, extension } from "./x509.ts";

/** What a list says of its authority; what else it says follows from the entries. */
export type CrlIssuer = Pick<Signer, "name" | "keyId" | "algorithm">;

export type CrlRequest = {
  readonly issuer: CrlIssuer;
  readonly number: bigint;
  readonly thisUpdate: Date;
  readonly nextUpdate: Date;
  /** One after the other, as `encodeCrlEntry` made them. */
  readonly entries: Uint8Array;
};

/** All but the signature, and room for it. */
export type UnsignedCrl = { readonly bytes: Uint8Array; readonly start: number; readonly end: number };

/** Reasons of RFC 5280 section 5.3.1 that Brevet gives. */
export const crlReason = { unspecified: 0, superseded: 4, cessationOfOperation: 5, privilegeWithdrawn: 9 } as const;
type CrlReason = (typeof crlReason)[keyof typeof crlReason];

const version2 = derInteger(1);
const headerRoom = 6;
/** An algorithm, and a signature of RSA with 8192 bits. */
const signatureRoom = 1200;
/** About a millisecond's work. */
const sliceBytes = 1024 * 1024;

/** Made once each: a list repeats them by the thousand. */
const reasonExtensions = new Map<number, Buffer>(
  Object.values(crlReason).filter((reason) => reason !== 0).map((reason) => [reason, derSequence([extension(oids.crlReason, false, derEnumerated(reason))])]),
);
let lastTime: { readonly at: number; readonly der: Buffer } = { at: NaN, der: Buffer.alloc(0) };

export function encodeCrlEntry(serial: Buffer, revokedAt: Date, reason: CrlReason = crlReason.unspecified): Buffer {
  const at = revokedAt.getTime();
  if (at !== lastTime.at) lastTime = { at, der: derTime(revokedAt) };
  const extensions = reasonExtensions.get(reason);
  return derSequence(extensions ? [derInteger(serial), lastTime.der, extensions] : [derInteger(serial), lastTime.der]);
}

export function prepareCrl({ issuer, number, thisUpdate, nextUpdate, entries }: CrlRequest): UnsignedCrl {
  if (nextUpdate <= thisUpdate) throw new BrevetError("LINT_REFUSED", "not signed: CRL ends before it begins");
  const before = Buffer.concat([version2, issuer.algorithm, issuer.name, derTime(thisUpdate), derTime(nextUpdate), ...(entries.length === 0 ? [] : [derHeader(0x30, entries.length)])]);
  const after = derContext(0, derSequence([authorityKeyId(issuer.keyId), extension(oids.crlNumber, false, derInteger(number))]));
  const header = derHeader(0x30, before.length + entries.length + after.length);
  const parts = [header, before, entries, after];
  const end = parts.reduce((at, part) => at + part.length, headerRoom);
  const bytes = new Uint8Array(end + signatureRoom);
  let at = headerRoom;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return { bytes, start: headerRoom, end };
}

/** In the very bytes that were prepared; a turn of the event loop after each slice. */
export async function signCrl(signer: Signer, { bytes, start, end }: UnsignedCrl): Promise<Buffer> {
  const whole = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const signing = signer.signInParts("crl");
  for (let at = start; at < end; at += sliceBytes) {
    signing.update(whole.subarray(at, Math.min(end, at + sliceBytes)));
    if (at + sliceBytes < end) await nextTurn();
  }
  const tail = Buffer.concat([signer.algorithm, derBitString(signing.sign())]);
  const header = derHeader(0x30, end - start + tail.length);
  const began = start - header.length;
  whole.set(tail, end);
  whole.set(header, began);
  return whole.subarray(began, end + tail.length);
}
