// Does this chain of certificates prove its SPIFFE ID, by the bundle of that ID's own trust domain?
// Two parsers read each certificate, OpenSSL's and our strict one, and must agree; a path is at most
// four certificates long and ends in a CA of the bundle; nothing weaker than SHA-256 signs in it.
// X509-SVID sections 5.1 and 5.2; RFC 5280 section 6.1 as far as SVIDs use it (no policies; a
// critical extension that is not understood, name constraints included, is a refusal). Threat T28.
// Whether its task is still alive is verifier.ts's business; where bundles come from, bundles.ts's.
import { X509Certificate } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { BrevetError } from "../errors.ts";
import type { ErrorCode } from "../errors.ts";
import { oids, readBasicConstraints, readCertificate } from "../identity/certificate.ts";
import type { CertificateFields } from "../identity/certificate.ts";
import { readDer } from "../identity/der.ts";
import { parseSpiffeId } from "../identity/id.ts";
import { checkSigningRules, readX509Svid, splitChain } from "../identity/svid.ts";
import type { X509Svid } from "../identity/svid.ts";

type Certificate = { readonly fields: CertificateFields; readonly openssl: X509Certificate };

/** A CA certificate that obeys the rules of signing certificates. */
export type SigningCertificate = Certificate & {
  readonly key: KeyObject;
  /** How many CAs may stand between it and the leaf. */
  readonly pathLength: number;
  /** CAs below it whose signature by it was good: the same bytes and the same key, so it stays so. */
  readonly signed: WeakSet<Certificate>;
};

const longestChain = 4;
const understoodOfCas: ReadonlySet<string> = new Set([
  oids.keyUsage, oids.basicConstraints, oids.subjectAltName, oids.extendedKeyUsage,
]);
const strongSignatures: ReadonlySet<string> = new Set([
  "1.2.840.10045.4.3.2", "1.2.840.10045.4.3.3", "1.2.840.10045.4.3.4", // ECDSA with SHA-256, -384, -512
  "1.2.840.113549.1.1.11", "1.2.840.113549.1.1.12", "1.2.840.113549.1.1.13", // RSA PKCS #1 with the same
]);
const weakestRsa = 2048;

/**
 * Reads and verifies a chain (DER, leaf first, concatenated) at `now` (Unix ms). `by: "handshake"`: OpenSSL
 * has led the leaf to a CA of the bundle already, in the handshake that the leaf comes from.
 * Throws VERIFY_MALFORMED, _UNKNOWN_TRUST_DOMAIN, _UNKNOWN_AUTHORITY, _SIGNATURE, _EXPIRED or _NOT_YET_VALID.
 */
export function verifyX509(
  chain: Buffer,
  bundleOf: (trustDomain: string) => readonly SigningCertificate[] | undefined,
  now: number,
  by: "us" | "handshake" = "us",
): X509Svid {
  const [leafDer, ...others] = splitChain(chain);
  if (leafDer === undefined || others.length >= longestChain) throw refused("VERIFY_MALFORMED", `a chain has 1 to ${longestChain} certificates`);
  const svid = readX509Svid(leafDer);
  const leaf = readBoth(leafDer);
  if (!namesOf(leaf.openssl).includes(`URI:${svid.spiffeId}`) || leaf.openssl.ca) throw disagreement();
  const { trustDomain } = parseSpiffeId(svid.spiffeId);
  const anchors = bundleOf(trustDomain);
  if (anchors === undefined) throw refused("VERIFY_UNKNOWN_TRUST_DOMAIN", `no bundle of trust domain ${trustDomain}`);
  checkTimes(leaf.fields, now, "the SVID");
  if (by === "us") climb(leaf, { anchors, intermediates: others.map(readIntermediate), below: 0, now });
  return svid;
}

/** Intermediates by their bytes, the oldest first: only those that a CA of a bundle signed, so nobody else fills it. */
const proven = new Map<string, SigningCertificate>();
const mostProven = 64;

function readIntermediate(der: Buffer): SigningCertificate {
  return proven.get(der.toString("latin1")) ?? readSigningCertificate(der);
}

function remember(intermediate: SigningCertificate, anchor: SigningCertificate): void {
  if (anchor.signed.has(intermediate)) return;
  anchor.signed.add(intermediate);
  const [oldest] = proven.keys();
  if (proven.size >= mostProven && oldest !== undefined) proven.delete(oldest);
  proven.set(intermediate.openssl.raw.toString("latin1"), intermediate);
}

/** A CA of a bundle, or an intermediate of a chain: both must obey the same rules. */
export function readSigningCertificate(der: Buffer): SigningCertificate {
  const certificate = readBoth(der);
  const { fields, openssl } = certificate;
  checkSigningRules(fields);
  for (const [oid, { critical }] of fields.extensions) {
    if (critical && !understoodOfCas.has(oid)) throw refused("VERIFY_MALFORMED", `a CA has an unknown critical extension ${oid}`);
  }
  const constraints = fields.extensions.get(oids.basicConstraints);
  if (constraints === undefined || !openssl.ca) throw disagreement();
  const pathLength = readBasicConstraints(constraints.value).pathLength ?? longestChain;
  return { ...certificate, key: openssl.publicKey, pathLength, signed: new WeakSet() };
}

type Climb = {
  readonly anchors: readonly SigningCertificate[];
  readonly intermediates: readonly SigningCertificate[];
  /** CAs between this certificate and the leaf. */
  readonly below: number;
  readonly now: number;
};

/** One step of RFC 5280 section 6.1.3: who signed `certificate`, and may it? Bundle first, then the chain. */
function climb(certificate: Certificate, { anchors, intermediates, below, now }: Climb): void {
  const [anchor, ...otherAnchors] = anchors.filter((ca) => isNamedBy(certificate, ca));
  const issuers = anchor === undefined ? intermediates.filter((ca) => isNamedBy(certificate, ca)) : [anchor, ...otherAnchors];
  if (issuers.length === 0) throw refused("VERIFY_UNKNOWN_AUTHORITY", "the chain leads to no CA of the trust domain's bundle");
  const issuer = issuers.find((ca) => isSignedBy(certificate, ca));
  if (issuer === undefined) throw refused("VERIFY_SIGNATURE", "a certificate's signature is not its issuer's");
  if (issuer.pathLength < below) throw refused("VERIFY_MALFORMED", "a CA stands deeper than its path length allows");
  checkTimes(issuer.fields, now, "a CA of its chain");
  if (anchor !== undefined) {
    if (isCa(certificate)) remember(certificate, issuer);
    return;
  }
  const left = intermediates.filter((ca) => ca !== issuer);
  climb(issuer, { anchors, intermediates: left, below: below + 1, now });
}

function isNamedBy(certificate: Certificate, ca: SigningCertificate): boolean {
  return certificate.fields.issuer.equals(ca.fields.subject);
}

function isCa(certificate: Certificate | SigningCertificate): certificate is SigningCertificate {
  return "pathLength" in certificate;
}

function isSignedBy(certificate: Certificate, { key, signed }: SigningCertificate): boolean {
  if (signed.has(certificate)) return true;
  const { fields, openssl } = certificate;
  if (!strongSignatures.has(readDer(fields.algorithm).sequence().oid())) return false;
  const { modulusLength = weakestRsa } = key.asymmetricKeyDetails ?? {};
  return modulusLength >= weakestRsa && openssl.verify(key);
}

function checkTimes({ notBefore, notAfter }: CertificateFields, now: number, what: string): void {
  if (now < notBefore.getTime()) throw refused("VERIFY_NOT_YET_VALID", `${what} is not valid yet`);
  if (now > notAfter.getTime()) throw refused("VERIFY_EXPIRED", `${what} has expired`);
}

/** Two parsers that differ on one certificate are how a forged one gets through. */
function readBoth(der: Buffer): Certificate {
  const fields = readCertificate(der);
  let openssl: X509Certificate;
  try {
    openssl = new X509Certificate(der);
  } catch (cause) {
    throw new BrevetError("VERIFY_MALFORMED", "OpenSSL can't read a certificate", { cause });
  }
  const same =
    openssl.raw.equals(der) &&
    BigInt(`0x${openssl.serialNumber}`) === BigInt(`0x${fields.serial.toString("hex")}`) &&
    Date.parse(openssl.validFrom) === fields.notBefore.getTime() &&
    Date.parse(openssl.validTo) === fields.notAfter.getTime();
  if (!same) throw disagreement();
  return { fields, openssl };
}

function namesOf(certificate: X509Certificate): readonly string[] {
  return certificate.subjectAltName?.split(", ") ?? [];
}

function disagreement(): BrevetError {
  return refused("VERIFY_MALFORMED", "two readings of a certificate differ");
}

function refused(code: ErrorCode, message: string): BrevetError {
  return new BrevetError(code, message);
}
