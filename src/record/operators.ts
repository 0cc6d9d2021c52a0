// Who may reach the brokers over the network, and in what role?
// A row for each operator; its epoch only grows, so a certificate that was ended stays dead when the name is
// given again. Adding and removing write the feed's row in the same transaction (functions/).
// Certificates are issued by src/issue/operators.ts; what a role may do is src/api/roles.ts's.
import type { FeedRow } from "./revocations.ts";
import { unixMs } from "./store.ts";
import type { Row, Statement, Store } from "./store.ts";
import type { SigningAuthorities } from "./svids.ts";

export type OperatorRow = {
  readonly name: string;
  readonly role: "operator" | "orchestrator" | "service" | "auditor";
  readonly agents: readonly string[];
  readonly ttlSeconds: number;
  readonly epoch: number;
  readonly addedAt: Date;
  readonly addedBy: string;
  readonly removedAt: Date | null;
  readonly removedReason: string;
  /** Of its newest certificate; null if it has none. */
  readonly certifiedUntil: Date | null;
};

const columns = `o.name, o.role, o.agents, o.ttl, o.epoch, o.added_at, o.added_by, o.removed_at, o.removed_reason,
  (select max(s.expires_at) from svids s where s.subject = 'brevet/operator/' || o.name and s.epoch = o.epoch) as certified_until`;
const getStatement: Statement = { name: "get_operator", text: `select ${columns} from operators o where o.name = $1` };
const listStatement: Statement = { name: "list_operators", text: `select ${columns} from operators o order by o.name` };

function toOperator(row: Row): OperatorRow {
  return {
    name: row["name"] as string, role: row["role"] as OperatorRow["role"], agents: row["agents"] as string[], ttlSeconds: row["ttl"] as number,
    epoch: row["epoch"] as number, addedAt: row["added_at"] as Date, addedBy: row["added_by"] as string,
    removedAt: row["removed_at"] as Date | null, removedReason: (row["removed_reason"] as string | null) ?? "",
    certifiedUntil: row["certified_until"] as Date | null,
  };
}

export async function getOperator(store: Store, name: string): Promise<OperatorRow | undefined> {
  const [row] = await store.query(getStatement, [name]);
  return row && toOperator(row);
}

/** Those removed too, by name. */
export async function listOperators(store: Store): Promise<OperatorRow[]> {
  return (await store.query(listStatement)).map(toOperator);
}

export type NewOperator = Pick<OperatorRow, "name" | "role" | "agents" | "ttlSeconds"> & { readonly replace: boolean; readonly by: string };

const addStatement: Statement = { name: "add_operator", text: `select verdict, epoch, sequence, until, ${unixMs("at")} as at from add_operator($1, $2, $3, $4, $5, $6)` };

/** `ended`: what the certificates until now died of, for the feed. */
export async function addOperator(
  store: Store, o: NewOperator,
): Promise<{ readonly verdict: "added" | "replaced" | "exists"; readonly epoch: number; readonly ended: readonly FeedRow[] }> {
  const [row = {}] = await store.query(addStatement, [o.name, o.role, o.agents, o.ttlSeconds, o.replace, o.by]);
  const ended = row["sequence"] === null ? [] : [toFeedRow(o.name, row)];
  return { verdict: row["verdict"] as "added" | "replaced" | "exists", epoch: row["epoch"] as number, ended };
}

const removeStatement: Statement = { name: "remove_operator", text: `select epoch, sequence, until, ${unixMs("at")} as at from remove_operator($1, $2, $3)` };

/** Undefined: there is none of this name. */
export async function removeOperator(store: Store, name: string, reason: string, by: string): Promise<FeedRow | undefined> {
  const [row] = await store.query(removeStatement, [name, reason, by]);
  return row && toFeedRow(name, row);
}

function toFeedRow(name: string, row: Row): FeedRow {
  return { subject: `brevet/operator/${name}`, epoch: row["epoch"] as number, sequence: row["sequence"] as number, until: row["until"] as Date, at: row["at"] as number };
}

const issueStatement: Statement = {
  name: "issue_operator_svid",
  text: "select role, agents, epoch, issued_at, expires_at from issue_operator_svid($1, $2, $3, $4, $5, $6)",
};

/** Undefined: it was removed, or what asks is of an earlier epoch. Else durable, and may be signed. */
export async function recordOperatorSvid(
  store: Store, request: { readonly name: string; readonly epoch: number; readonly serial: string; readonly by: string }, authority: SigningAuthorities["x509"],
): Promise<{ readonly epoch: number; readonly issuedAt: Date; readonly expiresAt: Date } | undefined> {
  const [row] = await store.query(issueStatement, [request.name, request.epoch, request.serial, authority.id, authority.notAfter, request.by]);
  return row && { epoch: row["epoch"] as number, issuedAt: row["issued_at"] as Date, expiresAt: row["expires_at"] as Date };
}
