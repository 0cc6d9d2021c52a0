// What happened, and who was refused?
// Entries and attestations are append-only; entries are written inside the transactions that they
// describe (functions/), refusals here. Their details are what was measured, never a secret.
// Ordering, chaining and signing the log is not done yet: it is append-only, no more.
import type { SidecarRef } from "./tasks.ts";
import type { Row, Statement, Store } from "./store.ts";

export type LogEntryRow = {
  readonly id: number;
  readonly at: Date;
  readonly kind: string;
  readonly task: string | null;
  readonly agent: string | null;
  readonly actor: string;
  readonly details: Record<string, unknown>;
  readonly digest: Buffer;
};

const listStatement: Statement = {
  name: "list_entries",
  text: `select id, at, kind, task, agent, actor, body -> 'details' as details, digest from entries
    where id > $1 and ($2::uuid is null or task = $2) and ($3::timestamptz is null or at >= $3) order by id limit $4`,
};

/** Oldest first. */
export async function listEntries(store: Store, filter: { afterId: number; task: string | null; since: Date | null; limit: number }): Promise<LogEntryRow[]> {
  const rows = await store.query(listStatement, [filter.afterId, filter.task, filter.since, filter.limit]);
  return rows.map((row) => ({
    id: row["id"] as number,
    at: row["at"] as Date,
    kind: row["kind"] as string,
    task: row["task"] as string | null,
    agent: row["agent"] as string | null,
    actor: row["actor"] as string,
    details: (row["details"] as Record<string, unknown> | null) ?? {},
    digest: row["digest"] as Buffer,
  }));
}

export type AttestationRow = {
  readonly id: number;
  readonly attempt: string;
  readonly at: Date;
  readonly outcome: "granted" | "denied";
  readonly reason: string;
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  readonly facts: Record<string, unknown>;
  readonly task: string | null;
  readonly repeats: number;
  readonly via: SidecarRef | null;
};

const columns = "id, attempt, at, outcome, reason, pid, uid, gid, facts, task, repeats, via";

function toAttestation(row: Row): AttestationRow {
  return {
    id: row["id"] as number,
    attempt: row["attempt"] as string,
    at: row["at"] as Date,
    outcome: row["outcome"] as AttestationRow["outcome"],
    reason: row["reason"] as string,
    pid: row["pid"] as number,
    uid: row["uid"] as number,
    gid: row["gid"] as number,
    facts: row["facts"] as Record<string, unknown>,
    task: row["task"] as string | null,
    repeats: row["repeats"] as number,
    via: row["via"] as SidecarRef | null,
  };
}

const listAttestationsStatement: Statement = {
  name: "list_attestations",
  text: `select ${columns} from attestations
    where (not $1 or outcome = 'denied') and ($2::timestamptz is null or at >= $2) and ($3::bigint is null or id < $3) order by id desc limit $4`,
};

/** Newest first. */
export async function listAttestations(store: Store, filter: { denied: boolean; since: Date | null; before: number | null; limit: number }): Promise<AttestationRow[]> {
  return (await store.query(listAttestationsStatement, [filter.denied, filter.since, filter.before, filter.limit])).map(toAttestation);
}

const findStatement: Statement = { name: "find_attestation", text: `select ${columns} from attestations where attempt = $1 order by id desc limit 1` };
const lastDeniedStatement: Statement = { name: "last_denied", text: `select ${columns} from attestations where outcome = 'denied' order by id desc limit 1` };

/** By the attempt's ID; without one, the last refusal. */
export async function findAttestation(store: Store, attempt: string | null): Promise<AttestationRow | undefined> {
  const [row] = attempt === null ? await store.query(lastDeniedStatement) : await store.query(findStatement, [attempt]);
  return row && toAttestation(row);
}

export type NewAttestation = {
  readonly attempt: string;
  readonly outcome: "granted" | "denied";
  readonly reason: string;
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  readonly facts: Readonly<Record<string, unknown>>;
  readonly task: string | null;
  readonly repeats: number;
};

const addStatement: Statement = {
  name: "add_attestation",
  text: "insert into attestations (attempt, outcome, reason, pid, uid, gid, facts, task, repeats) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
};

export async function addAttestation(store: Store, a: NewAttestation): Promise<void> {
  await store.query(addStatement, [a.attempt, a.outcome, a.reason, a.pid, a.uid, a.gid, JSON.stringify(a.facts), a.task, a.repeats]);
}

const purgeStatement: Statement = { name: "purge", text: "select what, removed from purge($1)" };

/** Removes some of what is past the retention that the database's owner set: `most` rows at most; nothing: there is no more. */
export async function purge(store: Store, most = 10_000): Promise<{ what: string; removed: number }[]> {
  const rows = await store.query(purgeStatement, [most]);
  return rows.map((row) => ({ what: row["what"] as string, removed: row["removed"] as number })).filter(({ removed }) => removed > 0);
}
