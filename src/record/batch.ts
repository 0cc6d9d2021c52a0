// How do many small transactions become few?
// Group commit: one batch is in flight at a time (of reads, several), and a request joins only a batch
// that has not been sent. Each request gets a verdict of its own. A batch that the database rejects as a whole is sent
// again singly, once, so one bad request does not fail its neighbours.
// What a batch does is the caller's business.
import { BrevetError } from "../errors.ts";
import type { Store } from "./store.ts";

export type BatchOptions<Q, A> = {
  readonly send: (requests: readonly Q[]) => Promise<readonly A[]>;
  readonly most: number;
  /** Batches in flight at once; default 1. More is for reads. */
  readonly lanes?: number;
  /** Two requests with the same key never share a batch. */
  readonly keyOf?: (request: Q) => string;
  /** These go before all others that wait. */
  readonly urgent?: (request: Q) => boolean;
};

type Waiting<Q, A> = { readonly request: Q; readonly resolve: (answer: A) => void; readonly reject: (error: unknown) => void };

export class Batch<Q, A> {
  readonly #options: BatchOptions<Q, A>;
  #waiting: Waiting<Q, A>[] = [];
  #busy = 0;

  constructor(options: BatchOptions<Q, A>) {
    this.#options = options;
  }

  add(request: Q): Promise<A> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ request, resolve, reject });
      if (this.#busy === (this.#options.lanes ?? 1)) return;
      this.#busy++;
      // what arrives in the same turn of the event loop shares the first batch
      setImmediate(() => void this.#drain());
    });
  }

  async #drain(): Promise<void> {
    while (this.#waiting.length > 0) {
      const handOver = await this.#send(this.#take());
      // the next batch leaves first: what is done with these answers (signing) is done while it is under way
      if (this.#waiting.length > 0) setImmediate(handOver);
      else handOver();
    }
    this.#busy--;
  }

  #take(): Waiting<Q, A>[] {
    const { most, keyOf, urgent } = this.#options;
    if (urgent) this.#waiting.sort((a, b) => Number(urgent(b.request)) - Number(urgent(a.request)));
    if (!keyOf) return this.#waiting.splice(0, most);
    const keys = new Set<string>();
    const taken: Waiting<Q, A>[] = [];
    const left: Waiting<Q, A>[] = [];
    for (const waiting of this.#waiting) {
      const key = keyOf(waiting.request);
      if (taken.length >= most || keys.has(key)) left.push(waiting);
      else taken.push(waiting);
      keys.add(key);
    }
    this.#waiting = left;
    return taken;
  }

  /** Answers with what hands each request its own. */
  async #send(batch: readonly Waiting<Q, A>[]): Promise<() => void> {
    try {
      const answers = await this.#options.send(batch.map((w) => w.request));
      return () => batch.forEach((waiting, i) => {
        const answer = answers[i];
        if (answer === undefined) waiting.reject(new BrevetError("INTERNAL", "internal error", { cause: new Error("batch: answer missing") }));
        else waiting.resolve(answer);
      });
    } catch (error) {
      const rejected = error instanceof BrevetError && error.code === "INTERNAL";
      if (batch.length === 1 || !rejected) return () => batch.forEach((waiting) => waiting.reject(error));
      for (const waiting of batch) (await this.#send([waiting]))();
      return () => undefined;
    }
  }
}

/** One batch for each store, made when it is first used. */
export function perStore<Q, A>(make: (store: Store) => Batch<Q, A>): (store: Store) => Batch<Q, A> {
  const batches = new WeakMap<Store, Batch<Q, A>>();
  return (store) => {
    let batch = batches.get(store);
    if (!batch) batches.set(store, (batch = make(store)));
    return batch;
  };
}
