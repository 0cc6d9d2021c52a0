// Do strangers read Brevet's lists as they are meant, and find nothing to blame in them or in certificates?
// What a broker publishes over HTTP, in the hands of OpenSSL, Go, Python and Java: the living are accepted, the
// dead refused, in a handshake too, and where the whole chain is checked. zlint and pkilint read lists and
// certificates of both kinds of key. A list of 100,000 entries is read by OpenSSL and by Go.
// RFC 5280 sections 5 and 6.3. What belongs on a list is lists.test.ts's.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer } from "node:tls";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { crlReason, encodeCrlEntry } from "../../ca/crl.ts";
import { newAuthorityKey } from "../../ca/keys.ts";
import { issueX509, newSerial } from "../../ca/x509.ts";
import { splitDer } from "../../src/identity/der.ts";
import type { Agent, HeldX509 } from "../support/agent.ts";
import { issueCrl, newAuthorities, pem } from "../support/authorities.ts";
import { World } from "../support/world.ts";

const { goLists, pkilint, openssl, python, javac } = inject("foreign");
const publicUrl = "http://127.0.0.1:8640";
const folder = mkdtempSync(join(tmpdir(), "brevet-lists-"));
const at = (name: string): string => join(folder, name);
const put = (name: string, content: string | Buffer): string => {
  writeFileSync(at(name), content);
  return at(name);
};
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function run(program: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: "utf8", timeout: 100_000 });
  return `${stdout}${stderr}`.trim() + (status === null ? "killed" : "");
}

describe.skipIf(!goLists || !pkilint)(!goLists || !pkilint ? "SKIPPED, not on this machine: go and python3" : "linters", () => {
  /**
   * pkix.invalid_uri_syntax: pkilint knows only the schemes of the web; RFC 3986 section 3.1 allows `spiffe`, and the
   * standard demands it.
   */
  const excluded = ["pkix.invalid_uri_syntax"];
  const blamed = (text: string): string[] => [...text.matchAll(/^ +(\S+) \((?:FATAL|ERROR|WARNING|NOTICE)\)/gm)].map(([, code]) => code ?? "").filter((code) => !excluded.includes(code));

  test.each(["ec-p256", "rsa-2048"] as const)("find nothing in certificates and lists of %s", async (type) => {
    const { root, x509 } = newAuthorities(new Date(), await Promise.all([1, 2, 3].map(() => newAuthorityKey(type))), publicUrl);
    const now = Date.now();
    const leaf = issueX509({
      signer: x509, spiffeId: "spiffe://example.org/agent/researcher/task/01990000-0000-7000-8000-000000000000", serial: newSerial(), publicUrl,
      binding: { task: "01990000-0000-7000-8000-000000000000", epoch: 1, instance: "i", context: "ab".repeat(32) }, notBefore: new Date(now - 60_000), notAfter: new Date(now + 300_000),
    });
    const times = { number: 9n, thisUpdate: new Date(now - 60_000), nextUpdate: new Date(now + 300_000) };
    const entries = [crlReason.superseded, crlReason.cessationOfOperation].map((reason) => encodeCrlEntry(newSerial(), new Date(now - 60_000), reason));
    for (const certificate of [root.certificate, x509.certificate, leaf.certificate]) {
      const file = put("certificate.der", certificate);
      expect(run(goLists ?? "", "certificate", file)).toBe("");
      expect(blamed(run(join(pkilint ?? "", "lint_pkix_cert"), "lint", file))).toEqual([]);
    }
    for (const list of [await issueCrl({ signer: root, ...times }), await issueCrl({ signer: x509, ...times, entries })]) {
      const file = put("list.der", list);
      expect(run(goLists ?? "", "list", file)).toBe("");
      expect(run(join(pkilint ?? "", "lint_crl"), "lint", "-t", "CRL", "-p", "PKIX", "-s", "NOTICE", file)).toBe("");
    }
  });

  test("find what is wrong: they do look", async () => {
    const { x509 } = newAuthorities();
    const now = Date.now();
    const late = put("late.der", await issueCrl({
      signer: x509, number: 1n, thisUpdate: new Date(now - 60_000), nextUpdate: new Date(now + 60_000), entries: [encodeCrlEntry(newSerial(), new Date(now), crlReason.superseded)],
    }));
    expect(run(goLists ?? "", "list", late)).toContain("e_crl_revocation_time_after_this_update");
    expect(run(join(pkilint ?? "", "lint_pkix_cert"), "lint", put("ca.der", x509.certificate))).toContain("pkix.invalid_uri_syntax");
  });
});

describe.skipIf(!goLists || !openssl)(!goLists || !openssl ? "SKIPPED, not on this machine: go and openssl" : "a list of 100,000 entries", () => {
  test("is read by OpenSSL and by Go", async () => {
    const { x509 } = newAuthorities();
    const serials = Array.from({ length: 100_000 }, newSerial);
    const now = Date.now();
    const entries = serials.map((serial) => encodeCrlEntry(serial, new Date(now - 60_000), crlReason.cessationOfOperation));
    const list = put("long.der", await issueCrl({ signer: x509, number: 77n, thisUpdate: new Date(now - 60_000), nextUpdate: new Date(now + 300_000), entries }));
    put("ca.der", x509.certificate);
    const ca = put("ca.pem", pem("CERTIFICATE", x509.certificate));
    expect(run("openssl", "crl", "-in", list, "-inform", "der", "-noout", "-CAfile", ca)).toContain("verify OK");
    expect(run(goLists ?? "", "read", list, at("ca.der"), serials[99_999]?.toString("hex") ?? "")).toBe("77 100000 true");
    expect(run(goLists ?? "", "read", list, at("ca.der"), newSerial().toString("hex"))).toBe("77 100000 false");
  });
});

describe.skipIf(!openssl || !python || !javac || !goLists)(!openssl || !python || !javac || !goLists ? "SKIPPED, not on this machine: openssl, python3, javac and go" : "after a close", () => {
  let world: World;
  let agents: Agent[];
  let dead: HeldX509;
  let living: HeldX509;

  const lists = async (): Promise<{ authority: string; text: string; der: Buffer }[]> => {
    const { lists: found } = (await (await fetch(`${world.broker.httpUrl}/crl`)).json()) as { lists: { authority: string }[] };
    return await Promise.all(found.map(async ({ authority }) => ({
      authority, text: await (await fetch(`${world.broker.httpUrl}/crl/${authority}.pem`)).text(),
      der: Buffer.from(await (await fetch(`${world.broker.httpUrl}/crl/${authority}.crl`)).arrayBuffer()),
    })));
  };
  const signingOf = ({ chain }: HeldX509): Buffer => splitDer(chain)[1] ?? Buffer.alloc(0);

  beforeAll(async () => {
    world = await World.start({ embedded: true, env: { BREVET_PUBLIC_URL: publicUrl } });
    agents = [await world.agent(), await world.agent()];
    const tasks = [await world.open(), await world.open()];
    for (const [i, agent] of agents.entries()) await agent.claim(tasks[i]?.id ?? "");
    [dead, living] = (await Promise.all(agents.map(async (agent) => (await agent.x509())[0]))) as [HeldX509, HeldX509];
    put("root.pem", pem("CERTIFICATE", living.bundle));
    put("signing.pem", pem("CERTIFICATE", signingOf(living)));
    put("signing.der", signingOf(living));
    for (const [name, svid] of Object.entries({ dead, living })) {
      put(`${name}.pem`, pem("CERTIFICATE", splitDer(svid.chain)[0] ?? Buffer.alloc(0)));
      put(`${name}-chain.pem`, splitDer(svid.chain).map((der) => pem("CERTIFICATE", der)).join(""));
      put(`${name}-key.pem`, `-----BEGIN PRIVATE KEY-----\n${svid.key.toString("base64")}\n-----END PRIVATE KEY-----\n`);
    }
    await world.close(tasks[0]?.id ?? "");
    const serial = Buffer.from(dead.serial, "hex");
    await world.until("the list", async () => (await lists()).some(({ der }) => der.includes(serial)));
    put("lists.pem", (await lists()).map(({ text }) => text).join(""));
    put("trust.pem", pem("CERTIFICATE", living.bundle) + (await lists()).map(({ text }) => text).join(""));
  });
  afterAll(async () => await world?.[Symbol.asyncDispose]());

  test("OpenSSL checks every certificate of the chain", () => {
    const verify = (leaf: string): string => run("openssl", "verify", "-x509_strict", "-crl_check_all", "-CAfile", at("root.pem"), "-untrusted", at("signing.pem"), "-CRLfile", at("lists.pem"), at(leaf));
    expect(verify("living.pem")).toContain("OK");
    expect(verify("dead.pem")).toContain("certificate revoked");
  });

  const handshake = async (server: "dead" | "living", program: string, args: (port: number) => string[]): Promise<string> => {
    const listening = createServer({ cert: readFileSync(at(`${server}-chain.pem`)), key: readFileSync(at(`${server}-key.pem`)) }, (socket) => socket.on("error", () => {}).end());
    listening.on("tlsClientError", () => {});
    listening.listen(0, "127.0.0.1");
    await once(listening, "listening");
    try {
      const { port } = listening.address() as { port: number };
      const child = spawn(program, args(port), { stdio: ["ignore", "pipe", "pipe"] });
      let text = "";
      child.stdout.on("data", (chunk) => (text += String(chunk)));
      child.stderr.on("data", (chunk) => (text += String(chunk)));
      await once(child, "close");
      return text;
    } finally {
      listening.close();
    }
  };

  test("s_client refuses the handshake of the dead", async () => {
    const args = (port: number): string[] => ["s_client", "-connect", `127.0.0.1:${port}`, "-CAfile", at("trust.pem"), "-crl_check_all", "-verify_return_error"]; // -CRL reads one list of its file
    expect(await handshake("living", "openssl", args)).toContain("Verify return code: 0 (ok)");
    expect(await handshake("dead", "openssl", args)).toContain("certificate revoked");
  });

  test.each(["VERIFY_CRL_CHECK_LEAF", "VERIFY_CRL_CHECK_CHAIN"])("Python's ssl with %s refuses the handshake of the dead", async (flag) => {
    const code = `import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.load_verify_locations(sys.argv[1])
context.verify_flags |= ssl.${flag}
try:
    with context.wrap_socket(socket.create_connection(("127.0.0.1", int(sys.argv[2])))): print("accepted")
except ssl.SSLCertVerificationError as error: print("refused", error.verify_message)
`;
    const args = (port: number): string[] => ["-c", code, at("trust.pem"), String(port)];
    expect(await handshake("living", python?.program ?? "", args)).toBe("accepted\n");
    expect(await handshake("dead", python?.program ?? "", args)).toBe("refused certificate revoked\n");
  });

  test("Go finds the dead on the list of their authority, signed by it", async () => {
    const serial = (svid: HeldX509): string => BigInt(`0x${svid.serial}`).toString(16);
    for (const { der } of await lists()) {
      const file = put("one.der", der);
      const said = [dead, living].map((svid) => run(goLists ?? "", "read", file, at("signing.der"), serial(svid)));
      if (der.includes(Buffer.from(dead.serial, "hex"))) expect(said).toEqual([expect.stringMatching(/^\d+ 1 true$/), expect.stringMatching(/^\d+ 1 false$/)]);
      else expect(said[0]).not.toContain("true"); // the root's: not signed by this authority
    }
  });

  test("Java's PKIX validator checks every certificate of the chain", () => {
    expect(run("javac", "-d", folder, new URL("lists/CheckPath.java", import.meta.url).pathname)).toBe("");
    const check = (leaf: string): string => run("java", "-cp", folder, "CheckPath", at("root.pem"), at("signing.pem"), at(leaf), at("lists.pem"));
    expect(check("living.pem")).toBe("accepted");
    expect(check("dead.pem")).toBe("refused REVOKED");
  });
});
