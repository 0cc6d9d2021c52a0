// Which SVIDs must no longer be accepted?
// The second transaction's statements, and the feed's: sequences come from one locked head row, so
// their order is the order of the commits, and a reader that asks for what is above N misses nothing.
// The transaction itself is revoke_tasks (functions/); who is told is src/revoke's business.
import { contextLimits } from "../identity/task.ts";
import type { TaskState } from "../identity/task.ts";
import { unixMs } from "./store.ts";
import type { Statement, Store, Transaction } from "./store.ts";
import { toTask } from "./tasks.ts";
import type { TaskRow } from "./tasks.ts";

export type RevokeRequest = {
  readonly task: string;
  readonly reason: string;
  readonly actor: string;
  /** End in this state, or change the context. */
  readonly change:
    | { readonly end: "closed" | "aborted" | "expired" }
    | { readonly set: Readonly<Record<string, string>>; readonly remove: readonly string[] };
  /** The verdict comes without the task's row, which costs as much again as the rest. */
  readonly rowless?: boolean;
};

export type RevokeVerdict = {
  readonly task: string;
  readonly verdict: "ended" | "changed" | "unchanged" | "too_many" | "already" | "gone";
  readonly stateBefore: TaskState | null;
  readonly state: TaskState | null;
  readonly epoch: number;
  /** Absent: nothing to tell the verifiers. */
  readonly sequence: number | null;
  readonly until: Date | null;
  /** Unix milliseconds, with their fraction. */
  readonly at: number;
  /** As it is now; null: there is none, or nobody asked. */
  readonly row: TaskRow | null;
};

const revokeStatement: Statement = {
  name: "revoke_tasks",
  text: `select verdict, state_before, state, epoch, sequence, until, ${unixMs("at")} as at, task from revoke_tasks($1, $2, $3, $4, $5, $6, ${contextLimits.keys}, $7) order by ord`,
};

/** Durable when it returns. A task may stand once in a batch. */
export async function revokeTasks(store: Store, requests: readonly RevokeRequest[]): Promise<RevokeVerdict[]> {
  const rows = await store.query(revokeStatement, [
    requests.map((r) => r.task),
    requests.map((r) => ("end" in r.change ? r.change.end : null)),
    requests.map((r) => ("end" in r.change ? "{}" : JSON.stringify(r.change.set))),
    requests.map((r) => ("end" in r.change ? "[]" : JSON.stringify(r.change.remove))),
    requests.map((r) => r.reason),
    requests.map((r) => r.actor),
    requests.map((r) => r.rowless !== true),
  ]);
  return requests.flatMap(({ task }, at) => {
    const row = rows[at];
    return row ? [{
      task,
      verdict: row["verdict"] as RevokeVerdict["verdict"],
      stateBefore: row["state_before"] as TaskState | null,
      state: row["state"] as TaskState | null,
      epoch: (row["epoch"] as number | null) ?? 0,
      sequence: row["sequence"] as number | null,
      until: row["until"] as Date | null,
      at: row["at"] as number,
      row: row["task"] === null ? null : toTask(row),
    }] : [];
  });
}

const revokeServicesStatement: Statement = {
  name: "revoke_services",
  text: `select name, epoch, sequence, until, ${unixMs("at")} as at from revoke_services($1, $2, $3)`,
};

/** `within`: the store, or a transaction that does more. */
export async function revokeServices(within: Transaction, names: readonly string[], reason: string, actor: string): Promise<FeedRow[]> {
  const rows = await within.query(revokeServicesStatement, [names, reason, actor]);
  return rows.map((row) => ({
    subject: `service/${row["name"] as string}`,
    epoch: row["epoch"] as number,
    sequence: row["sequence"] as number,
    until: row["until"] as Date,
    at: row["at"] as number,
  }));
}

/** `subject`: a task ID, or `service/<name>`. SVIDs of it below `epoch` must not be accepted, since `at` (Unix milliseconds). */
export type FeedRow = { readonly subject: string; readonly epoch: number; readonly sequence: number; readonly until: Date; readonly at: number };

/** `asOf`: Unix milliseconds, with their fraction. */
export type FeedHead = { readonly feedId: string; readonly sequence: number; readonly asOf: number };

const headStatement: Statement = { name: "feed_head", text: `select feed_id, sequence, ${unixMs("clock_timestamp()")} as as_of from feed_head` };

/** The head as of a read that began after this call: the proof of life behind each heartbeat. */
export async function readFeedHead(store: Store): Promise<FeedHead> {
  const [row] = await store.query(headStatement);
  return { feedId: row?.["feed_id"] as string, sequence: row?.["sequence"] as number, asOf: row?.["as_of"] as number };
}

const sinceStatement: Statement = {
  name: "feed_since",
  text: `select subject, epoch, sequence, until, ${unixMs("at")} as at from revocations where sequence > $1 order by sequence limit $2`,
};

/** Revocations after a sequence, in order. */
export async function revocationsSince(store: Store, sequence: number, limit: number): Promise<FeedRow[]> {
  return (await store.query(sinceStatement, [sequence, limit])).map(toFeedRow);
}

const liveStatement: Statement = {
  name: "feed_live",
  text: `select subject, epoch, sequence, until, ${unixMs("at")} as at from revocations
    where sequence > $1 and until > clock_timestamp() order by sequence limit $2`,
};

/** Revocations that still matter, in order: what a snapshot holds. */
export async function liveRevocations(store: Store, afterSequence: number, limit: number): Promise<FeedRow[]> {
  return (await store.query(liveStatement, [afterSequence, limit])).map(toFeedRow);
}

function toFeedRow(row: Record<string, unknown>): FeedRow {
  return {
    subject: row["subject"] as string,
    epoch: row["epoch"] as number,
    sequence: row["sequence"] as number,
    until: row["until"] as Date,
    at: row["at"] as number,
  };
}

/**
 * What is dead since a subject's newest revocation: SVIDs of one kind and authority that had not expired. Counted are those
 * that died by it; `lastExpiry` is also that of what a revocation before it had killed, and some may still accept.
 */
export type DeadSvids = { readonly kind: "x509" | "jwt"; readonly authority: string; readonly count: number; readonly lastExpiry: number };

const subjectsStatement: Statement = {
  name: "revocations_of",
  text: `select max(r.sequence) as sequence, ${unixMs("max(r.at)")} as at from unnest($1::text[]) x(subject)
    cross join lateral (select * from revocations r where r.subject = x.subject order by r.epoch desc limit 1) r`,
};

const deadStatement: Statement = {
  name: "dead_svids",
  text: `with dead as (
      select r.subject, r.epoch, r.at, case when r.subject like '%/%' then null else r.subject::uuid end as task
      from unnest($1::text[]) x(subject)
      cross join lateral (select * from revocations r where r.subject = x.subject order by r.epoch desc limit 1) r),
    died as (
      select s.kind, s.authority, s.expires_at, s.epoch = d.epoch - 1 as by_it from dead d join svids s on s.task = d.task and s.epoch < d.epoch where s.expires_at > d.at
      union all
      select s.kind, s.authority, s.expires_at, s.epoch = d.epoch - 1 from dead d join svids s on d.subject = 'service/' || s.service and s.epoch < d.epoch
        where d.task is null and s.service is not null and s.expires_at > d.at)
    select kind, authority, count(*) filter (where by_it) as count, ${unixMs("max(expires_at)")} as last_expiry from died group by kind, authority`,
};

/** The last of the newest revocations of these subjects (0: there is none), and what died with them. Times are Unix milliseconds. */
export async function readDead(store: Store, subjects: readonly string[]): Promise<{ sequence: number; at: number; svids: DeadSvids[] }> {
  const [row] = await store.query(subjectsStatement, [subjects]);
  const sequence = (row?.["sequence"] as number | null) ?? 0;
  const svids = sequence === 0 ? [] : await store.query(deadStatement, [subjects]);
  return {
    sequence, at: (row?.["at"] as number | null) ?? 0,
    svids: svids.map((found) => ({
      kind: found["kind"] as "x509" | "jwt", authority: found["authority"] as string, count: found["count"] as number, lastExpiry: found["last_expiry"] as number,
    })),
  };
}
