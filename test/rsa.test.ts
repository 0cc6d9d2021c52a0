// Do authorities of RSA serve relying parties that know no EC, and nobody worse?
// A broker told to make RSA authorities: what it signs verifies with OpenSSL, jose and our own verifier, lists
// included, and leaves keep their P-256 keys. Told so later, it makes the next authority so and leaves the old.
// RFC 4055 section 5 (the algorithm's NULL), RFC 7518 section 3.3, RFC 7638. Threat T25.
// What is the same for every kind of key is the other tests' business.
import { X509Certificate, createPublicKey } from "node:crypto";
import { createRemoteJWKSet, decodeProtectedHeader, jwtVerify } from "jose";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { newAuthorityKey } from "../ca/keys.ts";
import { defaultRotation } from "../ca/rotation.ts";
import { splitDer } from "../src/identity/der.ts";
import { Trust } from "../src/issue/trust.ts";
import { Verifier } from "../src/verify/verifier.ts";
import type { Agent } from "./support/agent.ts";
import { issueCrl, kek, newAuthorities, openssl, pem, trustDomain } from "./support/authorities.ts";
import { Ledger } from "./support/ledger.ts";
import { World } from "./support/world.ts";
import { patienceMs } from "./support/patience.ts";

describe("a broker with RSA authorities", () => {
  let world: World;
  let agent: Agent;
  let task: string;
  beforeAll(async () => {
    world = await World.start({ env: { BREVET_AUTHORITIES_KEY_TYPE: "rsa-2048" } });
    agent = await world.agent();
    task = (await world.open()).id;
    await agent.claim(task);
  });
  afterAll(async () => await world?.[Symbol.asyncDispose]());

  test("its X.509-SVIDs and lists verify with OpenSSL up to the root, and are refused by the next list", async () => {
    const [svid] = await agent.x509();
    const [leaf = Buffer.alloc(0), ca = Buffer.alloc(0)] = splitDer(svid?.chain ?? Buffer.alloc(0));
    const root = svid?.bundle ?? Buffer.alloc(0);
    expect([leaf, ca, root].map((der) => new X509Certificate(der).publicKey.asymmetricKeyType)).toEqual(["ec", "rsa", "rsa"]);
    const check = async (): Promise<{ code: number; text: string }> => {
      const { crls } = await world.admin.trust.getBundle({});
      const files = { root: pem("CERTIFICATE", root), ca: pem("CERTIFICATE", ca), leaf: pem("CERTIFICATE", leaf), crls: crls.map((der) => pem("X509 CRL", der)).join("") };
      expect(openssl(["x509", "-in", "leaf", "-noout", "-text"], files).text).toContain("Signature Algorithm: sha256WithRSAEncryption");
      return openssl(["verify", "-x509_strict", "-check_ss_sig", "-crl_check_all", "-purpose", "sslclient", "-CAfile", "root", "-untrusted", "ca", "-CRLfile", "crls", "leaf"], files);
    };
    expect(await check()).toEqual({ code: 0, text: "leaf: OK\n" });
    const other = await world.open();
    const second = await world.agent();
    await second.claim(other.id);
    await world.close(task);
    await world.until("refused by the list", async () => (await check()).text.includes("certificate revoked"));
    task = other.id;
    agent = second;
  });

  test("its JWT-SVIDs verify with jose by discovery's keys and with our verifier, under RS256 alone", async () => {
    const [svid] = await agent.jwt(["crm"]);
    const token = svid?.token ?? "";
    expect(decodeProtectedHeader(token).alg).toBe("RS256");
    const keys = createRemoteJWKSet(new URL(`${world.broker.httpUrl}/jwks`));
    expect((await jwtVerify(token, keys, { audience: "crm", algorithms: ["RS256"] })).payload.sub).toContain(task);
    await expect(jwtVerify(token, keys, { audience: "crm", algorithms: ["ES256", "PS256"] })).rejects.toThrow();
    const verifier = new Verifier({ address: world.broker.workloadSocket, audience: "crm" });
    try {
      await verifier.ready();
      expect(verifier.jwt(token)).toMatchObject({ accepted: true, task });
      const forged = `${Buffer.from(JSON.stringify({ ...decodeProtectedHeader(token), alg: "PS256" })).toString("base64url")}.${token.split(".").slice(1).join(".")}`;
      expect(verifier.jwt(forged)).toMatchObject({ accepted: false, reason: "VERIFY_SIGNATURE" });
    } finally {
      verifier.close();
    }
  });

  test("what must be true of a world is", async () => await world.check());
});

test("a list of RSA is signed in parts as in one", async () => {
  const keyPairs = await Promise.all(Array.from({ length: 3 }, () => newAuthorityKey("rsa-2048")));
  const { x509 } = newAuthorities(new Date(), keyPairs);
  const der = await issueCrl({ signer: x509, number: 1n, thisUpdate: new Date(), nextUpdate: new Date(Date.now() + 60_000) });
  const files = { crl: der, ca: pem("CERTIFICATE", x509.certificate) };
  expect(openssl(["crl", "-in", "crl", "-inform", "der", "-noout", "-CAfile", "ca"], files).text).toContain("verify OK");
});

test("told to use RSA later, the next authority has it, and the ones before stay until their end", async () => {
  const ledger = await Ledger.start();
  try {
    const types = (trust: Trust): string[] => trust.published.crlSigners.map(({ record }) => `${record.use} ${record.state} ${createPublicKey({ key: record.publicKey, format: "der", type: "spki" }).asymmetricKeyType}`).sort();
    const policy = { ...defaultRotation, signingSeconds: 8, publishSeconds: 1, minimumSeconds: 1 };
    const before = new Trust(ledger.store, trustDomain, kek, { policy });
    await before.refresh();
    expect(types(before)).toEqual(["root active ec", "x509 active ec"]);
    const after = new Trust(ledger.store, trustDomain, kek, { policy, keyType: "rsa-2048" });
    await after.refresh();
    for (const deadline = performance.now() + patienceMs; !types(after).includes("x509 active rsa"); await after.refresh()) {
      if (performance.now() > deadline) throw new Error("the next authority was never made");
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    expect(types(after)).toContain("root active ec");
    expect(types(after)).toContain("x509 retired ec");
  } finally {
    await ledger.close();
  }
});
