// What is registered?
// The catalog as last applied, each version kept by digest; an agent's row outlives its entry, so
// that "disabled" is never forgotten. Applying is one transaction that holds every row it changes.
// What a catalog may say is src/identity/catalog.ts's business.
import type { AgentDefinition, Catalog, ServiceDefinition } from "../identity/catalog.ts";
import { BrevetError } from "../errors.ts";
import { revokeServices } from "./revocations.ts";
import type { Row, Statement, Store } from "./store.ts";

export type RegisteredAgent = {
  readonly definition: AgentDefinition;
  readonly disabledAt: Date | null;
  readonly disabledReason: string;
};

export type RegisteredService = { readonly definition: ServiceDefinition };

export type Registered = { readonly agents: readonly RegisteredAgent[]; readonly services: readonly RegisteredService[] };

const agentsStatement: Statement = {
  name: "registered_agents",
  text: "select definition, disabled_at, disabled_reason from agents where registered order by name",
};
const servicesStatement: Statement = { name: "registered_services", text: "select definition from services where registered order by name" };

function toAgent(row: Row): RegisteredAgent {
  return {
    definition: row["definition"] as AgentDefinition,
    disabledAt: row["disabled_at"] as Date | null,
    disabledReason: (row["disabled_reason"] as string | null) ?? "",
  };
}

export async function readRegistered(store: Store): Promise<Registered> {
  const agents = await store.query(agentsStatement);
  const services = await store.query(servicesStatement);
  return { agents: agents.map(toAgent), services: services.map((row) => ({ definition: row["definition"] as ServiceDefinition })) };
}

const lockStatement: Statement = { name: "lock_catalog", text: "select pg_advisory_xact_lock(7221, 3)" };
const lockAgentsStatement: Statement = { name: "lock_agents", text: "select name from agents order by name for update" };
const lockServicesStatement: Statement = { name: "lock_services", text: "select name from services order by name for update" };
const orphansStatement: Statement = {
  name: "orphaned_tasks",
  text: `select t.agent, t.id::text as id from tasks t
    where t.state in ('ready', 'active') and t.expires_at > clock_timestamp() and not (t.agent = any($1::text[])) order by t.agent, t.id limit 20`,
};
const putAgentStatement: Statement = {
  name: "put_agent",
  text: `insert into agents (name, owner, definition) values ($1, $2, $3)
    on conflict (name) do update set owner = excluded.owner, definition = excluded.definition, registered = true`,
};
const putServiceStatement: Statement = {
  name: "put_service",
  text: `insert into services (name, owner, definition) values ($1, $2, $3)
    on conflict (name) do update set owner = excluded.owner, definition = excluded.definition, registered = true`,
};
const dropAgentsStatement: Statement = { name: "drop_agents", text: "update agents set registered = false where registered and not (name = any($1::text[]))" };
const dropServicesStatement: Statement = {
  name: "drop_services",
  text: "update services set registered = false where registered and not (name = any($1::text[])) returning name",
};
const versionStatement: Statement = {
  name: "add_catalog_version",
  text: "insert into catalog_versions (digest, document, applied_by) values ($1, $2, $3)",
};
const logStatement: Statement = { name: "log_catalog", text: "select log_entry(clock_timestamp(), 'catalog.applied', null, null, $1, $2::jsonb)" };

/**
 * Makes the catalog what is given, and kills the SVIDs of the services it drops; `changes` is what the log shall say of it.
 * @throws BrevetError CATALOG_ORPHANS_TASKS naming the live tasks whose agent would be gone
 */
export async function applyCatalog(
  store: Store, catalog: Catalog, version: { digest: string; canonical: string; by: string; changes: unknown },
): Promise<void> {
  await store.transaction(async (tx) => {
    await tx.query(lockStatement);
    await tx.query(lockAgentsStatement);
    await tx.query(lockServicesStatement);
    const names = catalog.agents.map((agent) => agent.name);
    const orphans = await tx.query(orphansStatement, [names]);
    if (orphans.length > 0) throw orphaned(orphans);
    for (const agent of catalog.agents) await tx.query(putAgentStatement, [agent.name, agent.owner, JSON.stringify(agent)]);
    for (const service of catalog.services) await tx.query(putServiceStatement, [service.name, service.owner, JSON.stringify(service)]);
    await tx.query(dropAgentsStatement, [names]);
    const dropped = await tx.query(dropServicesStatement, [catalog.services.map((service) => service.name)]);
    await tx.query(versionStatement, [version.digest, version.canonical, version.by]);
    await tx.query(logStatement, [version.by, JSON.stringify({ digest: version.digest, changes: version.changes })]);
    await revokeServices(tx, dropped.map((row) => row["name"] as string), "removed from the catalog", version.by);
    await tx.query({ name: "notify_catalog", text: "select pg_notify('brevet', 'catalog')" });
  });
}

/** The same check without applying anything. */
export async function checkOrphans(store: Store, catalog: Catalog): Promise<void> {
  const orphans = await store.query(orphansStatement, [catalog.agents.map((agent) => agent.name)]);
  if (orphans.length > 0) throw orphaned(orphans);
}

function orphaned(rows: readonly Row[]): BrevetError {
  const named = rows.map((row) => `${row["id"] as string} (agent ${row["agent"] as string})`).join(", ");
  return new BrevetError("CATALOG_ORPHANS_TASKS",
    `the catalog removes an agent that has live tasks: ${named}; close or revoke them first: brevet revoke --agent ${rows[0]?.["agent"] as string} --reason …`);
}

const disableStatement: Statement = {
  name: "disable_agent",
  text: `update agents set disabled_at = coalesce(disabled_at, clock_timestamp()), disabled_reason = $2
    where name = $1 returning definition, disabled_at, disabled_reason`,
};
const enableStatement: Statement = {
  name: "enable_agent",
  text: "update agents set disabled_at = null, disabled_reason = null where name = $1 returning definition, disabled_at, disabled_reason",
};
const logAgentStatement: Statement = { name: "log_agent", text: "select log_entry(clock_timestamp(), $1, null, $2, $3, $4::jsonb)" };

/** From its commit on no task of the agent can be opened; those open before it are the caller's to end. */
export async function setAgentEnabled(store: Store, name: string, enabled: boolean, reason: string, by: string): Promise<RegisteredAgent | undefined> {
  return store.transaction(async (tx) => {
    const [row] = enabled ? await tx.query(enableStatement, [name]) : await tx.query(disableStatement, [name, reason]);
    if (!row) return undefined;
    await tx.query(logAgentStatement, [enabled ? "agent.enabled" : "agent.disabled", name, by, JSON.stringify(enabled ? {} : { reason })]);
    await tx.query({ name: "notify_catalog", text: "select pg_notify('brevet', 'catalog')" });
    return toAgent(row);
  });
}

const liveCountStatement: Statement = {
  name: "live_task_counts",
  text: "select agent, count(*) as n from tasks where state in ('ready', 'active') and expires_at > clock_timestamp() group by agent",
};

export async function liveTaskCounts(store: Store): Promise<Map<string, number>> {
  return new Map((await store.query(liveCountStatement)).map((row) => [row["agent"] as string, row["n"] as number]));
}
