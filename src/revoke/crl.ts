// Which lists can software read that knows no feed?
// One CRL for each authority, the root's included, since some software wants the whole chain. An entry
// is encoded once and leaves only after its certificate has expired and one more list has carried it.
// Numbers come from the database and only grow. Entries are joined in slices, so no list holds up the event loop.
// RFC 5280 section 5. Encoding and signing are ca/crl.ts's; handing lists out, src/api's.
import { setImmediate as nextTurn } from "node:timers/promises";
import { crlReason, encodeCrlEntry, issueCrl } from "../../ca/crl.ts";
import type { Signer } from "../../ca/authority.ts";
import { revokedCertificates } from "../record/svids.ts";
import type { RevokedCertificate } from "../record/svids.ts";
import { nextCrlNumber, readClock } from "../record/trust.ts";
import type { Store } from "../record/store.ts";

export type CrlsOptions = {
  readonly store: Store;
  readonly signers: () => readonly Signer[];
  /** The feed's sequence up to which revocations are committed and known. */
  readonly sequence: () => number;
  readonly log: (event: string, fields: Record<string, string | number>) => void;
};

type Entry = { readonly bytes: Buffer; readonly expiresAt: number };
export type PublishedCrl = { readonly authority: string; readonly number: number; readonly der: Buffer; readonly nextUpdate: Date; readonly entries: number };

const listSeconds = 300;
const renewMs = (listSeconds / 2) * 1000;
const spacingMs = 200;
const sliceEntries = 2000;
const pageRevocations = 500;
const pageCertificates = 2000;

export class Crls {
  readonly #o: CrlsOptions;
  readonly #entries = new Map<string, Map<string, Entry>>();
  /** Authorities with entries that no list has yet. */
  readonly #grown = new Set<string>();
  #published = new Map<string, PublishedCrl>();
  #read = 0;
  #timer: NodeJS.Timeout | undefined;
  #building: Promise<void> | undefined;
  #again = false;
  #closed = false;
  #listeners = new Set<() => void>();

  constructor(options: CrlsOptions) {
    this.#o = options;
  }

  /** The newest list of each authority. */
  get published(): readonly PublishedCrl[] {
    return [...this.#published.values()];
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** To be called after revocations and rotations: a new list follows within `spacingMs`. */
  changed(): void {
    if (this.#closed) return;
    if (this.#building) {
      this.#again = true;
      return;
    }
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#rebuild(), spacingMs / 4);
  }

  /** Publishes first lists; awaited before anything is served. */
  async start(): Promise<void> {
    await this.#publishAll();
    this.#renewLater();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  #renewLater(): void {
    clearTimeout(this.#timer);
    if (this.#closed) return;
    this.#timer = setTimeout(() => void this.#rebuild(), renewMs);
    this.#timer.unref();
  }

  async #rebuild(): Promise<void> {
    this.#building ??= (async () => {
      try {
        await this.#publishAll();
      } catch (error) {
        this.#again = true;
        this.#o.log("crl.failed", { message: (error as Error).message });
      } finally {
        this.#building = undefined;
      }
      this.#renewLater();
      if (this.#again && !this.#closed) {
        this.#again = false;
        clearTimeout(this.#timer);
        this.#timer = setTimeout(() => void this.#rebuild(), spacingMs);
        this.#timer.unref();
      }
    })();
    await this.#building;
  }

  async #publishAll(): Promise<void> {
    const now = await readClock(this.#o.store);
    await this.#readNews(now);
    const signers = this.#o.signers();
    for (const signer of signers) await this.#publishOne(signer, now);
    for (const id of this.#published.keys()) if (!signers.some((signer) => signer.record.id === id)) this.#published.delete(id);
    for (const listener of this.#listeners) listener();
  }

  /** What the revocations since the last list killed, in pages: neither a long outage nor a rich task holds up the event loop. */
  async #readNews(now: Date): Promise<void> {
    const last = this.#o.sequence();
    const since = new Date(now.getTime() - 2 * listSeconds * 1000);
    while (this.#read < last) {
      const to = Math.min(last, this.#read + pageRevocations);
      for (let afterId = 0; ; ) {
        const page = await revokedCertificates(this.#o.store, { from: this.#read, to, since, afterId, limit: pageCertificates });
        for (const news of page) this.#add(news);
        afterId = page.at(-1)?.id ?? 0;
        if (page.length < pageCertificates) break;
      }
      this.#read = to;
    }
  }

  #add(news: RevokedCertificate): void {
    let entries = this.#entries.get(news.authority);
    if (!entries) this.#entries.set(news.authority, (entries = new Map()));
    if (entries.has(news.serial)) return;
    const reason = news.ended ? crlReason.cessationOfOperation : crlReason.superseded;
    entries.set(news.serial, { bytes: encodeCrlEntry(Buffer.from(news.serial, "hex"), news.revokedAt, reason), expiresAt: news.expiresAt.getTime() });
    this.#grown.add(news.authority);
  }

  async #publishOne(signer: Signer, now: Date): Promise<void> {
    const authority = signer.record.id;
    const entries = this.#entries.get(authority) ?? new Map<string, Entry>();
    const before = this.#published.get(authority);
    // expired before the list before the last one: it has been on a list issued after its end
    const gone = now.getTime() - 2 * listSeconds * 1000;
    for (const [serial, entry] of entries) if (entry.expiresAt < gone) entries.delete(serial);
    const freshFor = before ? before.nextUpdate.getTime() - now.getTime() : 0;
    if (before && !this.#grown.delete(authority) && freshFor > (listSeconds * 1000) / 2 + 1000) return;
    this.#grown.delete(authority);
    const number = await nextCrlNumber(this.#o.store, authority);
    const nextUpdate = new Date(now.getTime() + listSeconds * 1000);
    const der = issueCrl({ signer, number: BigInt(number), thisUpdate: now, nextUpdate, entries: await joined(entries.values()) });
    this.#published.set(authority, { authority, number, der, nextUpdate, entries: entries.size });
  }
}

/** Encoded entries one after the other, a few thousand in a piece, with a turn of the event loop between the pieces. */
async function joined(entries: Iterable<Entry>): Promise<Buffer[]> {
  const pieces: Buffer[] = [];
  let piece: Buffer[] = [];
  for (const entry of entries) {
    piece.push(entry.bytes);
    if (piece.length < sliceEntries) continue;
    pieces.push(Buffer.concat(piece));
    piece = [];
    await nextTurn();
  }
  pieces.push(Buffer.concat(piece));
  return pieces.filter((bytes) => bytes.length > 0);
}
