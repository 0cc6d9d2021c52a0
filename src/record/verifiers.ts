// Which verifiers do all brokers of this database have?
// Each broker writes what it knows of its own, at a low rate; all read what others wrote. The rows only
// show: no revocation waits for them, and a database that was restarted or replaced has none until
// verifiers are heard of again. Times are Unix milliseconds on PostgreSQL's clock, with their fraction.
// Who is told what is src/revoke's business.
import { unixMs } from "./store.ts";
import type { Statement, Store } from "./store.ts";

export type VerifierRow = {
  /** Its own choice, the same for as long as it lives. */
  readonly id: string;
  /** Whom the broker takes it for. */
  readonly who: string;
  readonly name: string;
  readonly pid: number;
  /** For how long at worst it accepts SVIDs on what it heard last. */
  readonly maxStalenessMs: number;
  /** Every revocation up to this sequence is in force there. */
  readonly applied: number;
  readonly appliedAt: number | null;
  readonly joinedAt: number;
  /** Since when it is not connected. */
  readonly leftAt: number | null;
};

/** `seenAt`: until then, if it has not left, it was connected to `broker` for certain. */
export type ElsewhereRow = VerifierRow & { readonly broker: string; readonly seenAt: number };

const writeStatement: Statement = { name: "write_verifiers", text: "select write_verifiers($1, $2)" };

export async function writeVerifiers(store: Store, broker: string, rows: readonly VerifierRow[]): Promise<void> {
  await store.query(writeStatement, [broker, JSON.stringify(rows.map((row) => ({
    id: row.id, who: row.who, name: row.name, pid: row.pid, max_staleness_ms: row.maxStalenessMs, applied: row.applied,
    applied_at: row.appliedAt, joined_at: row.joinedAt, left_at: row.leftAt,
  })))]);
}

const elsewhereStatement: Statement = {
  name: "verifiers_elsewhere",
  text: `select v.id, v.who, v.name, v.broker, v.pid, v.max_staleness_ms, v.applied, ${unixMs("v.applied_at")} as applied_at,
      ${unixMs("v.joined_at")} as joined_at, ${unixMs("v.left_at")} as left_at, ${unixMs("b.seen_at")} as seen_at
    from verifiers v join verifier_brokers b on b.broker = v.broker where v.broker <> $1 order by v.joined_at limit 10000`,
};

/** Those of other brokers. */
export async function verifiersElsewhere(store: Store, broker: string): Promise<ElsewhereRow[]> {
  return (await store.query(elsewhereStatement, [broker])).map((row) => ({
    id: row["id"] as string, who: row["who"] as string, name: row["name"] as string, broker: row["broker"] as string, pid: row["pid"] as number,
    maxStalenessMs: row["max_staleness_ms"] as number, applied: row["applied"] as number, appliedAt: row["applied_at"] as number | null,
    joinedAt: row["joined_at"] as number, leftAt: row["left_at"] as number | null, seenAt: row["seen_at"] as number,
  }));
}
