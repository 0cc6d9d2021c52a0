// What must verifiers refuse, by the database?
// One ordered stream for all, read from the primary by sequence; what this broker commits itself is in it at once.
// A heartbeat is sent only for a fresh read of the primary that began after the heartbeat before it,
// so a broker without its database, or woken from a pause, keeps nobody fresh.
// What is known is kept by history.ts, who is told of it by broadcast.ts; the rows come from src/record.
import { setTimeout as sleep } from "node:timers/promises";
import { BrevetError } from "../errors.ts";
import { liveRevocations, readFeedHead, revocationsSince } from "../record/revocations.ts";
import type { FeedRow } from "../record/revocations.ts";
import type { Store } from "../record/store.ts";
import { Broadcast } from "./broadcast.ts";
import type { Subscriber, Subscription } from "./broadcast.ts";
import { DatabaseClock } from "./clock.ts";
import { History, newest } from "./history.ts";

const heartbeatMs = 1000;
const stillAskedMs = 10_000;
const readRows = 8000;

export class Feed {
  readonly clock = new DatabaseClock();
  readonly #store: Store;
  readonly #onRows: (rows: readonly FeedRow[]) => void;
  readonly #isListening: () => boolean;
  readonly #history = new History();
  readonly #broadcast = new Broadcast(this.#history);
  #catching: Promise<void> | undefined;
  #again = false;
  #beating: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;
  /** Not while it is being loaded: a part of it must not be taken for all. */
  #isWhole = false;
  /** The view held all that was committed at this instant; both on the monotonic clock. */
  #freshAt = Number.NEGATIVE_INFINITY;
  #askedAt = Number.NEGATIVE_INFINITY;

  /** `onRows`: told of each revocation once, in order. `isListening`: somebody else needs the poll. */
  constructor(store: Store, onRows: (rows: readonly FeedRow[]) => void, isListening: () => boolean) {
    this.#store = store;
    this.#onRows = onRows;
    this.#isListening = isListening;
  }

  get feedId(): string {
    return this.#history.feedId;
  }

  get sequence(): number {
    return this.#history.sequence;
  }

  get subscribers(): number {
    return this.#broadcast.size;
  }

  /** Somebody rests on its heartbeats: it reads the database each second. */
  get isFollowed(): boolean {
    return performance.now() - this.#askedAt < stillAskedMs || this.subscribers > 0 || this.#isListening();
  }

  /** The epoch below which SVIDs of a subject must not be accepted; 0: all are good. */
  epochOf(subject: string): number {
    return this.#history.epochOf(subject);
  }

  /** For how long this view may have missed what another broker committed, in milliseconds. */
  get silentMs(): number {
    return performance.now() - this.#freshAt;
  }

  /** For those that judge by this view itself: looks at the database unless that was done just now, and goes on doing so for a while. Never throws: see `silentMs`. */
  async keepFresh(): Promise<void> {
    this.#askedAt = performance.now();
    if (this.silentMs < 2 * heartbeatMs) return;
    await Promise.race([this.#beat().catch(() => undefined), sleep(heartbeatMs, undefined, { ref: false })]);
  }

  /** When a revocation was made, by PostgreSQL's clock; undefined for what was so long ago. */
  committedAt(sequence: number): number | undefined {
    return this.#history.committedAt(sequence);
  }

  /** Loads what still matters; to be awaited before anything is served. */
  async load(): Promise<void> {
    const began = performance.now();
    this.#isWhole = false;
    const head = await readFeedHead(this.#store);
    this.#history.begin(head.feedId);
    let last: FeedRow[] = [];
    for (let after = 0; ; ) {
      const rows = await liveRevocations(this.#store, after, readRows);
      for (const row of rows) this.#history.remember(row);
      last = newest(last, rows, head.sequence);
      if (rows.length === 0) break;
      after = rows.at(-1)?.sequence ?? after;
    }
    // what was committed while it read has sequences above the head read first
    this.#history.loaded(head.sequence, last);
    await this.catchUp();
    this.#isWhole = true;
    this.#freshAt = began;
    this.#schedule();
  }

  /** Rows that this broker committed itself, at once; with a gap before them, all are read instead. */
  committed(rows: readonly FeedRow[]): void {
    const first = rows[0];
    if (!first) return;
    for (const row of rows) this.#history.remember(row); // whoever asks `epochOf` after the commit hears of it, whatever came before
    if (this.#catching || first.sequence !== this.sequence + 1) void this.catchUp().catch(() => undefined);
    else this.#advance(rows);
  }

  /** Reads all that is above the known sequence. Calls in between are merged. */
  async catchUp(): Promise<void> {
    this.#again = true;
    this.#catching ??= (async () => {
      try {
        while (this.#again && !this.#closed) {
          this.#again = false;
          for (;;) {
            const rows = await revocationsSince(this.#store, this.sequence, readRows);
            this.#advance(rows.filter((row) => row.sequence > this.sequence));
            if (rows.length < readRows) break;
          }
        }
      } finally {
        this.#catching = undefined;
      }
    })();
    await this.#catching;
  }

  /** Starts with what came after `afterSequence` of this feed, or with a snapshot. */
  subscribe(subscriber: Subscriber, feedId: string, afterSequence: number): Subscription {
    if (!this.#isWhole) throw new BrevetError("NOT_READY", "the feed is being loaded");
    const subscription = this.#broadcast.subscribe(subscriber, feedId, afterSequence);
    // a read that has begun already says nothing to whoever comes now
    void Promise.resolve(this.#beating).catch(() => undefined).then(() => this.#beat()).catch(() => undefined);
    return subscription;
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
    this.#broadcast.cutAll("the broker is shutting down");
  }

  #advance(rows: readonly FeedRow[]): void {
    if (rows.length === 0 || this.#closed) return;
    this.#history.advance(rows);
    this.#onRows(rows);
    this.#broadcast.push();
  }

  #schedule(): void {
    clearInterval(this.#timer);
    this.#timer = setInterval(() => {
      if (this.isFollowed) void this.#beat().catch(() => undefined);
    }, heartbeatMs);
    this.#timer.unref();
  }

  /** Reads the primary; what it has beyond the known sequence is fetched first, then all hear of its life. */
  #beat(): Promise<void> {
    this.#beating ??= (async () => {
      try {
        const began = performance.now();
        const before = this.sequence;
        const present = this.#broadcast.present();
        const head = await readFeedHead(this.#store);
        this.clock.heard(head.asOf, began, performance.now());
        if (!this.#isWhole || head.feedId !== this.feedId || head.sequence < before) {
          // a restored backup: nobody may go on from here
          this.#broadcast.cutAll("the feed has another history: connect again");
          this.#freshAt = Number.NEGATIVE_INFINITY;
          await this.load();
          return;
        }
        if (head.sequence > this.sequence) await this.catchUp();
        this.#freshAt = began;
        if (performance.now() - began > heartbeatMs) return; // paused meanwhile: it says nothing about now
        this.#history.sweep(head.asOf);
        this.#broadcast.beat(Math.floor(head.asOf), present);
      } finally {
        this.#beating = undefined;
      }
    })();
    return this.#beating;
  }
}
