// Can another trust domain fetch our bundle, by either profile?
// `https_web`: with a certificate of the web, renewed while it is served; nothing but the documents for others is
// there. `https_spiffe`: with the broker's own SVID, that our bundle proves; the bundle and nothing else. Neither
// asks who comes.
// SPIFFE Federation sections 5.1, 5.2.1 and 5.2.2; Mozilla's "intermediate" TLS.
import { X509Certificate } from "node:crypto";
import { chmodSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import https from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import tls from "node:tls";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { readCertificateFiles, watchCertificateFiles } from "../src/api/certificate-file.ts";
import { decodeSpiffeBundle } from "../src/identity/bundle.ts";
import { splitDer } from "../src/identity/der.ts";
import { pem } from "../src/identity/pem.ts";
import { freePort } from "./support/port.ts";
import { webCertificate } from "./support/web-certificate.ts";
import { World } from "./support/world.ts";

const folder = mkdtempSync(join(tmpdir(), "brevet-https-"));
const files = { certFile: join(folder, "cert.pem"), keyFile: join(folder, "key.pem") };
let world: World;
let web: { cert: string; key: string };
let ports: { web: number; spiffe: number };

/** Whole, as who renews certificates puts them. */
const put = (path: string, content: string): void => {
  writeFileSync(`${path}.new`, content, { mode: 0o600 });
  renameSync(`${path}.new`, path);
};
const write = ({ cert, key }: { cert: string; key: string }): void => {
  put(files.certFile, cert);
  put(files.keyFile, key);
};

beforeAll(async () => {
  web = await webCertificate();
  write(web);
  ports = { web: await freePort(), spiffe: await freePort() };
  world = await World.start({ env: {
    BREVET_LISTEN_HTTPS: `127.0.0.1:${ports.web}`, BREVET_HTTPS_CERT_FILE: files.certFile, BREVET_HTTPS_KEY_FILE: files.keyFile, BREVET_LISTEN_BUNDLE: `127.0.0.1:${ports.spiffe}`,
  } });
});
afterAll(async () => {
  await world?.end();
  rmSync(folder, { recursive: true, force: true });
});

type Answer = { readonly status: number; readonly type: string; readonly body: Buffer };

async function get(port: number, path: string, options: https.RequestOptions): Promise<Answer> {
  return await new Promise((resolve, reject) => {
    const request = https.get({ host: "127.0.0.1", port, path, agent: false, ...options }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () => resolve({ status: response.statusCode ?? 0, type: response.headers["content-type"] ?? "", body: Buffer.concat(chunks) }));
    });
    request.on("error", reject);
  });
}

const own = async (): Promise<{ ca: string[]; sequence: number }> => {
  const { x509, sequence } = await world.workload.trust.getBundle({});
  return { ca: splitDer(x509).map((der) => pem("CERTIFICATE", der)), sequence: Number(sequence) };
};

const isBroker = (_host: string, { raw }: tls.PeerCertificate): Error | undefined =>
  new X509Certificate(raw).subjectAltName === "URI:spiffe://brevet.local/brevet/broker" ? undefined : new Error("it is not the broker");

describe("https_web", () => {
  test("the bundle is there for whoever trusts the certificate", async () => {
    const { status, type, body } = await get(ports.web, "/bundle", { ca: web.cert });
    expect([status, type]).toEqual([200, "application/json"]);
    expect(decodeSpiffeBundle("brevet.local", body).sequence).toBe((await own()).sequence);
  });

  test.each(["/livez", "/readyz", "/metrics", "/"])("%s is not", async (path) => {
    expect((await get(ports.web, path, { ca: web.cert })).status).toBe(404);
  });

  test.each([["TLSv1.1", false], ["TLSv1.2", true], ["TLSv1.3", true]] as const)("%s is good enough: %s", async (version, isGood) => {
    const options = { ca: web.cert, minVersion: version, maxVersion: version, ciphers: "DEFAULT@SECLEVEL=0" };
    const answer = get(ports.web, "/bundle", options).then(({ status }) => status === 200, () => false);
    expect(await answer).toBe(isGood);
  });
});

describe("https_spiffe", () => {
  test.each(["/", "/bundle"])("the bundle is at %s for whoever holds the bundle, and the server is the broker", async (path) => {
    const { ca, sequence } = await own();
    const { status, type, body } = await get(ports.spiffe, path, { ca, checkServerIdentity: isBroker });
    expect([status, type]).toEqual([200, "application/json"]);
    expect(decodeSpiffeBundle("brevet.local", body)).toMatchObject({ sequence, refreshHintSeconds: 60 });
  });

  test("the web's authorities say nothing about it, and nothing else is there", async () => {
    await expect(get(ports.spiffe, "/", { checkServerIdentity: isBroker })).rejects.toMatchObject({ code: expect.stringMatching(/SELF_SIGNED|UNABLE_TO/) });
    const { ca } = await own();
    for (const path of ["/jwks", "/metrics", "/introspect", "/.well-known/openid-configuration"]) {
      expect((await get(ports.spiffe, path, { ca, checkServerIdentity: isBroker })).status).toBe(404);
    }
  });
});

describe("the certificate's files", () => {
  test("are taken when both are new, and kept when the new are not good", async () => {
    const next = await webCertificate();
    const taken: string[] = [];
    const refused: string[] = [];
    const stop = watchCertificateFiles(files, { changed: ({ cert }) => taken.push(cert), failed: ({ message }) => refused.push(message), everyMs: 20 });
    onTestFinished(stop);
    put(files.certFile, next.cert);
    await world.until("the refusal", () => refused.length > 0);
    expect(refused[0]).toContain("is not the key of");
    expect(taken).toEqual([]);
    write(next);
    await world.until("the new certificate", () => taken.includes(next.cert));
    write(web);
  });

  test("that can't be used are named", () => {
    expect(() => readCertificateFiles({ ...files, keyFile: join(folder, "none") })).toThrow("https.keyFile: ");
    expect(() => readCertificateFiles({ ...files, keyFile: files.certFile })).toThrow("https.");
    chmodSync(files.keyFile, 0o644);
    expect(() => readCertificateFiles(files)).toThrow("everybody may read");
    chmodSync(files.keyFile, 0o600);
  });
});
