// Is what Brevet issues a JWT-SVID to everybody, and does Brevet refuse what is none?
// Issued tokens are verified by jose; the linter refuses by rule; each line of the tables breaks one rule.
// JWT-SVID sections 2-4; RFC 7515, RFC 7519.
// Signature, audience, time and revocation are left to the verifier's tests.
import { createHmac, createPublicKey } from "node:crypto";
import fc from "fast-check";
import { createLocalJWKSet, decodeProtectedHeader, jwtVerify } from "jose";
import { describe, expect, test } from "vitest";
import { bundleOf, moveAuthority, openAuthority, signaturesMade } from "../ca/authority.ts";
import { issueJwt } from "../ca/jwt.ts";
import type { JwtRequest } from "../ca/jwt.ts";
import { encodeJwks } from "../src/identity/bundle.ts";
import { formatAgentId, formatAgentTaskId, newTaskId } from "../src/identity/id.ts";
import { readJwtSvid } from "../src/identity/svid.ts";
import type { TaskBinding } from "../src/identity/task.ts";
import { kek, newAuthorities, trustDomain } from "./support/authorities.ts";

const { jwt, x509 } = newAuthorities();
const now = Math.floor(Date.now() / 1000) * 1000;
const task = newTaskId(now);
const subject = formatAgentTaskId(trustDomain, "researcher", task);
const binding: TaskBinding = { task, epoch: 3, instance: "i-7", context: "ab".repeat(32), onBehalfOf: "ann@example.org" };
const request = (about: Partial<JwtRequest> = {}): JwtRequest => ({
  signer: jwt, subject, audience: ["crm"], jti: "j-1", issuedAt: new Date(now), expiresAt: new Date(now + 120_000), binding, ...about,
});

describe("an issued JWT-SVID", () => {
  test("verifies with jose against the published JWK Set, with three headers and whole seconds", async () => {
    const bundle = bundleOf([jwt.record], { trustDomain, sequence: 1, refreshHintSeconds: 60 });
    const keys = createLocalJWKSet(JSON.parse(encodeJwks(bundle).toString()) as { keys: [] });
    const token = issueJwt(request({ issuer: "https://broker.example.org" }));
    const { payload, protectedHeader } = await jwtVerify(token, keys, { audience: "crm", issuer: "https://broker.example.org", subject });
    expect(protectedHeader).toEqual({ alg: "ES256", kid: jwt.record.id, typ: "JWT" });
    expect(payload).toEqual({
      iss: "https://broker.example.org", sub: subject, aud: ["crm"], iat: now / 1000, exp: now / 1000 + 120, jti: "j-1",
      brevet: { task, epoch: 3, instance: "i-7", context: "ab".repeat(32), for: "ann@example.org" },
    });
    await expect(jwtVerify(token, keys, { audience: "other" })).rejects.toThrow();
    expect(decodeProtectedHeader(issueJwt(request())).kid).toMatch(/^[\w-]{22}$/);
  });

  test("reads back whatever it was issued for", () => {
    const audiences = fc.array(fc.string({ unit: "grapheme", minLength: 1, maxLength: 20 }), { minLength: 1, maxLength: 4 });
    const texts = fc.string({ unit: "grapheme", minLength: 1, maxLength: 40 });
    fc.assert(fc.property(audiences, texts, fc.maxSafeNat(), fc.integer({ min: 1, max: 80_000 }), (audience, instance, epoch, seconds) => {
      const bound = { task, epoch, instance, context: "0f".repeat(32) };
      const expiresAt = new Date(now + seconds * 1000);
      const svid = readJwtSvid(issueJwt(request({ audience, binding: bound, jti: instance, expiresAt })));
      expect(svid).toMatchObject({ spiffeId: subject, audience, jti: instance, binding: bound, expiresAt, issuedAt: new Date(now), notBefore: null });
      expect(svid.signature.length).toBe(64);
    }), { numRuns: 300 });
  });

  test("may name the agent alone and no task", () => {
    const svid = readJwtSvid(issueJwt(request({ subject: formatAgentId(trustDomain, "researcher"), binding: null })));
    expect([svid.spiffeId, svid.binding]).toEqual(["spiffe://example.org/agent/researcher", null]);
    expect(Object.keys(svid.claims)).toEqual(["sub", "aud", "exp", "iat", "jti"]);
  });
});

describe("the linter refuses to sign", () => {
  test.each<[string, Partial<JwtRequest>, string]>([
    ["a subject that is no SPIFFE ID", { subject: "researcher" }, "sub is not"],
    ["a subject of another trust domain", { subject: "spiffe://example.com/agent/a" }, "sub is not"],
    ["the trust domain itself", { subject: `spiffe://${trustDomain}` }, "sub is not"],
    ["a subject that is another task than the claim's", { subject: formatAgentTaskId(trustDomain, "researcher", newTaskId(now + 1)) }, "another task"],
    ["a service with an agent's task in the claim", { subject: `spiffe://${trustDomain}/service/crm` }, "another task"],
    ["no audience", { audience: [] }, "aud must name"],
    ["an empty audience", { audience: [""] }, "an audience is empty"],
    ["five audiences", { audience: ["a", "b", "c", "d", "e"] }, "aud must name"],
    ["a giant audience", { audience: ["a".repeat(257)] }, "too long"],
    ["no jti", { jti: "" }, "jti"],
    ["an end before the beginning", { expiresAt: new Date(now) }, "exp the later"],
    ["no end", { expiresAt: new Date(Number.NaN) }, "whole seconds"],
    ["an end after the authority's", { expiresAt: new Date(jwt.notAfter.getTime() + 1000) }, "outlives its authority"],
  ])("%s", (_what, about, why) => {
    const before = signaturesMade("jwt");
    expect(() => issueJwt(request(about))).toThrow(expect.objectContaining({ code: "LINT_REFUSED", message: expect.stringContaining(why) }));
    expect(signaturesMade("jwt")).toBe(before);
  });

  test("with an authority that is retired, or of X.509", () => {
    for (const signer of [openAuthority(moveAuthority(jwt.record, "retired", kek), kek), x509]) {
      expect(() => issueJwt(request({ signer }))).toThrow(expect.objectContaining({ code: "KEY_UNUSABLE" }));
    }
  });
});

describe("a token is read by the rules", () => {
  const base64url = (text: string | Buffer): string => Buffer.from(text).toString("base64url");
  const header = { alg: "ES256", kid: "k1" };
  const claims = { sub: subject, aud: ["crm"], exp: 2_000_000_000 };
  const signature = base64url(Buffer.alloc(64, 1));
  const token = (h: string | object = header, c: string | object = claims, s: string = signature): string =>
    [h, c].map((part) => base64url(typeof part === "string" ? part : JSON.stringify(part))).concat(s).join(".");
  const publicPem = createPublicKey({ key: jwt.record.publicKey, format: "der", type: "spki" }).export({ format: "pem", type: "spki" });
  const good = token();
  const [head = "", body = ""] = good.split(".");

  test.each<[string, string]>([
    ["the least there may be", good],
    ["typ JWT", token({ ...header, typ: "JWT" })],
    ["typ JOSE", token({ ...header, typ: "JOSE" })],
    ["one audience as a string", token(header, { ...claims, aud: "crm" })],
    ["RSA, of whatever length", token({ ...header, alg: "RS256" }, claims, base64url(Buffer.alloc(256)))],
    ["fractions of a second", token(header, { ...claims, exp: 2_000_000_000.5 })],
    ["claims nobody knows", token(header, { ...claims, cnf: { jwk: {} }, "https://example.org/x": [null, true] })],
  ])("%s is accepted", (_what, text) => {
    expect(readJwtSvid(text)).toMatchObject({ spiffeId: subject, audience: ["crm"], jti: null, binding: null });
  });

  test.each<[string, string, string]>([
    ["nothing", "", "three parts"],
    ["two parts", `${head}.${body}`, "three parts"],
    ["four parts", `${good}.x`, "three parts"],
    ["five parts, as JWE has", `${good}.x.y`, "three parts"],
    ["the JSON serialisation", JSON.stringify({ payload: body, protected: head, signature }), "three parts"],
    ["more than 8 KiB", token(header, { ...claims, x: "x".repeat(8_000) }), "longer than 8192"],
    ["padded base64", `${head}=.${body}.${signature}`, "canonical base64url"],
    ["standard base64", token(header, claims, Buffer.alloc(64, 0xff).toString("base64").replace(/=+$/, "")), "canonical base64url"],
    ["a space in it", `${head} .${body}.${signature}`, "canonical base64url"],
    ["unused bits set", token(header, claims, `${signature.slice(0, -1)}${String.fromCharCode(signature.charCodeAt(signature.length - 1) + 1)}`), "canonical base64url"],
    ["no signature", token(header, claims, ""), "wrong length"],
    ["a signature in DER", token(header, claims, base64url(Buffer.alloc(71, 1))), "wrong length"],
    ["alg none", token({ ...header, alg: "none" }, claims, ""), "alg is not"],
    ["alg None", token({ ...header, alg: "None" }), "alg is not"],
    ["HS256 with the public key", token({ ...header, alg: "HS256" }, claims, createHmac("sha256", publicPem).update(`${head}.${body}`).digest("base64url")), "alg is not"],
    ["EdDSA", token({ ...header, alg: "EdDSA" }), "alg is not"],
    ["ES256K", token({ ...header, alg: "ES256K" }), "alg is not"],
    ["alg as an array", token({ ...header, alg: ["ES256"] }), "alg is not"],
    ["no alg", token({ kid: "k1" }), "alg is not"],
    ["no kid", token({ alg: "ES256" }), "kid is missing"],
    ["an empty kid", token({ ...header, kid: "" }), "kid is missing"],
    ["a number as kid", token({ ...header, kid: 1 }), "kid is missing"],
    ["a giant kid", token({ ...header, kid: "k".repeat(1_025) }), "kid is missing"],
    ["typ at+jwt", token({ ...header, typ: "at+jwt" }), "typ is neither"],
    ["typ jwt", token({ ...header, typ: "jwt" }), "typ is neither"],
    ...["jku", "jwk", "x5u", "x5c", "x5t", "crit", "cty", "b64", "zip", "__proto__"].map((name): [string, string, string] =>
      [`header ${name}`, token(`{"alg":"ES256","kid":"k1","${name}":"x"}`), "a header other than"]),
    ["a header twice", token(`{"alg":"none","alg":"ES256","kid":"k1"}`), "a key stands twice"],
    ["a header twice, once escaped", token(`{"alg":"ES256","\\u0061lg":"none","kid":"k1"}`), "a key stands twice"],
    ["a claim twice", token(header, `{"sub":"${subject}","aud":"a","aud":"b","exp":2000000000}`), "a key stands twice"],
    ["a claim twice, deep inside", token(header, `{"sub":"${subject}","aud":"a","exp":2000000000,"x":[{"y":1,"y":2}]}`), "a key stands twice"],
    ["a header that is an array", token("[]"), "not an object"],
    ["claims that are null", token(header, "null"), "not an object"],
    ["text after the claims", token(header, `${JSON.stringify(claims)}{}`), "text after the end"],
    ["JSON with a trailing comma", token(header, `{"sub":"x",}`), "string expected"],
    ["JSON with a comment", token(header, `{"sub":"x"/**/}`), "comma or brace"],
    ["a byte order mark", token(header, `\ufeff${JSON.stringify(claims)}`), "unexpected character"],
    ["claims not in UTF-8", `${head}.${base64url(Buffer.from([0x7b, 0xff, 0x7d]))}.${signature}`, "not UTF-8"],
    ["a control character in a string", token(header, `{"sub":"a\tb"}`), "control character"],
    ["an unknown escape", token(header, `{"sub":"\\x61"}`), "unknown escape"],
    ["a lone surrogate", token(header, `{"sub":"${subject}","aud":"\\ud800","exp":2000000000}`), "lone surrogate"],
    ["deep nesting", token(header, `{"x":${"[".repeat(1_000)}${"]".repeat(1_000)}}`), "nested too deep"],
    ["no sub", token(header, { aud: "a", exp: 1 }), "sub is missing"],
    ["a sub that is no SPIFFE ID", token(header, { ...claims, sub: "https://example.org" }), "not a SPIFFE ID"],
    ["no aud", token(header, { sub: subject, exp: 1 }), "aud must name"],
    ["an empty list of audiences", token(header, { ...claims, aud: [] }), "aud must name"],
    ["an empty audience", token(header, { ...claims, aud: [""] }), "aud must name"],
    ["an audience that is a number", token(header, { ...claims, aud: [1] }), "aud must name"],
    ["17 audiences", token(header, { ...claims, aud: Array.from({ length: 17 }, String) }), "aud must name"],
    ["no exp", token(header, { sub: subject, aud: "a" }), "exp is missing"],
    ["exp null", token(header, { ...claims, exp: null }), "exp is no time"],
    ["exp as text", token(header, { ...claims, exp: "2000000000" }), "exp is no time"],
    ["exp below zero", token(header, { ...claims, exp: -1 }), "exp is no time"],
    ["exp beyond year 9999", token(header, { ...claims, exp: 253_402_300_800 }), "exp is no time"],
    ["exp beyond every number", token(header, `{"sub":"${subject}","aud":"a","exp":1e999}`), "number too large"],
    ["iat as text", token(header, { ...claims, iat: "1" }), "iat is no time"],
    ["nbf as an object", token(header, { ...claims, nbf: {} }), "nbf is no time"],
    ["jti as a number", token(header, { ...claims, jti: 7 }), "jti must be"],
    ["brevet as text", token(header, { ...claims, brevet: "x" }), "brevet must be"],
    ["brevet without an epoch", token(header, { ...claims, brevet: { task, instance: "i", context: "" } }), "epoch"],
  ])("%s is refused", (_what, text, why) => {
    expect(() => readJwtSvid(text)).toThrow(expect.objectContaining({ code: "VERIFY_MALFORMED", message: expect.stringContaining(why) }));
  });

  test("claims have no prototype to reach", () => {
    const { claims: read } = readJwtSvid(token(header, `{"sub":"${subject}","aud":"a","exp":2000000000,"__proto__":{"admin":true},"constructor":1}`));
    expect(Object.getPrototypeOf(read)).toBeNull();
    expect([Object.keys(read).includes("__proto__"), read["admin"], ({} as Record<string, unknown>)["admin"]]).toEqual([true, undefined, undefined]);
  });

  test("JSON is read as JSON.parse reads it, where that has one reading", () => {
    fc.assert(fc.property(fc.jsonValue({ maxDepth: 4 }), (value) => {
      const claimsText = JSON.stringify({ ...claims, value });
      const { value: read } = readJwtSvid(token(header, claimsText)).claims;
      expect(JSON.stringify(read)).toBe(JSON.stringify((JSON.parse(claimsText) as { value: unknown }).value));
    }), { numRuns: 1_000 });
  });

  test("any text ends in a token or a refusal", () => {
    const near = fc.tuple(fc.nat(good.length - 1), fc.string({ unit: fc.constantFrom(..."aA0-_.={}\"é"), maxLength: 2 })).map(([at, s]) => good.slice(0, at) + s + good.slice(at + 1));
    fc.assert(fc.property(fc.oneof(fc.string({ unit: "binary" }), near), (text) => {
      try {
        readJwtSvid(text);
      } catch (error) {
        if ((error as { code?: string }).code !== "VERIFY_MALFORMED") throw error;
      }
    }), { numRuns: 1_500 });
  });
});
