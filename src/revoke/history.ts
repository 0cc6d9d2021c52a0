// What is known of the feed, and what of it lately came in which order?
// The last revocation of each subject that may still have an SVID; and, without a gap, the newest ones in their order,
// so that who missed a few is told just those. A sequence only grows, an epoch only rises.
// What is known comes from feed.ts; who is told, and how, is broadcast.ts's.
import type { FeedRow } from "../record/revocations.ts";
import type { Known } from "./snapshot.ts";

/** Whoever is further behind is told all that still matters instead. */
const mostBehind = 200_000;
const sweptEach = 10_000;

export class History {
  #feedId = "";
  #sequence = 0;
  readonly #known = new Map<string, Known>();
  /** Without a gap, up to `sequence`. */
  #recent: FeedRow[] = [];
  #sweeping = this.#known.entries();

  get feedId(): string {
    return this.#feedId;
  }

  /** All is known up to here. */
  get sequence(): number {
    return this.#sequence;
  }

  get known(): ReadonlyMap<string, Known> {
    return this.#known;
  }

  /** Another history: nothing that was known counts. */
  begin(feedId: string): void {
    this.#feedId = feedId;
    this.#sequence = 0;
    this.#known.clear();
    this.#recent = [];
  }

  /** It is complete up to this sequence: rows that were remembered and end there without a gap are its newest. */
  loaded(sequence: number, rows: readonly FeedRow[]): void {
    this.#sequence = sequence;
    this.#recent = rows.at(-1)?.sequence === sequence ? [...rows] : [];
  }

  /** True for whoever asks from now on, whatever came before it. */
  remember(row: FeedRow): void {
    const known = this.#known.get(row.subject);
    if (!known || known.epoch < row.epoch) this.#known.set(row.subject, { epoch: row.epoch, until: untilOf(row) });
  }

  /** The next ones, in order. */
  advance(rows: readonly FeedRow[]): void {
    for (const row of rows) this.remember(row);
    this.#recent.push(...rows);
    if (this.#recent.length > 2 * mostBehind) this.#recent = this.#recent.slice(-mostBehind);
    this.#sequence = rows.at(-1)?.sequence ?? this.#sequence;
  }

  epochOf(subject: string): number {
    return this.#known.get(subject)?.epoch ?? 0;
  }

  /** When a revocation was made, by PostgreSQL's clock; undefined for what was so long ago. */
  committedAt(sequence: number): number | undefined {
    return this.#recent[sequence - this.#oldest]?.at;
  }

  /** What was revoked after a sequence; undefined if that was too long ago, or too much. */
  since(sequence: number): FeedRow[] | undefined {
    if (sequence < this.#oldest - 1 || this.#sequence - sequence > mostBehind) return undefined;
    return this.#recent.slice(sequence - this.#oldest + 1);
  }

  /** Drops a share of what no longer matters at this instant of PostgreSQL's clock, in Unix milliseconds. */
  sweep(now: number): void {
    for (let looked = 0; looked < sweptEach; looked++) {
      const next = this.#sweeping.next();
      if (next.done) {
        this.#sweeping = this.#known.entries();
        return;
      }
      const [subject, { until }] = next.value;
      if (until < now / 1000) this.#known.delete(subject);
    }
  }

  get #oldest(): number {
    return this.#recent[0]?.sequence ?? this.#sequence + 1;
  }
}

/** Unix seconds. */
export function untilOf({ until }: FeedRow): number {
  return Math.ceil(until.getTime() / 1000);
}

/** The last of these that follow one another without a gap, none beyond `sequence`: what `loaded` takes. */
export function newest(before: readonly FeedRow[], rows: readonly FeedRow[], sequence: number): FeedRow[] {
  let kept = [...before];
  for (const row of rows) {
    if (row.sequence > sequence) break;
    if (row.sequence !== (kept.at(-1)?.sequence ?? 0) + 1) kept = [];
    kept.push(row);
  }
  return kept.slice(-mostBehind);
}
