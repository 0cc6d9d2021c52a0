// Which task is bound to which process, and how does it come to be?
// A ticket is spent and a task bound in one transaction, with the attestation and the log entry; what a bound process
// has become since is recorded before it gets anything as that. Reading looks for instances first, by their own index.
// Whose task it may be is src/claim's business; what a task is, tasks.ts's.
import type { Scope, TaskState } from "../identity/task.ts";
import type { Statement, Store } from "./store.ts";
import { toTask, withInstance } from "./tasks.ts";
import type { InstanceRow, SidecarRef, TaskRow } from "./tasks.ts";

const isLive = "t.state = 'active' and t.expires_at > clock_timestamp()";
const allBoundStatement: Statement = {
  name: "all_bound_tasks",
  text: `select x.task from instances i join tasks t on t.instance = i.id cross join lateral task_row(t, i) x
    where ${isLive} and i.boot_id = $1 order by t.claimed_at, t.id`,
};
/**
 * Instances are looked up first, PID by PID, and then the tasks of each (offset 0): each part has an index of its own.
 * PostgreSQL before 17, and any whose statistics are older than the rows, would read all of a boot's, or all that live.
 */
const boundStatement: Statement = {
  name: "bound_tasks",
  text: `select b.task from unnest(array(
      select f.id from unnest($2::int[]) w (pid), lateral (
        select p.id from instances p where p.boot_id = $1 and p.pid = w.pid and p.cgroup_id is null offset 0) f
      union select p.id from instances p where p.boot_id = $1 and p.pid = any($2) and p.cgroup_id is not null
      union select p.id from instances p where p.boot_id = $1 and p.cgroup_id = any($3::text[]))) f (id),
    lateral (select x.task, t.claimed_at, t.id from tasks t join instances i on i.id = t.instance cross join lateral task_row(t, i) x
      where t.instance = f.id and ${isLive} offset 0) b order by b.claimed_at, b.id`,
};

/** Active tasks bound to processes and cgroups of this boot of this machine; oldest claim first. */
export async function boundTasks(store: Store, bootId: string, pids: readonly number[] | null, cgroups: readonly string[] = []): Promise<TaskRow[]> {
  const rows = pids === null ? await store.query(allBoundStatement, [bootId]) : await store.query(boundStatement, [bootId, pids, cgroups]);
  return rows.map(toTask);
}

const beforeStatement: Statement = {
  name: "bound_before",
  text: `select t.id from tasks t join instances i on i.id = t.instance
      join boots b on b.boot_id = i.boot_id and b.machine = $1
    where t.state = 'active' and t.expires_at > clock_timestamp() and i.boot_id <> $2`,
};
const bootStatement: Statement = { name: "note_boot", text: "insert into boots (machine, boot_id) values ($1, $2) on conflict do nothing" };

/** Active tasks bound to processes of earlier boots of this machine. Those of other machines are theirs. */
export async function boundBefore(store: Store, machine: string, bootId: string): Promise<string[]> {
  await store.query(bootStatement, [machine, bootId]);
  return (await store.query(beforeStatement, [machine, bootId])).map((row) => row["id"] as string);
}

const autoStatement: Statement = {
  name: "auto_task",
  text: `select x.task from tasks t ${withInstance} where t.bind = 'auto' and t.state = 'ready' and t.expires_at > clock_timestamp()
    and t.agent = any($1::text[]) order by t.id limit $2`,
};

/** The oldest tasks that wait for the first matching caller. */
export async function autoTasks(store: Store, agents: readonly string[], limit: number): Promise<TaskRow[]> {
  return (await store.query(autoStatement, [agents, limit])).map(toTask);
}

const ofTicketStatement: Statement = { name: "task_of_ticket", text: `select x.task from tasks t ${withInstance} where t.ticket_hash = $1` };

/** The task that waits for this ticket. */
export async function taskOfTicket(store: Store, hash: Buffer): Promise<TaskRow | undefined> {
  const [row] = await store.query(ofTicketStatement, [hash]);
  return row && toTask(row);
}

export type ClaimOutcome =
  | { readonly verdict: "claimed" | "repeated"; readonly instance: string; readonly row: TaskRow }
  | { readonly verdict: RefusedClaim; readonly instance: string; readonly state: TaskState | null };
type RefusedClaim = "gone" | "ended" | "taken" | "ticket" | "too_many";

export type Claim = {
  readonly task: string;
  readonly ticketHash: Buffer | null;
  readonly instance: InstanceRow;
  readonly facts: Readonly<Record<string, unknown>>;
  readonly mostTasks: number;
  readonly attempt: string;
  readonly by: string;
  /** Who claims for it and will fetch for it. */
  readonly sidecar?: SidecarRef | null;
  /** What it shall be bound to, where that is left to the claim. */
  readonly scope?: Scope | null;
};

const claimStatement: Statement = {
  name: "claim_task",
  text: `select verdict, state, instance_id, task
    from claim_task($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)`,
};

/** Dies here: either the task is bound, with its attestation and log entry, or nothing happened. */
export async function claimTask(store: Store, claim: Claim): Promise<ClaimOutcome> {
  const i = claim.instance;
  const [row] = await store.query(claimStatement, [
    claim.task, claim.ticketHash, i.id, i.bootId, i.pid, i.startTime, i.exeDev, i.exeIno, i.uid, i.gid,
    JSON.stringify(claim.facts), claim.mostTasks, claim.attempt, claim.by,
    i.cgroup?.path ?? null, i.cgroup?.id ?? null, claim.sidecar ? JSON.stringify(claim.sidecar) : null, claim.scope ?? null,
  ]);
  const verdict = (row?.["verdict"] ?? "gone") as ClaimOutcome["verdict"];
  const instance = (row?.["instance_id"] as string | null | undefined) ?? i.id;
  if (row && (verdict === "claimed" || verdict === "repeated")) return { verdict, instance, row: toTask(row) };
  return { verdict: verdict as RefusedClaim, instance, state: (row?.["state"] as TaskState | null | undefined) ?? null };
}

const changeStatement: Statement = { name: "change_instance", text: "select change_instance($1, $2, $3, $4, $5, $6, $7)" };

/** A bound process was attested as another file than the one it was bound with. */
export async function changeInstance(store: Store, instance: string, { executable, uid, gid, facts }: Omit<FirstProcess, "pid" | "startTime">, attempt: string): Promise<void> {
  await store.query(changeStatement, [instance, executable.dev, executable.ino, uid, gid, JSON.stringify(facts), attempt]);
}

const firstStatement: Statement = {
  name: "record_first",
  text: "update instances set pid = $2, start_time = $3, exe_dev = $4, exe_ino = $5, uid = $6, gid = $7, facts = $8 where id = $1 and cgroup_id is not null",
};

type FirstProcess = {
  readonly pid: number; readonly startTime: string; readonly executable: { readonly dev: string; readonly ino: string };
  readonly uid: number; readonly gid: number; readonly facts: Readonly<Record<string, unknown>>;
};

/** The first process of the agent in a cgroup that its sidecar claimed before it was there. */
export async function recordFirst(store: Store, instance: string, { pid, startTime, executable, uid, gid, facts }: FirstProcess): Promise<void> {
  await store.query(firstStatement, [instance, pid, startTime, executable.dev, executable.ino, uid, gid, JSON.stringify(facts)]);
}

const ticketStatement: Statement = { name: "new_ticket", text: "select verdict, state, expires_at from new_ticket($1, $2, $3, $4)" };

export type TicketOutcome = { readonly verdict: "gone" | "wrong" | "issued"; readonly state: TaskState | null; readonly expiresAt: Date | null };

/** Replaces the ticket of a task that waits for one; only the hash is stored. */
export async function newTicket(store: Store, task: string, hash: Buffer, seconds: number, by: string): Promise<TicketOutcome> {
  const [row] = await store.query(ticketStatement, [task, hash, seconds, by]);
  return {
    verdict: row?.["verdict"] as TicketOutcome["verdict"],
    state: (row?.["state"] as TaskState | null) ?? null,
    expiresAt: (row?.["expires_at"] as Date | null) ?? null,
  };
}
