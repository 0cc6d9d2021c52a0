// Which SVIDs were issued?
// A row is written and committed before its SVID is signed (the first transaction), never altered,
// and "revoked" is computed from the epochs in `revocations`: ending a task touches no SVID's row.
// Judging and locking happen inside issue_svids (functions/); signing in src/issue.
import type { TaskState } from "../identity/task.ts";
import type { SidecarRef } from "./tasks.ts";
import type { Row, Statement, Store } from "./store.ts";

export type SvidKind = "x509" | "jwt";

export type SigningAuthorities = {
  readonly x509: { readonly id: string; readonly notAfter: Date };
  readonly jwt: { readonly id: string; readonly notAfter: Date };
};

export type TaskSvidRequest = {
  readonly task: string;
  readonly instance: string;
  readonly kind: SvidKind;
  /** x509: the serial in lower-case hex; jwt: the jti. */
  readonly serial: string;
  readonly audiences: readonly string[];
  /** Who fetched it, if not the instance. */
  readonly via?: SidecarRef | null;
  /** Its place in a status list, as one number (identity/status.ts). */
  readonly status?: number | undefined;
};

/** What the database decided, under the task's lock. `blocked`: the row is being changed now; try again. */
export type TaskSvidVerdict =
  | {
      readonly verdict: "ok";
      readonly agent: string;
      readonly epoch: number;
      readonly contextDigest: string;
      readonly onBehalfOf: string;
      readonly issuedAt: Date;
      readonly expiresAt: Date;
      /** It lives as long as its task: none that is issued later lives longer. */
      readonly untilEnd: boolean;
    }
  | { readonly verdict: "blocked" | "gone" | "ended" | "too_late" | "not_bound"; readonly state: TaskState | null };

const issueStatement: Statement = {
  name: "issue_svids",
  text: `select ord, verdict, agent, epoch, context_digest, on_behalf_of, issued_at, expires_at, until_end, state
    from issue_svids($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
};

/** One verdict for each request, in order; the rows of those that are `ok` are durable when this returns. */
export async function recordTaskSvids(store: Store, requests: readonly TaskSvidRequest[], by: SigningAuthorities): Promise<TaskSvidVerdict[]> {
  const rows = await store.query(issueStatement, [
    requests.map((r) => r.task), requests.map((r) => r.instance), requests.map((r) => r.kind), requests.map((r) => r.serial),
    JSON.stringify(requests.map((r) => r.audiences)), by.x509.id, by.x509.notAfter, by.jwt.id, by.jwt.notAfter,
    requests.map((r) => (r.via ? JSON.stringify(r.via) : null)), requests.map((r) => r.status ?? null),
  ]);
  const verdicts: TaskSvidVerdict[] = requests.map(() => ({ verdict: "gone", state: null }));
  for (const row of rows) verdicts[(row["ord"] as number) - 1] = toTaskVerdict(row);
  return verdicts;
}

function toTaskVerdict(row: Row): TaskSvidVerdict {
  const verdict = row["verdict"] as TaskSvidVerdict["verdict"];
  if (verdict !== "ok") return { verdict, state: (row["state"] as TaskState | null) ?? null };
  return {
    verdict,
    agent: row["agent"] as string,
    epoch: row["epoch"] as number,
    contextDigest: row["context_digest"] as string,
    onBehalfOf: row["on_behalf_of"] as string,
    issuedAt: row["issued_at"] as Date,
    expiresAt: row["expires_at"] as Date,
    untilEnd: row["until_end"] as boolean,
  };
}

export type ServiceSvidRequest = {
  readonly service: string;
  /** Who asked, for the log: `uid 1002 pid 4711`. */
  readonly by: string;
  readonly kind: SvidKind;
  readonly serial: string;
  readonly audiences: readonly string[];
};

export type ServiceSvidVerdict =
  | { readonly verdict: "ok"; readonly epoch: number; readonly issuedAt: Date; readonly expiresAt: Date }
  | { readonly verdict: "gone" };

const issueServiceStatement: Statement = {
  name: "issue_service_svids",
  text: "select ord, verdict, epoch, issued_at, expires_at from issue_service_svids($1, $2, $3, $4, $5, $6, $7, $8, $9)",
};

export async function recordServiceSvids(store: Store, requests: readonly ServiceSvidRequest[], by: SigningAuthorities): Promise<ServiceSvidVerdict[]> {
  const rows = await store.query(issueServiceStatement, [
    requests.map((r) => r.service), requests.map((r) => r.kind), requests.map((r) => r.serial),
    JSON.stringify(requests.map((r) => r.audiences)), requests.map((r) => r.by), by.x509.id, by.x509.notAfter, by.jwt.id, by.jwt.notAfter,
  ]);
  const verdicts: ServiceSvidVerdict[] = requests.map(() => ({ verdict: "gone" }));
  for (const row of rows) {
    if (row["verdict"] !== "ok") continue;
    verdicts[(row["ord"] as number) - 1] = {
      verdict: "ok", epoch: row["epoch"] as number, issuedAt: row["issued_at"] as Date, expiresAt: row["expires_at"] as Date,
    };
  }
  return verdicts;
}

const ownStatement: Statement = { name: "issue_own_svid", text: "select issued_at, expires_at from issue_own_svid($1, $2, $3, $4)" };

/** The broker's own certificate: durable when it returns, and then it may be signed. */
export async function recordOwnSvid(
  store: Store, serial: string, seconds: number, by: SigningAuthorities["x509"],
): Promise<{ readonly issuedAt: Date; readonly expiresAt: Date }> {
  const [row] = await store.query(ownStatement, [serial, seconds, by.id, by.notAfter]);
  return { issuedAt: row?.["issued_at"] as Date, expiresAt: row?.["expires_at"] as Date };
}

export type TaskNow = { readonly task: string; readonly state: TaskState; readonly epoch: number; readonly instance: string | null };

const stateStatement: Statement = {
  name: "task_states",
  text: `select id, epoch, instance, case when state in ('ready', 'active') and expires_at <= clock_timestamp() then 'expired' else state end as state
    from tasks where id = any($1::uuid[])`,
};

/** State and epoch now: the warm read before an SVID already held is handed out again. */
export async function readTaskStates(store: Store, tasks: readonly string[]): Promise<Map<string, TaskNow>> {
  const rows = await store.query(stateStatement, [tasks]);
  return new Map(rows.map((row) => [row["id"] as string, {
    task: row["id"] as string, state: row["state"] as TaskState, epoch: row["epoch"] as number, instance: row["instance"] as string | null,
  }]));
}

const serviceEpochStatement: Statement = { name: "service_epochs", text: "select name, epoch from services where registered and name = any($1)" };

export async function readServiceEpochs(store: Store, names: readonly string[]): Promise<Map<string, number>> {
  const rows = await store.query(serviceEpochStatement, [names]);
  return new Map(rows.map((row) => [row["name"] as string, row["epoch"] as number]));
}

export type SvidRow = {
  readonly id: number;
  readonly kind: SvidKind;
  readonly serial: string;
  readonly task: string | null;
  readonly agent: string | null;
  readonly service: string | null;
  /** Of neither: the path of a reserved identity, `brevet/…`. */
  readonly subject: string | null;
  readonly epoch: number;
  readonly issuedAt: Date;
  readonly expiresAt: Date;
  readonly revoked: boolean;
  readonly audiences: readonly string[];
  readonly via: SidecarRef | null;
};

/** Of one task by its index, of all by their own: where either may be meant, all are read to find one task's. */
const listText = (which: string, order: string): string => `select * from (
      select s.id, s.kind, s.serial, s.task, t.agent, s.service, s.subject, s.epoch, s.issued_at, s.expires_at, s.audiences, s.via,
        coalesce(t.epoch, v.epoch, (select o.epoch from operators o where o.name = substr(s.subject, 17)), 0) > s.epoch as revoked
      from svids s left join tasks t on t.id = s.task left join services v on v.name = s.service
      where ${which} and ($3::bigint is null or s.id < $3)
        and (not $2 or s.expires_at > clock_timestamp())
      order by ${order}) x
    where not $2 or not x.revoked limit $4`;
const listStatement: Statement = { name: "list_svids", text: listText("$1::uuid is null", "s.id desc") };
const listOfTaskStatement: Statement = { name: "list_svids_of_task", text: listText("s.task = $1::uuid", "s.epoch desc, s.id desc") };

/** Newest first. `live`: unexpired and unrevoked. */
export async function listSvids(store: Store, filter: { task: string | null; live: boolean; before: number | null; limit: number }): Promise<SvidRow[]> {
  const rows = await store.query(filter.task === null ? listStatement : listOfTaskStatement, [filter.task, filter.live, filter.before, filter.limit]);
  return rows.map((row) => ({
    id: row["id"] as number,
    kind: row["kind"] as SvidKind,
    serial: row["serial"] as string,
    task: row["task"] as string | null,
    agent: row["agent"] as string | null,
    service: row["service"] as string | null,
    subject: row["subject"] as string | null,
    epoch: row["epoch"] as number,
    issuedAt: row["issued_at"] as Date,
    expiresAt: row["expires_at"] as Date,
    revoked: row["revoked"] as boolean,
    audiences: row["audiences"] as string[],
    via: row["via"] as SidecarRef | null,
  }));
}

const countStatement: Statement = {
  name: "count_svids",
  text: `select s.task, count(*) as n from svids s join tasks t on t.id = s.task
    where s.task = any($1::uuid[]) and s.expires_at > clock_timestamp() and s.epoch >= coalesce($2, t.epoch) group by s.task`,
};

/** Unexpired SVIDs of each task that are (or, given the epoch before, were) alive. */
export async function countLiveSvids(store: Store, tasks: readonly string[]): Promise<Map<string, number>> {
  const rows = await store.query(countStatement, [tasks, null]);
  return new Map(rows.map((row) => [row["task"] as string, row["n"] as number]));
}

const countOfServicesStatement: Statement = {
  name: "count_service_svids",
  text: `select count(*) as n from svids s join services v on v.name = s.service
    where s.service = any($1::text[]) and s.expires_at > clock_timestamp() and s.epoch >= v.epoch`,
};

/** Unexpired SVIDs of these services that are alive. */
export async function countServiceSvids(store: Store, services: readonly string[]): Promise<number> {
  const [row] = services.length === 0 ? [] : await store.query(countOfServicesStatement, [services]);
  return (row?.["n"] as number | undefined) ?? 0;
}

/**
 * Rows of three kinds of holder, by the index of each; in the order of what killed them, as a cursor reads them. Each
 * stands under its first revocation: what was issued before the one before that (`since`) is dead by then.
 */
const deadStatement: Statement = {
  name: "dead_certificates",
  text: `declare dead no scroll cursor for
    select s.id || ' ' || s.serial || ' ' || floor(date_part('epoch', r.at))::bigint || ' ' || ceil(date_part('epoch', s.expires_at))::bigint
      || ' ' || r.ended || ' ' || s.authority as line
    from (
      select v.sequence, v.subject, v.epoch, v.at, t.id as task,
        coalesce((select max(p.epoch) from revocations p where p.subject = v.subject and p.epoch < v.epoch), 0) as since,
        case when t.id is null or (t.state in ('closed', 'aborted', 'expired') and t.epoch = v.epoch) then 1 else 0 end as ended
      from revocations v left join tasks t on t.id = case when v.subject not like '%/%' then v.subject::uuid end
      where v.sequence > $1 and v.sequence <= $2 and v.until > $3
    ) r cross join lateral (
      select s.id, s.serial, s.authority, s.expires_at, s.epoch, s.kind from svids s where s.task = r.task and s.epoch >= r.since and s.epoch < r.epoch
      union all
      select s.id, s.serial, s.authority, s.expires_at, s.epoch, s.kind from svids s
        where s.service = case when r.subject like 'service/%' then substr(r.subject, 9) end
      union all
      select s.id, s.serial, s.authority, s.expires_at, s.epoch, s.kind from svids s where s.subject = r.subject
    ) s where s.epoch >= r.since and s.epoch < r.epoch and s.kind = 'x509' and s.expires_at >= $3 order by r.sequence`,
};
const fetchDeadStatement: Statement = { name: "fetch_dead", text: "fetch 2000 from dead" };
const closeDeadStatement: Statement = { name: "close_dead", text: "close dead" };
/** Revocations without a certificate fill no page: a fetch that had to pass by a million would run into its time limit. */
const revocationsEach = 20_000;

/**
 * Certificates that the revocations after `after`, up to `to`, killed, and that had not expired at `since`. A line for
 * each: row, serial, time and expiry in seconds, 1 if its task is over, authority. Pages of a few thousand go to `onPage`.
 */
export async function deadCertificates(
  store: Store, { after, to, since }: { after: number; to: number; since: Date }, onPage: (lines: readonly string[]) => Promise<void>,
): Promise<void> {
  await store.transaction(async (tx) => {
    for (let from = after; from < to; from += revocationsEach) {
      await tx.query(deadStatement, [from, Math.min(from + revocationsEach, to), since]);
      for (;;) {
        const rows = await tx.query(fetchDeadStatement);
        if (rows.length === 0) break;
        await onPage(rows.map((row) => row["line"] as string));
      }
      await tx.query(closeDeadStatement);
    }
  });
}
