// An agent asks for its task: brevet.v1.Agent.
// A process claims for itself, or one of the same user claims for it (`brevet run`), or a sidecar that the
// catalog names; root may claim for any. Which process it is, is proved by the kernel, not by what was sent.
// The claim itself is src/claim's business.
import { attestPid } from "../attest/caller.ts";
import type { Caller } from "../attest/caller.ts";
import type { HashCache } from "../attest/hash.ts";
import type { LiveCatalog } from "../authorize/catalog.ts";
import type { Claims } from "../claim/claim.ts";
import type { Bindings } from "../claim/bindings.ts";
import { standing } from "../claim/standing.ts";
import { BrevetError, notFound } from "../errors.ts";
import type { AgentHandlers } from "../generated/brevet/v1/Agent.ts";
import type { ClaimRequest__Output } from "../generated/brevet/v1/ClaimRequest.ts";
import type { FinishRequest__Output } from "../generated/brevet/v1/FinishRequest.ts";
import type { StatusRequest__Output } from "../generated/brevet/v1/StatusRequest.ts";
import type { Facts } from "../identity/selectors.ts";
import { scopes, terminalStates } from "../identity/task.ts";
import { getTasks } from "../record/tasks.ts";
import type { TaskRow } from "../record/tasks.ts";
import type { Store } from "../record/store.ts";
import type { Revoker } from "../revoke/revoke.ts";
import type { Access } from "./access.ts";
import { actorOf } from "./access.ts";
import { Fields } from "./fields.ts";
import type { Call } from "./call.ts";
import type { ApiServer } from "./server.ts";
import { toTask } from "./tasks.ts";

export type AgentParts = {
  readonly store: Store;
  readonly trustDomain: string;
  readonly catalog: LiveCatalog;
  readonly claims: Claims;
  readonly bindings: Bindings;
  readonly access: Access;
  readonly revoker: Revoker;
  readonly hash: HashCache;
  readonly endpointOf: (task: string) => string;
  readonly onClaimed: (row: TaskRow) => void;
};

export function agentHandlers(server: ApiServer, p: AgentParts): AgentHandlers {
  return {
    Claim: server.unary("Agent.Claim", async (request: ClaimRequest__Output, call) => {
      const { caller } = call.connection;
      const fields = new Fields();
      const reference = request.task;
      if (!request.auto && (reference !== "" || request.ticket === "")) fields.task("task", reference);
      if (request.auto && reference !== "") fields.wrong("auto", "goes without a task");
      if (request.auto && !request.sidecar) fields.wrong("auto", "is for sidecars: an agent that fetches gets an `auto` task by itself");
      const ticket = fields.text("ticket", request.ticket, 256);
      if (request.pid < 0) fields.wrong("pid", "must be a process ID, or 0 for the caller");
      const scope = fields.oneOf("scope", request.scope, scopes, null);
      if (request.auto && scope !== null) fields.wrong("scope", "goes without auto");
      fields.check();
      const factsOf = (process: Caller): Promise<Facts> => p.claims.facts(process, call);
      const speaksFor = async (process: Caller): Promise<boolean> => {
        if (!request.sidecar) return false;
        const facts = await factsOf(caller);
        return p.catalog.matchingAgents(await factsOf(process)).some((agent) => p.catalog.maySpeakFor(agent, facts));
      };
      // before any task is looked for: whoever may not claim for the process learns of none
      const process = request.pid === 0 || request.pid === caller.pid ? caller : await attestOther(request.pid, caller, p.hash, speaksFor);
      const sidecar = request.sidecar ? caller : null;
      try {
        call.about = { process, task: null };
        const claimable = async (): Promise<string[]> =>
          sidecar === process ? p.catalog.agentsSpokenForBy(await factsOf(process)) : p.catalog.matchingAgents(await factsOf(process));
        const task = request.auto ? undefined : await (reference === "" ? p.claims.ofTicket(ticket) : p.access.taskOf(await claimable(), reference));
        if (task) call.about = { process, task: task.id };
        const { bound, row } = task
          ? await p.claims.claim(task, ticket, process, actorOf(call), call, sidecar, scope)
          : await p.claims.claimAny(process, actorOf(call), call, caller);
        if (request.supervised && process !== caller) p.bindings.supervise(bound, { pid: caller.pid, startTime: caller.startTime });
        p.onClaimed(row);
        const endpoint = p.endpointOf(bound.task);
        return { task: toTask(row, p.trustDomain, endpoint), endpoint: `unix://${endpoint}` };
      } finally {
        if (process !== caller) process.close();
      }
    }),

    Finish: server.unary("Agent.Finish", async (request: FinishRequest__Output, call) => {
      const { caller } = call.connection;
      const fields = new Fields();
      fields.task("task", request.task);
      const reason = request.success ? "" : fields.text("reason", request.reason, 1024, true);
      fields.check();
      const exact = request.task.toLowerCase();
      const row = p.bindings.isSupervised(exact, caller) ? null : await finished(p, call, request.task);
      if (row && !p.bindings.isSupervised(row.id, caller)) return toTask(row, p.trustDomain, p.endpointOf(row.id));
      const { row: over } = await p.revoker.end(row?.id ?? exact, request.success ? "closed" : "aborted", reason || "closed", actorOf(call));
      if (!over) throw notFound("task", "task");
      return toTask(over, p.trustDomain, p.endpointOf(over.id));
    }),

    Status: server.unary("Agent.Status", async (_request: StatusRequest__Output, call) => {
      const { caller, endpointTask } = call.connection;
      await p.claims.facts(caller, call);
      if (!p.bindings.find(caller, endpointTask)) await p.bindings.refresh(caller);
      const found = p.bindings.find(caller, endpointTask);
      const bound = found?.bound.filter((one) => found.by === "itself" || standing(p.catalog, found.by, one, caller) !== null) ?? [];
      const ids = bound.map((b) => b.task).filter((id) => endpointTask === null || id === endpointTask);
      const rows = new Map((await getTasks(p.store, ids)).map((row) => [row.id, row]));
      const tasks = ids.flatMap((id) => {
        const row = rows.get(id);
        return row ? [toTask(row, p.trustDomain, p.endpointOf(id))] : [];
      });
      return { tasks, services: p.catalog.matchingServices(caller.facts) };
    }),
  };
}

/** A task that the caller supervises, or may see and that is over. */
async function finished({ access, bindings }: AgentParts, call: Call, reference: string): Promise<TaskRow> {
  const { caller } = call.connection;
  const seen = await access.agents(call);
  const row = await access.taskOf(seen && [...seen, ...bindings.supervisedAgents(caller)], reference);
  if (bindings.isSupervised(row.id, caller)) return row;
  if (seen?.includes(row.agent) === false) throw notFound("task", "task");
  if (!terminalStates.has(row.state)) throw notFound("task", "task that the caller supervises");
  return row;
}

/** The same answer for a process that is not there and for one that the asker may not speak for. */
async function attestOther(pid: number, asker: Caller, hash: HashCache, speaksFor: (process: Caller) => Promise<boolean>): Promise<Caller> {
  let process: Caller | undefined;
  try {
    process = attestPid(pid, hash);
    if (asker.uid === 0 || process.uid === asker.uid || (await speaksFor(process))) return process;
  } catch (error) {
    if (!(error instanceof BrevetError)) throw error;
  }
  process?.close();
  throw new BrevetError("DENIED_ROLE", `pid: no process ${pid} of the caller's user (only root, and a sidecar that the agent's catalog entry names, may claim for others)`);
}
