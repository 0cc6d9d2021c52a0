// Which lists can software read that knows no feed?
// One CRL for each authority, the root's and those that will sign next included, since some software wants
// the whole chain. Number, time and what a list covers come from the database, under the authority's lock: a
// higher number never knows less, after a restart, beside other brokers and when the clock was set back too.
// Who asks gets none that is older than what any broker had made by then, as long as the database answers.
// An entry leaves only after its certificate has expired and one more list has carried it.
// RFC 5280 section 5. Entries are kept and joined in a thread (crl-worker.ts), signed here in slices.
// Encoding is ca/crl.ts's; handing lists out, src/api's.
import { signCrl } from "../../ca/crl.ts";
import type { Signer } from "../../ca/authority.ts";
import { BrevetError } from "../errors.ts";
import type { Store } from "../record/store.ts";
import { readFeedHead } from "../record/revocations.ts";
import { deadCertificates } from "../record/svids.ts";
import { nextCrl, readCrlClock } from "../record/trust.ts";
import type { CrlClock } from "../record/trust.ts";
import { CrlThread, backdateMs } from "./crl-thread.ts";

export type CrlsOptions = {
  readonly store: Store;
  readonly signers: () => readonly Signer[];
  /** The feed's sequence up to which revocations are committed and known. */
  readonly sequence: () => number;
  readonly log: (event: string, fields: Record<string, string | number>) => void;
};

export type PublishedCrl = {
  readonly authority: string; readonly number: number; readonly der: Buffer; readonly entries: number;
  /** When it was made; `thisUpdate` is a minute before, for clocks that are behind. */
  readonly at: Date; readonly thisUpdate: Date; readonly nextUpdate: Date;
};

const listMs = 300_000;
const renewMs = listMs / 2;
/** As next_crl has it: an entry stays for so long after its certificate's end. */
const leewayMs = 120_000;
/** What is closed together is listed together. */
const gatherMs = 20;
const spacingMs = 200;
const longSpacingMs = 1000;
const longEntries = 10_000;
const retryMs = 1000;
const clockStepMs = 1000;
const headsPatienceMs = 1000;
/** Below the listener's patience with a silent connection. */
const catchUpMs = 4000;

export class Crls {
  readonly #o: CrlsOptions;
  readonly #published = new Map<string, PublishedCrl>();
  readonly #listeners = new Set<() => void>();
  /** Authorities with entries that no list has yet. */
  readonly #grown = new Set<string>();
  #thread: CrlThread | undefined;
  /** Of the feed: what it killed up to here is in the thread. */
  #read = 0;
  #carried = 0;
  #clock = 0;
  #timer: NodeJS.Timeout | undefined;
  #notBefore = 0;
  #building: Promise<void> | undefined;
  #again = false;
  #failing = false;
  #closed = false;
  /** The last reading of what others have made, and the one that is yet to begin. */
  #headsRead: Promise<unknown> = Promise.resolve();
  #headsAsked: Promise<CrlClock["heads"]> | undefined;

  constructor(options: CrlsOptions) {
    this.#o = options;
  }

  /** The newest list of each authority. */
  get published(): readonly PublishedCrl[] {
    return [...this.#published.values()];
  }

  /**
   * The same, none older than what another broker may have handed out already.
   * @throws BrevetError NOT_READY if another has newer ones, and they cannot be made here in time
   */
  async current(): Promise<readonly PublishedCrl[]> {
    const heads = await within(headsPatienceMs, this.#heads()).catch(() => undefined);
    if (heads && this.#isBehind(heads)) await this.#catchUp(heads);
    return this.published;
  }

  /** Of the feed: what it killed up to here stands in the published lists. */
  get carried(): number {
    return this.#carried;
  }

  /** Calls `listener` after each publication. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** To be called after revocations and rotations: a list follows at once, unless there was one just now. */
  changed(): void {
    this.#again = true;
    if (!this.#building) this.#buildIn(Math.max(gatherMs, this.#notBefore - performance.now()));
  }

  /** Reads what the first lists will hold, as far as it is known now: what takes long before `start`. */
  async prepare(): Promise<void> {
    const { thread, since } = await this.#begin();
    await this.#readNews(thread, (await readFeedHead(this.#o.store)).sequence, since);
  }

  /** Publishes first lists; awaited before anything is served. */
  async start(): Promise<void> {
    const first = this.#publishAll();
    this.#building = first.catch(() => undefined).finally(() => (this.#building = undefined));
    await first;
    this.#buildIn(this.#again ? gatherMs : this.#untilRenewal());
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#thread?.close();
    await this.#building;
  }

  /** Read anew for whoever asks, once for all that ask meanwhile. */
  #heads(): Promise<CrlClock["heads"]> {
    return (this.#headsAsked ??= this.#headsRead.then(async () => {
      this.#headsAsked = undefined;
      const reading = readCrlClock(this.#o.store);
      this.#headsRead = reading.catch(() => undefined);
      return (await reading).heads;
    }));
  }

  #isBehind(heads: CrlClock["heads"]): boolean {
    return this.published.some(({ authority, number }) => number < (heads[authority] ?? 0));
  }

  async #catchUp(heads: CrlClock["heads"]): Promise<void> {
    let isLate = false;
    let stop = (): void => undefined;
    const caughtUp = async (): Promise<void> => {
      // the newer ones may be this broker's own, under way: to ask for more would only keep the next close waiting
      await this.#building;
      if (isLate || !this.#isBehind(heads)) return;
      await new Promise<void>((resolve) => {
        stop = this.onChange(() => !this.#isBehind(heads) && resolve());
        this.changed();
      });
    };
    try {
      await within(catchUpMs, caughtUp());
    } catch (error) {
      throw new BrevetError("NOT_READY", "another broker has newer lists, and this one has not made them yet", { cause: error });
    } finally {
      isLate = true;
      stop();
    }
  }

  #buildIn(ms: number): void {
    clearTimeout(this.#timer);
    if (this.#closed) return;
    this.#timer = setTimeout(() => void this.#build(), ms);
    this.#timer.unref();
  }

  async #build(): Promise<void> {
    this.#building ??= (async () => {
      this.#again = false;
      const longest = Math.max(0, ...this.published.map(({ entries }) => entries));
      this.#notBefore = performance.now() + (longest > longEntries ? longSpacingMs : spacingMs);
      let next = renewMs;
      try {
        await this.#publishAll();
        this.#failing = false;
        next = this.#untilRenewal();
      } catch (error) {
        next = retryMs;
        if (!this.#failing && !this.#closed) this.#o.log("crl.failed", { message: (error as Error).message });
        this.#failing = true;
      } finally {
        this.#building = undefined;
      }
      this.#buildIn(this.#again ? Math.max(gatherMs, this.#notBefore - performance.now(), this.#failing ? retryMs : 0) : next);
    })();
    await this.#building;
  }

  /** Half a life after the oldest was made. */
  #untilRenewal(): number {
    return Math.max(retryMs, Math.min(...this.published.map(({ at }) => at.getTime() + renewMs - this.#clock), renewMs));
  }

  async #publishAll(): Promise<void> {
    const { thread, now, since, heads } = await this.#begin();
    await this.#readNews(thread, this.#o.sequence(), since);
    const signers = this.#o.signers();
    let news = false;
    for (const signer of signers) {
      const before = this.#published.get(signer.record.id);
      const isHead = before && before.number >= (heads[before.authority] ?? 0);
      if (isHead && !this.#grown.has(before.authority) && now.getTime() < before.at.getTime() + renewMs) continue;
      await this.#publishOne(thread, signer, since);
      news = true;
    }
    for (const id of this.#published.keys()) if (!signers.some((signer) => signer.record.id === id)) this.#published.delete(id);
    if (signers.some((signer) => this.#grown.has(signer.record.id))) this.#again = true; // by what a later list read
    else this.#carried = this.#read;
    if (news) for (const listener of this.#listeners) listener();
  }

  /** `since`: what expired before it stands on no list any more. */
  async #begin(): Promise<{ thread: CrlThread; now: Date; since: Date; heads: CrlClock["heads"] }> {
    const { now, oldest, heads } = await readCrlClock(this.#o.store);
    const since = new Date(Math.min(now.getTime() - leewayMs, oldest?.getTime() ?? Infinity) - 1000);
    return { thread: await this.#threadFor(now), now, since, heads };
  }

  /** What had left the lists by a clock that was set back since belongs on them again: all is read anew. */
  async #threadFor(now: Date): Promise<CrlThread> {
    const wentBack = now.getTime() < this.#clock - clockStepMs;
    this.#clock = now.getTime();
    if (this.#thread && !this.#thread.over && !wentBack) return this.#thread;
    await this.#thread?.close();
    this.#read = 0;
    return (this.#thread = new CrlThread());
  }

  async #readNews(thread: CrlThread, to: number, since: Date): Promise<void> {
    if (to <= this.#read) return;
    let entered = Promise.resolve();
    const enter = async (lines: readonly string[]): Promise<void> => {
      for (const authority of (await thread.enter(lines)).grown) this.#grown.add(authority);
    };
    await deadCertificates(this.#o.store, { after: this.#read, to, since }, async (lines) => {
      await entered; // one page is read while the one before is encoded
      entered = enter(lines);
      entered.catch(() => undefined); // heard of at the next page or at the end
    });
    await entered;
    this.#read = to;
  }

  async #publishOne(thread: CrlThread, signer: Signer, since: Date): Promise<void> {
    const authority = signer.record.id;
    const next = await nextCrl(this.#o.store, authority, this.#published.get(authority)?.number ?? 0, this.#read);
    if (!next) return;
    await this.#readNews(thread, next.sequence, since);
    this.#grown.delete(authority);
    try {
      const { number, at } = next;
      const [thisUpdate, nextUpdate] = [inSeconds(at.getTime() - backdateMs), inSeconds(at.getTime() + listMs)];
      const { name, keyId, algorithm } = signer;
      const made = await thread.make({ authority, name, keyId, algorithm, number: BigInt(number), thisUpdate, nextUpdate, since: next.since.getTime() / 1000 });
      const der = await signCrl(signer, made.list);
      this.#published.set(authority, { authority, number, der, entries: made.entries, at, thisUpdate, nextUpdate });
    } catch (error) {
      this.#grown.add(authority);
      throw error;
    }
  }
}

/** As precise as lists are. */
function inSeconds(ms: number): Date {
  return new Date(Math.floor(ms / 1000) * 1000);
}

async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${ms} ms`)), ms);
  });
  return await Promise.race([work, late]).finally(() => clearTimeout(timer));
}
