// Which tasks' SVIDs must not be accepted, and how sure are we of that now?
// The view never goes back and skips nothing: a lower sequence of the same feed, or an increment that
// leaves one out, is refused, an epoch only rises, and another feed's ID empties it until that feed's
// snapshot is complete. It is fresh only while signs of life whose `as_of` advances keep coming;
// silence, replay and a frozen broker all make it stale.
// DESIGN: "Feed", "Verifier". Threats T14 (starved) and T15 (rolled back).
// What is done with the answer is verifier.ts's and live.ts's business.
import { randomUUID } from "node:crypto";
import { EventEmitter } from "node:events";
import { BrevetError, asBrevetError } from "../errors.ts";
import { follow } from "../client/connect.ts";
import type { Connection } from "../client/connect.ts";
import { Epochs } from "../identity/epochs.ts";
import type { FeedMessage__Output } from "../generated/brevet/v1/FeedMessage.ts";
import type { Revocation__Output } from "../generated/brevet/v1/Revocation.ts";
import type { WatchFeedRequest } from "../generated/brevet/v1/WatchFeedRequest.ts";
import { Acknowledger } from "./acknowledge.ts";

type Events = {
  revoked: [task: string, epoch: number, latencyMs: number | undefined];
  fresh: [];
  silent: [silentMs: number];
  stale: [];
  lost: [error: BrevetError | undefined];
};

/** No SVID outlives `until`; our clock and PostgreSQL's may differ. Seconds. */
const margin = 60;
/** How much faster than PostgreSQL's our monotonic clock may run. */
const drift = 0.001;
const longestTask = 256;
const longestTimer = 2 ** 31 - 1;
/** What a broker takes; who trusts a silent feed for longer is known to do so for a day. */
const longestStatedMs = 24 * 3_600_000;

/** For how long the broker has to hear that we leave. */
const goodbyeMs = 250;

/** From when on silence is worth a warning, and how often it is repeated. */
const worthWarningMs = 3_000;
const warnEveryMs = 1_000;

/**
 * `revoked`: SVIDs of this task below this epoch are dead from now on; with the time since the broker's
 * commit, where the broker told it. `fresh`, `stale`: the view became trustworthy, or ceased to be.
 * `silent`: nothing was heard for so long, from 3 s on, each second. `lost`: the connection ended, and
 * is being made anew.
 */
export class FeedView extends EventEmitter<Events> {
  readonly #watch: Connection["feed"]["watch"];
  readonly maxStalenessMs: number;
  /** How the broker knows this view again, whatever connection it comes by. */
  readonly #self: { readonly name: string; readonly verifier: string; readonly maxStalenessMs: number };
  #acknowledger: Acknowledger | undefined;
  #epochs = new Epochs();
  #feedId = "";
  #sequence = 0;
  #complete = false;
  /** The latest `as_of`, and when it came. Times here are milliseconds of the monotonic clock. */
  #asOf = 0;
  #heardAt = 0;
  /** The view held all that was true at this instant. */
  #freshAt = Number.NEGATIVE_INFINITY;
  #askedAt: number | undefined;
  /** The least that ever lay between an `as_of` and its arrival, on this connection. */
  #lag = Number.POSITIVE_INFINITY;
  #wasFresh = false;
  #unbroken = false;
  /** Until this connection has been silent for too long. */
  #timer: NodeJS.Timeout | undefined;
  /** Until the view is stale, whatever connections were tried meanwhile. */
  #staleness: NodeJS.Timeout | undefined;
  #warning: NodeJS.Timeout | undefined;
  #failure: BrevetError | undefined;
  #say: ((message: WatchFeedRequest) => void) | undefined;
  #isLeaving = false;
  #onEnd = (): void => undefined;

  /** `name`: for people. `graceMs`: for how long after it went stale something may still be accepted. */
  constructor(watch: Connection["feed"]["watch"], maxStalenessMs: number, { name = "", graceMs = 0 } = {}) {
    super();
    this.#watch = watch;
    this.maxStalenessMs = maxStalenessMs;
    this.#self = { name, verifier: randomUUID(), maxStalenessMs: Math.min(Math.ceil(maxStalenessMs + graceMs), longestStatedMs) };
  }

  /** SVIDs of the task below this are revoked; 0 for a task that the feed says nothing of. */
  epochOf(task: string): number {
    return this.#epochs.get(task);
  }

  /** A whole snapshot of one feed, and a sign of life since, were received. */
  get ready(): boolean {
    return this.#complete && this.#asOf > 0;
  }

  get fresh(): boolean {
    return this.ready && this.silentMs <= this.maxStalenessMs;
  }

  /** The connection that brought all since the last word is still there. */
  get unbroken(): boolean {
    return this.#unbroken;
  }

  /** For how long the view may have missed something. */
  get silentMs(): number {
    return performance.now() - this.#freshAt;
  }

  /** The later of our clock and PostgreSQL's: a slow clock must not revive what expired. Unix ms. */
  now(): number {
    return Math.max(Date.now(), this.#asOf + (performance.now() - this.#heardAt) * (1 - drift));
  }

  get sequence(): number {
    return this.#sequence;
  }

  /** How many revocations are held. */
  get size(): number {
    return this.#epochs.size;
  }

  /** Why the feed can't be followed at all, e.g. UNIMPLEMENTED. */
  get failure(): BrevetError | undefined {
    return this.#failure;
  }

  /** Follows the feed until `signal` aborts. A feed that went silent is asked anew. */
  async run(signal: AbortSignal): Promise<void> {
    let connection = new AbortController();
    const silent = (): void => {
      connection.abort(new BrevetError("VERIFY_STALE", "the feed is silent"));
    };
    const open = (stop: AbortSignal): AsyncIterable<FeedMessage__Output> => {
      connection = new AbortController();
      this.#askedAt = performance.now();
      this.#lag = Number.POSITIVE_INFINITY;
      this.#arm(silent, this.#askedAt);
      const request = { ...this.#self, feedId: this.#complete ? this.#feedId : "", afterSequence: this.#complete ? this.#sequence : 0 };
      return this.#watch(request, {
        signal: AbortSignal.any([stop, connection.signal]),
        more: (say) => {
          this.#acknowledger?.close();
          this.#acknowledger = new Acknowledger(say);
          this.#say = say;
        },
      });
    };
    const message = (received: FeedMessage__Output): void => {
      this.#take(received);
      this.#arm(silent, Math.max(this.#freshAt, this.#askedAt ?? this.#freshAt));
    };
    try {
      const lost = (error: BrevetError | undefined): boolean => {
        this.#unbroken = false;
        return !this.#isLeaving && (this.emit("lost", error) || true);
      };
      await follow(open, { message, lost }, signal);
    } catch (error) {
      this.#failure = asBrevetError(error);
    } finally {
      this.#unbroken = false;
      clearTimeout(this.#timer);
      clearTimeout(this.#staleness);
      clearTimeout(this.#warning);
      this.#acknowledger?.close();
      this.#onEnd();
    }
  }

  /** Tells the broker that nothing is accepted any more; from then on the feed is not followed. Resolves when it has heard, or is not there to. */
  async leave(): Promise<void> {
    this.#isLeaving = true;
    this.#acknowledger?.close();
    await new Promise<void>((resolve) => {
      if (this.#feedId === "") return resolve(); // it has not answered yet
      this.#onEnd = resolve;
      setTimeout(resolve, goodbyeMs).unref();
      this.#say?.({ leaving: true });
    });
  }

  #arm(silent: () => void, since: number): void {
    clearTimeout(this.#timer);
    this.#timer = this.#whenTrustIsOver(silent, since);
  }

  /** The timer only tells; `fresh` is computed whenever it is asked. It does not keep the process alive. */
  #whenTrustIsOver(tell: () => void, since: number): NodeJS.Timeout {
    const left = since + this.maxStalenessMs - performance.now();
    return setTimeout(tell, Math.min(Math.max(left, 0) + 1, longestTimer)).unref();
  }

  #warnLater(ms: number): void {
    clearTimeout(this.#warning);
    this.#warning = setTimeout(() => {
      this.emit("silent", this.silentMs);
      this.#warnLater(warnEveryMs);
    }, ms).unref();
  }

  #noticeStale(): void {
    if (this.fresh) return this.#watchOverTrust();
    if (!this.#wasFresh) return;
    this.#wasFresh = false;
    this.emit("stale");
  }

  #watchOverTrust(): void {
    clearTimeout(this.#staleness);
    this.#staleness = this.#whenTrustIsOver(() => this.#noticeStale(), this.#freshAt);
  }

  #take(message: FeedMessage__Output): void {
    check(message);
    if (message.feedId !== this.#feedId) this.#begin(message.feedId);
    if (!this.#complete && !message.snapshot) throw refused("began without its snapshot");
    if (message.complete && message.sequence < this.#sequence) throw refused("went back to an earlier sequence");
    if (!message.snapshot && !follows(message, this.#sequence)) throw refused("left something out");
    for (const revocation of message.revocations) this.#apply(revocation);
    if (!message.complete) return;
    this.#sequence = message.sequence;
    this.#complete = true;
    this.#unbroken = true;
    if (message.asOf > this.#asOf) this.#heard(message.asOf);
    this.#acknowledger?.applied(this.#sequence);
  }

  /** Another history: nothing that is known counts, and only its snapshot may begin it. */
  #begin(feedId: string): void {
    this.#epochs = new Epochs();
    this.#complete = false;
    this.#sequence = 0;
    this.#asOf = 0;
    this.#feedId = feedId;
  }

  #apply({ task, epoch, until, atUs }: Revocation__Output): void {
    if (this.#epochs.raise(task, epoch, until)) this.emit("revoked", task, epoch, this.#since(atUs));
  }

  /** How long ago that was by PostgreSQL's clock, as far as its signs of life tell how far ours is from it. */
  #since(atUs: number): number | undefined {
    if (atUs === 0 || !Number.isFinite(this.#lag)) return undefined;
    return Math.max(0, performance.now() - atUs / 1_000 - this.#lag);
  }

  /**
   * A sign of life. What it says was true when the primary was read: for the first one of a connection
   * not before we asked, for others `as_of` later, so that messages that lay in a buffer while
   * this process (or the wire) slept are as old as they are.
   */
  #heard(asOf: number): void {
    const now = performance.now();
    this.#lag = Math.min(now - asOf, this.#lag + (now - this.#heardAt) * drift);
    this.#freshAt = this.#askedAt ?? Math.max(this.#freshAt, asOf + this.#lag);
    this.#askedAt = undefined;
    this.#asOf = asOf;
    this.#heardAt = now;
    this.#watchOverTrust();
    this.#warnLater(Math.max(0, worthWarningMs - this.silentMs));
    this.#epochs.sweep(asOf / 1_000 - margin);
    if (this.#wasFresh || !this.fresh) return;
    this.#wasFresh = true;
    this.emit("fresh");
  }
}

const highestEpoch = 2 ** 32 - 1;
const lastUntil = (2 ** 32 - 1) * 60;

function check({ feedId, revocations, sequence, asOf, complete }: FeedMessage__Output): void {
  if (feedId === "") throw refused("has no ID");
  if (!isCount(sequence) || !isCount(asOf)) throw refused("has a number out of range");
  for (const { task, epoch, sequence: own, until, atUs } of revocations) {
    if (task === "" || task.length > longestTask) throw refused("names no task");
    if (!isCount(epoch, highestEpoch) || !isCount(own) || !isCount(until, lastUntil) || !isCount(atUs)) throw refused("has a number out of range");
    if (complete && own > sequence) throw refused("holds what lies beyond its own sequence");
  }
}

/** Every sequence is one revocation: an increment holds exactly those after what is known, in order. */
function follows({ revocations, sequence }: FeedMessage__Output, known: number): boolean {
  return revocations.length === sequence - known && revocations.every((revocation, i) => revocation.sequence === known + 1 + i);
}

function isCount(value: number, most = Number.MAX_SAFE_INTEGER): boolean {
  return Number.isSafeInteger(value) && value >= 0 && value <= most;
}

function refused(why: string): BrevetError {
  return new BrevetError("VERIFY_MALFORMED", `the feed ${why}`);
}
