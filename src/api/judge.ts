// May this SVID be accepted now, as the broker itself sees it?
// The rules are the verifier's own (src/verify), the keys this trust domain's, the epochs those of the
// broker's feed: what was ended here is refused from the commit on, what another broker ended as soon as
// this one has heard of it. A broker that has not read the database for ten seconds accepts nothing.
// X509-SVID section 5, JWT-SVID section 4. Threats T14, T24-T28.
// Who asks, and in which words, is validate.ts's, introspect.ts's and envoy-check.ts's business.
import { BrevetError } from "../errors.ts";
import type { TrustBundle } from "../identity/bundle.ts";
import type { JwtSvid } from "../identity/svid.ts";
import type { Trust } from "../issue/trust.ts";
import type { Feed } from "../revoke/feed.ts";
import type { Authorizer } from "../verify/authorize.ts";
import { importJwtKey, verifyJwt } from "../verify/jwt.ts";
import type { JwtKey } from "../verify/jwt.ts";
import { judge } from "../verify/verdict.ts";
import type { Accepted, Genuine, Kind, Verdict } from "../verify/verdict.ts";
import { readSigningCertificate, verifyX509 } from "../verify/x509.ts";
import type { SigningCertificate } from "../verify/x509.ts";

type Keys = {
  readonly of: TrustBundle;
  readonly jwt: ReadonlyMap<string, JwtKey>;
  /** Roots, and the signing authorities below them: whoever asks may hold the leaf alone. */
  readonly x509: readonly SigningCertificate[];
  /** Certificates that were verified under these keys, the oldest first. Whether their task lives is asked each time. */
  readonly genuine: Map<string, Genuine>;
};

const mostStaleMs = 10_000;
const mostRemembered = 1_000;

export class Judge {
  readonly #trust: Trust;
  readonly #feed: Feed;
  #known: Keys | undefined;

  constructor(trust: Trust, feed: Feed) {
    this.#trust = trust;
    this.#feed = feed;
  }

  async jwt(token: string, audience: string, { accept, authorize }: { readonly accept: readonly Kind[]; readonly authorize?: Authorizer }): Promise<Verdict> {
    await this.#feed.keepFresh();
    return judge(() => this.genuineJwt(token, audience), { accept, authorize, mustBeAlive: (caller) => this.#mustBeAlive(caller) });
  }

  /** `leaf`: DER; that its holder has the key, whoever asks has proved. */
  async x509(leaf: Buffer, { accept, authorize }: { readonly accept: readonly Kind[]; readonly authorize?: Authorizer }): Promise<Verdict> {
    await this.#feed.keepFresh();
    return judge(() => this.#genuineX509(leaf), { accept, authorize, mustBeAlive: (caller) => this.#mustBeAlive(caller) });
  }

  /** Genuine, and its task's epoch not revoked as far as is known, and enough is known. @throws BrevetError VERIFY_… */
  async liveJwt(token: string, audience: string): Promise<JwtSvid> {
    await this.#feed.keepFresh();
    const svid = this.genuineJwt(token, audience);
    if (svid.binding) this.#mustBeAlive(svid.binding);
    else this.#mustBeFresh();
    return svid;
  }

  /** Whatever its task's epoch. @throws BrevetError VERIFY_… */
  genuineJwt(token: string, audience: string): JwtSvid {
    const { of, jwt } = this.#keys;
    return verifyJwt(token, (trustDomain) => (trustDomain === of.trustDomain ? jwt : undefined), [audience], Date.now());
  }

  /** One connection's certificate comes with each of its requests: what was found genuine under these keys is, until it expires. */
  #genuineX509(leaf: Buffer): Genuine {
    const { of, x509, genuine } = this.#keys;
    const key = leaf.toString("latin1");
    const known = genuine.get(key);
    if (known && known.expiresAt.getTime() > Date.now()) return known;
    const { spiffeId, binding, notAfter } = verifyX509(leaf, (trustDomain) => (trustDomain === of.trustDomain ? x509 : undefined), Date.now());
    const found = { spiffeId, binding, expiresAt: notAfter };
    const [oldest] = genuine.keys();
    if (genuine.size >= mostRemembered && oldest !== undefined) genuine.delete(oldest);
    genuine.set(key, found);
    return found;
  }

  #mustBeAlive({ task, epoch }: Pick<Accepted, "task" | "epoch">): void {
    const revoked = this.#feed.epochOf(task);
    if (revoked > epoch) throw new BrevetError("VERIFY_REVOKED", `task ${task}: epoch ${epoch} is revoked, below ${revoked}`);
    this.#mustBeFresh();
  }

  #mustBeFresh(): void {
    const { silentMs } = this.#feed;
    if (silentMs > mostStaleMs) throw new BrevetError("VERIFY_STALE", `the database was last read ${Math.round(silentMs / 1_000)} s ago`);
  }

  get #keys(): Keys {
    const { bundle, crlSigners } = this.#trust.published;
    if (this.#known?.of === bundle) return this.#known;
    const signing = crlSigners.flatMap(({ record }) => (record.use === "x509" && record.certificate ? [record.certificate] : []));
    this.#known = {
      of: bundle,
      jwt: new Map(bundle.jwt.map((authority) => [authority.kid, importJwtKey(authority)])),
      x509: [...bundle.x509, ...signing].map(readSigningCertificate),
      genuine: new Map(),
    };
    return this.#known;
  }
}
