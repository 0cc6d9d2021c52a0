// Is every SVID refused that must not be accepted, and for its own reason?
// Tables of wrong tokens and chains, each one step away from a good one that is accepted; then the
// verifier as a whole: not ready, stale, revoked, of another trust domain, of the wrong kind.
// JWT-SVID sections 2-5, X509-SVID section 5; threats T14, T24-T28.
// The feed by itself: feed-client.test.ts; connections: mtls.test.ts.
import { constants, createHmac, generateKeyPairSync, sign } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { issueCaCertificate } from "../ca/x509.ts";
import type { Signer } from "../ca/authority.ts";
import { BrevetError } from "../src/errors.ts";
import type { ErrorCode } from "../src/errors.ts";
import { encodeBindingClaim } from "../src/identity/task.ts";
import type { Authorizer } from "../src/verify/authorize.ts";
import { agentIs, allOf, anyAgent, onBehalfOf, oneOf, serviceIs, taskIs } from "../src/verify/authorize.ts";
import type { WorkloadSource } from "../src/client/source.ts";
import { authenticate } from "../src/verify/authenticate.ts";
import { grpcCredentials } from "../src/verify/grpc.ts";
import { importJwtKey, verifyJwt } from "../src/verify/jwt.ts";
import type { JwtKey } from "../src/verify/jwt.ts";
import { guard } from "../src/verify/middleware.ts";
import { MtlsAgent, connectHttp2, connectMtls, createHttpsServer } from "../src/verify/tls.ts";
import type { ConnectOptions } from "../src/verify/tls.ts";
import { Verifier } from "../src/verify/verifier.ts";
import type { CheckOptions, VerifierOptions } from "../src/verify/verifier.ts";
import { readSigningCertificate, verifyX509 } from "../src/verify/x509.ts";
import type { SigningCertificate } from "../src/verify/x509.ts";
import { newAuthorities, trustDomain } from "./support/authorities.ts";
import { Outside, agentJwt, agentSvid, bindingOf, jwksOf, serviceSvid, svidOf, taskA, taskB, until } from "./support/outside.ts";

const ec = generateKeyPairSync("ec", { namedCurve: "P-256" });
const ec384 = generateKeyPairSync("ec", { namedCurve: "P-384" });
const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
const stranger = generateKeyPairSync("ec", { namedCurve: "P-256" });
const jwk = (key: KeyObject): Record<string, string> => key.export({ format: "jwk" }) as Record<string, string>;
const imported = (kid: string, key: KeyObject): [string, JwtKey] =>
  [kid, importJwtKey({ kid, publicKey: jwk(key) as { kty: string } })];
const keys = new Map([imported("ec", ec.publicKey), imported("ec384", ec384.publicKey), imported("rsa", rsa.publicKey)]);
const foreignKeys = new Map([imported("foreign", stranger.publicKey)]);
const keysOf = (td: string): ReadonlyMap<string, JwtKey> | undefined =>
  ({ [trustDomain]: keys, "other.org": foreignKeys })[td];

const now = 1_760_000_000_000;
const spiffeId = `spiffe://${trustDomain}/agent/researcher/task/${taskA}`;
const header = { alg: "ES256", kid: "ec", typ: "JWT" };
const claims = { sub: spiffeId, aud: ["crm"], exp: now / 1_000 + 60, iat: now / 1_000, jti: "j", brevet: encodeBindingClaim(bindingOf(taskA)) };
const b64 = (value: unknown): string => Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");

type Made = { header?: unknown; claims?: unknown; key?: KeyObject; hash?: string; encoding?: "der" | "ieee-p1363"; padding?: number };

/** A token as asked for, signed as asked for: text instead of an object goes in as it stands. */
function made({ header: h = header, claims: c = claims, key = ec.privateKey, hash = "sha256", encoding = "ieee-p1363", padding }: Made = {}): string {
  const input = `${b64(h)}.${b64(c)}`;
  const scheme = padding === undefined ? { dsaEncoding: encoding } : { padding, saltLength: constants.RSA_PSS_SALTLEN_DIGEST };
  return `${input}.${sign(hash, Buffer.from(input), { key, ...scheme }).toString("base64url")}`;
}

function without(claim: keyof typeof claims): object {
  const { [claim]: _gone, ...rest } = claims;
  return rest;
}

function codeOf(check: () => unknown): ErrorCode | "accepted" {
  try {
    check();
    return "accepted";
  } catch (error) {
    if (error instanceof BrevetError) return error.code;
    throw error;
  }
}

const jwtCode = (token: string, at = now): ErrorCode | "accepted" => codeOf(() => verifyJwt(token, keysOf, ["crm"], at));
const [good1, good2, good3] = made().split(".") as [string, string, string];
const hmac = (secret: string | Buffer): string => {
  const input = `${b64({ ...header, alg: "HS256" })}.${b64(claims)}`;
  return `${input}.${createHmac("sha256", secret).update(input).digest("base64url")}`;
};
const publicPem = ec.publicKey.export({ type: "spki", format: "pem" }) as string;
const flip = (text: string, at: number): string => `${text.slice(0, at)}${text[at] === "A" ? "B" : "A"}${text.slice(at + 1)}`;
const twisted = JSON.stringify(claims).replace(/\}$/, `,"sub":"spiffe://${trustDomain}/agent/admin"}`);

describe("a JWT-SVID", () => {
  it.each<[string, string]>([
    ["ES256", made()],
    ["ES384", made({ header: { alg: "ES384", kid: "ec384" }, key: ec384.privateKey, hash: "sha384" })],
    ["RS256", made({ header: { alg: "RS256", kid: "rsa" }, key: rsa.privateKey, padding: constants.RSA_PKCS1_PADDING })],
    ["RS512", made({ header: { alg: "RS512", kid: "rsa" }, key: rsa.privateKey, hash: "sha512", padding: constants.RSA_PKCS1_PADDING })],
    ["PS384", made({ header: { alg: "PS384", kid: "rsa", typ: "JOSE" }, key: rsa.privateKey, hash: "sha384", padding: constants.RSA_PKCS1_PSS_PADDING })],
    ["one audience as a string", made({ claims: { ...claims, aud: "crm" } })],
    ["one audience among several", made({ claims: { ...claims, aud: ["search", "crm"] } })],
    ["claims of others", made({ claims: { ...claims, scope: "x", cnf: { jkt: "y" } } })],
    ["no iat", made({ claims: without("iat") })],
  ])("is accepted: %s", (_what, token) => {
    expect(jwtCode(token)).toBe("accepted");
  });

  it.each<[string, string, ErrorCode]>([
    // what the header says
    ["alg none, no signature", `${b64({ ...header, alg: "none" })}.${good2}.`, "VERIFY_MALFORMED"],
    ["alg None, in another case", `${b64({ ...header, alg: "None" })}.${good2}.${good3}`, "VERIFY_MALFORMED"],
    ["HS256 with the public key as the secret", hmac(publicPem), "VERIFY_MALFORMED"],
    ["HS256 with the public key's DER as the secret", hmac(ec.publicKey.export({ type: "spki", format: "der" })), "VERIFY_MALFORMED"],
    ["EdDSA", made({ header: { ...header, alg: "EdDSA" } }), "VERIFY_MALFORMED"],
    ["ES256K", made({ header: { ...header, alg: "ES256K" } }), "VERIFY_MALFORMED"],
    ["alg in lower case", made({ header: { ...header, alg: "es256" } }), "VERIFY_MALFORMED"],
    ["alg missing", made({ header: { kid: "ec" } }), "VERIFY_MALFORMED"],
    ["alg of another key's type", made({ header: { alg: "RS256", kid: "ec" } }), "VERIFY_SIGNATURE"],
    ["ES256 with an RSA key", made({ header: { ...header, kid: "rsa" } }), "VERIFY_SIGNATURE"],
    ["ES384 with a P-256 key", made({ header: { ...header, alg: "ES384" }, hash: "sha384" }), "VERIFY_MALFORMED"],
    ["RS256 said, PSS made", made({ header: { alg: "RS256", kid: "rsa" }, key: rsa.privateKey, padding: constants.RSA_PKCS1_PSS_PADDING }), "VERIFY_SIGNATURE"],
    ["kid missing", made({ header: { alg: "ES256" } }), "VERIFY_MALFORMED"],
    ["kid empty", made({ header: { ...header, kid: "" } }), "VERIFY_MALFORMED"],
    ["kid a number", made({ header: { ...header, kid: 1 } }), "VERIFY_MALFORMED"],
    ["kid unknown", made({ header: { ...header, kid: "nobody" } }), "VERIFY_UNKNOWN_AUTHORITY"],
    ["kid a path", made({ header: { ...header, kid: "../../../dev/null" } }), "VERIFY_UNKNOWN_AUTHORITY"],
    ["kid SQL", made({ header: { ...header, kid: "' UNION SELECT 'key" } }), "VERIFY_UNKNOWN_AUTHORITY"],
    ["kid __proto__", made({ header: '{"alg":"ES256","kid":"__proto__"}' }), "VERIFY_UNKNOWN_AUTHORITY"],
    ["kid constructor", made({ header: { ...header, kid: "constructor" } }), "VERIFY_UNKNOWN_AUTHORITY"],
    ["kid of another trust domain's key", made({ header: { ...header, kid: "foreign" }, key: stranger.privateKey }), "VERIFY_UNKNOWN_AUTHORITY"],
    ["a key of its own: jwk", made({ header: { ...header, jwk: jwk(stranger.publicKey) }, key: stranger.privateKey }), "VERIFY_MALFORMED"],
    ["a key of its own: jku", made({ header: { ...header, jku: "https://evil.example/jwks" } }), "VERIFY_MALFORMED"],
    ["a key of its own: x5u", made({ header: { ...header, x5u: "https://evil.example/c" } }), "VERIFY_MALFORMED"],
    ["a key of its own: x5c", made({ header: { ...header, x5c: ["AA=="] } }), "VERIFY_MALFORMED"],
    ["crit", made({ header: { ...header, crit: ["exp"] } }), "VERIFY_MALFORMED"],
    ["b64 false", made({ header: { ...header, b64: false, crit: ["b64"] } }), "VERIFY_MALFORMED"],
    ["cty", made({ header: { ...header, cty: "JWT" } }), "VERIFY_MALFORMED"],
    ["typ of a WIT", made({ header: { ...header, typ: "wit+jwt" } }), "VERIFY_MALFORMED"],
    ["alg twice", made({ header: '{"alg":"none","kid":"ec","alg":"ES256"}' }), "VERIFY_MALFORMED"],
    ["header an array", made({ header: [header] }), "VERIFY_MALFORMED"],
    // what is signed
    ["another key's signature", made({ key: stranger.privateKey }), "VERIFY_SIGNATURE"],
    ["a changed claim", `${good1}.${b64({ ...claims, aud: ["crm", "bank"] })}.${good3}`, "VERIFY_SIGNATURE"],
    ["a changed signature", `${good1}.${good2}.${flip(good3, 4)}`, "VERIFY_SIGNATURE"],
    ["a signature in DER", made({ encoding: "der" }), "VERIFY_MALFORMED"],
    ["a signature of zeros", `${good1}.${good2}.${Buffer.alloc(64).toString("base64url")}`, "VERIFY_SIGNATURE"],
    ["a signature cut short", `${good1}.${good2}.${good3.slice(0, -4)}`, "VERIFY_MALFORMED"],
    ["no signature", `${good1}.${good2}.`, "VERIFY_MALFORMED"],
    // the form
    ["empty", "", "VERIFY_MALFORMED"],
    ["two parts", `${good1}.${good2}`, "VERIFY_MALFORMED"],
    ["four parts", `${good1}.${good2}.${good3}.`, "VERIFY_MALFORMED"],
    ["five parts, as of JWE", `${good1}.${good2}.${good3}.${good3}.${good3}`, "VERIFY_MALFORMED"],
    ["JSON serialisation", JSON.stringify({ protected: good1, payload: good2, signature: good3 }), "VERIFY_MALFORMED"],
    ["padding", `${good1}=.${good2}.${good3}`, "VERIFY_MALFORMED"],
    ["a space before", ` ${good1}.${good2}.${good3}`, "VERIFY_MALFORMED"],
    ["a newline after", `${good1}.${good2}.${good3}\n`, "VERIFY_MALFORMED"],
    ["Bearer before", `Bearer ${good1}.${good2}.${good3}`, "VERIFY_MALFORMED"],
    ["the other base64 alphabet", `${good1}.${good2}.${"+".repeat(86)}`, "VERIFY_MALFORMED"],
    ["unused bits set", `${good1}.${good2}.${good3.slice(0, -1)}${good3.endsWith("B") ? "C" : "B"}`, "VERIFY_MALFORMED"],
    ["9,000 characters", made({ claims: { ...claims, pad: "x".repeat(9_000) } }), "VERIFY_MALFORMED"],
    ["nested 1,000 deep", made({ claims: `{"sub":${"[".repeat(1_000)}${"]".repeat(1_000)}}` }), "VERIFY_MALFORMED"],
    ["not UTF-8", `${good1}.${Buffer.from([0x7b, 0xff, 0x7d]).toString("base64url")}.${good3}`, "VERIFY_MALFORMED"],
    // the claims
    ["sub twice", made({ claims: twisted }), "VERIFY_MALFORMED"],
    ["sub missing", made({ claims: without("sub") }), "VERIFY_MALFORMED"],
    ["sub no SPIFFE ID", made({ claims: { ...claims, sub: "alice" } }), "VERIFY_MALFORMED"],
    ["sub with dots", made({ claims: { ...claims, sub: `spiffe://${trustDomain}/agent/../service/crm` } }), "VERIFY_MALFORMED"],
    ["sub with an encoded slash", made({ claims: { ...claims, sub: `spiffe://${trustDomain}/agent%2fx` } }), "VERIFY_MALFORMED"],
    ["sub with a port", made({ claims: { ...claims, sub: `spiffe://${trustDomain}:443/agent/x` } }), "VERIFY_MALFORMED"],
    ["sub of a trust domain we know, signed by ours", made({ claims: { ...claims, sub: "spiffe://other.org/agent/x" } }), "VERIFY_UNKNOWN_AUTHORITY"],
    ["sub of a trust domain we don't know", made({ claims: { ...claims, sub: "spiffe://evil.example/agent/x" } }), "VERIFY_UNKNOWN_TRUST_DOMAIN"],
    ["sub of a domain named like a property", made({ claims: { ...claims, sub: "spiffe://tostring/agent/x" } }), "VERIFY_UNKNOWN_TRUST_DOMAIN"],
    ["aud missing", made({ claims: without("aud") }), "VERIFY_MALFORMED"],
    ["aud empty", made({ claims: { ...claims, aud: [] } }), "VERIFY_MALFORMED"],
    ["aud an empty string", made({ claims: { ...claims, aud: [""] } }), "VERIFY_MALFORMED"],
    ["aud an object", made({ claims: { ...claims, aud: { crm: true } } }), "VERIFY_MALFORMED"],
    ["aud of another", made({ claims: { ...claims, aud: ["search"] } }), "VERIFY_AUDIENCE"],
    ["aud that only begins like ours", made({ claims: { ...claims, aud: ["crm/", "crm2", "CRM", "https://crm"] } }), "VERIFY_AUDIENCE"],
    ["aud with a look-alike letter", made({ claims: { ...claims, aud: ["сrm"] } }), "VERIFY_AUDIENCE"],
    ["exp missing", made({ claims: without("exp") }), "VERIFY_MALFORMED"],
    ["exp a string", made({ claims: { ...claims, exp: "9999999999" } }), "VERIFY_MALFORMED"],
    ["exp 1e400", made({ claims: JSON.stringify(claims).replace(/"exp":\d+/, '"exp":1e400') }), "VERIFY_MALFORMED"],
    ["exp past", made({ claims: { ...claims, exp: now / 1_000, iat: now / 1_000 - 60 } }), "VERIFY_EXPIRED"],
    ["exp in a year", made({ claims: { ...claims, exp: now / 1_000 + 365 * 86_400 } }), "VERIFY_MALFORMED"],
    ["iat in an hour", made({ claims: { ...claims, iat: now / 1_000 + 3_600, exp: now / 1_000 + 7_200 } }), "VERIFY_NOT_YET_VALID"],
    ["nbf in an hour", made({ claims: { ...claims, nbf: now / 1_000 + 3_600, exp: now / 1_000 + 7_200 } }), "VERIFY_NOT_YET_VALID"],
    ["brevet a string", made({ claims: { ...claims, brevet: "task" } }), "VERIFY_MALFORMED"],
    ["brevet's epoch negative", made({ claims: { ...claims, brevet: { ...claims.brevet, epoch: -1 } } }), "VERIFY_MALFORMED"],
    ["brevet's epoch a fraction", made({ claims: { ...claims, brevet: { ...claims.brevet, epoch: 0.5 } } }), "VERIFY_MALFORMED"],
  ])("is refused: %s", (_what, token, code) => {
    expect(jwtCode(token)).toBe(code);
  });

  it("is refused by a key that is none", () => {
    const { x } = jwk(ec.publicKey);
    const off = { kty: "EC", crv: "P-256", x: x ?? "", y: x ?? "" };
    expect(codeOf(() => importJwtKey({ kid: "k", publicKey: off }))).toBe("VERIFY_MALFORMED");
  });
});

describe("a chain of certificates", () => {
  const authorities = newAuthorities();
  const others = newAuthorities();
  const ca = (der: Buffer): SigningCertificate => readSigningCertificate(der);
  const bundles = new Map([[trustDomain, [ca(authorities.root.certificate)]]]);
  const code = (chain: Buffer, at = Date.now(), trusted = bundles): ErrorCode | "accepted" => codeOf(() => verifyX509(chain, (td) => trusted.get(td), at));
  const good = agentSvid(authorities, taskA);
  const hour = 3_600_000;

  function intermediate(parent: Signer, pathLength: number, name: string): Signer {
    const key = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const publicKey = key.publicKey.export({ type: "spki", format: "der" });
    const subject = Buffer.concat([Buffer.from("300c310a300806035504030c01", "hex"), Buffer.from(name.slice(0, 1))]);
    subject[1] = subject.length - 2;
    subject[3] = subject.length - 4;
    subject[5] = subject.length - 6;
    const times = { notBefore: new Date(Date.now() - hour), notAfter: new Date(Date.now() + hour) };
    const certificate = issueCaCertificate({
      trustDomain, subject, publicKey, ...times, pathLength, issuer: parent, listUrl: null, sign: (tbs) => parent.sign("ca", tbs),
    });
    const signed = (kind: string, bytes: Buffer): Buffer => sign("sha256", bytes, { key: key.privateKey, dsaEncoding: "der" });
    return { ...parent, name: subject, keyId: Buffer.alloc(20, name), certificate, notAfter: times.notAfter, sign: signed };
  }

  it("is accepted: leaf and signing CA; with the root; under the signing CA alone", () => {
    expect(code(good.chain)).toBe("accepted");
    expect(code(Buffer.concat([good.chain, authorities.root.certificate]))).toBe("accepted");
    const direct = new Map([[trustDomain, [ca(authorities.x509.certificate)]]]);
    expect(code(good.certificate, Date.now(), direct)).toBe("accepted");
  });

  it("is accepted from the old root as long as both stand in the bundle", () => {
    const both = new Map([[trustDomain, [ca(others.root.certificate), ca(authorities.root.certificate)]]]);
    expect(code(good.chain, Date.now(), both)).toBe("accepted");
    expect(code(agentSvid(others, taskA).chain, Date.now(), both)).toBe("accepted");
  });

  it.each<[string, () => ErrorCode | "accepted", ErrorCode]>([
    ["of another's CA", () => code(agentSvid(others, taskA).chain), "VERIFY_UNKNOWN_AUTHORITY"],
    ["without its signing CA", () => code(good.certificate), "VERIFY_UNKNOWN_AUTHORITY"],
    ["of a trust domain that has no bundle", () => code(good.chain, Date.now(), new Map()), "VERIFY_UNKNOWN_TRUST_DOMAIN"],
    ["of a trust domain that trusts nobody any more", () => code(good.chain, Date.now(), new Map([[trustDomain, []]])), "VERIFY_UNKNOWN_AUTHORITY"],
    ["of a key under another domain's bundle", () => code(good.chain, Date.now(), new Map([["other.org", bundles.get(trustDomain) ?? []]])), "VERIFY_UNKNOWN_TRUST_DOMAIN"],
    ["expired", () => code(good.chain, Date.now() + hour), "VERIFY_EXPIRED"],
    ["not yet valid", () => code(good.chain, Date.now() - hour), "VERIFY_NOT_YET_VALID"],
    ["under an expired CA", () => code(agentSvid(authorities, taskA, 0, 80_000).chain, Date.now() + 25 * hour), "VERIFY_EXPIRED"],
    ["led by its CA", () => code(authorities.x509.certificate), "VERIFY_MALFORMED"],
    ["led by the root", () => code(authorities.root.certificate), "VERIFY_MALFORMED"],
    ["with a leaf that signs a leaf", () => code(Buffer.concat([good.certificate, good.certificate])), "VERIFY_MALFORMED"],
    ["empty", () => code(Buffer.alloc(0)), "VERIFY_MALFORMED"],
    ["cut short", () => code(good.chain.subarray(0, -1)), "VERIFY_MALFORMED"],
    ["with bytes after the end", () => code(Buffer.concat([good.chain, Buffer.of(0)])), "VERIFY_MALFORMED"],
    ["of five certificates", () => code(Buffer.concat([good.chain, ...Array<Buffer>(3).fill(authorities.root.certificate)])), "VERIFY_MALFORMED"],
    ["of PEM", () => code(Buffer.from("-----BEGIN CERTIFICATE-----\n")), "VERIFY_MALFORMED"],
    ["deeper than the path length allows", () => {
      const upper = intermediate(authorities.root, 1, "U");
      const lower = intermediate(upper, 0, "L");
      const leaf = svidOf({ ...authorities, x509: lower }, spiffeId, bindingOf(taskA));
      return code(Buffer.concat([leaf.chain, upper.certificate]));
    }, "VERIFY_MALFORMED"],
  ])("is refused: %s", (_what, check, expected) => {
    expect(check()).toBe(expected);
  });

  it("is refused with any one bit changed", () => {
    for (let bit = 0; bit < good.certificate.length * 8; bit += 13) {
      const bytes = Buffer.from(good.chain);
      bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(code(bytes), `bit ${bit}`).toMatch(/^VERIFY_/);
    }
  });
});

describe("a verifier", () => {
  let outside: Outside;
  const open: Verifier[] = [];

  beforeEach(async () => {
    outside = await Outside.start();
  });
  afterEach(() => {
    for (const verifier of open.splice(0)) verifier.close();
    outside.close();
  });

  function verifier(options: VerifierOptions = {}): Verifier {
    const made = new Verifier({ address: outside.address, audience: "crm", ...options });
    open.push(made);
    return made;
  }

  async function readyVerifier(options?: VerifierOptions): Promise<Verifier> {
    const made = verifier(options);
    await made.ready();
    return made;
  }

  const reason = (verdict: ReturnType<Verifier["jwt"]>): string => (verdict.accepted ? "accepted" : verdict.reason);

  it("says who calls", async () => {
    const one = await readyVerifier();
    const jwt = one.jwt(agentJwt(outside.authorities, taskA, { epoch: 2 }));
    expect(jwt).toMatchObject({ accepted: true, agent: "researcher", service: null, task: taskA, epoch: 2, audience: ["crm"] });
    const x509 = one.x509(agentSvid(outside.authorities, taskA).chain);
    expect(x509).toMatchObject({ accepted: true, agent: "researcher", task: taskA, epoch: 0, spiffeId });
  });

  it("is not ready without the broker, and is once it is there", async () => {
    outside.stop();
    const one = verifier();
    const token = agentJwt(outside.authorities, taskA);
    expect(reason(one.jwt(token))).toBe("VERIFY_NOT_READY");
    await expect(one.ready(AbortSignal.timeout(100))).rejects.toThrow("timeout");
    expect(reason(one.x509(agentSvid(outside.authorities, taskA).chain))).toBe("VERIFY_NOT_READY");
    await outside.listen();
    await one.ready();
    expect(reason(one.jwt(token))).toBe("accepted");
    one.close();
    expect(reason(one.jwt(token))).toBe("VERIFY_NOT_READY");
    await expect(one.ready()).rejects.toThrow("closed");
  });

  it("is not ready with bundles and no feed", async () => {
    outside.mute = true;
    const one = verifier();
    await until(() => one.bundles.ready);
    expect(reason(one.jwt(agentJwt(outside.authorities, taskA)))).toBe("VERIFY_NOT_READY");
  });

  it("refuses what is below the task's epoch, and no other", async () => {
    const one = await readyVerifier();
    const [old, next] = [0, 1].map((epoch) => agentJwt(outside.authorities, taskA, { epoch }));
    const [oldChain, nextChain] = [0, 1].map((epoch) => agentSvid(outside.authorities, taskA, epoch).chain);
    outside.revoke(taskA, 1);
    await until(() => one.feed.epochOf(taskA) === 1);
    expect([old, next].map((token) => reason(one.jwt(token ?? "")))).toEqual(["VERIFY_REVOKED", "accepted"]);
    expect([oldChain, nextChain].map((chain) => reason(one.x509(chain ?? Buffer.alloc(0))))).toEqual(["VERIFY_REVOKED", "accepted"]);
    expect(one.jwt(old ?? "")).toMatchObject({ spiffeId, task: taskA });
    expect(reason(one.jwt(agentJwt(outside.authorities, taskB)))).toBe("accepted");
  });

  it("refuses everybody when its feed is silent", async () => {
    const one = await readyVerifier({ maxStaleness: 1 });
    const token = agentJwt(outside.authorities, taskA);
    expect(reason(one.jwt(token))).toBe("accepted");
    outside.mute = true;
    await until(() => reason(one.jwt(token)) === "VERIFY_STALE");
    outside.mute = false;
    await until(() => reason(one.jwt(token)) === "accepted");
  });

  it("acceptIssuedBefore: in the silence only what it had accepted before, and not what it knows to be revoked", async () => {
    const one = await readyVerifier({ maxStaleness: 1, onStale: { acceptIssuedBefore: "1h" } });
    const [known, dead, unknown] = [0, 1, 2].map(() => agentJwt(outside.authorities, taskA)) as [string, string, string];
    const ended = agentJwt(outside.authorities, taskB);
    for (const token of [known, dead, ended]) expect(reason(one.jwt(token))).toBe("accepted");
    outside.revoke(taskB, 1);
    await until(() => one.feed.epochOf(taskB) === 1);
    outside.mute = true;
    await until(() => !one.feed.fresh);
    expect(reason(one.jwt(known))).toBe("accepted");
    expect(reason(one.jwt(unknown))).toBe("VERIFY_STALE");
    expect(reason(one.jwt(ended))).toBe("VERIFY_REVOKED");
    expect(reason(one.x509(agentSvid(outside.authorities, taskA).chain))).toBe("VERIFY_STALE");
    const brief = await readyOther({ maxStaleness: 1, onStale: { acceptIssuedBefore: 0.1 } }, known);
    await until(() => reason(brief.jwt(known)) === "VERIFY_STALE");
  });

  async function readyOther(options: VerifierOptions, token: string): Promise<Verifier> {
    outside.mute = false;
    const other = await readyVerifier(options);
    expect(reason(other.jwt(token))).toBe("accepted");
    outside.mute = true;
    return other;
  }

  it("accepts services only where they are wanted, and revokes them too", async () => {
    const one = await readyVerifier();
    const chain = serviceSvid(outside.authorities, "crm").chain;
    expect(reason(one.x509(chain))).toBe("VERIFY_NOT_AN_AGENT");
    expect(one.x509(chain, { accept: ["agent", "service"] })).toMatchObject({ accepted: true, service: "crm", agent: null });
    expect(reason(one.x509(agentSvid(outside.authorities, taskA).chain, { accept: ["service"] }))).toBe("VERIFY_NOT_AN_AGENT");
    outside.revoke("service/crm", 1);
    await until(() => one.feed.epochOf("service/crm") === 1);
    expect(reason(one.x509(chain, { accept: ["service"] }))).toBe("VERIFY_REVOKED");
  });

  it.each<[string, string, string | null, string]>([
    ["a broker's own", `spiffe://${trustDomain}/brevet/broker`, "x", "VERIFY_NOT_AN_AGENT"],
    ["nobody's path", `spiffe://${trustDomain}/db/main`, "x", "VERIFY_NOT_AN_AGENT"],
    ["an agent without binding", spiffeId, null, "VERIFY_MALFORMED"],
    ["an agent bound to another task", spiffeId, taskB, "VERIFY_MALFORMED"],
    ["an agent bound to a service", spiffeId, "service/crm", "VERIFY_MALFORMED"],
    ["an X.509-SVID that names no task", `spiffe://${trustDomain}/agent/researcher`, taskA, "VERIFY_MALFORMED"],
    ["a service bound to a task", `spiffe://${trustDomain}/service/crm`, taskA, "VERIFY_MALFORMED"],
  ])("refuses the ID of %s", async (_what, id, task, expected) => {
    const one = await readyVerifier({ accept: ["agent", "service"] });
    const issued = svidOf(outside.authorities, id, task === null ? null : bindingOf(task));
    expect(reason(one.x509(issued.chain))).toBe(expected);
  });

  it("takes the task from the claim where the token names the agent alone", async () => {
    outside.jwks = { [`spiffe://${trustDomain}`]: Buffer.from(JSON.stringify({ keys: [{ ...jwk(ec.publicKey), kid: "ec" }] })) };
    const one = await readyVerifier();
    const times = { iat: Math.floor(Date.now() / 1_000), exp: Math.floor(Date.now() / 1_000) + 60 };
    const token = (binding: object): string => made({ claims: { ...claims, ...times, sub: `spiffe://${trustDomain}/agent/researcher`, brevet: binding } });
    expect(one.jwt(token(encodeBindingClaim(bindingOf(taskA))))).toMatchObject({ accepted: true, task: taskA, agent: "researcher" });
    expect(reason(one.jwt(token(encodeBindingClaim(bindingOf("service/crm")))))).toBe("VERIFY_MALFORMED");
    outside.revoke(taskA, 1);
    await until(() => one.feed.epochOf(taskA) === 1);
    expect(reason(one.jwt(token(encodeBindingClaim(bindingOf(taskA)))))).toBe("VERIFY_REVOKED");
  });

  it("never lets one trust domain's keys speak for another, nor trusts a domain whose revocations it can't hear", async () => {
    const foreign = newAuthorities();
    outside.bundles = { ...outside.bundles, "spiffe://other.org": foreign.root.certificate };
    outside.jwks = { ...outside.jwks, "spiffe://other.org": jwksOf(foreign) };
    const named = await readyVerifier({ trustDomain });
    const token = agentJwt(outside.authorities, taskA);
    expect(reason(named.jwt(token))).toBe("accepted");
    expect(reason(named.jwt(agentJwt(foreign, taskA)))).toBe("VERIFY_UNKNOWN_AUTHORITY");
    expect(reason(named.x509(agentSvid(foreign, taskA).chain))).toBe("VERIFY_UNKNOWN_AUTHORITY");
    const other = await readyVerifier({ trustDomain: "other.org" });
    expect(reason(other.jwt(token))).toBe("VERIFY_UNKNOWN_TRUST_DOMAIN");
    const unnamed = await readyVerifier(); // asks the broker which domain is its own
    expect(reason(unnamed.jwt(token))).toBe("accepted");
    expect(reason(unnamed.jwt(agentJwt(foreign, taskA)))).toBe("VERIFY_UNKNOWN_AUTHORITY");
  });

  it("follows its bundles: a key that is gone is no key, a broken message changes nothing", async () => {
    const one = await readyVerifier();
    const token = agentJwt(outside.authorities, taskA);
    const kept = outside.jwks;
    outside.jwks = { [`spiffe://${trustDomain}`]: Buffer.from('{"keys":[{"kty":"EC"}]') };
    outside.pushBundles();
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(reason(one.jwt(token))).toBe("accepted");
    outside.jwks = { [`spiffe://${trustDomain}`]: Buffer.from('{"keys":[]}') };
    outside.pushBundles();
    await until(() => reason(one.jwt(token)) === "VERIFY_UNKNOWN_AUTHORITY");
    outside.jwks = kept;
    outside.pushBundles();
    await until(() => reason(one.jwt(token)) === "accepted");
  });

  it.each<[field: string, what: RegExp, options: Record<string, unknown>]>([
    ["maxstaleness", /is no option; did you mean maxStaleness\?/, { maxstaleness: "1s" }],
    ["toString", /is no option: there are address, /, { toString: 1 }],
    ["maxStaleness", /must be a duration/, { maxStaleness: "soon" }],
    ["maxStaleness", /must be longer than 0s/, { maxStaleness: "0s" }],
    ["onStale", /must be refuse, or \{ acceptIssuedBefore: … \}/, { onStale: "accept" }],
    ["onStale", /acceptIssuedBefore/, { onStale: { acceptIssuedBefore: "5s", acceptIssuedAfter: "5s" } }],
    ["onStale", /acceptIssuedBefore/, { onStale: null }],
    ["accept", /must be agent or service/, { accept: ["agent", "x"] }],
    ["accept", /must be a list/, { accept: "agent" }],
    ["audience", /not empty/, { audience: "" }],
    ["audience", /not empty/, { audience: ["crm", ""] }],
    ["trustDomain", /may hold only a-z/, { trustDomain: "A B" }],
    ["trustDomains", /may hold only a-z/, { trustDomains: ["partner.example", "A B"] }],
    ["name", /at most 64/, { name: "x".repeat(65) }],
  ])("refuses an option that is none, or is not right, by its name: %s", (field, what, options) => {
    expect(() => verifier(options)).toThrow(expect.objectContaining({ code: "INVALID_FIELD", violations: [{ field, description: expect.stringMatching(what) as string }] }));
  });

  it("takes no misspelt authorizer for none", async () => {
    const one = await readyVerifier();
    const misspelt = { authorise: () => "nobody" } as CheckOptions;
    const refused = expect.objectContaining({ code: "INVALID_FIELD", message: expect.stringMatching(/authorise: is no option/) as string });
    expect(() => one.jwt("x", misspelt)).toThrow(refused);
    expect(() => one.x509(Buffer.alloc(1), misspelt)).toThrow(refused);
    expect(() => guard({ verifier: one, ...misspelt })).toThrow(refused);
    expect(() => authenticate({}, { verifier: one, ...misspelt })).toThrow(refused);
    const [source, host, port] = [null as unknown as WorkloadSource, "127.0.0.1", 1];
    expect(() => createHttpsServer({ verifier: one, source, ...misspelt }, () => {})).toThrow(refused);
    const mistaken = { verifier: one, source, host, port, ...misspelt } as unknown as ConnectOptions;
    for (const make of [() => connectMtls(mistaken), () => connectHttp2(mistaken), () => new MtlsAgent(mistaken), () => grpcCredentials(mistaken)]) {
      expect(make).toThrow(expect.objectContaining({ code: "INVALID_FIELD", message: expect.stringMatching(/authorize: is missing; .*authorise: is no option/) as string }));
    }
  });

  it("asks for an audience", async () => {
    const one = verifier({ audience: [] });
    expect(() => one.jwt("x")).toThrow("audience");
  });

  it("never throws at what it is given", async () => {
    const one = await readyVerifier();
    for (const odd of [undefined, null, 7, {}, [], "\0", Buffer.alloc(3)]) {
      expect(one.jwt(odd as string).accepted).toBe(false);
      expect(one.x509(odd as Buffer).accepted).toBe(false);
    }
  });

  it("lets authorizers decide on who is accepted", async () => {
    const one = await readyVerifier();
    const chain = agentSvid(outside.authorities, taskA).chain;
    const ask = (authorize: Authorizer): string => reason(one.x509(chain, { authorize }));
    expect(ask(anyAgent())).toBe("accepted");
    expect(ask(agentIs("writer", "researcher"))).toBe("accepted");
    expect(ask(agentIs("writer"))).toBe("VERIFY_NOT_AUTHORIZED");
    expect(ask(taskIs(taskA))).toBe("accepted");
    expect(ask(taskIs(taskB))).toBe("VERIFY_NOT_AUTHORIZED");
    expect(ask(serviceIs("crm"))).toBe("VERIFY_NOT_AUTHORIZED");
    expect(ask(onBehalfOf("alice"))).toBe("VERIFY_NOT_AUTHORIZED");
    expect(ask(allOf(anyAgent(), taskIs(taskA)))).toBe("accepted");
    expect(ask(allOf(anyAgent(), taskIs(taskB)))).toBe("VERIFY_NOT_AUTHORIZED");
    expect(ask(oneOf(serviceIs("crm"), agentIs("researcher")))).toBe("accepted");
    expect(one.x509(chain, { authorize: oneOf(serviceIs("crm"), agentIs("writer")) })).toMatchObject({ message: expect.stringMatching(/service crm.*agent writer/) as string });
    expect(ask(() => { throw new RangeError("secret"); })).toBe("INTERNAL");
  });
});
