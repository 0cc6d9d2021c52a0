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
import { Snapshot } from "./snapshot.ts";
import type { Known } from "./snapshot.ts";

/** `send` hands over one encoded FeedMessage; the next is given when `drained` was called. */
export type Subscriber = { send(message: Buffer): void; cut(reason: string): void };

export type Subscription = {
  /** To be called when the last message has been taken. */
  drained(): void;
  close(): void;
};

type State = {
  /** Told up to here; -1 as long as it is being told the snapshot. */
  sequence: number;
  ready: boolean;
  /** Since when it has not taken what it was sent. */
  waitsSince: number;
  /** It has not been told of the last sign of life. */
  beatDue: boolean;
  snapshot: { readonly pages: Snapshot; next: number } | undefined;
};

const heartbeatMs = 1000;
const mostWaitMs = 5000;
const stillAskedMs = 10_000;
const readRows = 8000;
const snapshotMs = 5000;
const sweptEach = 10_000;
const mostBehind = 200_000;
const roundsShare = 0.07;
const roundsAtOnceMs = 15;
const longestPauseMs = 75;

export class Feed {
  readonly clock = new DatabaseClock();
  readonly #store: Store;
  readonly #onRows: (rows: readonly FeedRow[]) => void;
  readonly #isListening: () => boolean;
  readonly #subscribers = new Map<Subscriber, State>();
  readonly #known = new Map<string, Known>();
  /** Without a gap, up to `#sequence`. */
  #recent: FeedRow[] = [];
  #snapshot: Snapshot | undefined;
  #sweeping = this.#known.entries();
  #feedId = "";
  #sequence = 0;
  #catching: Promise<void> | undefined;
  #again = false;
  #timer: NodeJS.Timeout | undefined;
  #pushTimer: NodeJS.Timeout | undefined;
  /** How long the last rounds took, less what time has allowed since; as of when. */
  #roundsDebt = 0;
  #roundsAt = 0;
  #encoded: { from: number; to: number; asOf: number; bytes: Buffer } | undefined;
  #beatBytes: { asOf: number; sequence: number; bytes: Buffer } | undefined;
  /** When the primary was last read, by its own clock; it had nothing beyond what is known here. */
  #asOf = 0;
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
    let recent: FeedRow[] = [];
    for (let after = 0; ; ) {
      const rows = await liveRevocations(this.#store, after, readRows);
      for (const row of rows) {
        this.#remember(row);
        // rows committed while paging have sequences above the head read first
        if (row.sequence > head.sequence) continue;
        if (row.sequence !== (recent.at(-1)?.sequence ?? 0) + 1) recent = [];
        recent.push(row);
      }
      if (recent.length > 2 * mostBehind) recent = recent.slice(-mostBehind);
      const last = rows.at(-1);
      if (!last) break;
      after = last.sequence;
    }
    this.#sequence = head.sequence;
    // whoever was told nearly all before a restart needs no snapshot after it
    this.#recent = recent.at(-1)?.sequence === head.sequence ? recent : [];
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
            const rows = await revocationsSince(this.#store, this.#sequence, readRows);
            this.#advance(rows.filter((row) => row.sequence > this.#sequence));
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
    const resumes = feedId === this.#feedId && afterSequence <= this.#sequence && this.#since(afterSequence) !== undefined;
    const state: State = { sequence: resumes ? afterSequence : -1, ready: true, waitsSince: 0, beatDue: false, snapshot: undefined };
    this.#subscribers.set(subscriber, state);
    if (!resumes) this.#sendSnapshot(subscriber, state);
    else if (state.sequence < this.#sequence) this.#sendSince(subscriber, state);
    else this.#send(subscriber, state, this.#encode([], 0));
    // a read that has begun already says nothing to whoever comes now
    void Promise.resolve(this.#beating).catch(() => undefined).then(() => this.#beat()).catch(() => undefined);
    return {
      drained: () => {
        if (this.#subscribers.get(subscriber) !== state) return;
        state.ready = true;
        if (state.sequence < 0) this.#sendSnapshot(subscriber, state);
        else if (state.sequence < this.#sequence) this.#push(); // with all who wait for the same
        else if (state.beatDue) this.#sendBeat(subscriber, state);
      },
      close: () => this.#drop(subscriber),
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
    if (!known || known.epoch < row.epoch) this.#known.set(row.subject, { epoch: row.epoch, until: untilOf(row) });
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

  // At once, as long as rounds of all subscribers are few. Under a storm they may take but a small share of the
  // time: what one message more costs the broker and each verifier is far more than one revocation more in it.
  #push(): void {
    if (this.#pushTimer || this.#subscribers.size === 0) return;
    const now = performance.now();
    this.#roundsDebt = Math.max(0, this.#roundsDebt - (now - this.#roundsAt) * roundsShare);
    this.#roundsAt = now;
    const wait = Math.min(longestPauseMs, (this.#roundsDebt - roundsAtOnceMs) / roundsShare);
    if (wait > 0) {
      this.#pushTimer = setTimeout(() => this.#pushNow(), wait);
      return;
    }
    this.#pushNow();
  }

  #pushNow(): void {
    this.#pushTimer = undefined;
    const started = performance.now();
    for (const [subscriber, state] of this.#subscribers) {
      if (state.ready && state.sequence >= 0 && state.sequence < this.#sequence) this.#sendSince(subscriber, state);
    }
    this.#roundsDebt += performance.now() - started;
  }

  /** The last sign of life goes with it, if it is due. */
  #sendSince(subscriber: Subscriber, state: State): void {
    const asOf = state.beatDue ? this.#asOf : 0;
    const { from, to, asOf: known } = this.#encoded ?? {};
    if (!this.#encoded || from !== state.sequence || to !== this.#sequence || known !== asOf) {
      const rows = this.#since(state.sequence);
      if (!rows) {
        this.#cutBehind(subscriber);
        return;
      }
      this.#encoded = { from: state.sequence, to: this.#sequence, asOf, bytes: this.#encode(rows, asOf) };
    }
    this.#send(subscriber, state, this.#encoded.bytes);
    state.sequence = this.#encoded.to;
    state.beatDue = false;
  }

  #sendBeat(subscriber: Subscriber, state: State): void {
    if (this.#beatBytes?.asOf !== this.#asOf || this.#beatBytes.sequence !== this.#sequence) {
      this.#beatBytes = { asOf: this.#asOf, sequence: this.#sequence, bytes: this.#encode([], this.#asOf) };
    }
    this.#send(subscriber, state, this.#beatBytes.bytes);
    state.beatDue = false;
  }

  #send(subscriber: Subscriber, state: State, message: Buffer): void {
    state.ready = false;
    state.waitsSince = performance.now();
    subscriber.send(message);
  }

  #cutBehind(subscriber: Subscriber): void {
    this.#drop(subscriber);
    subscriber.cut("too far behind: connect again for a snapshot");
  }

  #drop(subscriber: Subscriber): void {
    this.#subscribers.delete(subscriber);
  }

  /** Whoever takes nothing for so long is stale or soon will be; nothing is kept for it. */
  #cutStuck(now: number): void {
    if (this.#snapshot && now - this.#snapshot.madeAt > snapshotMs) this.#snapshot = undefined;
    for (const [subscriber, state] of this.#subscribers) {
      if (state.ready || now - state.waitsSince < mostWaitMs) continue;
      this.#drop(subscriber);
      subscriber.cut("too slow: a message was not taken in time");
    }
  }

  /** Pages of all that still matters; the last names the sequence from which increments follow. */
  #sendSnapshot(subscriber: Subscriber, state: State): void {
    state.snapshot ??= { pages: this.#newSnapshot(), next: 0 };
    const { pages } = state.snapshot;
    const page = pages.page(state.snapshot.next++);
    if (page) {
      this.#send(subscriber, state, page);
      return;
    }
    const since = this.#since(pages.sequence);
    if (!since) {
      this.#cutBehind(subscriber);
      return;
    }
    state.snapshot = undefined;
    state.sequence = this.#sequence;
    this.#send(subscriber, state, services.feed.Watch.responseSerialize({
      feedId: this.#feedId, sequence: this.#sequence, complete: true, snapshot: true,
      revocations: since.map((row) => ({ task: row.subject, epoch: row.epoch, until: untilOf(row) })),
    }));
  }

  /** One for all who begin within some seconds. */
  #newSnapshot(): Snapshot {
    const old = this.#snapshot;
    if (old && performance.now() - old.madeAt < snapshotMs && this.#since(old.sequence)) return old;
    return (this.#snapshot = new Snapshot(this.#feedId, this.#sequence, this.#known));
  }

  /** What was revoked after a sequence; undefined if that was too long ago, or too much. */
  #since(sequence: number): FeedRow[] | undefined {
    const oldest = this.#recent[0]?.sequence ?? this.#sequence + 1;
    if (sequence < oldest - 1 || this.#sequence - sequence > mostBehind) return undefined;
    return this.#recent.slice(sequence - oldest + 1);
  }

  #encode(rows: readonly FeedRow[], asOf: number): Buffer {
    return services.feed.Watch.responseSerialize({
      feedId: this.#feedId, sequence: this.#sequence, complete: true, snapshot: false, asOf,
      revocations: rows.map((row) => ({
        task: row.subject, epoch: row.epoch, sequence: row.sequence, until: untilOf(row), atUs: Math.round(row.at * 1000),
      })),
    });
  }

  /** A share of what is known: what no longer matters by PostgreSQL's clock goes. */
  #sweep(): void {
    for (let looked = 0; looked < sweptEach; looked++) {
      const next = this.#sweeping.next();
      if (next.done) {
        this.#sweeping = this.#known.entries();
        return;
      }
      const [subject, { until }] = next.value;
      if (until < this.#asOf / 1000) this.#known.delete(subject);
    }
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
        const { sequence: before } = this;
        const listening = [...this.#subscribers];
        const head = await readFeedHead(this.#store);
        this.clock.heard(head.asOf, began, performance.now());
        if (head.feedId !== this.#feedId || head.sequence < before) {
          // another history (a restored backup): nobody may go on from here
          for (const subscriber of this.#subscribers.keys()) subscriber.cut("the feed has another history: connect again");
          this.#subscribers.clear();
          this.#freshAt = Number.NEGATIVE_INFINITY;
          this.#known.clear();
          this.#recent = [];
          this.#snapshot = undefined;
          await this.load();
          return;
        }
        if (head.sequence > this.#sequence) await this.catchUp();
        this.#freshAt = began;
        if (performance.now() - began > heartbeatMs) return; // paused meanwhile: it says nothing about now
        this.#asOf = Math.floor(head.asOf);
        this.#sweep();
        for (const [subscriber, state] of listening) {
          state.beatDue = true;
          if (state.ready && state.sequence === this.#sequence && this.#subscribers.get(subscriber) === state) this.#sendBeat(subscriber, state);
        }
        this.#cutStuck(performance.now());
      } finally {
        this.#beating = undefined;
      }
    })();
    return this.#beating;
  }
}

/** Unix seconds. */
function untilOf({ until }: FeedRow): number {
  return Math.ceil(until.getTime() / 1000);
}
