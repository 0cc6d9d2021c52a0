// Which authorities does this trust domain have, and which list number did each give out last?
// Keys come and go only as sealed bytes. State moves by compare-and-swap: of two brokers that
// rotate at once, one wins. A list's number is given out by one UPDATE, and a list never goes back.
// What a state means is ca/authority.ts's business; when to rotate, src/issue/trust.ts's.
import { BrevetError } from "../errors.ts";
import type { Row, Statement, Store } from "./store.ts";

export type AuthorityRow = {
  readonly id: string;
  readonly use: "root" | "x509" | "jwt";
  readonly state: "prepared" | "active" | "retired";
  readonly parent: string | null;
  readonly certificate: Buffer | null;
  readonly publicKey: Buffer;
  readonly sealedKey: Buffer;
  readonly notBefore: Date;
  readonly notAfter: Date;
};

const columns = `id, use, state, parent, certificate, public_key, sealed_key, not_before, not_after`;

function toAuthority(row: Row): AuthorityRow {
  return {
    id: row["id"] as string,
    use: row["use"] as AuthorityRow["use"],
    state: row["state"] as AuthorityRow["state"],
    parent: row["parent"] as string | null,
    certificate: row["certificate"] as Buffer | null,
    publicKey: row["public_key"] as Buffer,
    sealedKey: row["sealed_key"] as Buffer,
    notBefore: row["not_before"] as Date,
    notAfter: row["not_after"] as Date,
  };
}

export type TrustState = { readonly trustDomain: string; readonly bundleSequence: number; readonly now: Date; readonly authorities: readonly AuthorityRow[] };

const trustStatement: Statement = { name: "get_trust", text: "select trust_domain, bundle_sequence from trust" };
const listStatement: Statement = { name: "list_authorities", text: `select ${columns} from authorities where state <> 'dropped' order by created_at, id` };
const nowStatement: Statement = { name: "now", text: "select clock_timestamp() as now" };

/** null before the first start on this database. */
export async function readTrust(store: Store): Promise<TrustState | null> {
  return store.transaction(async (tx) => {
    const [trust] = await tx.query(trustStatement);
    if (!trust) return null;
    const [clock] = await tx.query(nowStatement);
    return {
      trustDomain: trust["trust_domain"] as string,
      bundleSequence: trust["bundle_sequence"] as number,
      now: clock?.["now"] as Date,
      authorities: (await tx.query(listStatement)).map(toAuthority),
    };
  });
}

export async function readClock(store: Store): Promise<Date> {
  const [row] = await store.query(nowStatement);
  return row?.["now"] as Date;
}

export type AuthorityChange =
  | { readonly add: AuthorityRow }
  /** Dropping erases the sealed key; the row stays, because the ledger names it. */
  | { readonly move: string; readonly from: AuthorityRow["state"]; readonly to: AuthorityRow["state"] | "dropped"; readonly sealedKey: Buffer };

const lockStatement: Statement = { name: "lock_trust", text: "select pg_advisory_xact_lock(7221, 2)" };
const initStatement: Statement = { name: "init_trust", text: "insert into trust (trust_domain) values ($1) on conflict do nothing" };
const bumpStatement: Statement = { name: "bump_bundle", text: "update trust set bundle_sequence = bundle_sequence + 1" };
const addStatement: Statement = {
  name: "add_authority",
  text: `insert into authorities (id, use, state, parent, certificate, public_key, sealed_key, not_before, not_after)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
};
const moveStatement: Statement = {
  name: "move_authority",
  text: `update authorities set state = $3, sealed_key = $4, state_since = clock_timestamp() where id = $1 and state = $2 returning id`,
};
const logStatement: Statement = { name: "log_authority", text: "select log_entry(clock_timestamp(), $1, null, null, 'brevet', $2::jsonb)" };

/**
 * Carries out a planned rotation, all of it or nothing, and raises the bundle's sequence.
 * `plan` runs under the trust lock with what is in the database now, so two brokers never do it twice.
 */
export async function changeAuthorities(
  store: Store, trustDomain: string, plan: (now: Date, authorities: readonly AuthorityRow[]) => readonly AuthorityChange[],
): Promise<boolean> {
  return store.transaction(async (tx) => {
    await tx.query(lockStatement);
    await tx.query(initStatement, [trustDomain]);
    const [trust] = await tx.query(trustStatement);
    if (trust?.["trust_domain"] !== trustDomain) {
      throw new BrevetError("START_REFUSED", `trustDomain: the database belongs to ${trust?.["trust_domain"] as string}, not to ${trustDomain}`);
    }
    const [clock] = await tx.query(nowStatement);
    const authorities = (await tx.query(listStatement)).map(toAuthority);
    const changes = plan(clock?.["now"] as Date, authorities);
    if (changes.length === 0) return false;
    await tx.query(bumpStatement);
    for (const change of changes) {
      if ("add" in change) {
        const a = change.add;
        await tx.query(addStatement, [a.id, a.use, a.state, a.parent, a.certificate, a.publicKey, a.sealedKey, a.notBefore, a.notAfter]);
        await tx.query(logStatement, ["authority.added", JSON.stringify({ id: a.id, use: a.use, state: a.state, expires: a.notAfter })]);
      } else {
        const moved = await tx.query(moveStatement, [change.move, change.from, change.to, change.sealedKey]);
        if (moved.length === 0) throw new BrevetError("DATABASE_UNAVAILABLE", `authority ${change.move}: moved by another broker meanwhile`);
        await tx.query(logStatement, ["authority.moved", JSON.stringify({ id: change.move, from: change.from, to: change.to })]);
      }
    }
    await tx.query({ name: "notify_trust", text: "select pg_notify('brevet', 'trust')" });
    return true;
  });
}

export type NextCrl = {
  readonly number: number;
  /** Of the feed: what revocations up to here killed is on the list, unless it expired before `since`. */
  readonly sequence: number;
  readonly at: Date;
  readonly since: Date;
};

const nextCrlStatement: Statement = { name: "next_crl", text: "select number, sequence, at, since from next_crl($1, $2, $3)" };

/** The list after `above` that covers the feed up to `sequence` at least; null for an authority that is gone. */
export async function nextCrl(store: Store, authority: string, above: number, sequence: number): Promise<NextCrl | null> {
  const [row] = await store.query(nextCrlStatement, [authority, above, sequence]);
  if (!row) return null;
  return { number: row["number"] as number, sequence: row["sequence"] as number, at: row["at"] as Date, since: row["since"] as Date };
}

const crlClockStatement: Statement = {
  name: "crl_clock",
  text: `select clock_timestamp() as now, min(least(crl_at, crl_since)) as oldest, coalesce(jsonb_object_agg(id, crl_number), '{}') as heads
    from authorities where state <> 'dropped'`,
};

export type CrlClock = {
  readonly now: Date;
  /** What expired before is on nobody's list any more. */
  readonly oldest: Date | null;
  /** By authority, the number of the newest list that any broker made. */
  readonly heads: Readonly<Record<string, number>>;
};

export async function readCrlClock(store: Store): Promise<CrlClock> {
  const [row] = await store.query(crlClockStatement);
  return { now: row?.["now"] as Date, oldest: (row?.["oldest"] as Date | null) ?? null, heads: row?.["heads"] as CrlClock["heads"] };
}
