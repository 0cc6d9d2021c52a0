// Is what Brevet issues an X509-SVID to everybody, and does Brevet refuse what is none?
// Issued certificates are read by OpenSSL, by @peculiar/x509 and by Node; the linter refuses by rule;
// each file of fixtures/svid breaks the one rule it is named after and is refused for it.
// X509-SVID sections 2-5; RFC 5280 section 4.
// Chains, times, bundles and revocation are left to the verifier's tests.
import { X509Certificate, createPrivateKey } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { openAuthority, moveAuthority, signaturesMade } from "../ca/authority.ts";
import type { Signer } from "../ca/authority.ts";
import { newKeyPairDer } from "../ca/keys.ts";
import { issueX509, newSerial } from "../ca/x509.ts";
import type { X509Request } from "../ca/x509.ts";
import { BrevetError } from "../src/errors.ts";
import { readCertificate } from "../src/identity/certificate.ts";
import { formatAgentTaskId, formatServiceId, newTaskId } from "../src/identity/id.ts";
import { checkSigningRules, readX509Svid, splitChain } from "../src/identity/svid.ts";
import { bindingOid } from "../src/identity/task.ts";
import type { TaskBinding } from "../src/identity/task.ts";
import { fromPem, kek, newAuthorities, openssl, pem, trustDomain } from "./support/authorities.ts";
import { peculiar } from "./support/peculiar.ts";

const { root, x509 } = newAuthorities();
const now = Math.floor(Date.now() / 1000) * 1000;
const task = newTaskId(now);
const spiffeId = formatAgentTaskId(trustDomain, "researcher", task);
const binding: TaskBinding = { task, epoch: 3, instance: "i-7", context: "ab".repeat(32) };
const request = (about: Partial<X509Request> = {}): X509Request => ({
  signer: x509, spiffeId, binding, serial: newSerial(), notBefore: new Date(now - 60_000), notAfter: new Date(now + 300_000), ...about,
});

describe("an issued X509-SVID", () => {
  const serial = newSerial();
  const issued = issueX509(request({ serial, publicUrl: "http://127.0.0.1:8080" }));

  test("verifies under its root with OpenSSL's strictest checks, as client and as server", () => {
    const [leaf = Buffer.alloc(0), ca = Buffer.alloc(0), ...others] = splitChain(issued.chain);
    expect([leaf.equals(issued.certificate), ca.equals(x509.certificate), others.length]).toEqual([true, true, 0]);
    const files = { root: pem("CERTIFICATE", root.certificate), ca: pem("CERTIFICATE", ca), leaf: pem("CERTIFICATE", leaf) };
    for (const purpose of ["sslclient", "sslserver"]) {
      const verify = ["verify", "-x509_strict", "-check_ss_sig", "-purpose", purpose, "-CAfile", "root", "-untrusted", "ca", "leaf"];
      expect(openssl(verify, files)).toEqual({ code: 0, text: "leaf: OK\n" });
    }
    const { text } = openssl(["x509", "-in", "leaf", "-noout", "-text"], files);
    expect(text).toMatch(/Key Usage: critical\s+Digital Signature\n/);
    expect(text).toMatch(/Extended Key Usage: \s*TLS Web Server Authentication, TLS Web Client Authentication\n/);
    expect(text).toMatch(/Basic Constraints: critical\s+CA:FALSE\n/);
    expect(text).toContain(`URI:${spiffeId}\n`);
    expect(text).toContain(`URI:http://127.0.0.1:8080/crl/${x509.record.id}.crl\n`);
    expect(text).toContain(`${bindingOid}: \n`);
  });

  test("is what @peculiar/x509, Node and Brevet read alike", async () => {
    const theirs = new peculiar.X509Certificate(issued.certificate);
    const nodes = new X509Certificate(issued.certificate);
    const ours = readX509Svid(issued.certificate);
    expect(ours).toEqual({ spiffeId, serial: serial.toString("hex"), notBefore: new Date(now - 60_000), notAfter: new Date(now + 300_000), binding });
    expect(theirs.getExtension(peculiar.SubjectAlternativeNameExtension)?.names.toJSON()).toEqual([{ type: "url", value: spiffeId }]);
    expect([theirs.serialNumber, theirs.notBefore, theirs.notAfter]).toEqual([ours.serial, ours.notBefore, ours.notAfter]);
    expect(await theirs.verify({ publicKey: await new peculiar.X509Certificate(x509.certificate).publicKey.export(), signatureOnly: true })).toBe(true);
    expect(nodes.serialNumber.toLowerCase()).toBe(ours.serial);
    expect(nodes.subjectAltName).toBe(`URI:${spiffeId}`);
    expect(nodes.checkPrivateKey(createPrivateKey({ key: issued.key, format: "der", type: "pkcs8" }))).toBe(true);
    expect(nodes.checkIssued(new X509Certificate(x509.certificate))).toBe(true);
    expect([nodes.ca, readX509Svid(issueX509(request({ binding: null })).certificate).binding]).toEqual([false, null]);
  });

  test("reads back whatever it was issued for", () => {
    const names = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$/);
    const bindings = fc.record({ epoch: fc.maxSafeNat(), instance: fc.string({ minLength: 1, maxLength: 40 }), context: fc.constant("0f".repeat(32)) });
    const keyPair = newKeyPairDer();
    fc.assert(fc.property(names, bindings, fc.integer({ min: 1, max: 80_000 }), (name, about, seconds) => {
      const asked = { ...about, task: newTaskId(now) };
      const id = formatAgentTaskId(trustDomain, name, asked.task);
      const serialNumber = newSerial();
      const notAfter = new Date(now + seconds * 1000);
      const { certificate } = issueX509(request({ spiffeId: id, binding: asked, serial: serialNumber, notAfter, keyPair }));
      expect(readX509Svid(certificate)).toEqual({
        spiffeId: id, binding: asked, serial: serialNumber.toString("hex"), notBefore: new Date(now - 60_000), notAfter,
      });
    }), { numRuns: 300 });
  });

  test("uses the key it was given, or a new one each time", () => {
    const keyPair = newKeyPairDer();
    const given = issueX509(request({ keyPair }));
    expect(given.key).toBe(keyPair.pkcs8);
    expect(readCertificate(given.certificate).publicKey).toEqual(keyPair.spki);
    expect(issueX509(request()).key.equals(issueX509(request()).key)).toBe(false);
  });

  test("has a serial of 128 bits, positive, that is never seen twice", () => {
    const serials = Array.from({ length: 2_000 }, newSerial);
    expect(new Set(serials.map((bytes) => bytes.toString("hex"))).size).toBe(serials.length);
    expect(serials.every((bytes) => bytes.length === 16 && (bytes[0] ?? 0) >= 0x40 && (bytes[0] ?? 0) < 0x80)).toBe(true);
  });
});

describe("the linter refuses to sign", () => {
  const lying = (about: Partial<Signer>): Signer => ({ ...x509, ...about });
  const end = x509.notAfter.getTime();
  test.each<[string, Partial<X509Request>, string]>([
    ["an ID without a path", { spiffeId: `spiffe://${trustDomain}` }, "no path"],
    ["an ID of another trust domain", { spiffeId: formatServiceId("example.com", "crm") }, "another trust domain"],
    ["what is no SPIFFE ID", { spiffeId: "https://example.org/a" }, "not a SPIFFE ID"],
    ["a character that Latin-1 would fold into an allowed one", { spiffeId: `spiffe://${trustDomain}/agent/\u0161ame` }, "not a SPIFFE ID"],
    ["a certificate that outlives its authority", { notAfter: new Date(end + 1000) }, "outlives its authority"],
    ["a certificate that ends before it begins", { notAfter: new Date(now - 60_000) }, "ends before it begins"],
    ["a short serial", { serial: Buffer.from("01020304050607", "hex") }, "64 bits"],
    ["a serial of zero", { serial: Buffer.alloc(16) }, "serial number"],
    ["a serial of 21 bytes", { serial: Buffer.alloc(21, 1) }, "serial number"],
    ["under a name that is not the authority's", { signer: lying({ name: root.name, keyId: root.keyId, record: { ...x509.record, trustDomain: "example.com" } }) }, "another trust domain"],
    ["what is too large to be read back", { binding: { ...binding, instance: "i".repeat(20_000) } }, "at most 16384"],
  ])("%s", (_what, about, why) => {
    const before = signaturesMade("x509");
    expect(() => issueX509(request(about))).toThrow(expect.objectContaining({ code: "LINT_REFUSED", message: expect.stringContaining(why) }));
    expect(signaturesMade("x509")).toBe(before);
  });

  test("with an authority that is retired, or is a root", () => {
    const retired = openAuthority(moveAuthority(x509.record, "retired", kek), kek);
    for (const signer of [retired, root]) {
      expect(() => issueX509(request({ signer }))).toThrow(expect.objectContaining({ code: "KEY_UNUSABLE" }));
    }
  });

  test("but not at the authority's very end", () => {
    expect(readX509Svid(issueX509(request({ notAfter: new Date(end) })).certificate).notAfter.getTime()).toBe(end);
  });
});

describe("a certificate is read by the rules", () => {
  const directory = new URL("./fixtures/svid/", import.meta.url);
  const read = (name: string): Buffer => fromPem(readFileSync(new URL(`${name}.pem`, directory), "utf8"));
  const why: Readonly<Record<string, string>> = {
    "wrong-no-names": "exactly one URI name",
    "wrong-no-uri-name": "exactly one URI name",
    "wrong-two-uri-names": "exactly one URI name",
    "wrong-id-without-path": "has no path",
    "wrong-id-scheme": "not a SPIFFE ID",
    "wrong-id-upper-case-trust-domain": "not a SPIFFE ID",
    "wrong-id-trailing-slash": "not a SPIFFE ID",
    "wrong-id-nul": "not a SPIFFE ID",
    "wrong-empty-subject-name-not-critical": "names must be critical",
    "wrong-ca-true": "is a CA certificate",
    "wrong-path-length-without-ca": "path length without CA",
    "wrong-default-written-out": "a default written out",
    "wrong-key-usage-missing": "key usage must be there and critical",
    "wrong-key-usage-not-critical": "key usage must be there and critical",
    "wrong-key-usage-cert-sign": "may sign certificates or CRLs",
    "wrong-key-usage-crl-sign": "may sign certificates or CRLs",
    "wrong-key-usage-no-digital-signature": "may not sign",
    "wrong-key-usage-stray-bits": "bit string",
    "wrong-server-only": "both client and server",
    "wrong-client-only": "both client and server",
    "wrong-unknown-critical-extension": "unknown critical extension 1.3.6.1.4.1.55555.1",
    "wrong-extension-twice": "extension 2.5.29.17 twice",
    "wrong-binding-critical": `unknown critical extension ${bindingOid}`,
    "wrong-binding-version-2": "unknown version 2",
    "wrong-version-1": "not version 3",
    "wrong-serial-zero": "serial number",
    "wrong-serial-negative": "negative integer",
    "wrong-serial-padded": "not the shortest form",
    "wrong-serial-21-bytes": "serial number",
    "wrong-two-algorithms": "two signature algorithms",
    "wrong-time-generalized-before-2050": "UTCTime",
    "wrong-time-no-seconds": "time",
    "wrong-time-no-such-day": "no such date",
    "wrong-time-offset": "time",
    "wrong-bytes-after-the-end": "bytes after the end",
    "wrong-cut-short": "cut short",
    "wrong-indefinite-length": "indefinite",
    "wrong-length-not-shortest": "not the shortest form",
  };
  const whySigning: Readonly<Record<string, string>> = {
    "wrong-signing-not-ca": "is not a CA",
    "wrong-signing-no-cert-sign": "may not sign certificates",
    "wrong-signing-key-usage-not-critical": "key usage must be there and critical",
    "wrong-signing-id-with-path": "has a path",
    "wrong-signing-two-uri-names": "more than one URI name",
  };
  const good = ["good-leaf", "good-leaf-empty-subject-critical-name", "good-leaf-no-extended-key-usage", "good-leaf-key-encipherment", "good-leaf-dns-name-too"];

  test("each fixture is used", () => {
    const files = readdirSync(directory).map((file) => file.replace(/\.pem$/, "")).sort();
    expect(files).toEqual([...Object.keys(why), ...Object.keys(whySigning), ...good, "good-leaf-without-binding", "good-signing", "good-signing-without-name"].sort());
  });

  test.each(good)("%s is accepted", (name) => {
    const svid = readX509Svid(read(name));
    expect(svid.spiffeId).toBe("spiffe://example.org/agent/researcher/task/0199f3c0-7d52-7abc-8def-0123456789ab");
    expect(svid).toMatchObject({ serial: "4a1b2c3d4e5f60718293a4b5c6d7e8f9", binding: { epoch: 3, instance: "i-7" } });
  });
  test("good-leaf-without-binding is accepted, bound to no task", () => expect(readX509Svid(read("good-leaf-without-binding")).binding).toBeNull());
  test.each(Object.entries(why))("%s is refused: %s", (name, reason) => {
    expect(() => readX509Svid(read(name))).toThrow(expect.objectContaining({ code: "VERIFY_MALFORMED", message: expect.stringContaining(reason) }));
  });

  test.each(["good-signing", "good-signing-without-name"])("%s is accepted as a signing certificate, and as no leaf", (name) => {
    expect(() => checkSigningRules(readCertificate(read(name)))).not.toThrow();
    expect(() => readX509Svid(read(name))).toThrow();
  });
  test.each(Object.entries(whySigning))("%s is refused: %s", (name, reason) => {
    expect(() => checkSigningRules(readCertificate(read(name)))).toThrow(expect.objectContaining({ code: "VERIFY_MALFORMED", message: expect.stringContaining(reason) }));
  });

  test("a chain of none, of too many, or with a giant is refused", () => {
    const leaf = read("good-leaf");
    expect(splitChain(Buffer.concat([leaf, leaf])).length).toBe(2);
    expect(() => splitChain(Buffer.alloc(0))).toThrow("1 to 8");
    expect(() => splitChain(Buffer.concat(Array.from({ length: 9 }, () => leaf)))).toThrow("1 to 8");
    expect(() => splitChain(Buffer.concat([Buffer.from("30824e20", "hex"), Buffer.alloc(20_000)]))).toThrow("too large");
    expect(() => splitChain(Buffer.concat([leaf, leaf.subarray(0, 9)]))).toThrow("cut short");
  });

  test("with a bit flipped it is refused, or read as OpenSSL reads it", () => {
    const leaf = read("good-leaf");
    const namesToOpenssl = (der: Buffer): string | undefined => {
      try {
        return new X509Certificate(der).subjectAltName;
      } catch {
        return undefined; // OpenSSL refuses it: the verifier asks both
      }
    };
    fc.assert(fc.property(fc.nat(leaf.length - 1), fc.nat(7), (at, bit) => {
      const mutated = Buffer.from(leaf);
      mutated[at] = (mutated[at] ?? 0) ^ (1 << bit);
      try {
        const ours = readX509Svid(mutated).spiffeId;
        expect(namesToOpenssl(mutated) ?? `URI:${ours}`).toBe(`URI:${ours}`);
      } catch (error) {
        if (!(error instanceof BrevetError)) throw error;
        expect(error.code).toBe("VERIFY_MALFORMED");
      }
    }), { numRuns: 5_000 });
  });
});
