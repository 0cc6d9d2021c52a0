// What time is it at the database?
// PostgreSQL's clock is the only one; each reading of it lay between two instants of our own, and the
// closest pair of late tells the time now, to half of what lay between them.
// For figures and their display alone: no lifetime and no verdict rests on it.

/** How far two good clocks may drift apart: an old closest reading gives way. */
const drift = 0.0001;

export class DatabaseClock {
  #difference = Date.now() - performance.now();
  #width = Number.POSITIVE_INFINITY;
  #at = 0;

  /** It said `time` (Unix ms), asked at `asked`, answered at `answered` on our monotonic clock. */
  heard(time: number, asked: number, answered: number): void {
    const width = answered - asked;
    if (width > this.#width + (answered - this.#at) * drift) return;
    this.#width = width;
    this.#at = answered;
    this.#difference = time - (asked + answered) / 2;
  }

  /** Unix milliseconds, with their fraction. */
  now(): number {
    return performance.now() + this.#difference;
  }
}
