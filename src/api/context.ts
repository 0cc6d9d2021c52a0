// Which changes of a context are allowed, of one task and of many?
// Facts that the agent's catalog entry names, so many and so long as the proto says; a fact that is already so
// changes nothing, so a change that was interrupted is simply asked for again. Of many tasks each is changed in
// the second transaction, with those that are changed beside it, and none waits for all.
// What the change does to SVIDs is src/revoke's business; opening and ending, tasks.ts's.
import type { LiveCatalog } from "../authorize/catalog.ts";
import { invalid, notFound, wrongState } from "../errors.ts";
import type { BrevetError } from "../errors.ts";
import type { ChangeContextRequest__Output } from "../generated/brevet/v1/ChangeContextRequest.ts";
import type { ChangeContextsRequest__Output } from "../generated/brevet/v1/ChangeContextsRequest.ts";
import type { ChangeContextsResponse } from "../generated/brevet/v1/ChangeContextsResponse.ts";
import { contextDigest, contextLimits, refLimits, terminalStates } from "../identity/task.ts";
import { getTasks, liveTaskIds } from "../record/tasks.ts";
import type { TaskRow } from "../record/tasks.ts";
import type { Store } from "../record/store.ts";
import type { Revoker } from "../revoke/revoke.ts";
import { actorOf } from "./access.ts";
import type { Access } from "./access.ts";
import { Fields } from "./fields.ts";
import type { Call } from "./call.ts";

export type ContextParts = { readonly store: Store; readonly catalog: LiveCatalog; readonly access: Access; readonly revoker: Revoker };

/** How many tasks are asked for before those asked for earlier are answered. */
const mostAtOnce = 1024;

type Facts = { readonly set: Readonly<Record<string, string>>; readonly remove: readonly string[] };

/** The task as it is after it, or as it would be. */
export async function changeContext(p: ContextParts, request: ChangeContextRequest__Output, call: Call): Promise<TaskRow> {
  const fields = new Fields();
  fields.task("task", request.task);
  const facts = factsOf(fields, request);
  fields.check();
  const { id, agent } = request.dryRun ? await p.access.task(call, request.task) : await p.access.named(call, request.task);
  checkContextKeys(p, fields, "set", agent, Object.keys(facts.set));
  fields.check();
  if (request.dryRun) return dryRun(id, facts, await p.access.task(call, id));
  const { verdict, state, row } = await p.revoker.changeContext(id, facts.set, facts.remove, actorOf(call));
  if (verdict === "too_many") throw tooMany(id);
  if (verdict === "already" || verdict === "ended" || !row) throw wrongState(id, state ?? "ended", "its context can't change");
  return row;
}

/** Of all live tasks of an agent, or of those with these refs. Ends with an error only after all were tried. */
export async function changeContexts(p: ContextParts, request: ChangeContextsRequest__Output, call: Call): Promise<ChangeContextsResponse> {
  const fields = new Fields();
  const agent = fields.text("agent", request.agent, 64, true);
  const refs = fields.map("refs", request.refs, refLimits);
  const facts = factsOf(fields, request);
  const mayHandle = p.catalog.agent(agent) !== undefined && (await p.access.mayHandle(call, agent));
  if (mayHandle) checkContextKeys(p, fields, "set", agent, Object.keys(facts.set));
  fields.check();
  if (!mayHandle) throw notFound("agent", "agent");
  const tasks = await liveTaskIds(p.store, agent, refs);
  const changed: string[] = [];
  let unchanged = 0;
  for (let at = 0; at < tasks.length; at += mostAtOnce) {
    call.signal.throwIfAborted();
    const some = tasks.slice(at, at + mostAtOnce);
    const verdicts = request.dryRun ? await wouldChange(p, some, facts) : await changeAll(p, some, facts, actorOf(call));
    for (const [task, verdict] of verdicts) {
      if (verdict === "changed") changed.push(task);
      else if (verdict === "unchanged") unchanged++;
      else fields.wrong("set", `the context of task ${task} would have more than ${contextLimits.keys} facts`);
    }
  }
  fields.check();
  return { changed, unchanged, dryRun: request.dryRun };
}

type Judged = readonly [task: string, verdict: "changed" | "unchanged" | "too_many"];

/** Those that end meanwhile have no context to change. */
async function changeAll(p: ContextParts, tasks: readonly string[], facts: Facts, actor: string): Promise<Judged[]> {
  const outcomes = await Promise.allSettled(tasks.map((task) => p.revoker.changeContext(task, facts.set, facts.remove, actor, { rowless: true })));
  return outcomes.flatMap((outcome, i): Judged[] => {
    if (outcome.status === "rejected") throw outcome.reason;
    const { verdict } = outcome.value;
    return verdict === "changed" || verdict === "unchanged" || verdict === "too_many" ? [[tasks[i] ?? "", verdict]] : [];
  });
}

async function wouldChange(p: ContextParts, tasks: readonly string[], facts: Facts): Promise<Judged[]> {
  const rows = new Map((await getTasks(p.store, tasks)).map((row) => [row.id, row]));
  return tasks.flatMap((task): Judged[] => {
    const row = rows.get(task);
    if (!row || terminalStates.has(row.state)) return [];
    const next = after(row, facts);
    return [[task, next.epoch === row.epoch ? "unchanged" : isTooMuch(next) ? "too_many" : "changed"]];
  });
}

function dryRun(id: string, facts: Facts, row: TaskRow): TaskRow {
  if (terminalStates.has(row.state)) throw wrongState(row.id, row.state, "its context can't change");
  const next = after(row, facts);
  if (isTooMuch(next)) throw tooMany(id);
  return next;
}

function isTooMuch({ context }: TaskRow): boolean {
  return Object.keys(context).length > contextLimits.keys;
}

function after(row: TaskRow, { set, remove }: Facts): TaskRow {
  const context = Object.fromEntries(Object.entries({ ...row.context, ...set }).filter(([key]) => !remove.includes(key)));
  const digest = contextDigest(context);
  return { ...row, context, contextDigest: digest, epoch: row.epoch + (digest === row.contextDigest ? 0 : 1) };
}

function factsOf(fields: Fields, request: Facts): Facts {
  const set = fields.map("set", request.set, contextLimits);
  const remove = request.remove.map((key, i) => fields.text(`remove[${i}]`, key, contextLimits.key, true));
  if (Object.keys(set).length + remove.length === 0) fields.wrong("set", "nothing to change: give key=value");
  for (const [i, key] of remove.entries()) if (key !== "" && Object.hasOwn(set, key)) fields.wrong(`remove[${i}]`, "is in set, too: it can't be both");
  return { set, remove };
}

export function checkContextKeys(p: Pick<ContextParts, "catalog">, fields: Fields, field: string, agent: string, keys: readonly string[]): void {
  const allowed = p.catalog.agent(agent)?.definition.context ?? null;
  if (allowed === null) return;
  for (const key of keys) {
    if (!allowed.includes(key)) fields.wrong(`${field}[${JSON.stringify(key)}]`, `not a context key of agent ${agent}: ${allowed.join(", ") || "it has none"}`);
  }
}

function tooMany(task: string): BrevetError {
  return invalid([{ field: "set", description: `the context of task ${task} would have more than ${contextLimits.keys} facts` }]);
}
