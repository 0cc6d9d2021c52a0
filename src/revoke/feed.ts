// What must verifiers refuse, and who has been told?
// One ordered stream for all: a message is encoded once, holds all that came since the last, and a
// subscriber gets its next when it has drained the one before; one that falls too far behind is cut.
// A heartbeat is sent only for a fresh read of the primary that began after the heartbeat before it,
// so a broker without its database, or woken from a pause, keeps nobody fresh.
// The rows come from src/record; how bytes reach a subscriber is src/api's business.
import { setTimeout as sleep } from "node:timers/promises";
import { services } from "../proto.ts";
import { liveRevocations, readFeedHead, revocationsSince } from "../record/revocations.ts";
import type { FeedRow } from "../record/revocations.ts";
import type { Store } from "../record/store.ts";
import { DatabaseClock } from "./clock.ts";

/** `send` hands over one encoded FeedMessage and says whether the subscriber can take more now. */
export type Subscriber = { send(message: Buffer): boolean; cut(reason: string): void };

export type Subscription = {
  /** To be called when `send` said no and the buffer is empty again. */
  drained(): void;
  close(): void;
};

type State = { sequence: number; ready: boolean };

/** The last known revocation of one subject. */
type Known = { epoch: number; until: number };

const heartbeatMs = 1000;
const stillAskedMs = 10_000;
const pageRows = 8000; // about 500 KiB encoded; a page stays below 1 MiB
const mostBehind = 200_000;

export class Feed {
  readonly clock = new DatabaseClock();
  readonly #store: Store;
  readonly #onRows: (rows: readonly FeedRow[]) => void;
  readonly #isListening: () => boolean;
  readonly #subscribers = new Map<Subscriber, State>();
  readonly #known = new Map<string, Known>();
  #recent: FeedRow[] = [];
  #feedId = "";
  #sequence = 0;
  #catching: Promise<void> | undefined;
  #again = false;
  #timer: NodeJS.Timeout | undefined;
  #pushTimer: NodeJS.Timeout | undefined;
  #pushNotBefore = 0;
  #encoded: { from: number; to: number; bytes: Buffer } | undefined;
  #closed = false;
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
    return this.#feedId;
  }

  get sequence(): number {
    return this.#sequence;
  }

  get subscribers(): number {
    return this.#subscribers.size;
  }

  /** The epoch below which SVIDs of a subject must not be accepted; 0: all are good. */
  epochOf(subject: string): number {
    return this.#known.get(subject)?.epoch ?? 0;
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

  /** When a revocation was made, by PostgreSQL's clock; undefined for what was so before this broker's time, or long ago. */
  committedAt(sequence: number): number | undefined {
    const oldest = this.#recent[0]?.sequence ?? 0;
    return this.#recent[sequence - oldest]?.at;
  }

  /** Loads what still matters; to be awaited before anything is served. */
  async load(): Promise<void> {
    const began = performance.now();
    const head = await readFeedHead(this.#store);
    this.#feedId = head.feedId;
    for (let after = 0; ; ) {
      const rows = await liveRevocations(this.#store, after, pageRows);
      for (const row of rows) this.#remember(row);
      const last = rows.at(-1);
      if (!last) break;
      after = last.sequence;
    }
    // rows committed while paging have sequences above the head read first
    this.#sequence = head.sequence;
    await this.catchUp();
    this.#freshAt = began;
    this.#schedule();
  }

  /** Rows that this broker committed itself, at once; with a gap before them, all are read instead. */
  committed(rows: readonly FeedRow[]): void {
    const first = rows[0];
    if (!first) return;
    for (const row of rows) this.#remember(row); // whoever asks `epochOf` after the commit hears of it, whatever came before
    if (this.#catching || first.sequence !== this.#sequence + 1) void this.catchUp().catch(() => undefined);
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
            const rows = await revocationsSince(this.#store, this.#sequence, pageRows);
            this.#advance(rows.filter((row) => row.sequence > this.#sequence));
            if (rows.length < pageRows) break;
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
    const oldest = this.#recent[0]?.sequence ?? this.#sequence + 1;
    const resumes = feedId === this.#feedId && afterSequence <= this.#sequence && afterSequence >= oldest - 1;
    const state: State = { sequence: resumes ? afterSequence : -1, ready: true };
    this.#subscribers.set(subscriber, state);
    if (resumes) {
      if (!this.#sendSince(subscriber, state)) state.ready = subscriber.send(this.#encode([], { complete: true }));
    } else {
      this.#sendSnapshot(subscriber, state);
    }
    void this.#beat().catch(() => undefined);
    return {
      drained: () => {
        state.ready = true;
        if (state.sequence < 0) this.#sendSnapshot(subscriber, state);
        else this.#sendSince(subscriber, state);
      },
      close: () => {
        this.#subscribers.delete(subscriber);
        this.#snapshots.delete(subscriber);
      },
    };
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
    clearTimeout(this.#pushTimer);
    for (const subscriber of this.#subscribers.keys()) subscriber.cut("the broker is shutting down");
    this.#subscribers.clear();
  }

  #remember(row: FeedRow): void {
    const known = this.#known.get(row.subject);
    if (!known || known.epoch < row.epoch) this.#known.set(row.subject, { epoch: row.epoch, until: Math.ceil(row.until.getTime() / 1000) });
  }

  #advance(rows: readonly FeedRow[]): void {
    const last = rows.at(-1);
    if (!last || this.#closed) return;
    for (const row of rows) this.#remember(row);
    this.#recent.push(...rows);
    if (this.#recent.length > 2 * mostBehind) this.#recent = this.#recent.slice(-mostBehind);
    this.#sequence = last.sequence;
    this.#onRows(rows);
    this.#push();
  }

  // The first message goes at once; under a storm a round of all subscribers is followed by a pause as long.
  #push(): void {
    if (this.#pushTimer || this.#subscribers.size === 0) return;
    const wait = this.#pushNotBefore - performance.now();
    if (wait > 0) {
      this.#pushTimer = setTimeout(() => this.#pushNow(), wait);
      return;
    }
    this.#pushNow();
  }

  #pushNow(): void {
    this.#pushTimer = undefined;
    const started = performance.now();
    for (const [subscriber, state] of this.#subscribers) if (state.ready && state.sequence >= 0) this.#sendSince(subscriber, state);
    const ended = performance.now();
    this.#pushNotBefore = ended + (ended - started);
  }

  /** False if there was nothing to send. */
  #sendSince(subscriber: Subscriber, state: State): boolean {
    if (state.sequence >= this.#sequence) return false;
    const oldest = this.#recent[0]?.sequence ?? 0;
    if (state.sequence < oldest - 1 || this.#sequence - state.sequence > mostBehind) {
      this.#subscribers.delete(subscriber);
      subscriber.cut("too far behind: connect again for a snapshot");
      return true;
    }
    if (this.#encoded?.from !== state.sequence || this.#encoded.to !== this.#sequence) {
      const rows = this.#recent.slice(state.sequence - oldest + 1);
      this.#encoded = { from: state.sequence, to: this.#sequence, bytes: this.#encode(rows, { complete: true }) };
    }
    state.ready = subscriber.send(this.#encoded.bytes);
    state.sequence = this.#encoded.to;
    return true;
  }

  readonly #snapshots = new Map<Subscriber, { entries: [string, Known][]; sent: number; sequence: number }>();

  /** Pages of all that still matters; the last names the sequence from which increments follow. */
  #sendSnapshot(subscriber: Subscriber, state: State): void {
    let snapshot = this.#snapshots.get(subscriber);
    if (!snapshot) {
      const now = Date.now() / 1000;
      for (const [subject, known] of this.#known) if (known.until < now) this.#known.delete(subject);
      snapshot = { entries: [...this.#known], sent: 0, sequence: this.#sequence };
      this.#snapshots.set(subscriber, snapshot);
    }
    while (state.ready) {
      const page = snapshot.entries.slice(snapshot.sent, snapshot.sent + pageRows);
      snapshot.sent += page.length;
      const complete = snapshot.sent >= snapshot.entries.length;
      state.ready = subscriber.send(services.feed.Watch.responseSerialize({
        feedId: this.#feedId, sequence: snapshot.sequence, complete, snapshot: true, asOf: 0,
        revocations: page.map(([task, known]) => ({ task, epoch: known.epoch, sequence: 0, until: known.until })),
      }));
      if (complete) {
        this.#snapshots.delete(subscriber);
        state.sequence = snapshot.sequence;
        if (state.ready) this.#sendSince(subscriber, state);
        return;
      }
    }
  }

  #encode(rows: readonly FeedRow[], message: { complete: boolean; asOf?: number }): Buffer {
    return services.feed.Watch.responseSerialize({
      feedId: this.#feedId, sequence: this.#sequence, complete: message.complete, snapshot: false, asOf: message.asOf ?? 0,
      revocations: rows.map((row) => ({
        task: row.subject, epoch: row.epoch, sequence: row.sequence, until: Math.ceil(row.until.getTime() / 1000),
      })),
    });
  }

  #schedule(): void {
    clearInterval(this.#timer);
    this.#timer = setInterval(() => {
      const judging = performance.now() - this.#askedAt < stillAskedMs;
      if (judging || this.#subscribers.size > 0 || this.#isListening()) void this.#beat().catch(() => undefined);
    }, heartbeatMs);
    this.#timer.unref();
  }

  #beating: Promise<void> | undefined;

  /** Reads the primary; what it has beyond the known sequence is fetched first, then all hear of its life. */
  #beat(): Promise<void> {
    this.#beating ??= (async () => {
      try {
        const began = performance.now();
        const head = await readFeedHead(this.#store);
        this.clock.heard(head.asOf, began, performance.now());
        if (head.feedId !== this.#feedId || head.sequence < this.#sequence) {
          // another history (a restored backup): nobody may go on from here
          for (const subscriber of this.#subscribers.keys()) subscriber.cut("the feed has another history: connect again");
          this.#subscribers.clear();
          this.#freshAt = Number.NEGATIVE_INFINITY;
          this.#known.clear();
          this.#recent = [];
          await this.load();
          return;
        }
        if (head.sequence > this.#sequence) await this.catchUp();
        this.#freshAt = began;
        if (performance.now() - began > heartbeatMs) return; // paused meanwhile: it says nothing about now
        const beat = this.#encode([], { complete: true, asOf: Math.floor(head.asOf) });
        for (const [subscriber, state] of this.#subscribers) {
          if (state.ready && state.sequence === this.#sequence) state.ready = subscriber.send(beat);
        }
      } finally {
        this.#beating = undefined;
      }
    })();
    return this.#beating;
  }
}
