// Does this JWT-SVID prove its SPIFFE ID to us?
// The key is found by kid among those of the trust domain that `sub` names, and the key decides which
// algorithms may be: what the token says of itself chooses nothing else. Nothing in it is looked at
// further before its signature is good.
// JWT-SVID sections 2-5; RFC 7515 section 5.2, RFC 7518 sections 3.3-3.5. Threats T25, T26.
// Form is identity/svid.ts's business, the task's life verifier.ts's, keys bundles.ts's.
import { constants, createPublicKey, verify } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { BrevetError } from "../errors.ts";
import type { ErrorCode } from "../errors.ts";
import type { JwtAuthority } from "../identity/bundle.ts";
import { parseSpiffeId } from "../identity/id.ts";
import { readJwtSvid } from "../identity/svid.ts";
import type { JwtSvid } from "../identity/svid.ts";

export type JwtKey = { readonly key: KeyObject; readonly algorithms: ReadonlySet<string> };

const rsaAlgorithms = new Set(["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]);
const curveAlgorithms: Readonly<Record<string, ReadonlySet<string>>> = {
  "P-256": new Set(["ES256"]),
  "P-384": new Set(["ES384"]),
  "P-521": new Set(["ES512"]),
};
/** The issuer's clock may be ahead of ours by this. */
const aheadMs = 5_000;
/** What lives longer than a day is no JWT-SVID of ours, whoever signed it. */
const longestLifeMs = 24 * 3_600_000;

/** Throws VERIFY_MALFORMED for a key that is none, e.g. a point that is not on its curve. */
export function importJwtKey({ publicKey }: JwtAuthority): JwtKey {
  const algorithms = publicKey.kty === "RSA" ? rsaAlgorithms : curveAlgorithms[publicKey["crv"] ?? ""];
  try {
    return { key: createPublicKey({ key: publicKey, format: "jwk" }), algorithms: algorithms ?? new Set() };
  } catch (cause) {
    throw new BrevetError("VERIFY_MALFORMED", "a JWT authority's key can't be read", { cause });
  }
}

/**
 * Reads and verifies a token for one of our own `audiences` at `now` (Unix ms).
 * Throws VERIFY_MALFORMED, _UNKNOWN_TRUST_DOMAIN, _UNKNOWN_AUTHORITY, _SIGNATURE, _EXPIRED, _NOT_YET_VALID, _AUDIENCE.
 */
export function verifyJwt(
  token: string,
  keysOf: (trustDomain: string) => ReadonlyMap<string, JwtKey> | undefined,
  audiences: readonly string[],
  now: number,
): JwtSvid {
  const svid = readJwtSvid(token);
  const { trustDomain } = parseSpiffeId(svid.spiffeId);
  const keys = keysOf(trustDomain);
  if (keys === undefined) throw refused("VERIFY_UNKNOWN_TRUST_DOMAIN", `no bundle of trust domain ${trustDomain}`);
  const key = keys.get(svid.header.kid);
  if (key === undefined) throw refused("VERIFY_UNKNOWN_AUTHORITY", "kid names no key of the trust domain's bundle");
  if (!isSigned(svid, key)) throw refused("VERIFY_SIGNATURE", "the signature is not this key's");
  checkTimes(svid, now);
  if (!svid.audience.some((name) => audiences.includes(name))) {
    throw refused("VERIFY_AUDIENCE", `the token is for ${svid.audience.map((name) => JSON.stringify(name)).join(", ")}`);
  }
  return svid;
}

function isSigned({ header, signingInput, signature }: JwtSvid, { key, algorithms }: JwtKey): boolean {
  if (!algorithms.has(header.alg)) return false;
  const family = header.alg.slice(0, 2);
  const scheme =
    family === "ES" ? { dsaEncoding: "ieee-p1363" as const }
    : family === "PS" ? { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST }
    : { padding: constants.RSA_PKCS1_PADDING };
  return verify(`sha${header.alg.slice(2)}`, Buffer.from(signingInput, "latin1"), { key, ...scheme }, signature);
}

function checkTimes({ issuedAt, notBefore, expiresAt }: JwtSvid, now: number): void {
  const [start, end] = [(issuedAt ?? notBefore)?.getTime() ?? now, expiresAt.getTime()];
  if (end <= now) throw refused("VERIFY_EXPIRED", "the token has expired");
  if (Math.max(start, notBefore?.getTime() ?? 0) > now + aheadMs) throw refused("VERIFY_NOT_YET_VALID", "the token is not valid yet");
  if (end <= start || end - start > longestLifeMs) throw refused("VERIFY_MALFORMED", "the token's life is longer than a day, or none");
}

function refused(code: ErrorCode, message: string): BrevetError {
  return new BrevetError(code, message);
}
