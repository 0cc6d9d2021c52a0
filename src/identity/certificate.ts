// What does an X.509 certificate say?
// Only DER of the RFC 5280 shape is read: version 3, positive serial of at most 20 bytes, the same
// algorithm inside and outside the signed part, no extension twice. Every byte has a place.
// RFC 5280 sections 4.1 and 4.2.
// Which of it an SVID may say is left to svid.ts; signatures and paths, to src/verify.
import { BrevetError } from "../errors.ts";
import { derTag, readDer } from "./der.ts";
import type { DerReader } from "./der.ts";

export const oids = {
  ecdsaWithSha256: "1.2.840.10045.4.3.2",
  rsaEncryption: "1.2.840.113549.1.1.1",
  rsaWithSha256: "1.2.840.113549.1.1.11",
  commonName: "2.5.4.3",
  organization: "2.5.4.10",
  subjectKeyId: "2.5.29.14",
  keyUsage: "2.5.29.15",
  subjectAltName: "2.5.29.17",
  basicConstraints: "2.5.29.19",
  crlNumber: "2.5.29.20",
  crlReason: "2.5.29.21",
  crlDistributionPoints: "2.5.29.31",
  authorityKeyId: "2.5.29.35",
  extendedKeyUsage: "2.5.29.37",
  serverAuth: "1.3.6.1.5.5.7.3.1",
  clientAuth: "1.3.6.1.5.5.7.3.2",
} as const;

/** Bits of the key usage extension's first byte. */
export const keyUsageBits = { digitalSignature: 0x80, keyCertSign: 0x04, crlSign: 0x02 } as const;

export const maxCertificateBytes = 16 * 1024;
const maxExtensions = 32;

export type Extension = { readonly critical: boolean; readonly value: Buffer };

export type CertificateFields = {
  readonly serial: Buffer;
  /** AlgorithmIdentifier of the signature. */
  readonly algorithm: Buffer;
  /** Names as they are encoded: they are compared, never shown. */
  readonly issuer: Buffer;
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly subject: Buffer;
  /** SubjectPublicKeyInfo. */
  readonly publicKey: Buffer;
  readonly extensions: ReadonlyMap<string, Extension>;
};

export function readCertificate(der: Buffer): CertificateFields {
  const certificate = readDer(der, { maxBytes: maxCertificateBytes }).sequence();
  const fields = readTbsCertificate(certificate.raw());
  const algorithm = certificate.raw();
  if (!algorithm.equals(fields.algorithm)) throw malformed("two signature algorithms");
  if (certificate.bitString().unusedBits !== 0) throw malformed("signature");
  certificate.end();
  return fields;
}

/** The part that is signed. */
export function readTbsCertificate(tbs: Buffer): CertificateFields {
  const reader = readDer(tbs, { maxBytes: maxCertificateBytes }).sequence();
  const version = reader.context(0);
  if (version.integer() !== 2) throw malformed("not version 3");
  version.end();
  const serial = reader.integerBytes();
  if (serial.length > 20 || serial.every((byte) => byte === 0)) throw malformed("serial number");
  const algorithm = reader.raw();
  const issuer = readName(reader);
  const validity = reader.sequence();
  const [notBefore, notAfter] = [validity.time(), validity.time()];
  validity.end();
  const subject = readName(reader);
  if (reader.peekTag() !== derTag.sequence) throw malformed("public key");
  const publicKey = reader.raw();
  const wrapped = reader.context(3);
  const extensions = readExtensions(wrapped.sequence());
  wrapped.end();
  reader.end();
  return { serial, algorithm, issuer, notBefore, notAfter, subject, publicKey, extensions };
}

function readName(reader: DerReader): Buffer {
  if (reader.peekTag() !== derTag.sequence) throw malformed("name");
  return reader.raw();
}

/** What the list holds; CRLs and their entries have such lists too. */
export function readExtensions(list: DerReader): Map<string, Extension> {
  const extensions = new Map<string, Extension>();
  while (!list.atEnd) {
    const extension = list.sequence();
    const oid = extension.oid();
    const critical = extension.peekTag() === derTag.boolean ? trueOnly(extension) : false;
    const value = extension.octetString();
    extension.end();
    if (extensions.has(oid)) throw malformed(`extension ${oid} twice`);
    if (extensions.size === maxExtensions) throw malformed("too many extensions");
    extensions.set(oid, { critical, value });
  }
  if (extensions.size === 0) throw malformed("empty extensions");
  return extensions;
}

export function readBasicConstraints(value: Buffer): { readonly ca: boolean; readonly pathLength: number | null } {
  const reader = readDer(value).sequence();
  const ca = reader.peekTag() === derTag.boolean ? trueOnly(reader) : false;
  const pathLength = reader.atEnd ? null : reader.integer();
  reader.end();
  if (pathLength !== null && !ca) throw malformed("path length without CA");
  return { ca, pathLength };
}

/** The first byte holds all bits that matter here; the ninth bit (decipherOnly) sits at 0x8000. */
export function readKeyUsage(value: Buffer): number {
  const { bytes } = readDer(value).bitString();
  if (bytes.length > 2) throw malformed("key usage");
  return (bytes[0] ?? 0) | ((bytes[1] ?? 0) << 8);
}

export function readExtendedKeyUsage(value: Buffer): Set<string> {
  const reader = readDer(value).sequence();
  const purposes = new Set<string>();
  while (!reader.atEnd) purposes.add(reader.oid());
  return purposes;
}

/** The URIs among the names; names of other kinds are allowed and skipped. */
export function readUriNames(value: Buffer): string[] {
  const reader = readDer(value).sequence();
  const uris: string[] = [];
  while (!reader.atEnd) {
    if (reader.peekTag() === 0x86) uris.push(reader.contextBytes(6).toString("latin1"));
    else reader.raw();
  }
  return uris;
}

export function readAuthorityKeyId(value: Buffer): Buffer | null {
  const reader = readDer(value).sequence();
  return reader.peekTag() === 0x80 ? reader.contextBytes(0) : null;
}

/** One point, named by one URL, for all reasons: the only form that Brevet writes. */
export function readCrlDistributionPoint(value: Buffer): string {
  const points = readDer(value).sequence();
  const point = points.sequence();
  points.end();
  const name = point.context(0);
  point.end();
  const full = name.context(0);
  name.end();
  const url = full.contextBytes(6).toString("utf8");
  full.end();
  return url;
}

/** DER leaves a DEFAULT FALSE out, so a boolean that is there is true. */
function trueOnly(reader: DerReader): true {
  if (!reader.boolean()) throw malformed("a default written out");
  return true;
}

function malformed(what: string): BrevetError {
  return new BrevetError("VERIFY_MALFORMED", `certificate: ${what}`);
}
