// Do OpenSSL and Java accept what the broker signs, and refuse what it revoked?
// The certificates, bundles and CRLs are those that a stranger got from the Workload API; the key
// stores, those that `brevet svid x509` wrote for a task. CRLs of the root and of the signing
// authority together: each certificate of the chain is checked against its issuer's.
// RFC 5280; X509-SVID sections 2-5; RFC 7292.
import { execFileSync, spawnSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { World, trustDomain, until } from "./world.ts";
import type { Stranger, Task } from "./world.ts";

type Raw = { readonly svid: string; readonly bundle: string; readonly crls: readonly string[]; readonly dead: readonly string[] };

const { go, openssl, keytool } = inject("foreign");
const brevet = fileURLToPath(new URL("../../bin/brevet.js", import.meta.url));

/** What it printed, standard error included, and whether it was content. */
function run(program: string, ...args: string[]): { readonly ok: boolean; readonly text: string } {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: "utf8" });
  return { ok: status === 0, text: stdout + stderr };
}

function pem(label: string, der: Buffer): string {
  return `-----BEGIN ${label}-----\n${der.toString("base64").replace(/.{1,64}/g, "$&\n")}-----END ${label}-----\n`;
}

/** OpenSSL reads one certificate; how long it was, its header says. */
function certificates(concatenated: string): string[] {
  const found: string[] = [];
  for (let rest = Buffer.from(concatenated, "base64"); rest.length > 0;) {
    const length = 4 + rest.readUInt16BE(2); // 0x30 0x82, and two bytes of length
    found.push(pem("CERTIFICATE", rest.subarray(0, length)));
    rest = rest.subarray(length);
  }
  return found;
}

describe.skipIf(go === null || !openssl)(go === null || !openssl ? "SKIPPED, not on this machine: go and openssl" : "OpenSSL", () => {
  let world: World;
  let agent: Stranger;
  let bystander: Stranger;
  let task: Task;
  let serial: string;
  const at = (name: string): string => join(world.folder, name);

  beforeAll(async () => {
    world = await World.start();
    agent = await world.stranger(go as string);
    task = await world.taskOf(agent, "gopher");
    bystander = await world.stranger(go as string);
    await world.taskOf(bystander, "gopher");
    const result = await agent.get<Raw>("x509-raw", { socket: task.endpoint });
    const [leaf = "", ...signing] = certificates(result.svid);
    writeFileSync(at("leaf.pem"), leaf);
    writeFileSync(at("signing.pem"), signing.join(""));
    writeFileSync(at("root.pem"), certificates(result.bundle).join(""));
    writeCrls(result);
    serial = BigInt(`0x${new X509Certificate(leaf).serialNumber}`).toString(16);
  });
  afterAll(async () => await world?.close());

  const writeCrls = ({ crls }: Raw): void => {
    writeFileSync(at("crls.pem"), crls.map((der) => pem("X509 CRL", Buffer.from(der, "base64"))).join(""));
  };
  const verify = (purpose: string): ReturnType<typeof run> =>
    run("openssl", "verify", "-x509_strict", "-CAfile", at("root.pem"), "-untrusted", at("signing.pem"), "-CRLfile", at("crls.pem"),
      "-crl_check_all", "-purpose", purpose, at("leaf.pem"));

  test("reads in the certificate what an X509-SVID must say", () => {
    const { text } = run("openssl", "x509", "-in", at("leaf.pem"), "-noout", "-text");
    expect(text).toContain(`URI:${task.spiffeId}`);
    expect(text.match(/URI:/g)).toHaveLength(1);
    expect(text).toMatch(/Key Usage: critical\s+Digital Signature\n/);
    expect(text).toMatch(/CA:FALSE/);
    expect(text).toMatch(/TLS Web Server Authentication, TLS Web Client Authentication|TLS Web Client Authentication, TLS Web Server Authentication/);
    expect(text).toContain("ASN1 OID: prime256v1");
    expect(text).toContain("ecdsa-with-SHA256");
    const signing = run("openssl", "x509", "-in", at("signing.pem"), "-noout", "-text").text;
    expect(signing).toMatch(/Basic Constraints: critical\s+CA:TRUE/);
    expect(signing).toMatch(/Key Usage: critical\s+Certificate Sign, CRL Sign/);
    expect(signing).toContain(`URI:spiffe://${trustDomain}`);
  });

  test("verifies chain and both CRLs, for clients and for servers", () => {
    for (const purpose of ["sslclient", "sslserver"]) expect(verify(purpose)).toMatchObject({ ok: true });
    const crls = readFileSync(at("crls.pem"), "utf8").match(/-----BEGIN[^]+?END X509 CRL-----\n/g) ?? [];
    expect(crls.length).toBeGreaterThanOrEqual(2);
    const said = crls.map((crl) => {
      writeFileSync(at("crl.pem"), crl);
      writeFileSync(at("authorities.pem"), readFileSync(at("root.pem"), "utf8") + readFileSync(at("signing.pem"), "utf8"));
      return run("openssl", "crl", "-in", at("crl.pem"), "-noout", "-text", "-CAfile", at("authorities.pem"));
    });
    for (const { ok, text } of said) {
      expect({ ok, text }).toEqual({ ok: true, text: expect.stringContaining("verify OK") });
      expect(text).toMatch(/X509v3 CRL Number/);
      expect(text).toMatch(/X509v3 Authority Key Identifier/);
    }
  });

  test("refuses the certificate of a revoked task by the next CRL, and only that", async () => {
    await world.brevet("revoke", "--task", task.id, "--reason", "proof");
    let latest: Raw | undefined;
    await until("a CRL lists the certificate", async () => {
      latest = await bystander.get<Raw>("x509-raw", { socket: world.socket });
      return latest.dead.includes(serial);
    });
    if (latest !== undefined) writeCrls(latest);
    expect(verify("sslclient")).toMatchObject({ ok: false, text: expect.stringContaining("certificate revoked") });
    writeFileSync(at("leaf.pem"), certificates(latest?.svid ?? "")[0] ?? "");
    expect(verify("sslclient")).toMatchObject({ ok: true });
  });
});

describe.skipIf(!openssl)(openssl ? "a key store of `brevet svid x509`" : "SKIPPED, not on this machine: openssl", () => {
  let world: World;
  let store: string;
  let password: string;
  let spiffeId: string;

  beforeAll(async () => {
    world = await World.start();
    const folder = join(world.folder, "store");
    mkdirSync(folder, { mode: 0o700 });
    [store, password] = [join(folder, "svid.p12"), join(folder, "password")];
    writeFileSync(password, "for a proof only\n", { mode: 0o600 });
    const fetch = [process.execPath, brevet, "svid", "x509", "--format", "p12", "--out", store, "--password-file", password];
    await world.text("run", "--agent", "shell", "--", ...fetch);
    [spiffeId = ""] = (await world.brevet<{ tasks: Task[] }>("task", "list", "--agent", "shell")).tasks.map((task) => task.spiffeId);
  });
  afterAll(async () => await world?.close());

  test("opens in OpenSSL: the key, its certificate, and the authorities above it", () => {
    const inside = (...args: string[]): string =>
      execFileSync("openssl", ["pkcs12", "-in", store, "-passin", `file:${password}`, "-nodes", ...args], { encoding: "utf8" });
    writeFileSync(join(world.folder, "p12-key.pem"), inside("-nocerts"), { mode: 0o600 });
    writeFileSync(join(world.folder, "p12-leaf.pem"), inside("-nokeys", "-clcerts"));
    writeFileSync(join(world.folder, "p12-above.pem"), inside("-nokeys", "-cacerts"));
    const at = (name: string): string => join(world.folder, name);
    const ofKey = execFileSync("openssl", ["pkey", "-in", at("p12-key.pem"), "-pubout"], { encoding: "utf8" });
    const ofLeaf = execFileSync("openssl", ["x509", "-in", at("p12-leaf.pem"), "-noout", "-pubkey"], { encoding: "utf8" });
    expect(ofKey).toBe(ofLeaf);
    expect(run("openssl", "x509", "-in", at("p12-leaf.pem"), "-noout", "-ext", "subjectAltName").text).toContain(spiffeId);
    expect(run("openssl", "verify", "-CAfile", at("p12-above.pem"), at("p12-leaf.pem"))).toMatchObject({ ok: true });
  });

  test.skipIf(!keytool)(keytool ? "opens in Java: one private key with its chain" : "SKIPPED, not on this machine: keytool", () => {
    const { ok, text } = run("keytool", "-list", "-v", "-storetype", "PKCS12", "-keystore", store, "-storepass:file", password);
    expect({ ok, text }).toEqual({ ok: true, text: expect.stringContaining("PrivateKeyEntry") });
    expect(text).toContain(spiffeId);
    expect(text).toMatch(/Certificate chain length: [23]/);
  });
});
