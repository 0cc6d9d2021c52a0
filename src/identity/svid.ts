// What does an SVID claim?
// Whatever is returned obeys the standard's rules of form: one SPIFFE ID, no signing powers, only
// the three JWT headers, an audience, an end. Nothing is verified yet: a claim is not a proof.
// X509-SVID sections 2-4 and 5.2 (leaf), 3.2 and 4 (signing); JWT-SVID sections 2 and 3; RFC 7515.
// Signature, time, audience, bundle and epoch are left to src/verify.
import { BrevetError } from "../errors.ts";
import { keyUsageBits, maxCertificateBytes, oids, readBasicConstraints, readCertificate, readExtendedKeyUsage, readKeyUsage, readUriNames } from "./certificate.ts";
import type { CertificateFields } from "./certificate.ts";
import { splitDer } from "./der.ts";
import { parseSpiffeId } from "./id.ts";
import type { SpiffeId } from "./id.ts";
import { isJsonObject, parseJsonObject } from "./json.ts";
import type { Json, JsonObject } from "./json.ts";
import { bindingOid, decodeBindingClaim, decodeBindingExtension } from "./task.ts";
import type { TaskBinding } from "./task.ts";

// X509-SVID

export type X509Svid = {
  readonly spiffeId: string;
  /** Lower-case hex, without leading zero bytes. */
  readonly serial: string;
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly binding: TaskBinding | null;
};

const maxChainBytes = 64 * 1024;
const maxChainLength = 8;
const understood: ReadonlySet<string> = new Set([oids.keyUsage, oids.extendedKeyUsage, oids.basicConstraints, oids.subjectAltName]);
const emptyName = Buffer.of(0x30, 0);

export function readX509Svid(leafDer: Buffer): X509Svid {
  const fields = readCertificate(leafDer);
  const { spiffeId } = readLeafRules(fields);
  const binding = fields.extensions.get(bindingOid);
  return {
    spiffeId,
    serial: fields.serial.toString("hex"),
    notBefore: fields.notBefore,
    notAfter: fields.notAfter,
    binding: binding === undefined ? null : decodeBindingExtension(binding.value),
  };
}

/** The certificates of a chain, leaf first. */
export function splitChain(der: Buffer): Buffer[] {
  const certificates = splitDer(der, { maxBytes: maxChainBytes });
  if (certificates.length === 0 || certificates.length > maxChainLength) throw malformed("chain", `must hold 1 to ${maxChainLength} certificates`);
  if (certificates.some((certificate) => certificate.length > maxCertificateBytes)) throw malformed("chain", "a certificate is too large");
  return certificates;
}

/** The rules of a leaf, which the issuer's linter holds its own work to as well. */
export function readLeafRules(fields: CertificateFields): { readonly spiffeId: string; readonly id: SpiffeId } {
  refuseUnknownCritical(fields, understood);
  const name = fields.extensions.get(oids.subjectAltName);
  const [spiffeId, ...others] = name === undefined ? [] : readUriNames(name.value);
  if (spiffeId === undefined || others.length > 0) throw malformed("X509-SVID", "must have exactly one URI name");
  if (!name?.critical && fields.subject.equals(emptyName)) throw malformed("X509-SVID", "has no subject, so its names must be critical");
  const id = spiffeIdOf(spiffeId, "X509-SVID");
  if (id.path === "") throw malformed("X509-SVID", "SPIFFE ID has no path");
  const constraints = fields.extensions.get(oids.basicConstraints);
  if (constraints !== undefined && readBasicConstraints(constraints.value).ca) throw malformed("X509-SVID", "is a CA certificate");
  const usage = criticalKeyUsage(fields, "X509-SVID");
  if ((usage & keyUsageBits.digitalSignature) === 0) throw malformed("X509-SVID", "may not sign");
  if ((usage & (keyUsageBits.keyCertSign | keyUsageBits.crlSign)) !== 0) throw malformed("X509-SVID", "may sign certificates or CRLs");
  const purposes = fields.extensions.get(oids.extendedKeyUsage);
  if (purposes !== undefined) {
    const named = readExtendedKeyUsage(purposes.value);
    if (!named.has(oids.serverAuth) || !named.has(oids.clientAuth)) throw malformed("X509-SVID", "must be good for both client and server");
  }
  return { spiffeId, id };
}

/** The rules of roots and signing CAs. */
export function checkSigningRules(fields: CertificateFields): void {
  const constraints = fields.extensions.get(oids.basicConstraints);
  if (constraints === undefined || !readBasicConstraints(constraints.value).ca) throw malformed("signing certificate", "is not a CA");
  if ((criticalKeyUsage(fields, "signing certificate") & keyUsageBits.keyCertSign) === 0) throw malformed("signing certificate", "may not sign certificates");
  const name = fields.extensions.get(oids.subjectAltName);
  const uris = name === undefined ? [] : readUriNames(name.value);
  if (uris.length > 1) throw malformed("signing certificate", "has more than one URI name");
  for (const uri of uris) {
    if (spiffeIdOf(uri, "signing certificate").path !== "") throw malformed("signing certificate", "SPIFFE ID has a path");
  }
}

function criticalKeyUsage(fields: CertificateFields, what: string): number {
  const usage = fields.extensions.get(oids.keyUsage);
  if (!usage?.critical) throw malformed(what, "key usage must be there and critical");
  return readKeyUsage(usage.value);
}

function refuseUnknownCritical(fields: CertificateFields, known: ReadonlySet<string>): void {
  for (const [oid, { critical }] of fields.extensions) {
    if (critical && !known.has(oid)) throw malformed("X509-SVID", `unknown critical extension ${oid}`);
  }
}

// JWT-SVID

type JwtHeader = { readonly alg: string; readonly kid: string; readonly typ?: string };

export type JwtSvid = {
  readonly header: JwtHeader;
  /** All claims, as they stand. */
  readonly claims: JsonObject;
  readonly spiffeId: string;
  readonly audience: readonly string[];
  readonly jti: string | null;
  readonly issuedAt: Date | null;
  readonly notBefore: Date | null;
  readonly expiresAt: Date;
  readonly binding: TaskBinding | null;
  readonly signingInput: string;
  readonly signature: Buffer;
};

const maxTokenLength = 8 * 1024;
const maxAudiences = 16;
const maxTextLength = 1024;
const lastSecond = 253_402_300_799; // 9999-12-31T23:59:59Z
const headerNames: ReadonlySet<string> = new Set(["alg", "kid", "typ"]);
/** Each algorithm a JWT-SVID may have, with its signature's length where that is fixed. */
const algorithms: ReadonlyMap<string, number | null> = new Map([
  ["ES256", 64], ["ES384", 96], ["ES512", 132],
  ["RS256", null], ["RS384", null], ["RS512", null], ["PS256", null], ["PS384", null], ["PS512", null],
]);

export function readJwtSvid(token: string): JwtSvid {
  if (token.length > maxTokenLength) throw malformed("JWT-SVID", `longer than ${maxTokenLength} bytes`);
  const parts = token.split(".");
  const [first, second, third] = parts;
  if (first === undefined || second === undefined || third === undefined || parts.length !== 3) throw malformed("JWT-SVID", "not a compact JWS of three parts");
  const header = knownHeaders.get(first) ?? readNewHeader(first);
  const signature = fromBase64url(third);
  const length = algorithms.get(header.alg) ?? signature.length;
  if (signature.length !== length || length === 0) throw malformed("JWT-SVID", "signature has the wrong length");
  return { header, ...readJwtClaims(parseJsonObject(fromBase64url(second))), signingInput: `${first}.${second}`, signature };
}

/** All tokens of one key have one header: it is read once. Bounded, so nobody fills it. */
const knownHeaders = new Map<string, JwtHeader>();
const mostHeaders = 64;
const longestKnown = 512;

function readNewHeader(text: string): JwtHeader {
  const header = readJwtHeader(parseJsonObject(fromBase64url(text)));
  if (knownHeaders.size >= mostHeaders) knownHeaders.clear();
  if (text.length <= longestKnown) knownHeaders.set(text, header);
  return header;
}

function readJwtHeader(header: JsonObject): JwtHeader {
  for (const name of Object.keys(header)) {
    if (!headerNames.has(name)) throw malformed("JWT-SVID", "a header other than alg, kid and typ");
  }
  const { alg, kid, typ } = header;
  if (typeof alg !== "string" || !algorithms.has(alg)) throw malformed("JWT-SVID", "alg is not one of RS, ES, PS with 256, 384, 512");
  if (!isText(kid)) throw malformed("JWT-SVID", "kid is missing");
  if (typ === undefined) return { alg, kid };
  if (typ !== "JWT" && typ !== "JOSE") throw malformed("JWT-SVID", "typ is neither JWT nor JOSE");
  return { alg, kid, typ };
}

function readJwtClaims(claims: JsonObject): Omit<JwtSvid, "header" | "signingInput" | "signature"> {
  const { sub, aud, exp, iat, nbf, jti, brevet } = claims;
  if (typeof sub !== "string") throw malformed("JWT-SVID", "sub is missing");
  spiffeIdOf(sub, "JWT-SVID");
  const audience = typeof aud === "string" ? [aud] : Array.isArray(aud) ? aud : [];
  if (audience.length === 0 || audience.length > maxAudiences || !audience.every(isText)) throw malformed("JWT-SVID", "aud must name 1 to 16 audiences");
  if (exp === undefined) throw malformed("JWT-SVID", "exp is missing");
  if (jti !== undefined && !isText(jti)) throw malformed("JWT-SVID", "jti must be a string");
  if (brevet !== undefined && !isJsonObject(brevet)) throw malformed("JWT-SVID", "brevet must be an object");
  return {
    claims,
    spiffeId: sub,
    audience,
    jti: jti ?? null,
    issuedAt: iat === undefined ? null : numericDate(iat, "iat"),
    notBefore: nbf === undefined ? null : numericDate(nbf, "nbf"),
    expiresAt: numericDate(exp, "exp"),
    binding: brevet === undefined ? null : decodeBindingClaim(brevet),
  };
}

function numericDate(value: Json, claim: string): Date {
  if (typeof value !== "number" || value < 0 || value > lastSecond) throw malformed("JWT-SVID", `${claim} is no time`);
  return new Date(value * 1000);
}

function isText(value: Json | undefined): value is string {
  return typeof value === "string" && value.length > 0 && value.length <= maxTextLength;
}

/** Refuses padding, other alphabets, and unused bits that are not zero: one text per value. */
function fromBase64url(text: string): Buffer {
  const bytes = Buffer.from(text, "base64url");
  if (bytes.toString("base64url") !== text) throw malformed("JWT-SVID", "not canonical base64url");
  return bytes;
}

function spiffeIdOf(text: string, what: string): SpiffeId {
  try {
    return parseSpiffeId(text);
  } catch (cause) {
    throw new BrevetError("VERIFY_MALFORMED", `${what}: not a SPIFFE ID`, { cause });
  }
}

function malformed(what: string, why: string): BrevetError {
  return new BrevetError("VERIFY_MALFORMED", `${what}: ${why}`);
}
