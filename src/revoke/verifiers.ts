// Who verifies, and up to where have they applied what was revoked?
// A verifier says so itself, by sequence; it is known by its own random ID and by whom the broker takes
// it for, so that a reconnection is the same one and nobody speaks for another. What it says only shows:
// no revocation waits for it. One that left may still accept for as long as it trusts what it heard last,
// and is remembered that long.
// How it is told is feed.ts's business, how its words arrive src/api/feed.ts's.

/** What a follower of the feed says of itself, and what the broker knows of it. */
export type Joining = {
  /** Empty: it acknowledges nothing. */
  readonly id: string;
  readonly name: string;
  readonly who: string;
  readonly pid: number;
  readonly maxStalenessMs: number;
};

/** One connection of a verifier. */
export type Present = {
  applied(sequence: number, heldUs: number): void;
  leave(): void;
};

type Known = Joining & { applied: number; leftAt: number | undefined; present: Present };

const mostGone = 10_000;

export class Verifiers {
  /** In the order of their joining. */
  readonly #known = new Map<string, Known>();
  #silent = 0;
  #gone = 0;

  /** How many follow the feed without acknowledging. */
  get silent(): number {
    return this.#silent;
  }

  /** Those that may still accept what they have not applied. */
  get all(): readonly Known[] {
    this.#forget();
    return [...this.#known.values()];
  }

  join(joining: Joining): Present {
    if (joining.id === "") return this.#joinSilently();
    const key = `${joining.id} ${joining.who}`;
    const before = this.#known.get(key);
    const present: Present = {
      applied: (sequence) => {
        if (known.present === present) known.applied = Math.max(known.applied, sequence);
      },
      leave: () => {
        if (known.present !== present || known.leftAt !== undefined) return;
        known.leftAt = performance.now();
        this.#gone++;
        this.#forget();
      },
    };
    if (before?.leftAt !== undefined) this.#gone--;
    const known: Known = { ...joining, applied: before?.applied ?? 0, leftAt: undefined, present };
    this.#known.delete(key);
    this.#known.set(key, known);
    return present;
  }

  #joinSilently(): Present {
    this.#silent++;
    return { applied: () => undefined, leave: () => void this.#silent-- };
  }

  /** The time over which one may accept has passed; or there are too many of them: the first to join goes first. */
  #forget(): void {
    const now = performance.now();
    for (const [key, { leftAt, maxStalenessMs }] of this.#known) {
      if (this.#gone === 0) return;
      if (leftAt === undefined || (now - leftAt < maxStalenessMs && this.#gone <= mostGone)) continue;
      this.#known.delete(key);
      this.#gone--;
    }
  }
}
