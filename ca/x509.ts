// How does an X509-SVID come to be?
// What is signed has been read back from its own bytes and found to obey every rule below; a
// certificate lives no longer than its authority and names an ID of its trust domain, and no other.
// X509-SVID sections 2-4, RFC 5280 sections 4.1-4.2, RFC 7093 section 2 (key identifiers).
// Who may have one, and for how long, is left to src/issue; which key signs, to authority.ts.
import { hash, randomFillSync } from "node:crypto";
import { BrevetError } from "../src/errors.ts";
import {
  keyUsageBits, oids, readAuthorityKeyId, readCrlDistributionPoint, readExtendedKeyUsage, readKeyUsage, readTbsCertificate,
} from "../src/identity/certificate.ts";
import type { CertificateFields } from "../src/identity/certificate.ts";
import { crlUrl } from "../src/identity/crl.ts";
import {
  derBitString, derBoolean, derContext, derInteger, derNull, derOctetString, derOid, derSequence, derSet, derTime, derUtf8, readDer,
} from "../src/identity/der.ts";
import { checkSigningRules, readLeafRules } from "../src/identity/svid.ts";
import { bindingOid, encodeBindingExtension } from "../src/identity/task.ts";
import type { TaskBinding } from "../src/identity/task.ts";
import type { Signer } from "./authority.ts";
import { newKeyPairDer } from "./keys.ts";
import type { KeyPairDer } from "./keys.ts";

export type X509Request = {
  readonly signer: Signer;
  readonly spiffeId: string;
  readonly binding: TaskBinding | null;
  readonly serial: Buffer;
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** Where the authority's list is published; absent: the certificate names none. */
  readonly publicUrl?: string | undefined;
  readonly keyPair?: KeyPairDer;
};

/** Leaf; leaf and signing CA, one after the other; PKCS#8 of the leaf's key. All DER. */
export type IssuedX509 = { readonly certificate: Buffer; readonly chain: Buffer; readonly key: Buffer };

const ecdsaWithSha256 = derSequence([derOid(oids.ecdsaWithSha256)]);
const rsaWithSha256 = derSequence([derOid(oids.rsaWithSha256), derNull()]);
const version3 = derContext(0, derInteger(2));
/** Not empty, so that the SAN need not be critical; it names nobody: the SPIFFE ID does. */
const leafSubject = distinguishedName([[oids.organization, "Brevet"]]);
const leafExtensions = Buffer.concat([
  extension(oids.keyUsage, true, derBitString(Buffer.of(keyUsageBits.digitalSignature), 7)),
  extension(oids.extendedKeyUsage, false, derSequence([derOid(oids.serverAuth), derOid(oids.clientAuth)])),
  extension(oids.basicConstraints, true, derSequence([])),
]);
const signingKeyUsage = extension(oids.keyUsage, true, derBitString(Buffer.of(keyUsageBits.keyCertSign | keyUsageBits.crlSign), 1));
const bindingOidDer = derOid(bindingOid);
const minSerialBytes = 8;
const p256SpkiBytes = 91;

const serialBytes = 16;
/** Random bytes not yet given out: one call to the generator serves 256 serials. */
const randomPool = Buffer.alloc(256 * serialBytes);
let randomPoolAt = randomPool.length;

/** 16 random bytes, positive, and never shortened by a leading zero. */
export function newSerial(): Buffer {
  if (randomPoolAt === randomPool.length) {
    randomFillSync(randomPool);
    randomPoolAt = 0;
  }
  const serial = Buffer.from(randomPool.subarray(randomPoolAt, randomPoolAt + serialBytes));
  randomPoolAt += serialBytes;
  serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40;
  return serial;
}

export function issueX509(request: X509Request): IssuedX509 {
  const { signer, spiffeId, binding, publicUrl } = request;
  const listUrl = publicUrl === undefined ? null : crlUrl(publicUrl, signer.record.id);
  const keyPair = request.keyPair ?? newKeyPairDer();
  const tbs = encodeTbs({
    serial: request.serial,
    algorithm: signer.algorithm,
    issuer: signer.name,
    notBefore: request.notBefore,
    notAfter: request.notAfter,
    subject: leafSubject,
    publicKey: keyPair.spki,
    extensions: [
      leafExtensions,
      uriName(spiffeId),
      subjectKeyId(keyIdOf(keyPair.spki)),
      authorityKeyId(signer.keyId),
      ...(listUrl === null ? [] : [crlDistributionPoint(listUrl)]),
      ...(binding === null ? [] : [derSequence([bindingOidDer, derOctetString(encodeBindingExtension(binding))])]),
    ],
  });
  lintLeaf(tbs, signer, listUrl);
  const certificate = assemble(tbs, signer.algorithm, signer.sign("x509", tbs));
  return { certificate, chain: Buffer.concat([certificate, signer.certificate]), key: keyPair.pkcs8 };
}

type CaRequest = {
  readonly trustDomain: string;
  readonly subject: Buffer;
  readonly publicKey: Buffer;
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly pathLength: number;
  /** Absent: signed by itself. */
  readonly issuer: Pick<Signer, "name" | "keyId" | "algorithm">;
  /** Of the issuer's list; a root names none. */
  readonly listUrl: string | null;
  readonly sign: (tbs: Buffer) => Buffer;
};

export function issueCaCertificate(request: CaRequest): Buffer {
  const tbs = encodeTbs({
    serial: newSerial(),
    algorithm: request.issuer.algorithm,
    issuer: request.issuer.name,
    notBefore: request.notBefore,
    notAfter: request.notAfter,
    subject: request.subject,
    publicKey: request.publicKey,
    extensions: [
      signingKeyUsage,
      extension(oids.basicConstraints, true, derSequence([derBoolean(true), derInteger(request.pathLength)])),
      uriName(`spiffe://${request.trustDomain}`),
      subjectKeyId(keyIdOf(request.publicKey)),
      authorityKeyId(request.issuer.keyId),
      ...(request.listUrl === null ? [] : [crlDistributionPoint(request.listUrl)]),
    ],
  });
  const fields = linted(() => readTbsCertificate(tbs));
  linted(() => checkSigningRules(fields));
  lintListUrl(fields, request.listUrl);
  return assemble(tbs, request.issuer.algorithm, request.sign(tbs));
}

/** RFC 7093 method 1: the leftmost 160 bits of the SHA-256 of the public key's bits. */
export function keyIdOf(spki: Buffer): Buffer {
  const bits = spki.length === p256SpkiBytes ? spki.subarray(-65) : keyBits(spki);
  return hash("sha256", bits, "buffer").subarray(0, 20);
}

function keyBits(spki: Buffer): Buffer {
  const reader = readDer(spki).sequence();
  reader.raw();
  return reader.bitString().bytes;
}

/** With which such a key signs certificates and lists. */
export function algorithmOf(spki: Buffer): Buffer {
  return spki.length === p256SpkiBytes ? ecdsaWithSha256 : rsaWithSha256;
}

export function distinguishedName(attributes: readonly (readonly [oid: string, value: string])[]): Buffer {
  return derSequence(attributes.map(([oid, value]) => derSet([derSequence([derOid(oid), derUtf8(value)])])));
}

export function extension(oid: string, critical: boolean, value: Buffer): Buffer {
  return derSequence([derOid(oid), ...(critical ? [derBoolean(true)] : []), derOctetString(value)]);
}

export function authorityKeyId(keyId: Buffer): Buffer {
  return extension(oids.authorityKeyId, false, derSequence([derContext(0, keyId, false)]));
}

function subjectKeyId(keyId: Buffer): Buffer {
  return extension(oids.subjectKeyId, false, derOctetString(keyId));
}

/** UTF-8, not Latin-1: a character that has no place in an ID must stay wrong, for the linter to see. */
function uriName(uri: string): Buffer {
  return extension(oids.subjectAltName, false, derSequence([derContext(6, Buffer.from(uri, "utf8"), false)]));
}

function crlDistributionPoint(url: string): Buffer {
  const name = derContext(0, derContext(0, derContext(6, Buffer.from(url, "utf8"), false)));
  return extension(oids.crlDistributionPoints, false, derSequence([derSequence([name])]));
}

type Tbs = Pick<CertificateFields, "serial" | "algorithm" | "issuer" | "notBefore" | "notAfter" | "subject" | "publicKey"> & { readonly extensions: readonly Buffer[] };

function encodeTbs(tbs: Tbs): Buffer {
  return derSequence([
    version3,
    derInteger(tbs.serial),
    tbs.algorithm,
    tbs.issuer,
    derSequence([derTime(tbs.notBefore), derTime(tbs.notAfter)]),
    tbs.subject,
    tbs.publicKey,
    derContext(3, derSequence(tbs.extensions)),
  ]);
}

function assemble(tbs: Buffer, algorithm: Buffer, signature: Buffer): Buffer {
  return derSequence([tbs, algorithm, derBitString(signature)]);
}

/** Reads the bytes to be signed as a stranger would, then holds them to Brevet's narrower rules. */
function lintLeaf(tbs: Buffer, signer: Signer, listUrl: string | null): void {
  const fields = linted(() => readTbsCertificate(tbs));
  const leaf = linted(() => readLeafRules(fields));
  const value = (oid: string): Buffer => fields.extensions.get(oid)?.value ?? refuse("an extension is missing");
  if (fields.serial.length < minSerialBytes) refuse("serial shorter than 64 bits");
  if (!fields.algorithm.equals(algorithmOf(signer.record.publicKey))) refuse("signature algorithm is not the authority's");
  if (!fields.issuer.equals(signer.name)) refuse("issuer is not the authority's name");
  if (!readAuthorityKeyId(value(oids.authorityKeyId))?.equals(signer.keyId)) refuse("authority key ID is not the authority's");
  if (leaf.id.trustDomain !== signer.record.trustDomain) refuse("SPIFFE ID of another trust domain");
  if (fields.notAfter <= fields.notBefore) refuse("ends before it begins");
  if (fields.notAfter > signer.notAfter) refuse("outlives its authority");
  if (readKeyUsage(value(oids.keyUsage)) !== keyUsageBits.digitalSignature) refuse("key usage beyond digitalSignature");
  if (readExtendedKeyUsage(value(oids.extendedKeyUsage)).size !== 2) refuse("extended key usage beyond client and server");
  if (!fields.extensions.has(oids.basicConstraints)) refuse("basic constraints are missing");
  if (fields.extensions.get(bindingOid)?.critical) refuse("task binding is critical");
  lintListUrl(fields, listUrl);
}

/** The list of the very authority that signs, or none: another's would vouch for the dead. */
function lintListUrl({ extensions }: CertificateFields, listUrl: string | null): void {
  const found = extensions.get(oids.crlDistributionPoints);
  const named = found === undefined ? null : linted(() => readCrlDistributionPoint(found.value));
  if (named !== listUrl) refuse("CRL distribution point is not the authority's list");
  if (found?.critical) refuse("CRL distribution point is critical");
}

function linted<T>(check: () => T): T {
  try {
    return check();
  } catch (cause) {
    throw cause instanceof BrevetError ? new BrevetError("LINT_REFUSED", `not signed: ${cause.message}`, { cause }) : cause;
  }
}

function refuse(why: string): never {
  throw new BrevetError("LINT_REFUSED", `not signed: ${why}`);
}
