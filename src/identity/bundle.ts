// Which public keys speak for a trust domain?
// A bundle is of one trust domain, named by who asked for it and never by the bytes; a document that is
// wrong anywhere is refused whole, so the one before it stays. Only public members of a key are kept.
// SPIFFE Trust Domain and Bundle section 4; X509-SVID section 6; JWT-SVID section 6; RFC 7517, RFC 7518 section 6.
// Fetching, ageing and refusing an older sequence are left to src/verify.
import { BrevetError } from "../errors.ts";
import { maxCertificateBytes, oids, readCertificate } from "./certificate.ts";
import { readDer } from "./der.ts";
import { isJsonObject, parseJsonObject } from "./json.ts";
import type { Json, JsonObject } from "./json.ts";
import { checkSigningRules } from "./svid.ts";

/** The public members of an EC or RSA key, as RFC 7518 names them. */
export type PublicJwk = { readonly kty: string; readonly [member: string]: string };
export type JwtAuthority = { readonly kid: string; readonly publicKey: PublicJwk };

export type TrustBundle = {
  readonly trustDomain: string;
  /** Grows with every change of content. */
  readonly sequence: number;
  readonly refreshHintSeconds: number;
  /** DER of the CA certificates. */
  readonly x509: readonly Buffer[];
  readonly jwt: readonly JwtAuthority[];
};

const maxBytes = 1024 * 1024;
const maxKeys = 100;
const maxKidLength = 1024;
const defaultRefreshHintSeconds = 300;
const p256Prefix = Buffer.from("3059301306072a8648ce3d020106082a8648ce3d03010703420004", "hex");
const coordinateBytes: ReadonlyMap<string, number> = new Map([["P-256", 32], ["P-384", 48], ["P-521", 66]]);

export function encodeSpiffeBundle(bundle: TrustBundle): Buffer {
  return encoded({
    spiffe_sequence: bundle.sequence,
    spiffe_refresh_hint: bundle.refreshHintSeconds,
    keys: [
      ...bundle.x509.map((der) => ({ ...publicJwk(readCertificate(der).publicKey), use: "x509-svid", x5c: [der.toString("base64")] })),
      ...bundle.jwt.map(({ kid, publicKey }) => ({ ...publicKey, use: "jwt-svid", kid })),
    ],
  });
}

/** The JWT keys alone, as the Workload API hands them out: no other use, each with its `kid`. */
export function encodeJwks(bundle: TrustBundle): Buffer {
  return encoded({ keys: bundle.jwt.map(({ kid, publicKey }) => ({ ...publicKey, kid })) });
}

/** For those that know nothing of SPIFFE: what each key is for, and with which algorithm (RFC 7517 sections 4.2, 4.4). */
export function encodeOidcJwks(bundle: TrustBundle): Buffer {
  return encoded({ keys: bundle.jwt.map(({ kid, publicKey }) => ({ ...publicKey, kid, use: "sig", alg: publicKey.kty === "RSA" ? "RS256" : "ES256" })) });
}

export function decodeSpiffeBundle(trustDomain: string, bytes: Buffer): TrustBundle {
  const { document, keys } = readJwkSet(bytes);
  const x509: Buffer[] = [];
  const jwt: JwtAuthority[] = [];
  for (const key of keys) {
    // An unknown use or type of key is somebody's future: that key is passed over, not the document.
    if (key["use"] === "x509-svid") x509.push(...readX5c(key["x5c"]));
    if (key["use"] === "jwt-svid") jwt.push(...readJwtAuthority(key));
  }
  refuseRepeatedKids(jwt);
  return {
    trustDomain,
    sequence: wholeNumber(document["spiffe_sequence"] ?? 0, "spiffe_sequence"),
    refreshHintSeconds: wholeNumber(document["spiffe_refresh_hint"] ?? defaultRefreshHintSeconds, "spiffe_refresh_hint"),
    x509,
    jwt,
  };
}

/** Every signing key of a plain JWK Set; keys for other uses are passed over. */
export function decodeJwks(bytes: Buffer): JwtAuthority[] {
  const { keys } = readJwkSet(bytes);
  const jwt = keys
    .filter(({ use }) => use === undefined || use === "sig" || use === "jwt-svid")
    .flatMap(readJwtAuthority);
  refuseRepeatedKids(jwt);
  return jwt;
}

/** JWK of a SubjectPublicKeyInfo of P-256 or RSA: the only kinds that Brevet's own authorities have. */
export function publicJwk(spki: Buffer): PublicJwk {
  const point = spki.subarray(p256Prefix.length);
  if (point.length === 64 && spki.subarray(0, p256Prefix.length).equals(p256Prefix)) {
    return { kty: "EC", crv: "P-256", x: point.subarray(0, 32).toString("base64url"), y: point.subarray(32).toString("base64url") };
  }
  const key = rsaKey(spki);
  if (key === null) throw new BrevetError("INTERNAL", "not a P-256 or RSA public key");
  return { kty: "RSA", n: key.modulus.toString("base64url"), e: key.exponent.toString("base64url") };
}

function rsaKey(spki: Buffer): { readonly modulus: Buffer; readonly exponent: Buffer } | null {
  const reader = readDer(spki).sequence();
  if (reader.sequence().oid() !== oids.rsaEncryption) return null;
  const numbers = readDer(reader.bitString().bytes).sequence();
  return { modulus: numbers.integerBytes(), exponent: numbers.integerBytes() };
}

function encoded(document: object): Buffer {
  return Buffer.from(JSON.stringify(document), "utf8");
}

function readJwkSet(bytes: Buffer): { readonly document: JsonObject; readonly keys: readonly JsonObject[] } {
  if (bytes.length > maxBytes) throw malformed(`larger than ${maxBytes} bytes`);
  const document = parseJsonObject(bytes);
  const keys = document["keys"];
  if (!Array.isArray(keys)) throw malformed("keys is missing");
  if (keys.length > maxKeys) throw malformed(`more than ${maxKeys} keys`);
  return { document, keys: keys.map((key: Json) => (isJsonObject(key) ? key : refuse("a key is no object"))) };
}

/** X509-SVID section 6.2: without x5c the key is ignored, and of several values the first counts. */
function readX5c(x5c: Json | undefined): Buffer[] {
  if (x5c === undefined) return [];
  const text: Json | undefined = Array.isArray(x5c) ? x5c[0] : undefined;
  if (typeof text !== "string" || text.length > 2 * maxCertificateBytes) throw malformed("x5c is no list of certificates");
  const der = Buffer.from(text, "base64");
  if (der.toString("base64") !== text) throw malformed("x5c is not canonical base64");
  checkSigningRules(readCertificate(der));
  return [der];
}

function readJwtAuthority(key: JsonObject): JwtAuthority[] {
  const { kid, kty } = key;
  if (kty !== "EC" && kty !== "RSA") return [];
  const publicKey = kty === "EC" ? readEcKey(key) : readRsaKey(key);
  if (publicKey === null) return [];
  if (typeof kid !== "string" || kid === "" || kid.length > maxKidLength) throw malformed("a JWT key has no kid");
  return [{ kid, publicKey }];
}

function readEcKey({ crv, x, y }: JsonObject): PublicJwk | null {
  const length = typeof crv === "string" ? coordinateBytes.get(crv) : undefined;
  if (typeof crv !== "string" || length === undefined) return null;
  return { kty: "EC", crv, x: coordinate(x, length, length), y: coordinate(y, length, length) };
}

/** 2048 to 8192 bits: smaller is weak, larger is a way to make verifiers work. */
function readRsaKey({ n, e }: JsonObject): PublicJwk {
  return { kty: "RSA", n: coordinate(n, 256, 1024), e: coordinate(e, 1, 4) };
}

function coordinate(value: Json | undefined, min: number, max: number): string {
  const bytes = typeof value === "string" ? Buffer.from(value, "base64url") : Buffer.alloc(0);
  if (typeof value !== "string" || bytes.toString("base64url") !== value || bytes.length < min || bytes.length > max) throw malformed("a key's numbers");
  return value;
}

function refuseRepeatedKids(jwt: readonly JwtAuthority[]): void {
  if (new Set(jwt.map(({ kid }) => kid)).size !== jwt.length) throw malformed("two JWT keys share a kid");
}

function wholeNumber(value: Json, member: string): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) throw malformed(`${member} is no whole number`);
  return value;
}

function refuse(why: string): never {
  throw malformed(why);
}

function malformed(why: string): BrevetError {
  return new BrevetError("VERIFY_MALFORMED", `bundle: ${why}`);
}
