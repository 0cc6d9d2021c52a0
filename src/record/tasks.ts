// What does the database know of a task?
// A row becomes a frozen value here, its state computed at the moment of reading: a task past its
// expiry is `expired` whether or not any process was up to say so. Statements name their columns.
// Fate is decided elsewhere: claiming in claims.ts, issuing in svids.ts, ending and context changes in revocations.ts.
import { contextDigest } from "../identity/task.ts";
import type { Bind, Scope, TaskState } from "../identity/task.ts";
import { Batch, perStore } from "./batch.ts";
import type { Row, Statement, Store } from "./store.ts";

export type TaskRow = {
  readonly id: string;
  readonly agent: string;
  readonly owner: string;
  readonly state: TaskState;
  readonly epoch: number;
  readonly context: Readonly<Record<string, string>>;
  readonly contextDigest: string;
  readonly purpose: string;
  readonly onBehalfOf: string;
  readonly refs: Readonly<Record<string, string>>;
  readonly bind: Bind;
  readonly scope: Scope;
  /** The opener named none: its claim may. */
  readonly scopeLeft: boolean;
  readonly onExit: "abort" | "close";
  readonly openedAt: Date;
  readonly openedBy: string;
  readonly expiresAt: Date;
  readonly claimedAt: Date | null;
  readonly endedAt: Date | null;
  readonly endedBy: string;
  readonly endReason: string;
  readonly instance: InstanceRow | null;
  /** Who claimed for it, the newest last. */
  readonly sidecars: readonly SidecarRef[];
};

/** The process that a task is bound to, as it was when it claimed; or with `cgroup` all of that cgroup, and the process is its first. */
export type InstanceRow = {
  readonly id: string;
  readonly bootId: string;
  readonly pid: number;
  readonly startTime: string;
  readonly exeDev: string;
  readonly exeIno: string;
  readonly uid: number;
  readonly gid: number;
  readonly path: string;
  readonly cgroup?: CgroupRef | null;
};

/** A cgroup's path below the root of the v2 hierarchy, and the kernel's ID of it, unique in one boot. */
export type CgroupRef = { readonly path: string; readonly id: string };

/** A process that fetches for an instance that it is not. */
export type SidecarRef = {
  readonly pid: number; readonly startTime: string; readonly exeDev: string; readonly exeIno: string;
  readonly uid: number; readonly gid: number; readonly path: string;
};

/** Of the rows `t` of tasks that a statement goes through. */
export const withInstance = "left join instances i on i.id = t.instance cross join lateral task_row(t, i) x";

/** Of a statement's row that holds what `task_row` makes of a task (functions/). */
export function toTask({ task }: Row): TaskRow {
  const row = task as Row;
  const state = row["state"] as TaskState;
  return {
    id: row["id"] as string,
    agent: row["agent"] as string,
    owner: row["owner"] as string,
    state,
    epoch: row["epoch"] as number,
    context: row["context"] as Record<string, string>,
    contextDigest: row["context_digest"] as string,
    purpose: row["purpose"] as string,
    onBehalfOf: row["on_behalf_of"] as string,
    refs: row["refs"] as Record<string, string>,
    bind: row["bind"] as Bind,
    scope: row["scope"] as Scope,
    scopeLeft: row["scope_left"] as boolean,
    onExit: row["on_exit"] as "abort" | "close",
    openedAt: toDate(row["opened_at"]),
    openedBy: row["opened_by"] as string,
    expiresAt: toDate(row["expires_at"]),
    claimedAt: row["claimed_at"] === null ? null : toDate(row["claimed_at"]),
    endedAt: row["ended_at"] === null ? null : toDate(row["ended_at"]),
    endedBy: (row["ended_by"] as string | null) ?? (state === "expired" ? "brevet" : ""),
    endReason: (row["end_reason"] as string | null) ?? (state === "expired" ? "expired" : ""),
    instance: row["i_id"] ? toInstance(row) : null,
    sidecars: row["sidecars"] as SidecarRef[],
  };
}

function toDate(value: unknown): Date {
  return new Date(value as string);
}

function toInstance(row: Row): InstanceRow {
  return {
    id: row["i_id"] as string,
    bootId: row["i_boot_id"] as string,
    pid: row["i_pid"] as number,
    startTime: row["i_start_time"] as string,
    exeDev: row["i_exe_dev"] as string,
    exeIno: row["i_exe_ino"] as string,
    uid: row["i_uid"] as number,
    gid: row["i_gid"] as number,
    path: (row["i_path"] as string | null) ?? "",
    cgroup: row["i_cgroup_id"] ? { path: row["i_cgroup"] as string, id: row["i_cgroup_id"] as string } : null,
  };
}

export type NewTask = {
  readonly id: string;
  readonly agent: string;
  readonly ttlSeconds: number;
  readonly context: Readonly<Record<string, string>>;
  readonly purpose: string;
  readonly onBehalfOf: string;
  readonly refs: Readonly<Record<string, string>>;
  readonly bind: Bind;
  /** null: left to the claim. */
  readonly scope: Scope | null;
  readonly idempotencyKey: string | null;
  readonly openedBy: string;
  readonly ticketHash: Buffer | null;
  readonly ticketSeconds: number;
};

export type OpenOutcome =
  | { readonly verdict: "opened"; readonly task: string; readonly row: TaskRow }
  | { readonly verdict: "repeated"; readonly task: string }
  | { readonly verdict: "unknown_agent" }
  | { readonly verdict: "disabled"; readonly reason: string };

const openStatement: Statement = {
  name: "open_tasks", text: "select ord, verdict, task_id, disabled_reason, owner, on_exit, opened_at, expires_at from open_tasks($1)",
};

const openings = perStore((store) => new Batch<NewTask, OpenOutcome | "again">({
  most: 64,
  send: async (tasks) => {
    const requests = tasks.map((task) => ({
      id: task.id, agent: task.agent, ttl: task.ttlSeconds, context: task.context, digest: contextDigest(task.context), purpose: task.purpose,
      behalf: task.onBehalfOf, refs: task.refs, bind: task.bind, scope: task.scope, key: task.idempotencyKey, by: task.openedBy,
      ticket: task.ticketHash?.toString("hex") ?? null, ticket_ttl: task.ticketSeconds,
    }));
    const rows = await store.query(openStatement, [JSON.stringify(requests)]);
    const outcomes: (OpenOutcome | "again")[] = tasks.map(() => ({ verdict: "unknown_agent" }));
    for (const row of rows) {
      const at = (row["ord"] as number) - 1;
      const task = tasks[at];
      if (task) outcomes[at] = toOutcome(row, task);
    }
    return outcomes;
  },
}));

/** Openings that arrive together are one transaction; agents' rows are locked in the order of their names. */
export async function openTask(store: Store, task: NewTask): Promise<OpenOutcome> {
  for (;;) {
    const outcome = await openings(store).add(task);
    if (outcome !== "again") return outcome;
  }
}

function toOutcome(row: Row, task: NewTask): OpenOutcome | "again" {
  const verdict = row["verdict"] as OpenOutcome["verdict"] | "again";
  const id = row["task_id"] as string;
  switch (verdict) {
    case "opened":
      return { verdict, task: id, row: newRow(row, task) };
    case "repeated":
      return { verdict, task: id };
    case "disabled":
      return { verdict, reason: (row["disabled_reason"] as string | null) ?? "" };
    case "unknown_agent":
      return { verdict };
    case "again":
      return verdict;
  }
}

/** What the row of a task that was just opened says. */
function newRow(row: Row, task: NewTask): TaskRow {
  const { id, agent, context, purpose, onBehalfOf, refs, bind, scope, openedBy } = task;
  return {
    id, agent, owner: row["owner"] as string, state: "ready", epoch: 1, context, contextDigest: contextDigest(context), purpose, onBehalfOf, refs,
    bind, scope: scope ?? "process", scopeLeft: scope === null, onExit: row["on_exit"] as "abort" | "close", openedAt: row["opened_at"] as Date, openedBy, expiresAt: row["expires_at"] as Date,
    claimedAt: null, endedAt: null, endedBy: "", endReason: "", instance: null, sidecars: [],
  };
}

const getStatement: Statement = { name: "get_tasks", text: `select x.task from tasks t ${withInstance} where t.id = any($1::uuid[])` };

/** Tasks by ID, in no order; those that do not exist are absent. */
export async function getTasks(store: Store, ids: readonly string[]): Promise<TaskRow[]> {
  return (await store.query(getStatement, [ids])).map(toTask);
}

const readings = perStore((store) => new Batch<string, TaskRow | null>({
  most: 256, lanes: 4,
  send: async (ids) => {
    const rows = new Map((await getTasks(store, [...new Set(ids)])).map((row) => [row.id, row]));
    return ids.map((id) => rows.get(id) ?? null);
  },
}));

/** As it is after this call: a reading is shared only before it has been sent. */
export async function getTask(store: Store, id: string): Promise<TaskRow | undefined> {
  return (await readings(store).add(id)) ?? undefined;
}

export type TaskFilter = {
  /** null: all agents. */
  readonly agents: readonly string[] | null;
  readonly state: TaskState | null;
  readonly refs: Readonly<Record<string, string>>;
  readonly before: string | null;
  readonly limit: number;
};

const listText = (refs: string): string => `select x.task from tasks t ${withInstance}
    where ($1::text[] is null or t.agent = any($1)) and ${refs} and ($4::uuid is null or t.id < $4)
      and ($2::text is null or $2 = case when t.state in ('ready', 'active') and t.expires_at <= clock_timestamp() then 'expired' else t.state end)
    order by t.id desc limit $5`;
const listStatement: Statement = { name: "list_tasks", text: listText("$3::jsonb is not null") };
/** The index on refs leaves out tasks without any. */
const listByRefsStatement: Statement = { name: "list_tasks_by_refs", text: listText("t.refs <> '{}' and t.refs @> $3::jsonb") };

/** Newest first (a UUIDv7 sorts by time). */
export async function listTasks(store: Store, filter: TaskFilter): Promise<TaskRow[]> {
  const statement = Object.keys(filter.refs).length === 0 ? listStatement : listByRefsStatement;
  const rows = await store.query(statement, [filter.agents, filter.state, JSON.stringify(filter.refs), filter.before, filter.limit]);
  return rows.map(toTask);
}

const liveStatement: Statement = {
  name: "live_tasks",
  text: "select id from tasks where state in ('ready', 'active') and ($1::text is null or agent = $1) and refs @> $2 order by id",
};

/** IDs of all tasks not yet ended (past expiry or not), of one agent or of all, with these refs. */
export async function liveTaskIds(store: Store, agent: string | null, refs: Readonly<Record<string, string>> = {}): Promise<string[]> {
  return (await store.query(liveStatement, [agent, JSON.stringify(refs)])).map((row) => row["id"] as string);
}

const expiredStatement: Statement = {
  name: "expired_tasks",
  text: "select id from tasks where state in ('ready', 'active') and expires_at <= clock_timestamp() order by expires_at limit 500",
};
const nextExpiryStatement: Statement = {
  name: "next_expiry",
  text: `select extract(epoch from (min(expires_at) - clock_timestamp())) * 1000 as ms from tasks where state in ('ready', 'active')`,
};

/** Tasks whose time is over and whose row does not say so yet, and the milliseconds until the next. */
export async function dueTasks(store: Store): Promise<{ due: string[]; nextMs: number | undefined }> {
  const due = (await store.query(expiredStatement)).map((row) => row["id"] as string);
  const [next] = await store.query(nextExpiryStatement);
  const ms = next?.["ms"];
  return { due, nextMs: ms === null || ms === undefined ? undefined : Number(ms) };
}

const findStatement: Statement = {
  name: "find_task",
  text: `select id::text as id from tasks where id between $2::uuid and $3::uuid and ($4::text[] is null or agent = any($4::text[]))
    union select t.id::text from svids s join tasks t on t.id = s.task where s.serial = any($1::text[]) and ($4::text[] is null or t.agent = any($4::text[])) limit 5`,
};

/**
 * Task IDs that a prefix of one, a certificate's serial (hex in any letters, or decimal) or a `jti` may mean; of these agents
 * alone (null: of all), so that others' are not in the way.
 */
export async function findTaskIds(store: Store, text: string, agents: readonly string[] | null): Promise<string[]> {
  const hex = text.replace(/^0x/i, "").replaceAll(/[:-]/g, "").toLowerCase();
  const isPrefix = /^[0-9a-f]{1,32}$/.test(hex);
  const bound = (filler: string): string | null => (isPrefix ? hex.padEnd(32, filler) : null);
  const serial = /^[0-9]{33,49}$/.test(text) ? BigInt(text).toString(16) : hex; // 126 bits at least: never as short as hex
  return (await store.query(findStatement, [[text, hex, serial], bound("0"), bound("f"), agents])).map((row) => row["id"] as string);
}
