// Which tasks may this caller open, see and change?
// Administrators, operators, auditors: all. An orchestrator's certificate: those of the agents it is listed for. A
// process that agents name as an opener: theirs. Anybody else: none, and a task one may not see is answered
// exactly as one that is not there. Tasks are found by whatever an
// operator can paste: an ID, a prefix, a SPIFFE ID, a serial, a jti, or a bound process.
import type { LiveCatalog } from "../authorize/catalog.ts";
import type { Bindings } from "../claim/bindings.ts";
import type { Claims } from "../claim/claim.ts";
import { BrevetError, invalid, notFound } from "../errors.ts";
import { isTaskId, parseBrevetId } from "../identity/id.ts";
import { findTaskIds, getTask, getTasks } from "../record/tasks.ts";
import type { TaskRow } from "../record/tasks.ts";
import type { Store } from "../record/store.ts";
import { Fields } from "./fields.ts";
import { seesEveryTask } from "./roles.ts";
import type { Call } from "./call.ts";

export type AccessParts = {
  readonly trustDomain: string;
  readonly store: Store;
  readonly catalog: LiveCatalog;
  readonly claims: Claims;
  readonly bindings: Bindings;
};

export class Access {
  readonly #p: AccessParts;

  constructor(parts: AccessParts) {
    this.#p = parts;
  }

  /** Names of the agents whose tasks the caller may handle; null: all. */
  async agents(call: Call): Promise<readonly string[] | null> {
    const { role, peer } = call.connection;
    if (seesEveryTask.has(role)) return null;
    if (peer) return peer.role === "orchestrator" ? peer.agents : [];
    return this.#p.catalog.openableAgents(await this.#p.claims.facts(call.connection.caller, call));
  }

  async mayHandle(call: Call, agent: string): Promise<boolean> {
    const agents = await this.agents(call);
    return agents === null || agents.includes(agent);
  }

  /** Its ID alone: what an administrator names by its whole ID needs no look. Whether it exists is then for the database to say. */
  async taskId(call: Call, reference: string): Promise<string> {
    const exact = reference.toLowerCase();
    if (isTaskId(exact) && (await this.agents(call)) === null) return exact;
    return (await this.named(call, reference)).id;
  }

  /** Its ID and its agent, which never change: of a task that is bound here both are known without a look. */
  async named(call: Call, reference: string): Promise<Pick<TaskRow, "id" | "agent">> {
    const bound = this.#p.bindings.get(reference.toLowerCase());
    if (!bound || !(await this.mayHandle(call, bound.agent))) return this.task(call, reference);
    return { id: bound.task, agent: bound.agent };
  }

  /** @throws BrevetError NOT_FOUND, INVALID_FIELD if it could mean several */
  async task(call: Call, reference: string): Promise<TaskRow> {
    return this.taskOf(await this.agents(call), reference);
  }

  /** Of these agents alone; null: of all. Another's is answered as one that is not there. */
  async taskOf(agents: readonly string[] | null, reference: string): Promise<TaskRow> {
    const rows = (await this.#candidates(reference, agents)).filter((row) => agents === null || agents.includes(row.agent));
    if (rows.length > 1) {
      throw invalid([{ field: "task", description: `could mean ${rows.map((row) => row.id).join(", ")}: give more of it` }]);
    }
    const [row] = rows;
    if (!row) throw notFound("task", "task");
    return row;
  }

  async #candidates(reference: string, agents: readonly string[] | null): Promise<TaskRow[]> {
    const { store } = this.#p;
    const fields = new Fields();
    fields.task("task", reference);
    fields.check();
    const exact = reference.toLowerCase();
    if (isTaskId(exact)) return [await getTask(store, exact)].filter((row) => row !== undefined);
    if (reference.startsWith("spiffe://")) return this.#bySpiffeId(reference);
    const pid = /^pid:([1-9][0-9]{0,9})$/.exec(reference);
    if (pid) return getTasks(store, this.#p.bindings.ofPid(Number(pid[1])));
    return getTasks(store, await findTaskIds(store, reference, agents));
  }

  async #bySpiffeId(reference: string): Promise<TaskRow[]> {
    try {
      const id = parseBrevetId(reference, "task");
      if (id.kind !== "agent" || id.task === undefined) throw invalid([{ field: "task", description: "this SPIFFE ID names no task" }]);
      const row = await getTask(this.#p.store, id.task);
      return row?.agent === id.agent && id.trustDomain === this.#p.trustDomain ? [row] : [];
    } catch (error) {
      if (error instanceof BrevetError) throw error;
      throw invalid([{ field: "task", description: "is not a SPIFFE ID" }]);
    }
  }
}

/** How a caller is named in the log. */
export function actorOf(call: Call): string {
  return call.connection.actor;
}
