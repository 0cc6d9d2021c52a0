// Which index of a status list does a new token get?
// One that no token had before: a list belongs to the broker that made it, and its indexes are given out in an order
// that nobody can guess, so neighbours in a list have nothing to do with each other. A list is used for an hour; what
// a crash leaves of it is never used.
// OAuth Token Status List (draft-ietf-oauth-status-list-20) section 13.2 (no index twice), section 12 (privacy).
import { randomFillSync } from "node:crypto";
import { statusListSize } from "../identity/status.ts";
import type { StatusIndex } from "../identity/status.ts";
import { openStatusList } from "../record/status.ts";
import type { Store } from "../record/store.ts";

/** A token lives an hour at most (identity/catalog.ts), so its list is dead two hours after it was opened; with a margin. */
export const statusListLifeSeconds = 3 * 3600;
const useMs = 3_600_000;

type Open = { readonly list: number; readonly order: Uint32Array; readonly openedAt: number; used: number };

export class StatusIndexes {
  readonly #store: Store;
  #open: Open | undefined;
  #opening: Promise<Open> | undefined;

  constructor(store: Store) {
    this.#store = store;
  }

  /** @throws BrevetError DATABASE_UNAVAILABLE */
  async take(): Promise<StatusIndex> {
    for (;;) {
      const open = this.#open;
      if (open && open.used < statusListSize && performance.now() - open.openedAt < useMs) return { list: open.list, index: open.order[open.used++] as number };
      this.#opening ??= this.#openNext().finally(() => (this.#opening = undefined));
      this.#open = await this.#opening;
    }
  }

  async #openNext(): Promise<Open> {
    const openedAt = performance.now();
    return { list: await openStatusList(this.#store, statusListLifeSeconds), order: shuffled(), openedAt, used: 0 };
  }
}

/** Fisher and Yates; that the low indexes are likelier by one in 2^15 gives nobody a hint. */
function shuffled(): Uint32Array {
  const order = Uint32Array.from({ length: statusListSize }, (_, index) => index);
  const random = randomFillSync(new Uint32Array(statusListSize));
  for (let at = statusListSize - 1; at > 0; at--) {
    const other = (random[at] as number) % (at + 1);
    [order[at], order[other]] = [order[other] as number, order[at] as number];
  }
  return order;
}
