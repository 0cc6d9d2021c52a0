// Do other programs open the key stores that we write?
// OpenSSL and Java's keytool read the same file, find the key that belongs to the certificate, and
// refuse another password. RFC 7292. A machine without one of them says so in the test's name.
import { execFileSync, spawnSync } from "node:child_process";
import { X509Certificate, createPrivateKey, createPublicKey } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { writeP12 } from "../src/cli/p12.ts";

const has = (program: string, ...version: string[]): boolean => spawnSync(program, version).error === undefined;
const openssl = has("openssl", "version");
const keytool = has("keytool", "-help");

const password = "pässword, with 日本 and spaces";
const folder = mkdtempSync(join(tmpdir(), "brevet-p12-"));
const at = (name: string): string => join(folder, name);
const run = (program: string, ...args: string[]): string => execFileSync(program, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
const der = (pem: string): Buffer => Buffer.from(new X509Certificate(pem).raw);

let leaf: string;
let authority: string;
let key: string;

beforeAll(() => {
  if (!openssl) return;
  const ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  run("openssl", "req", "-x509", ...ec, "-keyout", at("ca.key"), "-out", at("ca.pem"), "-subj", "/CN=test authority", "-days", "2");
  run("openssl", "req", ...ec, "-keyout", at("leaf.key"), "-out", at("leaf.csr"), "-subj", "/CN=leaf");
  run("openssl", "x509", "-req", "-in", at("leaf.csr"), "-CA", at("ca.pem"), "-CAkey", at("ca.key"), "-days", "1", "-out", at("leaf.pem"));
  [leaf, authority, key] = [readFileSync(at("leaf.pem"), "utf8"), readFileSync(at("ca.pem"), "utf8"), readFileSync(at("leaf.key"), "utf8")];
  const pkcs8 = createPrivateKey(key).export({ type: "pkcs8", format: "der" });
  const store = { name: "0190c2a4-77aa-7c3e-9d5e-52f0a1b2c3d4", key: pkcs8, chain: [der(leaf)], authorities: [der(authority)] };
  writeFileSync(at("store.p12"), writeP12(store, password));
  writeFileSync(at("java.p12"), writeP12(store, "plain password")); // keytool reads a password file in the locale's encoding
  writeFileSync(at("password"), password);
  writeFileSync(at("java-password"), "plain password");
  writeFileSync(at("wrong"), "another");
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe.skipIf(!openssl)(openssl ? "OpenSSL" : "SKIPPED, not on this machine: openssl", () => {
  const pkcs12 = (...args: string[]): string => run("openssl", "pkcs12", "-in", at("store.p12"), "-passin", `file:${at("password")}`, ...args);

  test("finds the key, and its public half is the certificate's", () => {
    const found = /-----BEGIN PRIVATE KEY-----[^]+-----END PRIVATE KEY-----/.exec(pkcs12("-nocerts", "-nodes"))?.[0] ?? "";
    expect(createPublicKey(found).export({ type: "spki", format: "pem" })).toBe(new X509Certificate(leaf).publicKey.export({ type: "spki", format: "pem" }));
  });

  test("finds the certificate of the key, and the authority apart from it", () => {
    expect(der(pkcs12("-clcerts", "-nokeys"))).toEqual(der(leaf));
    expect(der(pkcs12("-cacerts", "-nokeys"))).toEqual(der(authority));
  });

  test("sees nothing older than AES-256 and SHA-256", () => {
    const { stderr } = spawnSync("openssl", ["pkcs12", "-in", at("store.p12"), "-passin", `file:${at("password")}`, "-info", "-noout"], { encoding: "utf8" });
    expect(stderr).toMatch(/MAC: sha256, Iteration 10000/);
    expect(stderr.match(/PBES2, PBKDF2, AES-256-CBC, Iteration 100000, PRF hmacWithSHA256/g)).toHaveLength(2);
  });

  test("refuses another password and a changed byte", () => {
    const wrong = (file: string, pass: string) => spawnSync("openssl", ["pkcs12", "-in", file, "-passin", `file:${pass}`, "-nodes"], { encoding: "utf8" });
    expect(wrong(at("store.p12"), at("wrong")).status).not.toBe(0);
    const bytes = readFileSync(at("store.p12"));
    bytes[200] = (bytes[200] ?? 0) ^ 1;
    writeFileSync(at("changed.p12"), bytes);
    expect(wrong(at("changed.p12"), at("password")).status).not.toBe(0);
  });
});

describe.skipIf(!openssl || !keytool)(keytool ? "Java" : "SKIPPED, not on this machine: keytool", () => {
  test("keytool lists a private key with its chain, under the task's ID", () => {
    const listed = run("keytool", "-list", "-v", "-storetype", "PKCS12", "-keystore", at("java.p12"), "-storepass:file", at("java-password"));
    expect(listed).toContain("0190c2a4-77aa-7c3e-9d5e-52f0a1b2c3d4");
    expect(listed).toContain("PrivateKeyEntry");
    expect(listed).toContain("Certificate chain length: 2");
  });

  test("keytool refuses another password", () => {
    const refused = spawnSync("keytool", ["-list", "-storetype", "PKCS12", "-keystore", at("java.p12"), "-storepass:file", at("wrong")]);
    expect(refused.status).not.toBe(0);
  });
});
