// Up to where has this verifier applied the feed, and does its broker know?
// The first sequence is said after a moment, so that refusing goes first, further ones at most four times
// a second, and rarer while more keep coming: however fast tasks end, saying so costs the broker little.
// `heldUs` lets it tell how soon the sequence was applied from how late that was said. Nothing waits for it.
// What is applied is feed.ts's business.
import type { WatchFeedRequest } from "../generated/brevet/v1/WatchFeedRequest.ts";

const firstMs = 30;
const leastPauseMs = 250;
const longestPauseMs = 2_000;

/** For one connection to one broker. */
export class Acknowledger {
  readonly #say: (message: WatchFeedRequest) => void;
  #sequence = -1;
  #appliedAt = 0;
  #pauseMs = leastPauseMs;
  #timer: NodeJS.Timeout | undefined;
  #isNew = false;

  constructor(say: (message: WatchFeedRequest) => void) {
    this.#say = say;
  }

  applied(sequence: number): void {
    if (sequence === this.#sequence) return;
    this.#sequence = sequence;
    this.#appliedAt = performance.now();
    if (this.#timer) this.#isNew = true;
    else this.#timer = setTimeout(() => this.#tell(), firstMs).unref();
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  #tell(): void {
    this.#isNew = false;
    this.#say({ applied: this.#sequence, heldUs: Math.round((performance.now() - this.#appliedAt) * 1_000) });
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#pauseMs = this.#isNew ? Math.min(2 * this.#pauseMs, longestPauseMs) : leastPauseMs;
      if (this.#isNew) this.#tell();
    }, this.#pauseMs).unref();
  }
}
