// How far has a revocation come?
// What is known here about it: the streams that lost an SVID by it, the lists that carry it, the verifiers
// that have applied it. All of it is for people's eyes and for figures: no revocation waits for any of it,
// and what is remembered is bounded. Of long ago, what still matters is computed from the rows.
// Until when anybody can accept is residual.ts's business, who verifies verifiers.ts's.
import { readDead } from "../record/revocations.ts";
import type { Store } from "../record/store.ts";
import type { DatabaseClock } from "./clock.ts";
import type { Crls, PublishedCrl } from "./crl.ts";
import type { ListState, Revoked } from "./residual.ts";

/** Who is told of a revocation, as figures know them. */
export type ToldClass = "sdk" | "stream" | "crl";

export type ListProgress = ListState & Pick<PublishedCrl, "number" | "at" | "nextUpdate">;

export type PropagationOptions = {
  readonly store: Store;
  readonly clock: DatabaseClock;
  readonly committedAt: (sequence: number) => number | undefined;
  readonly lists: () => Pick<Crls, "published" | "carried">;
  /** Told of each way that a revocation has gone: how long it took from its commit. */
  readonly onTold: (told: ToldClass, ms: number) => void;
};

type Traces = { streams: number; readonly committedAt: number | undefined };
type Published = Pick<PublishedCrl, "authority" | "number" | "at" | "nextUpdate"> & { readonly carried: number };

const mostSubjects = 10_000;
const mostLists = 256;

export class Propagation {
  readonly #o: PropagationOptions;
  /** By subject, the newest last. */
  readonly #traces = new Map<string, Traces>();
  /** Of each authority, the newest last. */
  readonly #lists = new Map<string, Published[]>();
  #listed = 0;

  constructor(options: PropagationOptions) {
    this.#o = options;
  }

  /** A task has ended; what its streams lose in this turn, they lose by that. `committedAt`: unless another has ended it before. */
  ending(subject: string, committedAt: number | undefined): void {
    const streams = this.#traces.get(subject)?.streams ?? 0;
    this.#traces.delete(subject);
    this.#traces.set(subject, { streams, committedAt });
    const [oldest] = this.#traces.keys();
    if (this.#traces.size > mostSubjects && oldest !== undefined) this.#traces.delete(oldest);
  }

  /** A workload stream has lost an SVID of this subject. */
  streamLost(subject: string): void {
    const traces = this.#traces.get(subject);
    if (!traces) return;
    traces.streams++;
    if (traces.committedAt !== undefined) this.#o.onTold("stream", Math.max(0, this.#o.clock.now() - traces.committedAt));
  }

  /** Lists were published. */
  listed(): void {
    const { published, carried } = this.#o.lists();
    for (const { authority, number, at, nextUpdate } of published) {
      const known = this.#lists.get(authority) ?? [];
      // one that had nothing to add carries it as well
      if (known.at(-1)?.number === number) known.pop();
      known.push({ authority, number, at, nextUpdate, carried });
      if (known.length > mostLists) known.shift();
      this.#lists.set(authority, known);
    }
    for (const authority of this.#lists.keys()) if (!published.some((list) => list.authority === authority)) this.#lists.delete(authority);
    if (carried <= this.#listed) return;
    const oldest = this.#o.committedAt(this.#listed + 1);
    if (oldest !== undefined) this.#o.onTold("crl", Math.max(0, this.#o.clock.now() - oldest));
    this.#listed = carried;
  }

  /** The newest revocation of each subject, as the database has it, and what died with it. */
  async revocationOf(subjects: readonly string[]): Promise<Revoked & { readonly authorities: readonly string[] }> {
    const { sequence, at, svids } = await readDead(this.#o.store, subjects);
    return { sequence, committedAt: at, svids, authorities: [...new Set(svids.filter(({ kind }) => kind === "x509").map(({ authority }) => authority))] };
  }

  streamsOf(subjects: readonly string[]): number {
    return subjects.reduce((sum, subject) => sum + (this.#traces.get(subject)?.streams ?? 0), 0);
  }

  /** Of each authority: the first list that carries it, else the newest. */
  listsOf({ sequence, committedAt }: Revoked, authorities: readonly string[]): ListProgress[] {
    return authorities.flatMap((authority): ListProgress[] => {
      const known = this.#lists.get(authority) ?? [];
      const first = known.findIndex(({ carried }) => carried >= sequence);
      const list = known[first] ?? known.at(-1);
      if (!list) return []; // it was retired, and its last SVID has expired
      // a list from before that is not known was made before the commit, and lived as long as this one does
      const before = first < 0 ? list : known[first - 1];
      const previousEnds = before?.nextUpdate.getTime() ?? committedAt + list.nextUpdate.getTime() - list.at.getTime();
      return [{ authority, carries: first >= 0, number: list.number, at: list.at, nextUpdate: list.nextUpdate, previousEnds }];
    });
  }
}
