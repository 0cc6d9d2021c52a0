// Which keys speak for which trust domain, now?
// Each stream's message is the whole truth of its kind: what it no longer holds is gone, a message
// with anything unreadable in it changes nothing. Bundles are found by trust domain alone, X.509 and
// JWT apart, and never put together.
// SPIFFE Workload API sections 4.2, 4.4, 5.2.2, 6.2.2; SPIFFE Trust Domain and Bundle section 4.
// Reading a bundle is identity/bundle.ts's business; judging by it, x509.ts's and jwt.ts's.
import { EventEmitter } from "node:events";
import { asBrevetError } from "../errors.ts";
import type { BrevetError } from "../errors.ts";
import type { Connection } from "../client/connect.ts";
import { follow } from "../client/connect.ts";
import { decodeJwks } from "../identity/bundle.ts";
import { splitDer } from "../identity/der.ts";
import { parseSpiffeId } from "../identity/id.ts";
import { importJwtKey } from "./jwt.ts";
import type { JwtKey } from "./jwt.ts";
import { readSigningCertificate } from "./x509.ts";
import type { SigningCertificate } from "./x509.ts";

/** `update`: bundles changed. */
export class BundleView extends EventEmitter<{ update: [] }> {
  #x509: ReadonlyMap<string, readonly SigningCertificate[]> | undefined;
  #jwt: ReadonlyMap<string, ReadonlyMap<string, JwtKey>> | undefined;
  #failure: BrevetError | undefined;

  /** CA certificates; undefined for a trust domain that is not known, empty for one that trusts none. */
  x509(trustDomain: string): readonly SigningCertificate[] | undefined {
    return this.#x509?.get(trustDomain);
  }

  /** JWT keys by kid. */
  jwt(trustDomain: string): ReadonlyMap<string, JwtKey> | undefined {
    return this.#jwt?.get(trustDomain);
  }

  get trustDomains(): readonly string[] {
    return [...(this.#x509?.keys() ?? [])];
  }

  /** Both kinds were received. */
  get ready(): boolean {
    return this.#x509 !== undefined && this.#jwt !== undefined;
  }

  /** Why bundles can't be followed at all, e.g. UNIMPLEMENTED. */
  get failure(): BrevetError | undefined {
    return this.#failure;
  }

  /** Follows both streams until `signal` aborts. */
  async run(workload: Connection["workload"], signal: AbortSignal): Promise<void> {
    const x509 = follow((stop) => workload.fetchX509Bundles({}, { signal: stop }), {
      message: ({ bundles }) => {
        this.#x509 = mapped(bundles, (der) => splitDer(der).map(readSigningCertificate));
        this.emit("update");
      },
      lost: (error) => this.#lost(error, () => (this.#x509 = undefined)),
    }, signal);
    const jwt = follow((stop) => workload.fetchJWTBundles({}, { signal: stop }), {
      message: ({ bundles }) => {
        this.#jwt = mapped(bundles, (jwks) => new Map(decodeJwks(jwks).map((key) => [key.kid, importJwtKey(key)])));
        this.emit("update");
      },
      lost: (error) => this.#lost(error, () => (this.#jwt = undefined)),
    }, signal);
    await Promise.all([x509, jwt]).catch((error: unknown) => {
      this.#failure = asBrevetError(error);
    });
  }

  /** Section 5.2.2: entitled to none any more. A broker that is away takes nothing with it. */
  #lost(error: BrevetError | undefined, forget: () => void): boolean {
    if (error?.code.startsWith("DENIED_")) {
      forget();
      this.emit("update");
    }
    return true;
  }
}

function mapped<T>(bundles: Readonly<Record<string, Buffer>>, read: (bytes: Buffer) => T): ReadonlyMap<string, T> {
  return new Map(Object.entries(bundles).map(([id, bytes]) => [parseSpiffeId(id).trustDomain, read(bytes)]));
}
