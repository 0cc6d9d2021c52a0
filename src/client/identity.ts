// Who are we to a broker on another machine, and whom do we take for one?
// A key with its certificate, and the CA certificates that the broker's own certificate must lead to. A folder holds
// them in two files: identity.pem (key and chain in one, so they always fit each other, mode 0600) and bundle.pem;
// each is swapped for its next version by one rename, and read again when it changed. What is missing is said with
// what to do. Nothing here trusts on first use.
// RFC 7468 (PEM). Getting the next certificate is upkeep.ts's business, the first trust first-contact.ts's.
import { X509Certificate } from "node:crypto";
import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, statSync, writeSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { BrevetError } from "../errors.ts";
import { splitDer } from "../identity/der.ts";
import { pem } from "../identity/pem.ts";

/** PEM. */
export type Credentials = { readonly key: string; readonly cert: string; readonly ca: string };

/** The same object is answered as long as nothing has changed. */
export type Identity = { current(): Credentials };

/** What a WorkloadSource has: the SVID that it holds now. */
export type SvidSource = { svid(): { readonly key: string; readonly cert: string; readonly bundle: readonly Buffer[] } };

const identityFile = "identity.pem";
const bundleFile = "bundle.pem";
const lookAgainMs = 1000;
const mostBytes = 1 << 20;

/** XDG Base Directory Specification: a relative path there is to be ignored. */
export function defaultFolder(env: NodeJS.ProcessEnv = process.env): string {
  const named = env["XDG_CONFIG_HOME"];
  return join(named?.startsWith("/") ? named : join(env["HOME"] || homedir(), ".config"), "brevet", "identity");
}

/** `trustBundle`: a file, or PEM; for a folder its own bundle.pem goes before it only if none is given. */
export function identityOf(given: string | SvidSource | Pick<Credentials, "key" | "cert">, trustBundle: string | undefined): Identity {
  if (typeof given === "string") return new IdentityFolder(given, trustBundle);
  const ca = trustBundle === undefined ? undefined : readCertificates(trustBundle);
  if ("svid" in given) return new SvidIdentity(given, ca);
  if (ca === undefined) throw noTrust("a key and certificate");
  const credentials = { key: given.key, cert: given.cert, ca };
  return { current: () => credentials };
}

class SvidIdentity implements Identity {
  readonly #source: SvidSource;
  readonly #ca: string | undefined;
  #held: Credentials | undefined;

  constructor(source: SvidSource, ca: string | undefined) {
    this.#source = source;
    this.#ca = ca;
  }

  current(): Credentials {
    const { key, cert, bundle } = this.#source.svid();
    const ca = this.#ca ?? bundle.map((der) => pem("CERTIFICATE", der)).join("");
    if (this.#held?.cert !== cert || this.#held.ca !== ca) this.#held = { key, cert, ca };
    return this.#held;
  }
}

export class IdentityFolder implements Identity {
  readonly path: string;
  readonly #trustBundle: string | undefined;
  #held: Credentials | undefined;
  #version = "";
  #lookedAt = -Infinity;

  constructor(path: string, trustBundle?: string) {
    this.path = path;
    this.#trustBundle = trustBundle;
  }

  current(): Credentials {
    const now = performance.now();
    if (this.#held && now - this.#lookedAt < lookAgainMs) return this.#held;
    this.#lookedAt = now;
    const version = [identityFile, bundleFile].map((name) => statSync(join(this.path, name), { throwIfNoEntry: false })?.mtimeMs ?? 0).join();
    if (this.#held && version === this.#version) return this.#held;
    const { key, cert } = this.#readIdentity();
    const ca = this.#trustBundle === undefined ? this.#readBundle() : readCertificates(this.#trustBundle);
    this.#version = version;
    this.#held = { key, cert, ca };
    return this.#held;
  }

  /** When the certificate was good for half of its life, and when it ends. */
  get times(): { readonly renewAt: Date; readonly expiresAt: Date } {
    const { validFrom, validTo } = new X509Certificate(this.current().cert);
    const [from, to] = [Date.parse(validFrom), Date.parse(validTo)];
    return { renewAt: new Date((from + to) / 2), expiresAt: new Date(to) };
  }

  /** Dies here: the file of before is whole, and good. */
  write(key: string, chain: Buffer): void {
    swap(this.path, identityFile, key + splitDer(chain).map((der) => pem("CERTIFICATE", der)).join(""));
    this.#lookedAt = -Infinity;
  }

  /** DER CA certificates. Nothing is written where they are the same. */
  writeBundle(certificates: readonly Buffer[]): void {
    const text = certificates.map((der) => pem("CERTIFICATE", der)).join("");
    if (text === "" || text === readText(join(this.path, bundleFile))) return;
    swap(this.path, bundleFile, text);
    this.#lookedAt = -Infinity;
  }

  get isTaken(): boolean {
    return statSync(join(this.path, identityFile), { throwIfNoEntry: false }) !== undefined;
  }

  #readIdentity(): Pick<Credentials, "key" | "cert"> {
    const file = join(this.path, identityFile);
    const found = statSync(file, { throwIfNoEntry: false });
    if (!found) {
      throw new BrevetError("CONFIG_INVALID", `identity: there is no ${file}`, {
        metadata: { try: `brevet operator add NAME --role operator --out DIR on the broker's machine; then bring the folder here (--identity DIR)` },
      });
    }
    if ((found.mode & 0o077) !== 0) throw new BrevetError("CONFIG_INVALID", `identity: others may read ${file}: chmod 600 ${file}`);
    const text = readText(file) ?? "";
    const key = /-----BEGIN PRIVATE KEY-----[^-]+-----END PRIVATE KEY-----\n?/.exec(text)?.[0];
    const cert = certificatesIn(text);
    if (key === undefined || cert === "") throw new BrevetError("CONFIG_INVALID", `identity: ${file} must hold a private key and its certificates, PEM`);
    return { key, cert };
  }

  #readBundle(): string {
    const text = readText(join(this.path, bundleFile));
    if (text === undefined) throw noTrust(this.path);
    return certificatesIn(text);
  }
}

function noTrust(what: string): BrevetError {
  return new BrevetError("CONFIG_INVALID", `trust: nothing says which broker to trust (${what} has no bundle)`, {
    metadata: { try: "--trust-bundle FILE, or --trust-fingerprint HEX with what `brevet bundle show` prints on the broker's machine" },
  });
}

function readCertificates(given: string): string {
  const text = given.includes("-----BEGIN") ? given : readText(given);
  if (text === undefined) throw new BrevetError("CONFIG_INVALID", `trust bundle: ${given} can't be read`);
  const certificates = certificatesIn(text);
  if (certificates === "") throw new BrevetError("CONFIG_INVALID", `trust bundle: no certificate (PEM) in it: brevet bundle show --format pem`);
  return certificates;
}

function certificatesIn(text: string): string {
  return (text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n?/g) ?? []).map((one) => `${one.trimEnd()}\n`).join("");
}

function readText(file: string): string | undefined {
  try {
    if (statSync(file).size > mostBytes) throw new BrevetError("CONFIG_INVALID", `${file} is larger than ${mostBytes >> 20} MiB`);
    return readFileSync(file, "utf8");
  } catch (error) {
    if (error instanceof BrevetError) throw error;
    return undefined;
  }
}

/** Under its name a file is whole, and nobody else's to read from its first byte on. */
function swap(folder: string, name: string, content: string): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const unfinished = join(folder, `.${name}.${process.pid}`);
  rmSync(unfinished, { force: true });
  const fd = openSync(unfinished, "wx", 0o600);
  try {
    writeSync(fd, content);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(unfinished, join(folder, name));
}
