// Why was this caller refused, and what would mend it?
// From what was measured at the refusal (or is measured now, for a process), each agent and service is
// compared as the catalog stands now; closest first, with the first fact that failed, and the live
// tasks of those that match. Shown to administrators only.
import { attestPid } from "../attest/caller.ts";
import type { Caller } from "../attest/caller.ts";
import { unitOf } from "../attest/cgroup-dir.ts";
import type { HashCache } from "../attest/hash.ts";
import type { LiveCatalog } from "../authorize/catalog.ts";
import { closerFirst, matchSelectors } from "../authorize/match.ts";
import type { Claims } from "../claim/claim.ts";
import { BrevetError, notFound } from "../errors.ts";
import type { Facts, SelectorSet } from "../identity/selectors.ts";
import type { Explanation } from "../generated/brevet/v1/Explanation.ts";
import { toTimestamp } from "../proto.ts";
import { findAttestation } from "../record/log.ts";
import type { AttestationRow } from "../record/log.ts";
import { listTasks } from "../record/tasks.ts";
import type { Store } from "../record/store.ts";
import { toStruct } from "./validate.ts";

export type ExplainParts = { readonly store: Store; readonly catalog: LiveCatalog; readonly claims: Claims; readonly hash: HashCache; readonly refusalsWritten: () => Promise<void> };

const mostTasks = 20;

/** Of refusals that no selector and no other task would have changed. */
const remedies: Readonly<Partial<Record<string, (row: AttestationRow) => string>>> = {
  DENIED_TICKET: ({ task, pid }) => `brevet task ticket ${task ?? "ID"} --ticket-file FILE, then: brevet task claim ${task ?? "ID"} --ticket-file FILE --pid ${pid}`,
  DENIED_ROLE: () => "act as root or as the process's own user, or name this process under the agent's sidecars in the catalog; the admin socket is for root, the broker's user and admin.uids of the configuration",
  DENIED_UNATTESTED: () => "run it where this broker sees it: in its pid namespace, and with /proc readable to it (brevet doctor says what it sees)",
  DENIED_TOO_MANY_TASKS: () => "close one of its tasks, or raise tasksPerInstance of its agent in the catalog, then: brevet apply -f CATALOG",
  DENIED_AUDIENCE: () => "ask for audiences of its catalog entry, or add this one there, then: brevet apply -f CATALOG",
};

/** Nobody was refused here: the process asked about is not there. */
function attested(pid: number, hash: HashCache): Caller {
  try {
    return attestPid(pid, hash);
  } catch (error) {
    if (error instanceof BrevetError && error.code === "DENIED_UNATTESTED") throw notFound("pid", `process ${pid}, or it is hidden from this broker (hidepid)`);
    throw error;
  }
}

export class Explainer {
  readonly #p: ExplainParts;

  constructor(parts: ExplainParts) {
    this.#p = parts;
  }

  /** As if the process fetched now. */
  async process(pid: number, signal: AbortSignal): Promise<Explanation> {
    const caller = attested(pid, this.#p.hash);
    try {
      const facts = await this.#p.claims.facts(caller, { signal });
      const above = caller.ancestors().map((link) => link.pid);
      return { attempt: "", at: toTimestamp(new Date()), verdict: "", ...(await this.#judge(facts, pid, above, unitOf(caller.cgroups())?.id)) };
    } finally {
      caller.close();
    }
  }

  /** A recorded refusal; null: the last. */
  async attempt(id: string | null): Promise<Explanation> {
    await this.#p.refusalsWritten(); // whoever was refused may ask at once
    const row = await findAttestation(this.#p.store, id);
    if (!row) throw notFound("attempt", id === null ? "refusal recorded yet" : "attempt recorded (refusals alike are counted, not recorded one by one)");
    const judged = await this.#judge(row.facts as Facts, row.pid, []);
    const remedy = remedies[row.reason]?.(row) ?? judged.remedy;
    return { attempt: row.attempt, at: toTimestamp(row.at), ...judged, remedy, verdict: row.outcome === "denied" ? row.reason : "granted" };
  }

  async #judge(facts: Facts, pid: number, above: readonly number[], unit?: string): Promise<Omit<Explanation, "attempt" | "at">> {
    const { catalog, store } = this.#p;
    const near = (kind: string, name: string, sets: readonly SelectorSet[]) => ({ kind, name, match: matchSelectors(sets, facts) });
    const agents = [
      ...catalog.agents.map((agent) => near("agent", agent.definition.name, agent.definition.selectors)),
      ...catalog.services.map((service) => near("service", service.definition.name, service.definition.selectors)),
    ].sort((a, b) => closerFirst(a.match, b.match))
      .map(({ kind, name, match }) => ({ kind, name, matches: match.matches, firstMismatch: match.matches ? "" : match.firstMismatch }));
    const matching = agents.filter((match) => match.matches && match.kind === "agent").map((match) => match.name);
    const rows = matching.length === 0 ? [] : await listTasks(store, { agents: matching, state: null, refs: {}, before: null, limit: mostTasks });
    const live = rows.filter((row) => row.state === "ready" || row.state === "active");
    const tasks = live.map((row) => {
      if (row.state === "active") return `${row.id} (${row.agent}): bound to pid ${row.instance?.pid ?? 0}${row.instance?.pid === pid ? ", this process" : ""}, scope ${row.scope}`;
      return `${row.id} (${row.agent}): waits to be claimed, bind ${row.bind}`;
    });
    const waiting = live.find((row) => row.state === "ready");
    const parents = live.find((row) => above.includes(row.instance?.pid ?? 0));
    const unitHas = unit === undefined ? undefined : live.find((row) => row.instance?.cgroup?.id === unit);
    const closest = agents[0];
    let remedy = "the catalog is empty: brevet apply -f CATALOG";
    let verdict = "no agent or service of the catalog matches this process";
    if (live.some((row) => row.instance?.pid === pid)) {
      verdict = "it holds a task and gets its SVIDs";
      remedy = "";
    } else if (unitHas && !parents) {
      verdict = `it is in ${unitHas.instance?.cgroup?.path ?? ""} and gets the SVIDs of its task`;
      remedy = "";
    } else if (parents?.scope === "tree") {
      verdict = `it belongs to the tree of pid ${parents.instance?.pid ?? 0} and gets the SVIDs of its task`;
      remedy = "";
    } else if (parents) {
      verdict = `pid ${parents.instance?.pid ?? 0}, above it, holds a task whose scope leaves out its children`;
      remedy = `brevet task open --agent ${parents.agent} --scope tree`;
    } else if (matching.length > 0) {
      verdict = waiting ? "it matches an agent; a task waits to be claimed" : "it matches an agent, but no task of it is waiting";
      remedy = waiting ? `brevet task claim ${waiting.id} --pid ${pid}` : `brevet task open --agent ${matching[0] ?? ""} --bind auto`;
    } else if (agents.some((match) => match.matches)) {
      verdict = "it is a service and gets the service's SVIDs";
      remedy = "";
    } else if (closest) {
      remedy = `change the selectors of ${closest.kind} ${closest.name} in the catalog (${closest.firstMismatch}), then: brevet apply -f CATALOG`;
    }
    return { verdict, facts: toStruct({ ...facts }), agents, tasks, remedy };
  }
}
