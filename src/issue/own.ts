// With which certificate does the broker itself meet others on the network?
// An X.509-SVID of its own, `spiffe://<trust domain>/brevet/broker`, kept from the first `start()` on: renewed
// at half of its life and when the authority rotates, each recorded before it is signed, like any other. Its
// key is in this process's memory only. While the database is away the old one stays, until it expires.
// X509-SVID section 3 and 4. Whom it is shown to is src/api's business.
import { issueX509, newSerial } from "../../ca/x509.ts";
import { BrevetError } from "../errors.ts";
import { formatBrokerId } from "../identity/id.ts";
import { recordOwnSvid } from "../record/svids.ts";
import type { Store } from "../record/store.ts";
import type { Trust } from "./trust.ts";

export type OwnCertificate = {
  /** PKCS#8, DER. */
  readonly key: Buffer;
  /** Leaf and signing CA, DER, concatenated. */
  readonly chain: Buffer;
  readonly expiresAt: Date;
};

export type OwnSvidOptions = {
  readonly store: Store;
  readonly trustDomain: string;
  /** It names its authority's list under it. */
  readonly publicUrl?: string | undefined;
  readonly trust: Pick<Trust, "signers" | "onChange">;
  /** A row was committed: the signature that follows is accounted for. */
  readonly onRecorded: () => void;
  readonly log: (event: string, fields: Record<string, string | number>) => void;
};

const lifeSeconds = 3600;
const backdateMs = 60_000;
const retryMs = 1000;

export class OwnSvid {
  readonly #o: OwnSvidOptions;
  readonly #listeners = new Set<() => void>();
  #held: OwnCertificate | undefined;
  #authority = "";
  #started: Promise<void> | undefined;
  #renewing: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #offTrust = (): void => undefined;
  #closed = false;

  constructor(options: OwnSvidOptions) {
    this.#o = options;
  }

  /** Makes the first one; called by whoever needs it, as often as they like. */
  start(): Promise<void> {
    this.#started ??= (async () => {
      await this.#renew();
      this.#offTrust = this.#o.trust.onChange(() => {
        if (this.#o.trust.signers.x509.record.id !== this.#authority) void this.#renewNow();
      });
    })();
    return this.#started;
  }

  /** @throws BrevetError NOT_READY before `start()` */
  get current(): OwnCertificate {
    if (!this.#held) throw new BrevetError("NOT_READY", "the broker has no certificate of its own yet");
    return this.#held;
  }

  /** Calls `listener` after each renewal. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#offTrust();
    clearTimeout(this.#timer);
    await this.#renewing;
  }

  #renewNow(): Promise<void> {
    this.#renewing ??= this.#renew()
      .catch((error: unknown) => {
        this.#o.log("own_certificate.not_renewed", { message: error instanceof Error ? error.message : "" });
        this.#renewLater(retryMs);
      })
      .finally(() => (this.#renewing = undefined));
    return this.#renewing;
  }

  async #renew(): Promise<void> {
    const { store, trustDomain, publicUrl, trust, onRecorded } = this.#o;
    const signer = trust.signers.x509; // the row names the authority that signs, whatever rotates meanwhile
    const serial = newSerial();
    const { issuedAt, expiresAt } = await recordOwnSvid(store, serial.toString("hex"), lifeSeconds, { id: signer.record.id, notAfter: signer.notAfter });
    onRecorded();
    const { chain, key } = issueX509({
      signer, spiffeId: formatBrokerId(trustDomain), binding: null, serial, publicUrl, notBefore: new Date(issuedAt.getTime() - backdateMs), notAfter: expiresAt,
    });
    this.#held = { key, chain, expiresAt };
    this.#authority = signer.record.id;
    for (const listener of [...this.#listeners]) listener();
    this.#renewLater((expiresAt.getTime() - issuedAt.getTime()) * (0.45 + Math.random() * 0.1));
  }

  #renewLater(ms: number): void {
    clearTimeout(this.#timer);
    if (this.#closed) return;
    this.#timer = setTimeout(() => void this.#renewNow(), Math.max(ms, retryMs));
    this.#timer.unref();
  }
}
