// Which tokens are dead, for software that fetches a list of bits?
// Every broker answers for every list: it knows by the feed what died, and sets bits, which never go back while the
// list lives, over restarts too. A list is signed when it is fetched, after everything that the feed knows by then is
// in it; a broker that has not read the database for ten seconds signs none.
// OAuth Token Status List (draft-ietf-oauth-status-list-20) sections 5.1, 8.1 and 13.7. Signing is ca/status-list.ts's.
import { issueStatusList } from "../../ca/status-list.ts";
import type { Signer } from "../../ca/authority.ts";
import { BrevetError } from "../errors.ts";
import { newStatusBits, readStatusNumber, setStatusBit, statusListUri } from "../identity/status.ts";
import { deadStatusIndexes, firstRevocationWithin, liveStatusLists } from "../record/status.ts";
import type { Store } from "../record/store.ts";
import type { Feed } from "./feed.ts";

export type StatusListsOptions = {
  readonly store: Store;
  readonly publicUrl: string;
  readonly signer: () => Signer;
  readonly feed: Pick<Feed, "sequence" | "silentMs" | "keepFresh">;
  /** How long a list lives after it was opened. */
  readonly lifeSeconds: number;
};

type Signed = { readonly token: Buffer; readonly at: number };

/** After which a reader should look again: for so long it may not have heard of an end. */
export const statusTtlSeconds = 15;
const lifeSeconds = 60;
const keepMs = 5000;
/** A list that changes all the time is signed so often at most. */
const spacingMs = 200;
/** Lists that are not there are not looked for more often. */
const lookMs = 100;
const mostSilentMs = 10_000;
const pageRevocations = 500;
const pageIndexes = 2000;

export class StatusLists {
  readonly #o: StatusListsOptions;
  readonly #bits = new Map<number, Buffer>();
  readonly #signed = new Map<number, Signed>();
  /** With bits that no signed list has yet. */
  readonly #grown = new Set<number>();
  #live = new Map<number, Date>();
  #lookedAt = -Infinity;
  #read: number | undefined;
  #reading: Promise<void> | undefined;

  constructor(options: StatusListsOptions) {
    this.#o = options;
  }

  /** The newest token of a list. @throws BrevetError NOT_FOUND, NOT_READY, DATABASE_UNAVAILABLE */
  async token(list: number): Promise<Buffer> {
    const { feed, publicUrl, signer } = this.#o;
    await feed.keepFresh();
    if (feed.silentMs > mostSilentMs) throw new BrevetError("NOT_READY", "the database was not read for ten seconds: no status list is signed");
    if (!(await this.#isLive(list))) throw new BrevetError("NOT_FOUND", "there is no such status list, or all its tokens have expired");
    await this.#catchUp();
    const before = this.#signed.get(list);
    const age = performance.now() - (before?.at ?? -Infinity);
    if (before && age < (this.#grown.has(list) ? spacingMs : keepMs)) return before.token;
    this.#grown.delete(list);
    const bits = this.#bits.get(list) ?? newStatusBits();
    const token = Buffer.from(issueStatusList({ signer: signer(), uri: statusListUri(publicUrl, list), issuedAt: new Date(), lifeSeconds, ttlSeconds: statusTtlSeconds, bits }));
    this.#signed.set(list, { token, at: performance.now() });
    return token;
  }

  async #isLive(list: number): Promise<boolean> {
    if (!this.#live.has(list) && performance.now() - this.#lookedAt > lookMs) {
      this.#lookedAt = performance.now();
      this.#live = await liveStatusLists(this.#o.store);
      for (const known of [...this.#bits.keys(), ...this.#signed.keys()]) if (!this.#live.has(known)) this.#forget(known);
    }
    return (this.#live.get(list)?.getTime() ?? 0) > Date.now();
  }

  #forget(list: number): void {
    this.#bits.delete(list);
    this.#signed.delete(list);
    this.#grown.delete(list);
  }

  /** Everything up to the feed's sequence as it is now. Whoever comes meanwhile waits, and looks again. */
  async #catchUp(): Promise<void> {
    const wanted = this.#o.feed.sequence;
    while ((this.#read ?? -1) < wanted) await (this.#reading ??= this.#readNews().finally(() => (this.#reading = undefined)));
  }

  async #readNews(): Promise<void> {
    const { store, feed, lifeSeconds: within } = this.#o;
    const last = feed.sequence;
    if (this.#read === undefined) {
      const first = await firstRevocationWithin(store, within);
      this.#read = first === 0 ? last : Math.min(first - 1, last);
    }
    while (this.#read < last) {
      const to = Math.min(last, this.#read + pageRevocations);
      for (let afterId = 0; ; ) {
        const page = await deadStatusIndexes(store, { from: this.#read, to, afterId, limit: pageIndexes });
        for (const { status } of page) this.#set(status);
        afterId = page.at(-1)?.id ?? 0;
        if (page.length < pageIndexes) break;
      }
      this.#read = to;
    }
  }

  #set(status: number): void {
    const { list, index } = readStatusNumber(status);
    let bits = this.#bits.get(list);
    if (!bits) this.#bits.set(list, (bits = newStatusBits()));
    if (setStatusBit(bits, index)) this.#grown.add(list);
  }
}
