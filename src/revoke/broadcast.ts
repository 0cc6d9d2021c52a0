// Who has been told what?
// A message is encoded once for all, holds everything since the last, and a subscriber gets its next when it has
// drained the one before; one that falls too far behind, or takes nothing for long, is cut and nothing is kept for it.
// Nobody is told of a sign of life before it has been told what was revoked until then.
// What there is to tell is history.ts's business, when there is a sign of life feed.ts's, bytes on a wire src/api's.
import { services } from "../proto.ts";
import type { FeedRow } from "../record/revocations.ts";
import { untilOf } from "./history.ts";
import type { History } from "./history.ts";
import { Snapshot } from "./snapshot.ts";

/** `send` hands over one encoded FeedMessage; the next is given when `drained` was called. */
export type Subscriber = { send(message: Buffer): void; cut(reason: string): void };

export type Subscription = {
  /** To be called when the last message has been taken. */
  drained(): void;
  close(): void;
};

export type State = {
  /** Told up to here; -1 as long as it is being told the snapshot. */
  sequence: number;
  ready: boolean;
  /** Since when it has not taken what it was sent. */
  waitsSince: number;
  /** It has not been told of the last sign of life. */
  beatDue: boolean;
  snapshot: { readonly pages: Snapshot; next: number } | undefined;
};

const mostWaitMs = 5000;
const snapshotMs = 5000;
const roundsShare = 0.07;
const roundsAtOnceMs = 15;
const longestPauseMs = 75;

export class Broadcast {
  readonly #history: History;
  readonly #subscribers = new Map<Subscriber, State>();
  #pushTimer: NodeJS.Timeout | undefined;
  /** How long the last rounds took, less what time has allowed since; as of when. */
  #roundsDebt = 0;
  #roundsAt = 0;
  #encoded: { from: number; to: number; asOf: number; bytes: Buffer } | undefined;
  #beatBytes: { asOf: number; sequence: number; bytes: Buffer } | undefined;
  #snapshot: Snapshot | undefined;
  /** The last sign of life: when the primary was read that had nothing beyond what was known, by its own clock. */
  #asOf = 0;

  constructor(history: History) {
    this.#history = history;
  }

  get size(): number {
    return this.#subscribers.size;
  }

  /** Starts with what came after `afterSequence` of this feed, or with a snapshot. */
  subscribe(subscriber: Subscriber, feedId: string, afterSequence: number): Subscription {
    const { sequence: known } = this.#history;
    const resumes = feedId === this.#history.feedId && afterSequence <= known && this.#history.since(afterSequence) !== undefined;
    const state: State = { sequence: resumes ? afterSequence : -1, ready: true, waitsSince: 0, beatDue: false, snapshot: undefined };
    this.#subscribers.set(subscriber, state);
    if (!resumes) this.#sendSnapshot(subscriber, state);
    else if (state.sequence < known) this.#sendSince(subscriber, state);
    else this.#send(subscriber, state, this.#encode([], 0));
    return {
      drained: () => {
        if (this.#subscribers.get(subscriber) !== state) return;
        state.ready = true;
        if (state.sequence < 0) this.#sendSnapshot(subscriber, state);
        else if (state.sequence < this.#history.sequence) this.push(); // with all who wait for the same
        else if (state.beatDue) this.#sendBeat(subscriber, state);
      },
      close: () => this.#subscribers.delete(subscriber),
    };
  }

  /**
   * Tells what is new. At once, as long as rounds of all subscribers are few. Under a storm they may take but a small
   * share of the time: what one message more costs the broker and each verifier is far more than one revocation more in it.
   */
  push(): void {
    if (this.#pushTimer || this.#subscribers.size === 0) return;
    const now = performance.now();
    this.#roundsDebt = Math.max(0, this.#roundsDebt - (now - this.#roundsAt) * roundsShare);
    this.#roundsAt = now;
    const wait = Math.min(longestPauseMs, (this.#roundsDebt - roundsAtOnceMs) / roundsShare);
    if (wait > 0) this.#pushTimer = setTimeout(() => this.#pushNow(), wait);
    else this.#pushNow();
  }

  /** Those who are here now: whom a sign of life may reach that is asked for now. */
  present(): readonly (readonly [Subscriber, State])[] {
    return [...this.#subscribers];
  }

  /** A sign of life, for those who were there before it was asked for. */
  beat(asOf: number, present: readonly (readonly [Subscriber, State])[]): void {
    this.#asOf = asOf;
    for (const [subscriber, state] of present) {
      state.beatDue = true;
      if (state.ready && state.sequence === this.#history.sequence && this.#subscribers.get(subscriber) === state) this.#sendBeat(subscriber, state);
    }
    this.#cutStuck(performance.now());
  }

  /** Nobody may go on from what it was told. */
  cutAll(reason: string): void {
    clearTimeout(this.#pushTimer);
    this.#pushTimer = undefined;
    this.#snapshot = undefined;
    const cut = [...this.#subscribers.keys()];
    this.#subscribers.clear();
    for (const subscriber of cut) subscriber.cut(reason);
  }

  #pushNow(): void {
    this.#pushTimer = undefined;
    const started = performance.now();
    for (const [subscriber, state] of this.#subscribers) {
      if (state.ready && state.sequence >= 0 && state.sequence < this.#history.sequence) this.#sendSince(subscriber, state);
    }
    this.#roundsDebt += performance.now() - started;
  }

  /** The last sign of life goes with it, if it is due. */
  #sendSince(subscriber: Subscriber, state: State): void {
    const asOf = state.beatDue ? this.#asOf : 0;
    const { sequence: to } = this.#history;
    if (this.#encoded?.from !== state.sequence || this.#encoded.to !== to || this.#encoded.asOf !== asOf) {
      const rows = this.#history.since(state.sequence);
      if (!rows) {
        this.#cutBehind(subscriber);
        return;
      }
      this.#encoded = { from: state.sequence, to, asOf, bytes: this.#encode(rows, asOf) };
    }
    this.#send(subscriber, state, this.#encoded.bytes);
    state.sequence = to;
    state.beatDue = false;
  }

  #sendBeat(subscriber: Subscriber, state: State): void {
    const { sequence } = this.#history;
    if (this.#beatBytes?.asOf !== this.#asOf || this.#beatBytes.sequence !== sequence) {
      this.#beatBytes = { asOf: this.#asOf, sequence, bytes: this.#encode([], this.#asOf) };
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
    this.#subscribers.delete(subscriber);
    subscriber.cut("too far behind: connect again for a snapshot");
  }

  /** Whoever takes nothing for so long is stale or soon will be. */
  #cutStuck(now: number): void {
    if (this.#snapshot && now - this.#snapshot.madeAt > snapshotMs) this.#snapshot = undefined;
    for (const [subscriber, state] of this.#subscribers) {
      if (state.ready || now - state.waitsSince < mostWaitMs) continue;
      this.#subscribers.delete(subscriber);
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
    const since = this.#history.since(pages.sequence);
    if (!since) {
      this.#cutBehind(subscriber);
      return;
    }
    state.snapshot = undefined;
    state.sequence = this.#history.sequence;
    this.#send(subscriber, state, services.feed.Watch.responseSerialize({
      feedId: this.#history.feedId, sequence: this.#history.sequence, complete: true, snapshot: true,
      revocations: since.map((row) => ({ task: row.subject, epoch: row.epoch, until: untilOf(row) })),
    }));
  }

  /** One for all who begin within some seconds. */
  #newSnapshot(): Snapshot {
    const old = this.#snapshot;
    if (old && performance.now() - old.madeAt < snapshotMs && this.#history.since(old.sequence)) return old;
    const { feedId, sequence, known } = this.#history;
    return (this.#snapshot = new Snapshot(feedId, sequence, known));
  }

  #encode(rows: readonly FeedRow[], asOf: number): Buffer {
    return services.feed.Watch.responseSerialize({
      feedId: this.#history.feedId, sequence: this.#history.sequence, complete: true, snapshot: false, asOf,
      revocations: rows.map((row) => ({ task: row.subject, epoch: row.epoch, sequence: row.sequence, until: untilOf(row), atUs: Math.round(row.at * 1000) })),
    });
  }
}
