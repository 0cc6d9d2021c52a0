// Does a trust bundle reach others whole, and do others' bundles reach us without harm?
// What is encoded decodes the same and is what jose and Node use; each line of the table breaks one rule.
// SPIFFE Trust Domain and Bundle section 4; X509-SVID and JWT-SVID section 6; RFC 7517.
// Fetching, ageing and sequences going back are left to the verifier's tests.
import { createPublicKey, generateKeyPairSync } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bundleOf } from "../ca/authority.ts";
import { issueX509, newSerial } from "../ca/x509.ts";
import { decodeJwks, decodeSpiffeBundle, encodeJwks, encodeSpiffeBundle, publicJwk } from "../src/identity/bundle.ts";
import { newAuthorities, trustDomain } from "./support/authorities.ts";

const { root, x509, jwt } = newAuthorities();
const other = newAuthorities();
const bundle = bundleOf([root.record, x509.record, jwt.record, other.root.record, other.jwt.record], { trustDomain, sequence: 42, refreshHintSeconds: 60 });
type Document = { keys: Record<string, unknown>[]; [member: string]: unknown };
const document = (): Document => JSON.parse(encodeSpiffeBundle(bundle).toString()) as Document;
const bytes = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));

describe("a bundle", () => {
  test("holds roots and JWT keys, never a signing CA, and decodes to what it was", () => {
    expect(bundle.x509).toEqual([root.certificate, other.root.certificate]);
    expect(bundle.jwt.map(({ kid }) => kid)).toEqual([jwt.record.id, other.jwt.record.id]);
    expect(decodeSpiffeBundle(trustDomain, encodeSpiffeBundle(bundle))).toEqual(bundle);
    expect(decodeJwks(encodeJwks(bundle))).toEqual(bundle.jwt);
    fc.assert(fc.property(fc.maxSafeNat(), fc.integer({ min: 1, max: 86_400 }), fc.nat(2), fc.nat(2), (sequence, refreshHintSeconds, roots, keys) => {
      const some = { trustDomain, sequence, refreshHintSeconds, x509: bundle.x509.slice(0, roots), jwt: bundle.jwt.slice(0, keys) };
      expect(decodeSpiffeBundle(trustDomain, encodeSpiffeBundle(some))).toEqual(some);
    }), { numRuns: 100 });
  });

  test("has the members that the standard wants of each key, and no others", () => {
    const { keys, ...members } = document();
    expect(members).toEqual({ spiffe_sequence: 42, spiffe_refresh_hint: 60 });
    expect(keys.map((key) => Object.keys(key).sort().join(" "))).toEqual([
      "crv kty use x x5c y", "crv kty use x x5c y", "crv kid kty use x y", "crv kid kty use x y",
    ]);
    expect(keys.map(({ use }) => use)).toEqual(["x509-svid", "x509-svid", "jwt-svid", "jwt-svid"]);
    expect(keys[0]?.["x5c"]).toEqual([root.certificate.toString("base64")]);
    const jwks = JSON.parse(encodeJwks(bundle).toString()) as Document;
    expect(jwks.keys.map((key) => Object.keys(key).sort().join(" "))).toEqual(["crv kid kty x y", "crv kid kty x y"]);
    expect(Object.keys(jwks)).toEqual(["keys"]);
  });

  test("holds the keys that sign", () => {
    const key = createPublicKey({ key: publicJwk(jwt.record.publicKey), format: "jwk" });
    expect(key.export({ format: "der", type: "spki" })).toEqual(jwt.record.publicKey);
    expect(() => publicJwk(Buffer.alloc(91))).toThrow();
  });
});

describe("another's bundle", () => {
  const rsa = { kty: "RSA", use: "jwt-svid", kid: "r", n: Buffer.alloc(256, 0xc1).toString("base64url"), e: "AQAB" };
  const ec = (): Record<string, unknown> => ({ ...document().keys[2], kid: "e" });
  const p384 = { ...generateKeyPairSync("ec", { namedCurve: "secp384r1" }).publicKey.export({ format: "jwk" }), use: "jwt-svid", kid: "p" };
  const read = (keys: unknown[], more: object = {}): ReturnType<typeof decodeSpiffeBundle> => decodeSpiffeBundle("example.com", bytes({ keys, ...more }));

  test("belongs to the trust domain that was asked for; no keys means none are trusted", () => {
    expect(read([], { trust_domain: "example.org" })).toEqual({ trustDomain: "example.com", sequence: 0, refreshHintSeconds: 300, x509: [], jwt: [] });
  });

  test("may hold keys of other kinds and uses, which are passed over one by one", () => {
    const strange = [
      {}, { kty: "EC" }, { use: "wit-svid", kty: "EC", kid: "w" }, { use: "jwt-svid", kty: "OKP", crv: "Ed25519", x: "AA", kid: "o" },
      { use: "jwt-svid", kty: "EC", crv: "secp256k1", x: "AA", y: "AA", kid: "k" }, { ...document().keys[0], x5c: undefined },
    ];
    const { x509: certificates, jwt: keys } = read([...strange, rsa, p384, ...document().keys, ...strange]);
    expect(certificates).toEqual(bundle.x509);
    expect(keys.map(({ kid }) => kid)).toEqual(["r", "p", ...bundle.jwt.map(({ kid }) => kid)]);
    expect(createPublicKey({ key: keys[1]?.publicKey ?? {}, format: "jwk" }).asymmetricKeyDetails).toEqual({ namedCurve: "secp384r1" });
  });

  test("keeps the first certificate of x5c, and no private member of a key", () => {
    expect(read([{ use: "x509-svid", kty: "EC", x5c: bundle.x509.map((der) => der.toString("base64")) }]).x509).toEqual([root.certificate]);
    expect(read([{ ...ec(), d: "c2VjcmV0", alg: "ES256" }]).jwt[0]?.publicKey).toEqual(bundle.jwt[0]?.publicKey);
  });

  test("a plain JWK Set may leave the use out", () => {
    const { use, ...plain } = ec();
    expect(use).toBe("jwt-svid");
    const sets = [plain, { ...plain, use: "sig" }, { ...plain, use: "jwt-svid" }].map((key) => decodeJwks(bytes({ keys: [key, { ...plain, use: "enc" }, document().keys[0]] })));
    expect(sets.map((keys) => keys.map(({ kid }) => kid))).toEqual([["e"], ["e"], ["e"]]);
  });

  const leaf = issueX509({ signer: x509, spiffeId: "spiffe://example.org/service/crm", binding: null, serial: newSerial(), notBefore: new Date(), notAfter: new Date(Date.now() + 60_000) });
  const x5c = (der: Buffer | string): object => ({ keys: [{ use: "x509-svid", kty: "EC", x5c: [typeof der === "string" ? der : der.toString("base64")] }] });
  test.each<[string, unknown, string]>([
    ["no object", [], "not an object"],
    ["no keys", {}, "keys is missing"],
    ["keys that are no list", { keys: {} }, "keys is missing"],
    ["a key that is no object", { keys: ["x"] }, "no object"],
    ["101 keys", { keys: Array.from({ length: 101 }, () => ({})) }, "more than 100"],
    ["a sequence that is a fraction", { keys: [], spiffe_sequence: 1.5 }, "spiffe_sequence"],
    ["a sequence below zero", { keys: [], spiffe_sequence: -1 }, "spiffe_sequence"],
    ["a sequence beyond 2^53", { keys: [], spiffe_sequence: 2 ** 53 }, "spiffe_sequence"],
    ["a refresh hint as text", { keys: [], spiffe_refresh_hint: "60" }, "spiffe_refresh_hint"],
    ["a JWT key without kid", { keys: [{ ...ec(), kid: undefined }] }, "no kid"],
    ["two JWT keys of one kid", { keys: [ec(), { ...rsa, kid: "e" }] }, "share a kid"],
    ["a coordinate too short", { keys: [{ ...ec(), x: "AAAA" }] }, "numbers"],
    ["a coordinate padded", { keys: [{ ...ec(), x: `${String(ec()["x"])}=` }] }, "numbers"],
    ["an RSA key of 1024 bits", { keys: [{ ...rsa, n: Buffer.alloc(128, 1).toString("base64url") }] }, "numbers"],
    ["an RSA key of 16,384 bits", { keys: [{ ...rsa, n: Buffer.alloc(2048, 1).toString("base64url") }] }, "numbers"],
    ["x5c that is no list", { keys: [{ use: "x509-svid", x5c: "AA==" }] }, "no list"],
    ["an empty x5c", { keys: [{ use: "x509-svid", x5c: [] }] }, "no list"],
    ["x5c in base64url", x5c(root.certificate.toString("base64url")), "canonical base64"],
    ["x5c that is no certificate", x5c(Buffer.from("no certificate")), "DER"],
    ["x5c that is a leaf", x5c(leaf.certificate), "is not a CA"],
    ["x5c with bytes after the certificate", x5c(Buffer.concat([root.certificate, Buffer.of(0)])), "bytes after the end"],
  ])("with %s is refused whole", (_what, value, why) => {
    expect(() => decodeSpiffeBundle("example.com", bytes(value))).toThrow(expect.objectContaining({ code: "VERIFY_MALFORMED", message: expect.stringContaining(why) }));
  });

  test("with a key named twice, or larger than 1 MiB, is refused whole", () => {
    expect(() => decodeSpiffeBundle("example.com", Buffer.from(`{"keys":[],"keys":[]}`))).toThrow("a key stands twice");
    expect(() => decodeSpiffeBundle("example.com", Buffer.alloc(1024 * 1024 + 1, 0x20))).toThrow("larger than");
    expect(() => decodeJwks(bytes({ keys: [ec(), ec()] }))).toThrow("share a kid");
  });
});
