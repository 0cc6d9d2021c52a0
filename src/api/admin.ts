// What an operator does and an auditor asks: brevet.v1.Revocations, Catalog and Log.
// Served on the admin socket only, to the callers that the kernel vouches for. Ending many things is
// many times ending one: each task in the second transaction, none skipped because another failed.
// Trust and information are info.ts; tasks one by one, tasks.ts.
import { createHash } from "node:crypto";
import type { LiveCatalog } from "../authorize/catalog.ts";
import { BrevetError, notFound } from "../errors.ts";
import type { Violation } from "../errors.ts";
import type { AgentDefinition } from "../identity/catalog.ts";
import { canonicalCatalog, diffCatalog, parseCatalog } from "../identity/catalog.ts";
import type { Catalog } from "../identity/catalog.ts";
import { formatAgentTaskId, isName, isTaskId } from "../identity/id.ts";
import type { CatalogHandlers } from "../generated/brevet/v1/Catalog.ts";
import type { Sidecar } from "../generated/brevet/v1/Sidecar.ts";
import type { CatalogAgent } from "../generated/brevet/v1/CatalogAgent.ts";
import type { ApplyRequest__Output } from "../generated/brevet/v1/ApplyRequest.ts";
import type { DisableAgentRequest__Output } from "../generated/brevet/v1/DisableAgentRequest.ts";
import type { EndedTask } from "../generated/brevet/v1/EndedTask.ts";
import type { LogHandlers } from "../generated/brevet/v1/Log.ts";
import type { ListAttestationsRequest__Output } from "../generated/brevet/v1/ListAttestationsRequest.ts";
import type { ListEntriesRequest__Output } from "../generated/brevet/v1/ListEntriesRequest.ts";
import type { ListSvidsRequest__Output } from "../generated/brevet/v1/ListSvidsRequest.ts";
import type { ExplainRequest__Output } from "../generated/brevet/v1/ExplainRequest.ts";
import type { RevocationsHandlers } from "../generated/brevet/v1/Revocations.ts";
import type { RevokeRequest__Output } from "../generated/brevet/v1/RevokeRequest.ts";
import type { RevokeResponse } from "../generated/brevet/v1/RevokeResponse.ts";
import { toTimestamp } from "../proto.ts";
import { applyCatalog, checkOrphans, liveTaskCounts, readRegistered, setAgentEnabled } from "../record/catalog.ts";
import type { RegisteredAgent } from "../record/catalog.ts";
import { listAttestations, listEntries } from "../record/log.ts";
import { countLiveSvids, countServiceSvids, listSvids } from "../record/svids.ts";
import type { SvidRow } from "../record/svids.ts";
import { getTasks, liveTaskIds } from "../record/tasks.ts";
import type { SidecarRef } from "../record/tasks.ts";
import type { Store } from "../record/store.ts";
import type { Feed } from "../revoke/feed.ts";
import type { Revoker } from "../revoke/revoke.ts";
import { actorOf } from "./access.ts";
import type { Access } from "./access.ts";
import type { Explainer } from "./explain.ts";
import { Fields } from "./fields.ts";
import type { Call } from "./call.ts";
import type { ApiServer } from "./server.ts";
import { toStruct } from "./validate.ts";

export type AdminParts = {
  readonly store: Store;
  readonly trustDomain: string;
  readonly catalog: LiveCatalog;
  readonly access: Access;
  readonly revoker: Revoker;
  readonly feed: Feed;
  readonly explain: Explainer;
  /** Whoever was refused until now stands in the record. */
  readonly refusalsWritten: () => Promise<void>;
  /** Reads the catalog from the database into `catalog`, now. */
  readonly reloadCatalog: () => Promise<void>;
};

const reasonLength = 1024;

export function revocationHandlers(server: ApiServer, p: AdminParts): Pick<RevocationsHandlers, "Revoke"> {
  return {
    Revoke: server.unary("Revocations.Revoke", async (request: RevokeRequest__Output, call) => {
      const fields = new Fields();
      const reason = fields.text("reason", request.reason, reasonLength, true);
      const target = request.target;
      fields.single("target", request, ["task", "agent", "service", "all"]);
      if (target === "task") fields.task("task", request.task ?? "");
      else if (target === "agent") fields.text("agent", request.agent ?? "", 64, true);
      else if (target === "service") fields.text("service", request.service ?? "", 64, true);
      else if (target === "all" && request.all !== p.trustDomain) fields.wrong("all", `must be the trust domain's name, ${p.trustDomain}`);
      fields.check();
      switch (target) {
        case "task": {
          const row = await p.access.task(call, request.task ?? "");
          return revoke(p, call, { tasks: [row.id], services: [], reason, dryRun: request.dryRun },
            `This task is over for good. New tasks of agent ${row.agent} may be opened at once; to prevent that: brevet agent disable ${row.agent} --reason …`);
        }
        case "agent": {
          const agent = request.agent ?? "";
          if (!p.catalog.agent(agent)) throw notFound("agent", "agent");
          return revoke(p, call, { tasks: await liveTaskIds(p.store, agent), services: [], reason, dryRun: request.dryRun },
            `New tasks of agent ${agent} may be opened at once; to prevent that: brevet agent disable ${agent} --reason …`);
        }
        case "service": {
          const service = request.service ?? "";
          if (!p.catalog.services.some((known) => known.definition.name === service)) throw notFound("service", "service");
          return revoke(p, call, { tasks: [], services: [service], reason, dryRun: request.dryRun },
            `The service gets new SVIDs as soon as it asks; to prevent that, remove it from the catalog: brevet apply`);
        }
        default: {
          const services = p.catalog.services.map((known) => known.definition.name);
          return revoke(p, call, { tasks: await liveTaskIds(p.store, null), services, reason, dryRun: request.dryRun },
            "New tasks of every enabled agent may be opened at once; to prevent that: brevet agent disable NAME --reason …");
        }
      }
    }),
  };
}

type What = { tasks: readonly string[]; services: readonly string[]; reason: string; dryRun: boolean };

async function revoke(p: AdminParts, call: Call, what: What, newTasks: string): Promise<RevokeResponse> {
  const before = (await getTasks(p.store, what.tasks)).sort((a, b) => (a.id < b.id ? -1 : 1));
  const live = before.filter((row) => row.state === "ready" || row.state === "active");
  const svids = await countLiveSvids(p.store, live.map((row) => row.id));
  const ofServices = await countServiceSvids(p.store, what.services);
  const ended = what.dryRun ? new Map(live.map((row) => [row.id, row.epoch + 1])) : await endAll(p, live.map((row) => row.id), what.reason, actorOf(call));
  if (!what.dryRun && what.services.length > 0) await p.revoker.services(what.services, what.reason, actorOf(call));
  const tasks = live.flatMap((row): EndedTask[] => {
    const epoch = ended.get(row.id);
    return epoch === undefined ? [] : [{
      id: row.id, agent: row.agent, spiffeId: formatAgentTaskId(p.trustDomain, row.agent, row.id), stateBefore: row.state, epoch, svids: svids.get(row.id) ?? 0,
    }];
  });
  return {
    tasks, alreadyEnded: before.length - tasks.length, services: [...what.services],
    svids: tasks.reduce((sum, task) => sum + Number(task.svids), ofServices), sequence: p.feed.sequence, dryRun: what.dryRun, newTasks,
  };
}

/** Epoch of each task that this call ended. One that fails does not keep the others alive. */
async function endAll(p: AdminParts, ids: readonly string[], reason: string, actor: string): Promise<Map<string, number>> {
  const results = await Promise.allSettled(ids.map((id) => p.revoker.end(id, "aborted", reason, actor)));
  const ended = new Map<string, number>();
  let failure: unknown;
  for (const result of results) {
    if (result.status === "rejected") failure = result.reason;
    else if (result.value.verdict === "ended") ended.set(result.value.task, result.value.epoch);
  }
  if (failure) throw failure;
  return ended;
}

export function catalogHandlers(server: ApiServer, p: AdminParts): CatalogHandlers {
  return {
    Apply: server.unary("Catalog.Apply", async (request: ApplyRequest__Output, call) => {
      const fields = new Fields();
      if (request.files.length === 0) fields.wrong("files", "at least one is required");
      for (const [i, { name }] of request.files.entries()) fields.text(`files[${i}].name`, name, 4096);
      fields.check();
      const { catalog, problems, warnings } = parseCatalog(request.files);
      if (problems.length > 0) {
        const violations: Violation[] = problems.map((problem) => ({ field: `${problem.file}:${problem.line}:${problem.column}`, description: problem.message }));
        throw new BrevetError("CATALOG_INVALID", `the catalog has ${problems.length} problem${problems.length === 1 ? "" : "s"}; nothing was changed`, { violations });
      }
      const known = await readRegistered(p.store);
      const old: Catalog = { agents: known.agents.map((agent) => agent.definition), services: known.services.map((service) => service.definition) };
      const changes = diffCatalog(old, catalog);
      const canonical = canonicalCatalog(catalog);
      const digest = createHash("sha256").update(canonical).digest("hex");
      const answer = { changes: changes.map((change) => ({ ...change, fields: [...change.fields] })), warnings, digest, dryRun: request.dryRun };
      if (request.dryRun) await checkOrphans(p.store, catalog);
      if (request.dryRun) return answer;
      if (changes.length > 0) await applyCatalog(p.store, catalog, { digest, canonical, by: actorOf(call), changes });
      // also when nothing differs: the answer to an earlier try may have been lost on its way to us
      await p.reloadCatalog();
      await p.feed.catchUp();
      return answer;
    }),

    ListAgents: server.unary("Catalog.ListAgents", async () => {
      const counts = await liveTaskCounts(p.store);
      return { agents: (await readRegistered(p.store)).agents.map((agent) => toAgent(agent, counts)) };
    }),

    GetAgent: server.unary("Catalog.GetAgent", async (request: { name: string }) => showAgent(p, nameOf(request))),

    DisableAgent: server.unary("Catalog.DisableAgent", async (request: DisableAgentRequest__Output, call) => {
      const fields = new Fields();
      fields.text("name", request.name, 64, true);
      const reason = fields.text("reason", request.reason, reasonLength, true);
      fields.check();
      if (!isName(request.name) || !(await setAgentEnabled(p.store, request.name, false, reason, actorOf(call)))) throw notFound("name", "agent");
      await p.reloadCatalog();
      // from here on none can be opened: what is live now is all there is
      const ended = await revoke(p, call, { tasks: await liveTaskIds(p.store, request.name), services: [], reason: `agent disabled: ${reason}`, dryRun: false }, "");
      return { agent: await showAgent(p, request.name), tasks: ended.tasks ?? [] };
    }),

    EnableAgent: server.unary("Catalog.EnableAgent", async (request: { name: string }, call) => {
      if (!isName(nameOf(request)) || !(await setAgentEnabled(p.store, request.name, true, "", actorOf(call)))) throw notFound("name", "agent");
      await p.reloadCatalog();
      return showAgent(p, request.name);
    }),
  };
}

function nameOf(request: { readonly name: string }): string {
  const fields = new Fields();
  fields.text("name", request.name, 64, true);
  fields.check();
  return request.name;
}

async function showAgent(p: AdminParts, name: string): Promise<CatalogAgent> {
  const agent = (await readRegistered(p.store)).agents.find((known) => known.definition.name === name);
  if (!agent) throw notFound("name", "agent");
  return toAgent(agent, await liveTaskCounts(p.store));
}

function toAgent(agent: RegisteredAgent, counts: ReadonlyMap<string, number>): CatalogAgent {
  const definition: AgentDefinition = agent.definition;
  return {
    name: definition.name, owner: definition.owner, purpose: definition.purpose, enabled: agent.disabledAt === null,
    disabledReason: agent.disabledReason, disabledAt: agent.disabledAt && toTimestamp(agent.disabledAt),
    liveTasks: counts.get(definition.name) ?? 0, definition: toStruct(definition),
  };
}

export function logHandlers(server: ApiServer, p: AdminParts): LogHandlers {
  const taskOf = async (call: Call, reference: string): Promise<string | null> =>
    reference === "" ? null : (await p.access.task(call, reference)).id;
  return {
    ListEntries: server.unary("Log.ListEntries", async (request: ListEntriesRequest__Output, call) => {
      const fields = new Fields();
      const limit = fields.integer("page_size", request.pageSize, 1, 1000, 200);
      const since = fields.time("since", request.since);
      const afterId = Math.max(fields.integer("after_id", request.afterId, 0, Number.MAX_SAFE_INTEGER, 0), fields.pageToken(request.pageToken) ?? 0);
      if (request.task !== "") fields.task("task", request.task);
      fields.check();
      const rows = await listEntries(p.store, { afterId, task: await taskOf(call, request.task), since, limit });
      return { entries: rows.map((row) => ({
        id: row.id, at: toTimestamp(row.at), kind: row.kind, task: row.task ?? "", agent: row.agent ?? "", actor: row.actor,
        details: toStruct(row.details), digest: row.digest.toString("hex"),
      })), nextPageToken: tokenAfter(rows, limit) };
    }),

    ListSvids: server.unary("Log.ListSvids", async (request: ListSvidsRequest__Output, call) => {
      const fields = new Fields();
      const limit = fields.integer("page_size", request.pageSize, 1, 1000, 100);
      const before = fields.pageToken(request.pageToken);
      if (request.task !== "") fields.task("task", request.task);
      fields.check();
      const rows = await listSvids(p.store, { task: await taskOf(call, request.task), live: request.live, before, limit });
      return { svids: rows.map((row) => toSvid(row, p.trustDomain)), nextPageToken: tokenAfter(rows, limit) };
    }),

    ListAttestations: server.unary("Log.ListAttestations", async (request: ListAttestationsRequest__Output) => {
      const fields = new Fields();
      const limit = fields.integer("page_size", request.pageSize, 1, 1000, 100);
      const since = fields.time("since", request.since);
      const before = fields.pageToken(request.pageToken);
      fields.check();
      await p.refusalsWritten();
      const rows = await listAttestations(p.store, { denied: request.denied, since, before, limit });
      return { attestations: rows.map((row) => ({
        id: row.attempt, at: toTimestamp(row.at), outcome: row.outcome, reason: row.reason, pid: row.pid, uid: row.uid, gid: row.gid,
        facts: toStruct(row.facts), task: row.task ?? "", repeats: row.repeats, via: toSidecar(row.via),
      })), nextPageToken: tokenAfter(rows, limit) };
    }),

    Explain: server.unary("Log.Explain", async (request: ExplainRequest__Output, call) => {
      const fields = new Fields();
      fields.single("about", request, ["pid", "last", "attempt"]);
      if (request.attempt !== undefined && !/^[0-9a-f-]{36}$/.test(request.attempt)) fields.wrong("attempt", "is not an attempt's ID");
      if (request.pid !== undefined && request.pid < 1) fields.wrong("pid", "is not a process ID");
      if (request.last === false) fields.wrong("last", "must be true, or another of pid and attempt be given");
      fields.check();
      if (request.about === "pid" && request.pid !== undefined) return p.explain.process(request.pid, call.signal);
      return p.explain.attempt(request.about === "attempt" ? (request.attempt ?? null) : null);
    }),
  };
}

/** A page that is not full was the last. */
function tokenAfter(rows: readonly { readonly id: number }[], limit: number): string {
  return rows.length === limit ? String(rows.at(-1)?.id ?? "") : "";
}

function toSvid(row: SvidRow, trustDomain: string): Record<string, unknown> {
  const subject = row.task ?? row.subject ?? `service/${row.service ?? ""}`;
  return {
    kind: row.kind, serial: row.kind === "x509" ? row.serial : "", jti: row.kind === "jwt" ? row.serial : "", task: subject,
    spiffeId: isTaskId(subject) ? formatAgentTaskId(trustDomain, row.agent ?? "", subject) : `spiffe://${trustDomain}/${subject}`,
    epoch: row.epoch, issuedAt: toTimestamp(row.issuedAt), expiresAt: toTimestamp(row.expiresAt), revoked: row.revoked, audiences: row.audiences, via: toSidecar(row.via),
  };
}

function toSidecar(via: SidecarRef | null): Sidecar | null {
  return via && { pid: via.pid, uid: via.uid, gid: via.gid, path: via.path };
}
