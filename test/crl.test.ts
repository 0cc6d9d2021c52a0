// Does OpenSSL honour Brevet's CRLs, and does Brevet read them as OpenSSL does?
// The dead are refused and the living accepted; long lists stay linear; each line of the table breaks one rule.
// RFC 5280 sections 5 and 6.3.
// What belongs on a list, and that numbers only grow, is left to the tests of revocation.
import { createPublicKey, verify } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { moveAuthority, openAuthority, signaturesMade } from "../ca/authority.ts";
import { crlReason, encodeCrlEntry } from "../ca/crl.ts";
import { issueX509, newSerial } from "../ca/x509.ts";
import { readCrl } from "../src/identity/crl.ts";
import { derBitString, derBoolean, derContext, derElement, derInteger, derOctetString, derOid, derSequence, derTime, readDer } from "../src/identity/der.ts";
import { issueCrl as signed, kek, newAuthorities, openssl, pem } from "./support/authorities.ts";
import type { ListRequest } from "./support/authorities.ts";

const { root, x509 } = newAuthorities();
const now = Math.floor(Date.now() / 1000) * 1000;
const issueCrl = (about: Partial<ListRequest> = {}): Promise<Buffer> =>
  signed({ signer: x509, number: 7n, thisUpdate: new Date(now), nextUpdate: new Date(now + 60_000), ...about });
const dead = newSerial();
const entry = encodeCrlEntry(dead, new Date(now - 1_000), crlReason.cessationOfOperation);

describe("an issued CRL", () => {
  test("makes OpenSSL refuse the dead and accept the living, all the way to the root", async () => {
    const leaf = (serial: Buffer): string =>
      pem("CERTIFICATE", issueX509({ signer: x509, spiffeId: "spiffe://example.org/service/crm", binding: null, serial, notBefore: new Date(now - 60_000), notAfter: new Date(now + 60_000) }).certificate);
    const files = {
      root: pem("CERTIFICATE", root.certificate), ca: pem("CERTIFICATE", x509.certificate), dead: leaf(dead), living: leaf(newSerial()),
      crls: pem("X509 CRL", await issueCrl({ entries: [entry] })) + pem("X509 CRL", await issueCrl({ signer: root })),
    };
    const checked = (name: string): { code: number; text: string } =>
      openssl(["verify", "-x509_strict", "-crl_check_all", "-CAfile", "root", "-untrusted", "ca", "-CRLfile", "crls", name], files);
    expect(checked("living")).toEqual({ code: 0, text: "living: OK\n" });
    expect(checked("dead")).toEqual({ code: 2, text: expect.stringContaining("certificate revoked") });
  });

  test("shows OpenSSL version, number, key ID, times and reasons", async () => {
    const entries = Object.values(crlReason).map((reason) => encodeCrlEntry(newSerial(), new Date(now), reason));
    const { text } = openssl(["crl", "-in", "crl", "-inform", "der", "-noout", "-text"], { crl: await issueCrl({ entries, number: 2n ** 64n }) });
    expect(text).toContain("Version 2 (0x1)");
    expect(text).toMatch(/X509v3 CRL Number: \n +(0x10000000000000000|18446744073709551616)\n/);
    expect(text).toContain(x509.keyId.toString("hex").toUpperCase().replace(/(..)(?!$)/g, "$1:"));
    expect(text.match(/Serial Number: /g)?.length).toBe(4);
    // unspecified (0) is left out
    expect(text.match(/CRL Reason Code: \n +.*/g)?.map((line) => line.split("\n")[1]?.trim()).sort()).toEqual(["Cessation Of Operation", "Privilege Withdrawn", "Superseded"]);
  });

  test("reads back, is signed by its authority, and has no list when nobody is dead", async () => {
    const list = readCrl(await issueCrl({ entries: [entry] }));
    expect(list).toMatchObject({ number: 7n, thisUpdate: new Date(now), nextUpdate: new Date(now + 60_000), size: 1 });
    expect([list.issuer, list.authorityKeyId]).toEqual([x509.name, x509.keyId]);
    expect([list.has(dead.toString("hex")), list.has(newSerial().toString("hex"))]).toEqual([true, false]);
    expect(verify("sha256", list.tbs, createPublicKey({ key: x509.record.publicKey, format: "der", type: "spki" }), list.signature)).toBe(true);
    const empty = await issueCrl();
    expect(readCrl(empty).size).toBe(0);
    expect(openssl(["crl", "-in", "crl", "-inform", "der", "-noout", "-text"], { crl: empty }).text).toContain("No Revoked Certificates.");
  });

  test("holds whatever serials it was given, and no others", async () => {
    const serials = fc.uniqueArray(fc.bigInt({ min: 1n, max: 2n ** 159n }), { maxLength: 50 });
    await fc.assert(fc.asyncProperty(serials, fc.bigInt({ min: 0n, max: 2n ** 159n }), async (values, number) => {
      const bytes = values.map((value) => readDer(derInteger(value)).integerBytes());
      const list = readCrl(await issueCrl({ number, entries: bytes.map((serial) => encodeCrlEntry(serial, new Date(now))) }));
      expect([list.size, list.number]).toEqual([values.length, number]);
      expect(bytes.every((serial) => list.has(serial.toString("hex")))).toBe(true);
    }), { numRuns: 100 });
  });

  test("of 100,000 entries is one that OpenSSL and Brevet read", async () => {
    const serials = Array.from({ length: 100_000 }, newSerial);
    const der = await issueCrl({ entries: serials.map((serial) => encodeCrlEntry(serial, new Date(now), crlReason.superseded)) });
    const list = readCrl(der);
    expect([list.size, serials.every((serial) => list.has(serial.toString("hex")))]).toEqual([100_000, true]);
    const files = { crl: der, ca: pem("CERTIFICATE", x509.certificate) };
    expect(openssl(["crl", "-in", "crl", "-inform", "der", "-noout", "-CAfile", "ca"], files).text).toContain("verify OK");
  });

  test("is signed by retired authorities too, is counted, and never ends before it begins", async () => {
    const before = signaturesMade("crl");
    const retired = openAuthority(moveAuthority(x509.record, "retired", kek), kek);
    expect(readCrl(await issueCrl({ signer: retired })).issuer).toEqual(x509.name);
    expect(signaturesMade("crl")).toBe(before + 1);
    await expect(issueCrl({ nextUpdate: new Date(now) })).rejects.toThrow(expect.objectContaining({ code: "LINT_REFUSED" }));
  });
});

describe("a CRL is read by the rules", () => {
  const algorithm = derSequence([derOid("1.2.840.10045.4.3.2")]);
  const extension = (oid: string, value: Buffer, critical = false): Buffer => derSequence([derOid(oid), ...(critical ? [derBoolean(true)] : []), derOctetString(value)]);
  const keyId = extension("2.5.29.35", derSequence([derContext(0, Buffer.alloc(20, 1), false)]));
  const number = extension("2.5.29.20", derInteger(7));
  type Parts = Partial<Record<"version" | "algorithm" | "issuer" | "thisUpdate" | "nextUpdate" | "entries" | "extensions", Buffer>> & { unused?: number };
  const crl = (parts: Parts = {}): Buffer => {
    const fields = {
      version: derInteger(1), algorithm, issuer: x509.name, thisUpdate: derTime(new Date(now)), nextUpdate: derTime(new Date(now + 1_000)),
      entries: derSequence([entry]), extensions: derContext(0, derSequence([keyId, number])), ...parts,
    };
    const tbs = derSequence([fields.version, fields.algorithm, fields.issuer, fields.thisUpdate, fields.nextUpdate, fields.entries, fields.extensions]);
    return derSequence([tbs, algorithm, derBitString(Buffer.of(0x30, 0x80), parts.unused ?? 0)]);
  };
  const withExtension = (...more: Buffer[]): Buffer => crl({ extensions: derContext(0, derSequence([keyId, number, ...more])) });
  const withEntry = (...parts: Buffer[]): Buffer => crl({ entries: derSequence([derSequence(parts)]) });
  const nothing = Buffer.alloc(0);

  test("the unbroken one is accepted", () => {
    expect(readCrl(crl()).has(dead.toString("hex"))).toBe(true);
  });

  test.each<[string, Buffer, string]>([
    ["version 1", crl({ version: derInteger(0) }), "not version 2"],
    ["no version", crl({ version: nothing }), "tag 0x30"],
    ["two algorithms", crl({ algorithm: derSequence([derOid("1.2.840.10045.4.3.3")]) }), "two signature algorithms"],
    ["an issuer that is no name", crl({ issuer: derInteger(1) }), "issuer"],
    ["no nextUpdate", crl({ nextUpdate: nothing }), "tag 0x30"],
    ["an empty list", crl({ entries: derSequence([]) }), "empty list"],
    ["no extensions", crl({ extensions: nothing }), "tag 0x0"],
    ["no number", crl({ extensions: derContext(0, derSequence([keyId])) }), "2.5.29.20 is missing"],
    ["no key ID", crl({ extensions: derContext(0, derSequence([number])) }), "2.5.29.35 is missing"],
    ["a key ID without the ID", crl({ extensions: derContext(0, derSequence([number, extension("2.5.29.35", derSequence([]))])) }), "no authority key ID"],
    ["a number of 21 bytes", crl({ extensions: derContext(0, derSequence([keyId, extension("2.5.29.20", derInteger(Buffer.alloc(21, 1)))])) }), "number"],
    ["a delta", withExtension(extension("2.5.29.27", derInteger(1), true)), "critical extension 2.5.29.27"],
    ["a part of a list", withExtension(extension("2.5.29.28", derSequence([]), true)), "critical extension 2.5.29.28"],
    ["an entry of another issuer", withEntry(derInteger(dead), derTime(new Date(now)), derSequence([extension("2.5.29.29", derSequence([]), true)])), "critical extension 2.5.29.29"],
    ["an entry without a time", withEntry(derInteger(dead)), "tag 0x0"],
    ["an entry with more than extensions", withEntry(derInteger(dead), derTime(new Date(now)), derSequence([extension("2.5.29.21", derElement(0x0a, [Buffer.of(5)]))]), derInteger(1)), "more elements"],
    ["an entry with a negative serial", withEntry(derElement(2, [Buffer.of(0x80)]), derTime(new Date(now))), "negative"],
    ["bytes after the end", Buffer.concat([crl(), Buffer.of(0)]), "bytes after the end"],
    ["unused bits in the signature", crl({ unused: 1 }), "signature"],
    ["a certificate", x509.certificate, "tag"],
  ])("%s is refused", (_what, der, why) => {
    expect(() => readCrl(der)).toThrow(expect.objectContaining({ code: "VERIFY_MALFORMED", message: expect.stringContaining(why) }));
  });
});
