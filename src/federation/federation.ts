// Which keys do the other trust domains have that we were told to know?
// Each domain's are what its file says, or the newest that its endpoint said: a document replaces the one before
// as a whole, an older sequence or an unreadable document changes nothing, and a domain is the configured one,
// whatever the bytes say. What was fetched is in the database, so it outlives a restart and an endpoint that is
// away; a changed configuration, or first bundle, begins anew. Brokers fetch each for itself.
// SPIFFE Federation sections 4.1, 5.1, 5.2, 6.2; Trust Domain and Bundle section 4. Threats T9, T24.
// Fetching is fetch.ts's business, handing out src/issue/trust.ts's.
import { createHash } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { BrevetError, asBrevetError } from "../errors.ts";
import { decodeSpiffeBundle } from "../identity/bundle.ts";
import type { TrustBundle } from "../identity/bundle.ts";
import { parseSpiffeId } from "../identity/id.ts";
import { keepFederatedBundle, readFederatedBundle } from "../record/federation.ts";
import type { Store } from "../record/store.ts";
import { fetchDocument } from "./fetch.ts";
import type { Endpoint } from "./fetch.ts";

export type FederatedDomain = {
  readonly trustDomain: string;
  readonly bundleFile?: string | undefined;
  readonly endpoint?: string | undefined;
  readonly profile?: "https_web" | "https_spiffe" | undefined;
  readonly endpointSpiffeId?: string | undefined;
  readonly caFile?: string | undefined;
};

/** The document as its publisher wrote it, and what we read in it. */
export type FederatedBundle = { readonly document: Buffer; readonly bundle: TrustBundle };

export type FederationOptions = {
  readonly store: Store;
  readonly domains: readonly FederatedDomain[];
  readonly changed: (bundles: ReadonlyMap<string, FederatedBundle>) => void;
  readonly log: (event: string, fields: Record<string, string | number>, at?: "info" | "warn") => void;
  /** Whatever its hint, an endpoint is not asked more often. */
  readonly shortestMs?: number;
};

const shortestMs = 1000;
const longestMs = 86_400_000;
const firstRetryMs = 1000;

export class Federation {
  readonly #o: FederationOptions;
  readonly #closing = new AbortController();
  readonly #bundles = new Map<string, FederatedBundle>();
  readonly #following: Promise<void>[] = [];

  constructor(options: FederationOptions) {
    this.#o = options;
  }

  /**
   * Takes what files and database have, then follows endpoints and files. No endpoint is waited for.
   * @throws BrevetError START_REFUSED for a file that holds no bundle
   */
  async start(): Promise<void> {
    for (const domain of this.#o.domains) {
      const first = domain.bundleFile === undefined ? undefined : readBundleFile(domain.trustDomain, domain.bundleFile);
      const kept = domain.endpoint === undefined ? undefined : await this.#kept(domain, first);
      const known = kept && first ? newer(kept, first) : (kept ?? first);
      if (known) this.#bundles.set(domain.trustDomain, known);
      if (domain.endpoint !== undefined) this.#following.push(this.#followEndpoint(domain, sourceOf(domain, first)));
      else if (domain.bundleFile !== undefined) this.#following.push(this.#followFile(domain.trustDomain, domain.bundleFile));
    }
    this.#o.changed(new Map(this.#bundles));
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.all(this.#following);
  }

  async #kept(domain: FederatedDomain, first: FederatedBundle | undefined): Promise<FederatedBundle | undefined> {
    const document = await readFederatedBundle(this.#o.store, domain.trustDomain, sourceOf(domain, first));
    return document && { document, bundle: decodeSpiffeBundle(domain.trustDomain, document) };
  }

  /** At the publisher's hint; sooner only until there is a first bundle. */
  async #followEndpoint(domain: FederatedDomain, source: string): Promise<void> {
    const { signal } = this.#closing;
    let etag: string | undefined;
    for (let failures = 0; !signal.aborted; ) {
      try {
        const answer = await fetchDocument(this.#endpointOf(domain), etag, signal);
        if (answer) {
          await this.#take(domain.trustDomain, source, answer.body);
          etag = answer.etag;
        }
        failures = 0;
      } catch (error) {
        if (signal.aborted) return;
        failures++;
        this.#o.log("federation.failed", { trustDomain: domain.trustDomain, message: asBrevetError(error).message, count: failures }, "warn");
      }
      const known = this.#bundles.get(domain.trustDomain);
      const hintMs = (known?.bundle.refreshHintSeconds ?? 300) * 1000;
      const ms = known === undefined ? Math.min(firstRetryMs * 2 ** Math.min(failures, 20), hintMs) : hintMs;
      await this.#rest(Math.min(Math.max(ms, this.#o.shortestMs ?? shortestMs), longestMs) * (0.9 + Math.random() * 0.2));
    }
  }

  async #take(trustDomain: string, source: string, document: Buffer): Promise<void> {
    const found: FederatedBundle = { document, bundle: decodeSpiffeBundle(trustDomain, document) };
    const known = this.#bundles.get(trustDomain);
    if (known && found.bundle.sequence < known.bundle.sequence) {
      throw new BrevetError("VERIFY_STALE", `bundle: sequence ${found.bundle.sequence} is older than ${known.bundle.sequence}, which is known`);
    }
    await keepFederatedBundle(this.#o.store, { trustDomain, source, sequence: found.bundle.sequence, document });
    if (!known?.document.equals(document)) this.#set(trustDomain, found);
  }

  async #followFile(trustDomain: string, path: string): Promise<void> {
    const stamp = (): string => `${statSync(path, { throwIfNoEntry: false })?.mtimeMs} ${statSync(path, { throwIfNoEntry: false })?.ino}`;
    let known = stamp();
    while (!this.#closing.signal.aborted) {
      await this.#rest(this.#o.shortestMs ?? shortestMs);
      const now = stamp();
      if (now === known || this.#closing.signal.aborted) continue;
      known = now;
      try {
        this.#set(trustDomain, readBundleFile(trustDomain, path));
      } catch (error) {
        this.#o.log("federation.failed", { trustDomain, message: asBrevetError(error).message }, "warn");
      }
    }
  }

  #set(trustDomain: string, found: FederatedBundle): void {
    this.#bundles.set(trustDomain, found);
    this.#o.log("federation.changed", { trustDomain, sequence: found.bundle.sequence });
    this.#o.changed(new Map(this.#bundles));
  }

  /** Section 5.2.2.4: an endpoint that proves itself by a bundle does so by the newest. */
  #endpointOf({ endpoint: url = "", profile, endpointSpiffeId: serverId = "", caFile }: FederatedDomain): Endpoint {
    if (profile !== "https_spiffe") return { profile: "https_web", url, ca: caFile === undefined ? undefined : readFileSync(caFile, "utf8") };
    const { trustDomain } = parseSpiffeId(serverId);
    const roots = this.#bundles.get(trustDomain)?.bundle.x509 ?? [];
    if (roots.length === 0) throw new BrevetError("NOT_READY", `no bundle of trust domain ${trustDomain} is known, by which its endpoint could prove itself`);
    return { profile, url, serverId, roots };
  }

  async #rest(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.#closing.signal, ref: false }).catch(() => undefined);
  }
}

/** Its sequence decides; of equals, what was fetched. */
function newer(fetched: FederatedBundle, given: FederatedBundle): FederatedBundle {
  return given.bundle.sequence > fetched.bundle.sequence ? given : fetched;
}

/** What is kept belongs to this way of getting it, beginning with this first bundle. */
function sourceOf({ endpoint, profile, endpointSpiffeId, caFile }: FederatedDomain, first: FederatedBundle | undefined): string {
  const first256 = first && createHash("sha256").update(first.document).digest("hex");
  return createHash("sha256").update(JSON.stringify([endpoint, profile, endpointSpiffeId, caFile, first256])).digest("hex");
}

function readBundleFile(trustDomain: string, path: string): FederatedBundle {
  try {
    const document = readFileSync(path);
    return { document, bundle: decodeSpiffeBundle(trustDomain, document) };
  } catch (error) {
    const why = error instanceof BrevetError ? error.message : `can't be read: ${(error as NodeJS.ErrnoException).code}`;
    throw new BrevetError("START_REFUSED", `federation: ${path}: ${why}`, { cause: error });
  }
}
