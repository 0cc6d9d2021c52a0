// What is a verifier told that knows nothing yet?
// All that still matters, in pages below 1 MiB, encoded once for everybody who begins at about the same time: a
// restart brings back many at once. Nothing is copied: pages are made as they are asked for, from the living map,
// so what was revoked meanwhile may be among it already.
// What came since the snapshot was begun, and the word that it is complete, are feed.ts's, as is who gets a page when.
import { services } from "../proto.ts";

/** The last known revocation of one subject; `until` in Unix seconds. */
export type Known = { readonly epoch: number; readonly until: number };

const pageRows = 8000; // about 500 KiB encoded

export class Snapshot {
  /** The pages hold all that was known up to here. */
  readonly sequence: number;
  readonly madeAt = performance.now();
  readonly #feedId: string;
  readonly #pages: Buffer[] = [];
  readonly #rest: Iterator<[string, Known]>;
  #left: number;

  constructor(feedId: string, sequence: number, known: ReadonlyMap<string, Known>) {
    this.#feedId = feedId;
    this.sequence = sequence;
    this.#rest = known.entries();
    this.#left = known.size;
  }

  /** Counted from 0, none left out; undefined after the last. */
  page(index: number): Buffer | undefined {
    if (index === this.#pages.length && this.#left > 0) this.#pages.push(this.#next());
    return this.#pages[index];
  }

  #next(): Buffer {
    const revocations = [];
    while (revocations.length < pageRows && this.#left > 0) {
      const next = this.#rest.next();
      this.#left = next.done ? 0 : this.#left - 1;
      if (next.done) break;
      const [task, { epoch, until }] = next.value;
      revocations.push({ task, epoch, until });
    }
    return services.feed.Watch.responseSerialize({ feedId: this.#feedId, sequence: this.sequence, complete: false, snapshot: true, revocations });
  }
}
