// How does an identity on another machine stay good?
// Past half of its life the certificate is replaced over its own connection, with a new key that never leaves this
// machine; the bundle is replaced by the broker's newest. Each is one file swapped, so whoever reads meanwhile has a
// whole one, and two programs that do it at once do no harm. What fails is tried again; nothing is given up before
// the certificate has ended.
// Who may have which certificate is the broker's business; the files, identity.ts's.
import { generateKeyPairSync } from "node:crypto";
import { splitDer } from "../identity/der.ts";
import type { Connection } from "./connect.ts";
import type { IdentityFolder } from "./identity.ts";

export type NewKey = { readonly key: string; readonly publicKey: Buffer };

const longestRestMs = 10 * 60_000;
const shortestRestMs = 1000;
const callMs = 5000;

/** PKCS#8 as PEM, and its SubjectPublicKeyInfo. */
export function newKey(): NewKey {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "prime256v1" });
  return { key: privateKey.export({ format: "pem", type: "pkcs8" }).toString(), publicKey: publicKey.export({ format: "der", type: "spki" }) };
}

/** Looks once. Throws what the broker says. */
export async function upkeep(connection: Connection, folder: IdentityFolder): Promise<void> {
  const bundle = await connection.trust.getBundle({}, { timeoutMs: callMs });
  folder.writeBundle(splitDer(bundle.x509));
  if (Date.now() < folder.times.renewAt.getTime()) return;
  const { key, publicKey } = newKey();
  const { chain } = await connection.operators.renew({ publicKey }, { timeoutMs: callMs });
  folder.write(key, chain);
}

/** Looks again and again until `signal` aborts. Keeps no process alive. */
export function keepUp(connection: Connection, folder: IdentityFolder, signal: AbortSignal): void {
  const look = (): void => {
    if (signal.aborted) return;
    upkeep(connection, folder).then(() => rest(), () => rest(shortestRestMs * 5));
  };
  const rest = (least = shortestRestMs): void => {
    if (signal.aborted) return;
    setTimeout(look, Math.max(least, Math.min(longestRestMs, untilRenewal(folder)))).unref();
  };
  rest();
}

function untilRenewal(folder: IdentityFolder): number {
  try {
    return folder.times.renewAt.getTime() - Date.now();
  } catch {
    return longestRestMs; // the folder is being changed by somebody, or is gone
  }
}
