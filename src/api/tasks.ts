// Opening, seeing, changing and ending tasks: brevet.v1.Tasks.
// The same on both sockets; only what a caller may handle differs (access.ts). A repeat of what is
// already so succeeds and changes nothing; what can't be done from the task's state is
// FAILED_PRECONDITION with that state.
// Changing the context is context.ts's, the transactions are src/revoke's and src/record's; claiming is agent.ts.
import type { ServerWritableStream } from "@grpc/grpc-js";
import { newTicket as makeTicket, ticketSeconds } from "../claim/ticket.ts";
import { BrevetError, notFound, wrongState } from "../errors.ts";
import type { CloseTaskRequest__Output } from "../generated/brevet/v1/CloseTaskRequest.ts";
import type { AbortTaskRequest__Output } from "../generated/brevet/v1/AbortTaskRequest.ts";
import type { ChangeContextRequest__Output } from "../generated/brevet/v1/ChangeContextRequest.ts";
import type { ChangeContextsRequest__Output } from "../generated/brevet/v1/ChangeContextsRequest.ts";
import type { GetTaskRequest__Output } from "../generated/brevet/v1/GetTaskRequest.ts";
import type { IssueTicketRequest__Output } from "../generated/brevet/v1/IssueTicketRequest.ts";
import type { ListTasksRequest__Output } from "../generated/brevet/v1/ListTasksRequest.ts";
import type { ListTasksResponse } from "../generated/brevet/v1/ListTasksResponse.ts";
import type { OpenTaskRequest__Output } from "../generated/brevet/v1/OpenTaskRequest.ts";
import type { Task } from "../generated/brevet/v1/Task.ts";
import type { TasksHandlers } from "../generated/brevet/v1/Tasks.ts";
import type { WatchTaskRequest__Output } from "../generated/brevet/v1/WatchTaskRequest.ts";
import { formatAgentTaskId, isTaskId, newTaskId } from "../identity/id.ts";
import { binds, contextLimits, refLimits, scopes, taskStates, terminalStates } from "../identity/task.ts";
import type { TaskState } from "../identity/task.ts";
import { toTimestamp } from "../proto.ts";
import { newTicket } from "../record/claims.ts";
import { getTask, listTasks, openTask } from "../record/tasks.ts";
import type { TaskRow } from "../record/tasks.ts";
import type { EndState } from "../revoke/revoke.ts";
import { actorOf } from "./access.ts";
import { changeContext, changeContexts, checkContextKeys } from "./context.ts";
import type { ContextParts } from "./context.ts";
import { Fields } from "./fields.ts";
import type { Call } from "./call.ts";
import type { ApiServer } from "./server.ts";
import { taken } from "./unread.ts";

export type TaskParts = ContextParts & {
  readonly trustDomain: string;
  readonly endpointOf: (task: string) => string;
  /** Calls back after each change of a task that this broker hears of. */
  readonly onTaskChanged: (task: string, callback: () => void) => () => void;
  readonly onOpened: (row: TaskRow) => void;
};

const defaultTtl = 900;
const watchPollMs = 5000;

export function toTask(row: TaskRow, trustDomain: string, endpoint: string): Task {
  return {
    id: row.id, agent: row.agent, spiffeId: formatAgentTaskId(trustDomain, row.agent, row.id), state: row.state, epoch: row.epoch,
    context: row.context, contextDigest: row.contextDigest, purpose: row.purpose, onBehalfOf: row.onBehalfOf, refs: row.refs,
    bind: row.bind, scope: row.scope, owner: row.owner, openedBy: row.openedBy, endedBy: row.endedBy, endReason: row.endReason,
    openedAt: toTimestamp(row.openedAt), expiresAt: toTimestamp(row.expiresAt),
    claimedAt: row.claimedAt && toTimestamp(row.claimedAt), endedAt: row.endedAt && toTimestamp(row.endedAt),
    instance: row.instance && { id: row.instance.id, pid: row.instance.pid, uid: row.instance.uid, gid: row.instance.gid, path: row.instance.path, cgroup: row.instance.cgroup?.path ?? "" },
    endpoint: row.state === "active" ? `unix://${endpoint}` : "",
  };
}

export function taskHandlers(server: ApiServer, p: TaskParts): TasksHandlers {
  const show = (row: TaskRow): Task => toTask(row, p.trustDomain, p.endpointOf(row.id));
  const again = async (id: string): Promise<TaskRow> => {
    const row = await getTask(p.store, id);
    if (!row) throw notFound("task", "task");
    return row;
  };
  return {
    Open: server.unary("Tasks.Open", async (request: OpenTaskRequest__Output, call) => open(p, request, call)),
    Get: server.unary("Tasks.Get", async (request: GetTaskRequest__Output, call) => show(await p.access.task(call, request.task))),
    List: server.unary("Tasks.List", async (request: ListTasksRequest__Output, call) => list(p, request, call, show)),

    Watch: server.stream("Tasks.Watch", async (request: WatchTaskRequest__Output, call, stream: ServerWritableStream<WatchTaskRequest__Output, Task>) => {
      const { id } = await p.access.task(call, request.task);
      await watch(p, id, call, (row) => taken(stream, show(row), call.signal));
    }),

    ChangeContext: server.unary("Tasks.ChangeContext", async (request: ChangeContextRequest__Output, call) => show(await changeContext(p, request, call))),
    ChangeContexts: server.unary("Tasks.ChangeContexts", async (request: ChangeContextsRequest__Output, call) => changeContexts(p, request, call)),

    Close: server.unary("Tasks.Close", async (request: CloseTaskRequest__Output, call) => {
      return show(await end(p, await p.access.taskId(call, request.task), "closed", "closed", call));
    }),

    Abort: server.unary("Tasks.Abort", async (request: AbortTaskRequest__Output, call) => {
      const fields = new Fields();
      fields.task("task", request.task);
      const reason = fields.text("reason", request.reason, 1024, true);
      fields.check();
      const task = await p.access.taskId(call, request.task);
      return show(await end(p, task, "aborted", reason, call));
    }),

    IssueTicket: server.unary("Tasks.IssueTicket", async (request: IssueTicketRequest__Output, call) => {
      const row = await p.access.task(call, request.task);
      if (row.bind !== "ticket") throw new BrevetError("WRONG_STATE", `the task's bind is ${row.bind}: it takes no ticket`, { metadata: { task: row.id, state: row.state } });
      const issued = await anotherTicket(p, row.id, call);
      if ("state" in issued) throw wrongState(row.id, issued.state, "a ticket is for a task that waits for its claim");
      return { ...show(await again(row.id)), ...issued };
    }),
  };
}

async function open(p: TaskParts, request: OpenTaskRequest__Output, call: Call): Promise<Task> {
  const fields = new Fields();
  const agent = fields.text("agent", request.agent, 64, true);
  const known = p.catalog.agent(agent);
  const mayHandle = known !== undefined && (await p.access.mayHandle(call, agent));
  const most = (mayHandle && known.definition.maxTaskTtl) || 30 * 86_400;
  const ttlSeconds = fields.integer("ttl_seconds", request.ttlSeconds, 1, most, Math.min(defaultTtl, most));
  const context = fields.map("context", request.context, contextLimits);
  if (mayHandle) checkContextKeys(p, fields, "context", agent, Object.keys(context));
  const task = {
    id: newTaskId(Date.now()), agent, ttlSeconds, context,
    purpose: fields.text("purpose", request.purpose, 1024),
    onBehalfOf: fields.text("on_behalf_of", request.onBehalfOf, 256),
    refs: fields.map("refs", request.refs, refLimits),
    bind: fields.oneOf("bind", request.bind, binds, "claim"),
    scope: fields.oneOf("scope", request.scope, scopes, null),
    idempotencyKey: fields.text("idempotency_key", request.idempotencyKey, 128) || null,
    openedBy: actorOf(call),
  };
  fields.check();
  if (!mayHandle) throw notFound("agent", "agent");
  const { ticket, hash } = task.bind === "ticket" ? makeTicket() : { ticket: "", hash: null };
  const outcome = await openTask(p.store, { ...task, ticketHash: hash, ticketSeconds });
  if (outcome.verdict === "unknown_agent") throw notFound("agent", "agent");
  if (outcome.verdict === "disabled") {
    throw new BrevetError("AGENT_DISABLED", `agent ${agent} is disabled (${outcome.reason}): no task may be opened until \`brevet agent enable ${agent}\``, { metadata: { agent } });
  }
  const row = outcome.verdict === "opened" ? outcome.row : await getTask(p.store, outcome.task);
  if (!row) throw notFound("task", "task");
  if (outcome.verdict === "opened") p.onOpened(row);
  const shown = toTask(row, p.trustDomain, p.endpointOf(row.id));
  if (outcome.verdict === "opened") {
    return ticket === "" ? shown : { ...shown, ticket, ticketExpiresAt: toTimestamp(new Date(row.openedAt.getTime() + ticketSeconds * 1000)) };
  }
  if (row.bind !== "ticket" || row.state !== "ready") return shown;
  // whoever asks again may not have had the first answer, and without its ticket the task is of no use
  const issued = await anotherTicket(p, row.id, call);
  return "state" in issued ? shown : { ...shown, ...issued };
}

/** The one before is void. `state`: the task does not wait for one any more. */
async function anotherTicket(p: TaskParts, task: string, call: Call): Promise<Pick<Task, "ticket" | "ticketExpiresAt"> | { readonly state: string }> {
  const { ticket, hash } = makeTicket();
  const { verdict, state, expiresAt } = await newTicket(p.store, task, hash, ticketSeconds, actorOf(call));
  return verdict === "issued" && expiresAt ? { ticket, ticketExpiresAt: toTimestamp(expiresAt) } : { state: state ?? "gone" };
}

async function list(p: TaskParts, request: ListTasksRequest__Output, call: Call, show: (row: TaskRow) => Task): Promise<ListTasksResponse> {
  const fields = new Fields();
  const state = request.state === "" ? null : fields.oneOf<TaskState>("state", request.state, taskStates, "ready");
  const agent = fields.text("agent", request.agent, 64);
  const limit = fields.integer("page_size", request.pageSize, 1, 1000, 100);
  const refs = fields.map("refs", request.refs, refLimits);
  if (request.pageToken !== "" && !isTaskId(request.pageToken)) fields.wrong("page_token", "is not one that was given out");
  fields.check();
  const allowed = await p.access.agents(call);
  const wanted = agent === "" ? allowed : allowed === null || allowed.includes(agent) ? [agent] : [];
  const rows = await listTasks(p.store, { agents: wanted, state, refs, before: request.pageToken || null, limit });
  return { tasks: rows.map(show), nextPageToken: rows.length === limit ? (rows.at(-1)?.id ?? "") : "" };
}

async function end(p: TaskParts, task: string, state: EndState, reason: string, call: Call): Promise<TaskRow> {
  const verdict = await p.revoker.end(task, state, reason, actorOf(call));
  if (verdict.state !== state || !verdict.row) throw wrongState(task, verdict.state ?? "gone", `it can't become ${state}`);
  return verdict.row;
}

/** Now, and at each change, as it is when the last message was taken; other brokers' changes are looked for every few seconds. */
async function watch(p: TaskParts, id: string, call: Call, send: (row: TaskRow) => Promise<void>): Promise<void> {
  let seen = "";
  let wake = (): void => undefined;
  const off = p.onTaskChanged(id, () => wake());
  try {
    while (!call.signal.aborted) {
      const woken = new Promise<void>((resolve) => (wake = resolve));
      const row = await getTask(p.store, id);
      if (!row) throw notFound("task", "task");
      const now = `${row.state} ${row.epoch} ${row.instance?.id ?? ""}`;
      if (now !== seen) await send(row);
      seen = now;
      if (terminalStates.has(row.state)) return;
      const untilExpiry = Math.max(50, row.expiresAt.getTime() - Date.now() + 10);
      const timer = setTimeout(() => wake(), Math.min(watchPollMs, untilExpiry));
      const aborted = (): void => wake();
      call.signal.addEventListener("abort", aborted, { once: true });
      await woken;
      clearTimeout(timer);
      call.signal.removeEventListener("abort", aborted);
    }
  } finally {
    off();
  }
}
