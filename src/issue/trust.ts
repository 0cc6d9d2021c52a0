// With which keys does this broker sign now, and what does it tell others to trust?
// Authorities live sealed in the database; every broker of the trust domain opens the same ones, and a
// rotation is planned and carried out under one lock, so it happens once. A wrong key-encryption key
// stops the start: nothing is ever generated anew over existing rows.
// SPIFFE Trust Domain and Bundle sections 4 and 6. What rotation means is ca/rotation.ts's business.
import { bundleOf, carryOut, openAuthority } from "../../ca/authority.ts";
import type { AuthorityRecord, Signer } from "../../ca/authority.ts";
import { newAuthorityKey } from "../../ca/keys.ts";
import type { KeyPairDer, KeyType } from "../../ca/keys.ts";
import { defaultRotation, planRotation } from "../../ca/rotation.ts";
import type { RotationPolicy } from "../../ca/rotation.ts";
import { BrevetError } from "../errors.ts";
import { encodeJwks, encodeOidcJwks, encodeSpiffeBundle } from "../identity/bundle.ts";
import type { TrustBundle } from "../identity/bundle.ts";
import { changeAuthorities, readTrust } from "../record/trust.ts";
import type { AuthorityChange, AuthorityRow } from "../record/trust.ts";
import type { Store } from "../record/store.ts";

export type Signers = { readonly x509: Signer; readonly jwt: Signer };

/** What is published, encoded once per change. */
export type Published = {
  readonly bundle: TrustBundle;
  readonly spiffe: Buffer;
  readonly jwks: Buffer;
  readonly oidcJwks: Buffer;
  /** CA certificates, DER, concatenated. */
  readonly x509: Buffer;
  /** Every authority that may have signed a certificate still valid or will sign the next, roots included. */
  readonly crlSigners: readonly Signer[];
};

/** Of other trust domains, by their SPIFFE IDs; what has no key of a kind is not named there. */
export type Federated = {
  readonly x509: Readonly<Record<string, Buffer>>;
  readonly jwt: Readonly<Record<string, Buffer>>;
  /** SPIFFE bundle documents, as their publishers wrote them, by trust domain. */
  readonly documents: Readonly<Record<string, Buffer>>;
};

export type TrustOptions = {
  readonly policy?: RotationPolicy;
  /** New signing authorities name their root's list under it. */
  readonly publicUrl?: string | undefined;
  /** Of authorities that are made from now on. */
  readonly keyType?: KeyType;
};

const refreshHintSeconds = 60;

export class Trust {
  readonly #store: Store;
  readonly #trustDomain: string;
  readonly #kek: Buffer;
  readonly #o: TrustOptions;
  readonly #listeners = new Set<() => void>();
  #signers: Signers | undefined;
  #published: Published | undefined;
  #federated: Federated = { x509: {}, jwt: {}, documents: {} };

  constructor(store: Store, trustDomain: string, kek: Buffer, options: TrustOptions = {}) {
    this.#store = store;
    this.#trustDomain = trustDomain;
    this.#kek = kek;
    this.#o = options;
  }

  get signers(): Signers {
    if (!this.#signers) throw new BrevetError("NOT_READY", "the signing authorities are not loaded yet");
    return this.#signers;
  }

  get published(): Published {
    if (!this.#published) throw new BrevetError("NOT_READY", "the trust bundle is not loaded yet");
    return this.#published;
  }

  /** What other trust domains publish: handed out beside our own, never put together with it. */
  get federated(): Federated {
    return this.#federated;
  }

  setFederated(bundles: ReadonlyMap<string, { readonly document: Buffer; readonly bundle: TrustBundle }>): void {
    const named = (read: (bundle: TrustBundle) => Buffer, has: (bundle: TrustBundle) => boolean): Record<string, Buffer> =>
      Object.fromEntries([...bundles].filter(([, { bundle }]) => has(bundle)).map(([name, { bundle }]) => [`spiffe://${name}`, read(bundle)]));
    this.#federated = {
      x509: named(({ x509 }) => Buffer.concat(x509), ({ x509 }) => x509.length > 0),
      jwt: named(encodeJwks, ({ jwt }) => jwt.length > 0),
      documents: Object.fromEntries([...bundles].map(([name, { document }]) => [name, document])),
    };
    for (const listener of this.#listeners) listener();
  }

  /** Calls `listener` after each change of a bundle, our own or another's. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Rotates what is due, then loads what is there. Called at the start, each minute, and when another broker rotated. */
  async refresh(): Promise<void> {
    const keyPairs = await this.#newKeyPairs();
    try {
      await changeAuthorities(this.#store, this.#trustDomain, (now, rows) => this.#plan(now, rows, keyPairs));
    } finally {
      for (const { pkcs8 } of keyPairs) pkcs8.fill(0);
    }
    const state = await readTrust(this.#store);
    if (!state) throw new BrevetError("NOT_READY", "the trust domain has no authorities");
    if (this.#published?.bundle.sequence === state.bundleSequence) return;
    this.#open(state.authorities, state.bundleSequence);
    for (const listener of this.#listeners) listener();
  }

  #open(rows: readonly AuthorityRow[], sequence: number): void {
    const opened = rows.map((row) => openAuthority(this.#record(row), this.#kek));
    const active = (use: AuthorityRecord["use"]): Signer => {
      const found = opened.find((signer) => signer.record.use === use && signer.record.state === "active");
      if (!found) throw new BrevetError("NOT_READY", `there is no active ${use} authority`);
      return found;
    };
    const bundle = bundleOf(opened.map((signer) => signer.record), { trustDomain: this.#trustDomain, sequence, refreshHintSeconds });
    this.#signers = { x509: active("x509"), jwt: active("jwt") };
    this.#published = {
      bundle,
      spiffe: encodeSpiffeBundle(bundle),
      jwks: encodeJwks(bundle),
      oidcJwks: encodeOidcJwks(bundle),
      x509: Buffer.concat(bundle.x509),
      crlSigners: opened.filter((signer) => signer.record.use !== "jwt"),
    };
  }

  #record(row: AuthorityRow): AuthorityRecord {
    const { id, use, state, parent, certificate, publicKey, sealedKey, notBefore, notAfter } = row;
    return { id, trustDomain: this.#trustDomain, use, state, parent, certificate, publicKey, sealedKey, notBefore, notAfter };
  }

  /** Made before the lock is taken: RSA takes its time. If more is due by then, the next refresh makes it. */
  async #newKeyPairs(): Promise<KeyPairDer[]> {
    const { policy = defaultRotation, keyType = "ec-p256" } = this.#o;
    const state = await readTrust(this.#store);
    const plan = planRotation((state?.authorities ?? []).map((row) => this.#record(row)), state?.now ?? new Date(), policy);
    return await Promise.all(plan.filter((action) => action.do === "create").map(() => newAuthorityKey(keyType)));
  }

  /** Turns the plan into changes of rows. New authorities are made and sealed here, inside the lock. */
  #plan(now: Date, rows: readonly AuthorityRow[], keyPairs: readonly KeyPairDer[]): AuthorityChange[] {
    const before = new Map(rows.map((row) => [row.id, this.#record(row)]));
    for (const record of before.values()) openAuthority(record, this.#kek); // a wrong key refuses here, before anything is made
    const records = [...before.values()];
    const { policy = defaultRotation, publicUrl } = this.#o;
    const plan = planRotation(records, now, policy);
    if (plan.filter((action) => action.do === "create").length > keyPairs.length) return [];
    const after = carryOut(plan, records, { trustDomain: this.#trustDomain, kek: this.#kek, now, publicUrl, keyPairs });
    const left = new Set(after.map((record) => record.id));
    const dropped = records.filter((record) => !left.has(record.id))
      .map((record): AuthorityChange => ({ move: record.id, from: record.state, to: "dropped", sealedKey: Buffer.alloc(0) }));
    const others = after.flatMap((record): AuthorityChange[] => {
      const known = before.get(record.id);
      if (!known) return [{ add: record }];
      return known.state === record.state ? [] : [{ move: record.id, from: known.state, to: record.state, sealedKey: record.sealedKey }];
    });
    // at most one is active at any moment: what retires goes first
    const retires = (change: AuthorityChange): boolean => "move" in change && change.to === "retired";
    return [...others.filter(retires), ...others.filter((change) => !retires(change)), ...dropped];
  }
}
