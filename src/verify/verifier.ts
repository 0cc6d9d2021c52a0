// May this SVID be accepted now?
// Only if signature, times and ID are good, and its epoch is not below the feed's for its task, and the
// view of the feed is fresh. Every answer is given at once from what is held; whatever goes wrong in
// reaching it, the answer is a refusal. Without the broker that is "not ready", later "stale".
// DESIGN: "Verifier"; JWT-SVID section 4, X509-SVID section 5. Threats T14, T15, T24-T28.
// The parts are x509.ts, jwt.ts, feed.ts, bundles.ts; connections live.ts and tls.ts.
import { createHash } from "node:crypto";
import { basename } from "node:path";
import { once } from "node:events";
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { BrevetError, invalid } from "../errors.ts";
import { brokerRules, connect } from "../client/connect.ts";
import type { BrokerOptions, Connection } from "../client/connect.ts";
import { parseDuration } from "../identity/duration.ts";
import type { Duration } from "../identity/duration.ts";
import { aFunction, checkOptions, duration, filledText, listOf, oneOf, someOf, text, time, trustDomain } from "../identity/options.ts";
import type { Rules } from "../identity/options.ts";
import type { Authorizer } from "./authorize.ts";
import { BundleView } from "./bundles.ts";
import { FeedView } from "./feed.ts";
import { verifyJwt } from "./jwt.ts";
import { LiveConnections } from "./live.ts";
import { judge } from "./verdict.ts";
import type { Accepted, Genuine, Kind, Verdict } from "./verdict.ts";
import { verifyX509 } from "./x509.ts";

export type VerifierOptions = BrokerOptions & {
  /** Our own names, one of which a JWT-SVID must be for. Each call may give others. */
  readonly audience?: string | readonly string[];
  /** How old the view of revocations may be. Default `10s`: for how long, at worst, a dead SVID still passes. */
  readonly maxStaleness?: Duration;
  /**
   * What to do when it is older. Default `refuse`. `acceptIssuedBefore`: SVIDs that were accepted here
   * before the silence pass for this long more, and connections stay open as long.
   */
  readonly onStale?: "refuse" | { readonly acceptIssuedBefore: Duration };
  /** Who may be accepted at all. Default: agents only. */
  readonly accept?: readonly Kind[];
  /** What people who revoke see it called, at most 64 characters. Default: the program's name. */
  readonly name?: string;
  /** Whose SVIDs. Default: the broker's own. */
  readonly trustDomain?: string;
  /**
   * Others whose SVIDs are looked at too, by the bundles that the broker hands out. No task stands behind them and
   * no revocation is heard of: whether such a caller comes in is `authorize`'s decision alone, by `spiffeId`.
   */
  readonly trustDomains?: readonly string[];
};

export type CheckOptions = {
  readonly accept?: readonly Kind[];
  /** Default: whoever is accepted. Refuses with VERIFY_NOT_AUTHORIZED. */
  readonly authorize?: Authorizer;
};

const kinds = listOf(oneOf("agent", "service"));
export const checkRules: Rules<CheckOptions> = { accept: kinds, authorize: aFunction };
export const audienceRule = someOf(filledText);
const jwtRules: Rules<CheckOptions & Pick<VerifierOptions, "audience">> = { ...checkRules, audience: audienceRule };
const verifierRules: Rules<VerifierOptions> = {
  ...brokerRules, audience: audienceRule, maxStaleness: time, onStale: staleness, accept: kinds,
  name: (value) => text(value) ?? ((value as string).length <= 64 ? undefined : "must be at most 64 characters long"),
  trustDomain, trustDomains: listOf(trustDomain),
};

function staleness(value: unknown): string | undefined {
  const { acceptIssuedBefore, ...rest } = (typeof value === "object" && value !== null ? value : {}) as Record<string, unknown>;
  const isGrace = duration(acceptIssuedBefore) === undefined && Object.keys(rest).length === 0;
  return value === "refuse" || isGrace ? undefined : "must be refuse, or { acceptIssuedBefore: … } with a duration such as 30s";
}

const mostSeen = 10_000;
const askAgainMs = 1_000;

/** Judges SVIDs for one service. Runs until `close()`; may be made before the broker is up. */
export class Verifier {
  readonly feed: FeedView;
  readonly bundles = new BundleView();
  readonly #options: VerifierOptions;
  readonly #graceMs: number;
  readonly #connection: Connection;
  readonly #live: LiveConnections;
  readonly #stop = new AbortController();
  #closed = false;
  /** Resolves when either stream has ended for good. */
  readonly #stopped: Promise<unknown>;
  /** Digests of SVIDs accepted while the view was fresh, the oldest first. */
  readonly #seen = new Set<string>();
  /** The broker's own trust domain. */
  #own: string | undefined;

  /** Throws INVALID_FIELD, CONFIG_INVALID. */
  constructor(options: VerifierOptions = {}) {
    checkOptions(options, verifierRules);
    const { maxStaleness = "10s", onStale = "refuse", name = programName() } = options;
    this.#options = options;
    this.#graceMs = onStale === "refuse" ? 0 : parseDuration(onStale.acceptIssuedBefore, "onStale.acceptIssuedBefore");
    this.#connection = connect(options);
    this.feed = new FeedView(this.#connection.feed.watch, parseDuration(maxStaleness, "maxStaleness"), { name, graceMs: this.#graceMs });
    this.#live = new LiveConnections(this.feed, this.#graceMs);
    const { signal } = this.#stop;
    this.bundles.once("update", () => void this.#learnOwn(signal));
    this.#stopped = Promise.race([this.feed.run(signal), this.bundles.run(this.#connection.workload, signal)]);
  }

  /** Resolves when verdicts can be given; a service that starts before its broker need not wait for it. Throws what keeps it from ever being so. */
  async ready(signal?: AbortSignal): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const settle = (): void => {
        const failure = this.feed.failure ?? this.bundles.failure;
        if (!this.#isReady && !failure && !signal?.aborted && !this.#closed) return;
        this.feed.off("fresh", settle);
        this.bundles.off("update", settle);
        signal?.removeEventListener("abort", settle);
        if (this.#isReady) resolve();
        else reject(failure ?? signal?.reason ?? new BrevetError("WRONG_STATE", "the verifier was closed"));
      };
      this.feed.on("fresh", settle);
      this.bundles.on("update", settle);
      signal?.addEventListener("abort", settle);
      void this.#stopped.then(settle);
      settle();
    });
  }

  /** `token`: JWS compact, without `Bearer`. Throws only INVALID_FIELD: where options are wrong, or no audience is given, here or in the constructor. */
  jwt(token: string, options: CheckOptions & { readonly audience?: string | readonly string[] } = {}): Verdict {
    checkOptions(options, jwtRules);
    const given = options.audience ?? this.#options.audience ?? [];
    const audiences = typeof given === "string" ? [given] : given;
    if (audiences.length === 0) throw invalid([{ field: "audience", description: "say what this service is called in JWT-SVIDs" }]);
    return this.#judge(token, options, (now) => {
      return verifyJwt(token, (td) => (this.#isKnown(td) ? this.bundles.jwt(td) : undefined), audiences, now);
    });
  }

  /** `chain`: DER certificates, leaf first, concatenated; that its holder has the key is for TLS to prove (tls.ts). Throws only INVALID_FIELD. */
  x509(chain: Buffer, options: CheckOptions = {}): Verdict {
    checkOptions(options, checkRules);
    return this.#judgeX509(chain, options, "us");
  }

  /** For tls.ts alone: a leaf whose chain OpenSSL has just verified against `authorities`. */
  x509OfHandshake(leaf: Buffer, options: CheckOptions): Verdict {
    return this.#judgeX509(leaf, options, "handshake");
  }

  /** For authenticate.ts alone: whoever came in by a connection that is guarded, judged anew for one request. */
  again(caller: Accepted, options: CheckOptions): Verdict {
    return this.#judge(null, options, () => ({ spiffeId: caller.spiffeId, binding: caller, expiresAt: caller.expiresAt }));
  }

  /** Destroys `socket` as soon as its caller must not be accepted any more; false if that is so already. */
  guard(socket: Duplex, caller: Accepted): boolean {
    return this.#live.guard(socket, caller);
  }

  /** PEM of the CAs that callers' chains must lead to, for the handshake itself. Empty while none is known. */
  get authorities(): string[] {
    return [this.#trustDomain ?? "", ...this.#foreign].flatMap((name) => this.bundles.x509(name) ?? []).map(({ openssl }) => openssl.toString());
  }

  /** Stops listening to the broker: every verdict is a refusal from now on, every guarded socket is cut. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#live.close();
    // in a turn of its own: cancelled from within the end of another stream, node:http2 sends its reset without end
    void this.feed.leave().finally(() => setImmediate(() => {
      this.#stop.abort();
      this.#connection.close();
    }));
  }

  [Symbol.dispose](): void {
    this.close();
  }

  get #isReady(): boolean {
    return this.bundles.ready && this.feed.fresh && this.#trustDomain !== undefined && !this.#closed;
  }

  /** Revocations of other trust domains are not in our feed: unless they are named, their SVIDs are not looked at. */
  #isKnown(trustDomain: string): boolean {
    return trustDomain === this.#trustDomain || this.#foreign.includes(trustDomain);
  }

  get #foreign(): readonly string[] {
    return (this.#options.trustDomains ?? []).filter((name) => name !== this.#trustDomain);
  }

  get #trustDomain(): string | undefined {
    return this.#options.trustDomain ?? this.#own;
  }

  /** The broker always hands out its own bundle; which of several that is, the bundles don't tell. */
  async #learnOwn(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        const [only, ...others] = this.bundles.trustDomains;
        if (only !== undefined) {
          this.#own = others.length === 0 ? only : (await this.#connection.trust.getInfo({}, { signal, retry: true })).trustDomain;
          this.bundles.emit("update");
          return;
        }
        await once(this.bundles, "update", { signal });
      } catch {
        await sleep(askAgainMs, undefined, { signal, ref: false }).catch(() => undefined);
      }
    }
  }

  #judgeX509(chain: Buffer, options: CheckOptions, by: "us" | "handshake"): Verdict {
    return this.#judge(chain, options, (now) => {
      // OpenSSL has led it to some CA of them all: that it is one of its own trust domain's, it can't say
      if (by === "handshake" && this.#foreign.length > 0) throw new BrevetError("VERIFY_MALFORMED", "with trustDomains the whole chain is needed, and this version of Node.js does not hand it over");
      const svid = verifyX509(chain, (td) => (this.#isKnown(td) ? this.bundles.x509(td) : undefined), now, by);
      return { spiffeId: svid.spiffeId, binding: svid.binding, expiresAt: svid.notAfter };
    });
  }

  #judge(evidence: string | Buffer | null, options: CheckOptions, verify: (now: number) => Genuine): Verdict {
    const genuine = (): Genuine => {
      if (this.#closed) throw new BrevetError("VERIFY_NOT_READY", "the verifier was closed");
      if (!this.bundles.ready || !this.feed.ready || this.#trustDomain === undefined) throw new BrevetError("VERIFY_NOT_READY", "the broker was not heard yet");
      return verify(this.feed.now());
    };
    return judge(genuine, {
      accept: options.accept ?? this.#options.accept ?? ["agent"], authorize: options.authorize, mustBeAlive: (caller) => this.#mustBeAlive(caller, evidence), foreign: this.#foreign,
    });
  }

  /** `evidence`: the SVID; null for a connection that was accepted before and is guarded. */
  #mustBeAlive({ task, epoch }: Accepted, evidence: string | Buffer | null): void {
    const revoked = this.feed.epochOf(task);
    if (revoked > epoch) throw new BrevetError("VERIFY_REVOKED", `task ${task}: epoch ${epoch} is revoked, below ${revoked}`);
    const digest = this.#graceMs === 0 || evidence === null ? "" : createHash("sha256").update(evidence).digest("base64");
    if (this.feed.fresh) {
      if (digest !== "") this.#remember(digest);
      return;
    }
    const tolerated = this.feed.silentMs <= this.feed.maxStalenessMs + this.#graceMs && (evidence === null || this.#seen.has(digest));
    if (!tolerated) throw new BrevetError("VERIFY_STALE", `revocations were last heard of ${Math.round(this.feed.silentMs / 1_000)} s ago`);
  }

  #remember(digest: string): void {
    const [oldest] = this.#seen;
    if (this.#seen.size >= mostSeen && oldest !== undefined) this.#seen.delete(oldest);
    this.#seen.add(digest);
  }
}

function programName(): string {
  return basename(process.argv[1] ?? "node").replace(/[^ -~]/g, "?").slice(0, 64);
}
