// Can an authority's key be had, or used, otherwise than as it was sealed?
// Keys made by template are keys to OpenSSL; a sealed key opens under one KEK and for one record only;
// the signatures that Node checks with them are judged as the Wycheproof vectors judge them.
// RFC 5915, RFC 5958, RFC 5480; AES-256-GCM.
// When authorities come and go is left to rotation.test.ts.
import { createPublicKey, randomBytes, sign, verify } from "node:crypto";
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { createAuthority, moveAuthority, openAuthority, signaturesMade } from "../ca/authority.ts";
import type { AuthorityRecord, AuthorityState, SignatureKind } from "../ca/authority.ts";
import { newKeyPairDer, sealKey, unsealKey } from "../ca/keys.ts";
import { oids, readCertificate, readCrlDistributionPoint } from "../src/identity/certificate.ts";
import { checkSigningRules } from "../src/identity/svid.ts";
import { kek, newAuthorities, openssl, pem, trustDomain } from "./support/authorities.ts";

describe("a key pair", () => {
  test("made by template is a P-256 key to OpenSSL, and its halves belong together", () => {
    const { pkcs8, spki } = newKeyPairDer();
    const { code, text } = openssl(["pkey", "-inform", "der", "-in", "key", "-check", "-text", "-noout"], { key: pkcs8 });
    expect([code, text]).toEqual([0, expect.stringContaining("Key is valid")]);
    expect(text).toContain("NIST CURVE: P-256");
    const again = openssl(["pkey", "-inform", "der", "-in", "key", "-pubout", "-out", "pub"], { key: pkcs8 });
    expect(again.code).toBe(0);
    const signature = sign("sha256", Buffer.from("x"), { key: pkcs8, format: "der", type: "pkcs8" });
    expect(verify("sha256", Buffer.from("x"), createPublicKey({ key: spki, format: "der", type: "spki" }), signature)).toBe(true);
  });

  test("keeps its shape whatever zeros its scalar begins with, and is new each time", () => {
    const pairs = Array.from({ length: 2_000 }, () => newKeyPairDer());
    expect(new Set(pairs.map(({ pkcs8 }) => pkcs8.length))).toEqual(new Set([138]));
    expect(new Set(pairs.map(({ spki }) => spki.toString("hex"))).size).toBe(pairs.length);
    const small = pairs.filter(({ pkcs8 }) => pkcs8[36] === 0);
    expect(small.length).toBeGreaterThan(0);
    for (const { pkcs8, spki } of small) {
      const key = unsealKey(kek, sealKey(kek, pkcs8, "a"), "a");
      expect(createPublicKey(key).export({ format: "der", type: "spki" })).toEqual(spki);
    }
  });
});

describe("a sealed key", () => {
  const { pkcs8 } = newKeyPairDer();
  const sealed = sealKey(kek, pkcs8, "td|id|x509|active");
  const altered = (at: number): Buffer => Buffer.from(sealed.map((byte, i) => (i === at ? byte ^ 1 : byte)));
  const unusable = expect.objectContaining({ code: "KEY_UNUSABLE" });

  test("opens under its own key-encryption key and name, and shows nothing of itself", () => {
    expect(unsealKey(kek, sealed, "td|id|x509|active").export({ format: "der", type: "pkcs8" })).toEqual(pkcs8);
    expect(sealed.includes(pkcs8.subarray(36, 68))).toBe(false);
    expect(sealKey(kek, pkcs8, "td|id|x509|active").equals(sealed)).toBe(false);
  });

  test.each([
    ["another key-encryption key", randomBytes(32), sealed, "td|id|x509|active"],
    ["a key-encryption key of the wrong size", randomBytes(16), sealed, "td|id|x509|active"],
    ["another state", kek, sealed, "td|id|x509|retired"],
    ["an altered version", kek, altered(0), "td|id|x509|active"],
    ["an altered nonce", kek, altered(1), "td|id|x509|active"],
    ["an altered tag", kek, altered(13), "td|id|x509|active"],
    ["an altered key", kek, altered(sealed.length - 1), "td|id|x509|active"],
    ["nothing but a header", kek, sealed.subarray(0, 29), "td|id|x509|active"],
    ["nothing", kek, Buffer.alloc(0), "td|id|x509|active"],
    ["something else, sealed", kek, sealKey(kek, Buffer.from("no key"), "a"), "a"],
  ])("does not open with %s", (_what, key, bytes, aad) => {
    expect(() => unsealKey(key, bytes, aad)).toThrow(unusable);
  });
});

describe("an authority", () => {
  const now = new Date();
  const { root, x509, jwt } = newAuthorities(now);

  test("has a certificate that OpenSSL accepts below its root, a name of its own, and no longer life", () => {
    const chain = { root: pem("CERTIFICATE", root.certificate), ca: pem("CERTIFICATE", x509.certificate) };
    expect(openssl(["verify", "-x509_strict", "-CAfile", "root", "ca"], chain)).toEqual({ code: 0, text: "ca: OK\n" });
    expect(openssl(["verify", "-x509_strict", "-CAfile", "root", "root"], chain).text).toBe("root: OK\n");
    const { text } = openssl(["x509", "-in", "ca", "-noout", "-text"], chain);
    expect(text).toContain("URI:spiffe://example.org\n");
    expect(text).toMatch(/Key Usage: critical\s+Certificate Sign, CRL Sign/);
    expect(text).toMatch(/Basic Constraints: critical\s+CA:TRUE, pathlen:0/);
    expect(text).toContain(`CN = Brevet signing ${x509.record.id.slice(0, 16)}`);
    for (const { certificate, record } of [root, x509]) {
      const fields = readCertificate(certificate);
      expect(() => checkSigningRules(fields)).not.toThrow();
      expect([fields.notBefore, fields.notAfter]).toEqual([record.notBefore, record.notAfter]);
    }
    expect(root.record.notBefore.getTime()).toBe(Math.floor(now.getTime() / 1000) * 1000 - 60_000);
    const longer = createAuthority({ use: "x509", trustDomain, kek, now, lifetimeSeconds: 1e9, parent: { record: root.record, signer: root } });
    expect(longer.notAfter).toEqual(root.record.notAfter);
    expect(x509.record.parent).toBe(root.record.id);
    expect(x509.name.equals(openAuthority(longer, kek).name)).toBe(false);
  });

  test("names its root's list, where lists are published; a root names none", () => {
    const common = { trustDomain, kek, now, lifetimeSeconds: 60, publicUrl: "https://broker.example.org" };
    const signing = createAuthority({ ...common, use: "x509", parent: { record: root.record, signer: root } });
    const points = (certificate: Buffer | null): Buffer | undefined => readCertificate(certificate ?? Buffer.alloc(0)).extensions.get(oids.crlDistributionPoints)?.value;
    expect(readCrlDistributionPoint(points(signing.certificate) ?? Buffer.alloc(0))).toBe(`https://broker.example.org/crl/${root.record.id}.crl`);
    expect([points(createAuthority({ ...common, use: "root" }).certificate), points(x509.certificate)]).toEqual([undefined, undefined]);
  });

  test("signs what its use and state allow, and each signature is counted", () => {
    const kinds: SignatureKind[] = ["x509", "jwt", "crl", "ca"];
    const signs = (record: AuthorityRecord): SignatureKind[] => kinds.filter((kind) => {
      try {
        return openAuthority(record, kek).sign(kind, Buffer.from("x")).length > 0;
      } catch (error) {
        expect(error).toMatchObject({ code: "KEY_UNUSABLE" });
        return false;
      }
    });
    const before = kinds.map(signaturesMade);
    const states = (use: "root" | "x509" | "jwt"): SignatureKind[][] => {
      const prepared = createAuthority({ use, trustDomain, kek, now, lifetimeSeconds: 60, ...(use === "x509" ? { parent: { record: root.record, signer: root } } : {}) });
      const active = moveAuthority(prepared, "active", kek);
      return [prepared, active, moveAuthority(active, "retired", kek)].map(signs);
    };
    expect(states("root")).toEqual([["crl"], ["crl", "ca"], ["crl"]]);
    expect(states("x509")).toEqual([["crl"], ["x509", "crl"], ["crl"]]);
    expect(states("jwt")).toEqual([[], ["jwt"], []]);
    // one of each kind, CRLs in every state of two uses; and two certificates: a root's and a signing CA's
    expect(kinds.map(signaturesMade).map((count, i) => count - (before[i] ?? 0))).toEqual([1, 1, 6, 1 + 2]);
  });

  test("moves from prepared to active to retired, and never back", () => {
    const at = (state: AuthorityState): AuthorityRecord => createAuthority({ use: "jwt", trustDomain, kek, now, lifetimeSeconds: 60 }, state);
    const states: AuthorityState[] = ["prepared", "active", "retired"];
    const allowed = states.flatMap((from) => states.filter((to) => {
      try {
        return openAuthority(moveAuthority(at(from), to, kek), kek).record.state === to;
      } catch (error) {
        expect(error).toMatchObject({ code: "WRONG_STATE" });
        return false;
      }
    }).map((to) => `${from} to ${to}`));
    expect(allowed).toEqual(["prepared to active", "active to retired"]);
  });

  test("does not open from a record put together from others", () => {
    const other = newAuthorities(now);
    const forged: [string, AuthorityRecord][] = [
      ["state", { ...x509.record, state: "retired" }],
      ["use", { ...x509.record, use: "root" }],
      ["trust domain", { ...x509.record, trustDomain: "example.com" }],
      ["id", { ...jwt.record, id: "other" }],
      ["public key", { ...jwt.record, publicKey: other.jwt.record.publicKey }],
      ["certificate", { ...x509.record, certificate: other.x509.certificate }],
      ["no certificate", { ...x509.record, certificate: null }],
      ["a certificate too many", { ...jwt.record, certificate: x509.certificate }],
      ["sealed key", { ...x509.record, sealedKey: other.x509.record.sealedKey }],
    ];
    for (const [what, record] of forged) {
      expect(() => openAuthority(record, kek), what).toThrow(expect.objectContaining({ code: "KEY_UNUSABLE" }));
    }
    expect(() => createAuthority({ use: "x509", trustDomain, kek, now, lifetimeSeconds: 60 })).toThrow("needs a root");
  });
});

describe("signatures are judged as Wycheproof judges them", () => {
  type Vector = { key?: string; valid: boolean; msg: string; sig: string; id: number };
  test.each([["ecdsa-p256-der.jsonl", "der", 484], ["ecdsa-p256-raw.jsonl", "ieee-p1363", 262]] as const)("%s", (file, dsaEncoding, count) => {
    const lines = readFileSync(new URL(`./fixtures/wycheproof/${file}`, import.meta.url), "utf8").trimEnd().split("\n");
    let key = createPublicKey({ key: newKeyPairDer().spki, format: "der", type: "spki" });
    let judged = 0;
    for (const vector of lines.map((line) => JSON.parse(line) as Vector)) {
      if (vector.key !== undefined) {
        key = createPublicKey({ key: Buffer.from(vector.key, "hex"), format: "der", type: "spki" });
        continue;
      }
      const good = verify("sha256", Buffer.from(vector.msg, "hex"), { key, dsaEncoding }, Buffer.from(vector.sig, "hex"));
      expect([vector.id, good]).toEqual([vector.id, vector.valid]);
      judged++;
    }
    expect(judged).toBe(count);
  });
});
