// Which certificate do we show to those who trust the web's authorities?
// That of two files, which another program renews: both are read again when either has changed, and what can't
// be used is never taken, so that a renewal that went wrong leaves the old certificate and a line in the log.
// The key's file may be read by the broker's user and group only.
import { X509Certificate, createPrivateKey } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { BrevetError } from "../errors.ts";
import type { ServerCertificate } from "./http-app.ts";

export type CertificateFiles = { readonly certFile: string; readonly keyFile: string };

const lookMs = 30_000;

/** @throws BrevetError START_REFUSED with what is wrong with which file */
export function readCertificateFiles({ certFile, keyFile }: CertificateFiles): ServerCertificate {
  const [cert, key] = [contentOf("https.certFile", certFile), contentOf("https.keyFile", keyFile)];
  if ((statSync(keyFile).mode & 0o007) !== 0) throw refused("https.keyFile", `everybody may read ${keyFile}: chmod 640 ${keyFile}`);
  let matches: boolean;
  try {
    matches = new X509Certificate(cert).checkPrivateKey(createPrivateKey(key));
  } catch (cause) {
    throw refused("https.certFile", `${certFile} and ${keyFile} must hold a certificate and its unencrypted key, in PEM`, cause);
  }
  if (!matches) throw refused("https.keyFile", `${keyFile} is not the key of ${certFile}`);
  return { cert, key };
}

/** @returns how to stop */
export function watchCertificateFiles(
  files: CertificateFiles, { changed, failed, everyMs = lookMs }: { changed: (certificate: ServerCertificate) => void; failed: (error: Error) => void; everyMs?: number },
): () => void {
  const stamp = (): string => [files.certFile, files.keyFile].map((path) => `${statSync(path, { throwIfNoEntry: false })?.mtimeMs} ${statSync(path, { throwIfNoEntry: false })?.ino}`).join();
  let known = stamp();
  const timer = setInterval(() => {
    const now = stamp();
    if (now === known) return;
    known = now;
    try {
      changed(readCertificateFiles(files));
    } catch (error) {
      failed(error as Error);
    }
  }, everyMs);
  timer.unref();
  return () => clearInterval(timer);
}

function contentOf(key: string, path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw refused(key, `${path} can't be read: ${(error as NodeJS.ErrnoException).code}`, error);
  }
}

function refused(key: string, what: string, cause?: unknown): BrevetError {
  return new BrevetError("START_REFUSED", `${key}: ${what}`, { cause });
}
