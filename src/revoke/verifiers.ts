// Who verifies, and up to where have they applied what was revoked?
// A verifier says so itself, by sequence; it is known by its own random ID and by whom the broker takes
// it for, so that a reconnection is the same one and nobody speaks for another. What it says only shows:
// no revocation waits for it. One that was lost may still accept for as long as it trusts what it heard last,
// and is remembered that long; one that said goodbye is not. Other brokers read what is written here at a low rate, at most once a second.
// How verifiers are told is feed.ts's business, how their words arrive src/api/feed.ts's.
import type { VerifierRow } from "../record/verifiers.ts";
import { verifiersElsewhere, writeVerifiers } from "../record/verifiers.ts";
import type { Store } from "../record/store.ts";
import type { DatabaseClock } from "./clock.ts";

/** What a follower of the feed says of itself, and whom the broker takes it for. An empty ID: it acknowledges nothing. */
export type Joining = Pick<VerifierRow, "id" | "who" | "name" | "pid" | "maxStalenessMs">;

/** One connection of a verifier. */
export type Present = {
  /** `heldUs`: for how long it had been in force when it said so. */
  applied(sequence: number, heldUs: number): void;
  /** Its connection is gone; it may still accept on what it heard last. */
  leave(): void;
  /** By its own word it accepts nothing any more. */
  retire(): void;
};

/** `heardUntil`: no heartbeat after that can have reached it. Times are Unix milliseconds on PostgreSQL's clock. */
export type VerifierState = VerifierRow & { readonly broker: string; readonly heardUntil: number };

export type VerifiersOptions = {
  readonly store: Store;
  /** This broker's name among those of its database. */
  readonly broker: string;
  readonly clock: DatabaseClock;
  /** When a revocation was made; undefined if that is not known. */
  readonly committedAt: (sequence: number) => number | undefined;
  /** Told how long it took from a revocation's commit until a connected verifier had applied it and had said so. */
  readonly onApplied: (ms: number) => void;
  readonly log: (event: string, fields: Record<string, string | number>) => void;
};

type Known = { -readonly [K in keyof VerifierRow]: VerifierRow[K] };

const mostGone = 10_000;
const firstWriteMs = 100;
const writeEveryMs = 1_000;
const presenceMs = 5_000;

export class Verifiers {
  readonly #o: VerifiersOptions;
  /** In the order of their joining. */
  readonly #known = new Map<string, Known>();
  /** One row for each that changed, the newest: two would be refused, with all that are written beside them. */
  readonly #unwritten = new Map<string, Known>();
  readonly #presence: NodeJS.Timeout;
  #silent = 0;
  #gone = 0;
  #writing: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #wroteAt = Number.NEGATIVE_INFINITY;
  #closed = false;

  constructor(options: VerifiersOptions) {
    this.#o = options;
    this.#presence = setInterval(() => {
      if (this.#known.size > this.#gone && performance.now() - this.#wroteAt > presenceMs - firstWriteMs) this.#writeIn(0);
    }, presenceMs).unref();
  }

  /** How many follow this broker's feed without acknowledging. */
  get silent(): number {
    return this.#silent;
  }

  get connected(): number {
    return this.#known.size - this.#gone;
  }

  /** Of the connected ones' least applied revocation, how old is the next? 0 if all have applied all. Milliseconds. */
  lagMs(sequence: number): number {
    let least = sequence;
    for (const { applied, leftAt } of this.#known.values()) if (leftAt === null) least = Math.min(least, applied);
    const at = least < sequence ? this.#o.committedAt(least + 1) : undefined;
    return at === undefined ? 0 : Math.max(0, this.#o.clock.now() - at);
  }

  /** This broker's own that may still accept what they have not applied. */
  get here(): VerifierState[] {
    this.#forget();
    const now = this.#o.clock.now();
    return [...this.#known.values()].map((row) => ({ ...row, broker: this.#o.broker, heardUntil: row.leftAt ?? now }));
  }

  /** The same of all other brokers of this database, as of their last words. */
  async elsewhere(): Promise<VerifierState[]> {
    const now = this.#o.clock.now();
    return (await verifiersElsewhere(this.#o.store, this.#o.broker))
      .map(({ seenAt, ...row }) => ({ ...row, heardUntil: row.leftAt ?? Math.min(now, seenAt + 2 * presenceMs) }))
      .filter(({ heardUntil, maxStalenessMs }) => heardUntil + maxStalenessMs > now);
  }

  join(joining: Joining): Present {
    if (joining.id === "") return this.#joinSilently();
    const key = keyOf(joining);
    const before = this.#known.get(key);
    if (before && before.leftAt !== null) this.#gone--;
    const known: Known = {
      ...joining, applied: before?.applied ?? 0, appliedAt: before?.appliedAt ?? null, joinedAt: this.#o.clock.now(), leftAt: null,
    };
    this.#known.delete(key);
    this.#known.set(key, known);
    this.#changed(known);
    // of several connections the newest speaks
    const isCurrent = (): boolean => this.#known.get(key) === known && known.leftAt === null;
    return {
      applied: (sequence, heldUs) => {
        if (isCurrent()) this.#applied(known, sequence, heldUs);
      },
      leave: () => {
        if (isCurrent()) this.#leave(known);
      },
      retire: () => {
        if (!isCurrent()) return;
        known.maxStalenessMs = 0;
        this.#leave(known);
      },
    };
  }

  #leave(known: Known): void {
    known.leftAt = this.#o.clock.now();
    this.#gone++;
    this.#changed(known);
    this.#forget();
  }

  /** Says what is known for the last time. */
  async close(): Promise<void> {
    clearInterval(this.#presence);
    await this.#writing;
    for (const known of this.#known.values()) if (known.leftAt === null) this.#leave(known);
    clearTimeout(this.#timer);
    this.#closed = true;
    if (this.#unwritten.size > 0) await this.#write();
  }

  #joinSilently(): Present {
    let isHere = true;
    this.#silent++;
    const leave = (): void => {
      if (isHere) this.#silent--;
      isHere = false;
    };
    return { applied: () => undefined, leave, retire: leave };
  }

  #applied(known: Known, sequence: number, heldUs: number): void {
    if (sequence <= known.applied) return;
    known.applied = sequence;
    known.appliedAt = this.#o.clock.now() - heldUs / 1_000;
    const committedAt = this.#o.committedAt(sequence);
    // what was so before it came was not told to it but read by it
    if (committedAt !== undefined && committedAt > known.joinedAt) this.#o.onApplied(Math.max(0, known.appliedAt - committedAt));
    this.#changed(known);
  }

  #changed(known: Known): void {
    this.#unwritten.set(keyOf(known), known);
    this.#writeIn(Math.max(firstWriteMs, this.#wroteAt + writeEveryMs - performance.now()));
  }

  #writeIn(ms: number): void {
    if (this.#timer || this.#writing || this.#closed) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#writing = this.#write().finally(() => {
        this.#writing = undefined;
        if (this.#unwritten.size > 0) this.#writeIn(writeEveryMs);
      });
    }, ms).unref();
  }

  async #write(): Promise<void> {
    const rows = [...this.#unwritten.values()];
    this.#unwritten.clear();
    this.#wroteAt = performance.now();
    try {
      await writeVerifiers(this.#o.store, this.#o.broker, rows);
    } catch (error) {
      for (const row of rows) if (!this.#unwritten.has(keyOf(row))) this.#unwritten.set(keyOf(row), row);
      this.#o.log("verifiers.unwritten", { count: rows.length, message: (error as Error).message });
    }
  }

  /** The time over which one may accept has passed; or there are too many of them: the first to join goes first. */
  #forget(): void {
    const now = this.#o.clock.now();
    for (const [key, { leftAt, maxStalenessMs }] of this.#known) {
      if (this.#gone === 0) return;
      if (leftAt === null || (now - leftAt < maxStalenessMs && this.#gone <= mostGone)) continue;
      this.#known.delete(key);
      this.#gone--;
    }
  }
}

function keyOf({ id, who }: Pick<VerifierRow, "id" | "who">): string {
  return `${id} ${who}`;
}
