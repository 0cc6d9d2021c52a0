// How much may one caller take of what all share?
// Calls, connections and streams are counted per user ID, which the kernel vouches for, or on the network per
// SPIFFE ID, before any cost is spent on them. 0 means no limit. One at its limit takes nothing from another.
import { BrevetError } from "../errors.ts";

export type Limits = {
  readonly perUidFetchesPerSecond: number;
  readonly perUidChecksPerSecond: number;
  readonly perUidConnections: number;
  readonly perUidStreams: number;
  readonly maxConnections: number;
};

/** Each kind of call has a share of its own: a proxy asks for every request that it passes on. */
export type CallKind = "fetches" | "checks";

/** What is left of a second's share. A second's worth may be saved up. */
export class Bucket {
  readonly #rate: number;
  #tokens: number;
  #at = performance.now();

  /** 0: no limit. */
  constructor(rate: number) {
    this.#rate = rate;
    this.#tokens = rate;
  }

  /** False: this one is too many. */
  take(): boolean {
    if (this.#rate === 0) return true;
    const now = performance.now();
    this.#tokens = Math.min(this.#rate, this.#tokens + ((now - this.#at) / 1000) * this.#rate);
    this.#at = now;
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }
}

type Use = { connections: number; streams: number } & Record<CallKind, Bucket>;

export class CallerLimits {
  readonly #limits: Limits;
  readonly #uses = new Map<string, Use>();
  #connections = 0;

  constructor(limits: Limits) {
    this.#limits = limits;
  }

  /** False: this connection is one too many. */
  connect(share: string): boolean {
    const use = this.#use(share);
    const { perUidConnections, maxConnections } = this.#limits;
    if ((perUidConnections > 0 && use.connections >= perUidConnections) || this.#connections >= maxConnections) return false;
    use.connections++;
    this.#connections++;
    return true;
  }

  disconnect(share: string): void {
    const use = this.#use(share);
    this.#connections--;
    if (--use.connections === 0 && use.streams === 0) this.#forgetLater(share, use);
  }

  /** Counts one call against this second's share. */
  call(share: string, kind: CallKind): void {
    if (this.#use(share)[kind].take()) return;
    const [rate, key] = this.#rate(kind);
    throw new BrevetError("RATE_LIMITED", `${share} makes more than ${rate} calls a second (${key})`);
  }

  openStream(share: string): void {
    const use = this.#use(share);
    const most = this.#limits.perUidStreams;
    if (most > 0 && use.streams >= most) {
      throw new BrevetError("RATE_LIMITED", `${share} holds ${most} streams open already (limits.perUidStreams)`);
    }
    use.streams++;
  }

  closeStream(share: string): void {
    this.#use(share).streams--;
  }

  get connections(): number {
    return this.#connections;
  }

  #rate(kind: CallKind): [rate: number, key: string] {
    return kind === "fetches" ? [this.#limits.perUidFetchesPerSecond, "limits.perUidFetchesPerSecond"] : [this.#limits.perUidChecksPerSecond, "limits.perUidChecksPerSecond"];
  }

  #use(share: string): Use {
    let use = this.#uses.get(share);
    if (!use) {
      const bucket = (kind: CallKind): Bucket => new Bucket(this.#rate(kind)[0]);
      this.#uses.set(share, (use = { connections: 0, streams: 0, fetches: bucket("fetches"), checks: bucket("checks") }));
    }
    return use;
  }

  // Not at once: whoever reconnects for each call must meet the bucket it emptied.
  #forgetLater(share: string, use: Use): void {
    setTimeout(() => {
      if (use.connections === 0 && use.streams === 0) this.#uses.delete(share);
    }, 2000).unref();
  }
}
