// Who signs the SVIDs of a test?
// A root, a signing CA and a JWT key of their own for each broker of a test: real keys and real
// signatures by ca/, sealed under a key that nobody keeps and gone with the process.
// What is signed for whom is broker.ts's business.
import { randomBytes, randomUUID } from "node:crypto";
import { createAuthority, openAuthority } from "../../ca/authority.ts";
import type { AuthorityRecord, Signer } from "../../ca/authority.ts";
import { issueJwt } from "../../ca/jwt.ts";
import { issueX509, newSerial } from "../../ca/x509.ts";
import type { IssuedX509 } from "../../ca/x509.ts";
import { encodeJwks, publicJwk } from "../identity/bundle.ts";
import type { TaskBinding } from "../identity/task.ts";

const daySeconds = 86_400;
const backdateMs = 60_000;

export class TestAuthority {
  readonly trustDomain: string;
  readonly #root: Signer;
  readonly #x509: Signer;
  readonly #jwt: Signer;

  constructor(trustDomain: string) {
    const kek = randomBytes(32);
    const request = { trustDomain, kek, now: new Date(), lifetimeSeconds: daySeconds };
    const open = (record: AuthorityRecord): Signer => openAuthority(record, kek);
    this.trustDomain = trustDomain;
    this.#root = open(createAuthority({ ...request, use: "root" }, "active"));
    this.#x509 = open(createAuthority({ ...request, use: "x509", parent: { record: this.#root.record, signer: this.#root } }, "active"));
    this.#jwt = open(createAuthority({ ...request, use: "jwt" }, "active"));
  }

  /** DER of the CA that callers' chains lead to. */
  get bundle(): Buffer {
    return this.#root.certificate;
  }

  /** JWT keys, as a JWK Set. */
  get jwks(): Buffer {
    const jwt = [{ kid: this.#jwt.record.id, publicKey: publicJwk(this.#jwt.record.publicKey) }];
    return encodeJwks({ trustDomain: this.trustDomain, sequence: 1, refreshHintSeconds: 60, x509: [], jwt });
  }

  x509(spiffeId: string, binding: TaskBinding, lifetimeMs: number): IssuedX509 {
    const now = Date.now();
    const [notBefore, notAfter] = [new Date(now - backdateMs), new Date(now + lifetimeMs)];
    return issueX509({ signer: this.#x509, spiffeId, binding, serial: newSerial(), notBefore, notAfter });
  }

  jwt(subject: string, binding: TaskBinding, audience: readonly string[], lifetimeMs: number): string {
    const now = Date.now();
    const [issuedAt, expiresAt] = [new Date(now), new Date(now + lifetimeMs)];
    return issueJwt({ signer: this.#jwt, subject, audience, jti: randomUUID(), issuedAt, expiresAt, binding });
  }
}
