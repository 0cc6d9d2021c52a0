// Which authorities do the tests of ca/ and of the SVIDs sign with?
// Made anew for each test file: an active root, a signing CA under it and a JWT key, one day long.
// Nothing here is sealed under a key that outlives the process.
// What a broker does with authorities is left to the tests that start one.
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createAuthority, openAuthority } from "../../ca/authority.ts";
import type { AuthorityRecord, Signer } from "../../ca/authority.ts";
import { prepareCrl, signCrl } from "../../ca/crl.ts";
import type { CrlRequest } from "../../ca/crl.ts";
import type { KeyPairDer } from "../../ca/keys.ts";

export const trustDomain = "example.org";
export const kek = randomBytes(32);
export const daySeconds = 86_400;

export type Authorities = { readonly root: Signer; readonly x509: Signer; readonly jwt: Signer };

/** `keyPairs`: of the root, the signing CA and the JWT key, if not new ones of P-256. */
export function newAuthorities(now = new Date(), keyPairs: readonly KeyPairDer[] = [], publicUrl?: string): Authorities {
  const request = { trustDomain, kek, now, lifetimeSeconds: daySeconds, publicUrl };
  const open = (record: AuthorityRecord): Signer => openAuthority(record, kek);
  const root = open(createAuthority({ ...request, keyPair: keyPairs[0], use: "root", lifetimeSeconds: 365 * daySeconds }, "active"));
  const x509 = open(createAuthority({ ...request, keyPair: keyPairs[1], use: "x509", parent: { record: root.record, signer: root } }, "active"));
  return { root, x509, jwt: open(createAuthority({ ...request, keyPair: keyPairs[2], use: "jwt" }, "active")) };
}

export type ListRequest = Omit<CrlRequest, "issuer" | "entries"> & { readonly signer: Signer; readonly entries?: readonly Buffer[] };

/** Joined and signed in one place. */
export async function issueCrl({ signer, entries = [], ...about }: ListRequest): Promise<Buffer> {
  return await signCrl(signer, prepareCrl({ ...about, issuer: signer, entries: Buffer.concat(entries) }));
}

export function pem(label: string, der: Buffer): string {
  return `-----BEGIN ${label}-----\n${der.toString("base64").replace(/(.{64})/g, "$1\n").trimEnd()}\n-----END ${label}-----\n`;
}

export function fromPem(text: string): Buffer {
  return Buffer.from(text.replace(/-----[^-]+-----/g, ""), "base64");
}

/** Runs openssl on files that are gone afterwards. Output and exit code, stderr included. */
export function openssl(args: readonly string[], files: Readonly<Record<string, string | Buffer>>): { readonly code: number; readonly text: string } {
  const directory = mkdtempSync(join(tmpdir(), "brevet-openssl-"));
  try {
    for (const [name, content] of Object.entries(files)) writeFileSync(join(directory, name), content);
    const command = ["openssl", ...args, "2>&1"].join(" ");
    return { code: 0, text: execFileSync("sh", ["-c", command], { cwd: directory, encoding: "utf8" }) };
  } catch (error) {
    const { status, stdout } = error as { status: number | null; stdout: string };
    return { code: status ?? -1, text: String(stdout) };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
