// What may this caller be, open or ask for, by the catalog as it is now?
// Pure judgements over the registered agents and services; whoever applies a catalog replaces them
// here at once. Only facts that were proved are compared; nothing here waits or asks anybody.
// Whether a task's state allows it is judged under its lock (src/issue, src/claim).
import { audienceName } from "../identity/catalog.ts";
import type { AgentDefinition, ServiceDefinition } from "../identity/catalog.ts";
import type { Facts, SelectorSet } from "../identity/selectors.ts";
import { matchSelectors, needsHash } from "./match.ts";

export type KnownAgent = { readonly definition: AgentDefinition; readonly disabledAt: Date | null; readonly disabledReason: string };
export type KnownService = { readonly definition: ServiceDefinition };

export class LiveCatalog {
  #agents = new Map<string, KnownAgent>();
  #services = new Map<string, KnownService>();
  #hashWanted = false;

  /** Replaces all that was known. */
  set(agents: readonly KnownAgent[], services: readonly KnownService[]): void {
    this.#agents = new Map(agents.map((agent) => [agent.definition.name, agent]));
    this.#services = new Map(services.map((service) => [service.definition.name, service]));
    this.#hashWanted = this.#allSets().some((sets) => needsHash(sets));
  }

  get agents(): readonly KnownAgent[] {
    return [...this.#agents.values()];
  }

  get services(): readonly KnownService[] {
    return [...this.#services.values()];
  }

  agent(name: string): KnownAgent | undefined {
    return this.#agents.get(name);
  }

  /** Whether the caller's hash could decide anything: hashing costs, so it is measured only then. */
  wantsHash(facts: Facts): boolean {
    return this.#hashWanted && this.#allSets().some((sets) => needsHash(sets, facts));
  }

  isAgent(name: string, facts: Facts): boolean {
    const agent = this.#agents.get(name);
    return agent !== undefined && matchSelectors(agent.definition.selectors, facts).matches;
  }

  /**
   * Whether it may claim and fetch for the agent's instances: root, who may be the instance itself, and whom the
   * catalog names. (A definition of an earlier version names none.)
   */
  maySpeakFor(name: string, facts: Facts): boolean {
    const agent = this.#agents.get(name);
    if (agent === undefined) return false;
    return facts.uid === 0 || this.isAgent(name, facts) || matchSelectors(sidecarsOf(agent.definition), facts).matches;
  }

  agentsSpokenForBy(facts: Facts): string[] {
    return this.agents.map(({ definition }) => definition.name).filter((name) => this.maySpeakFor(name, facts));
  }

  /** Agents that it may speak for without being root, where it comes before their processes. */
  agentsBeside(facts: Facts): string[] {
    return this.agents.filter(({ definition }) => matchSelectors([...definition.selectors, ...sidecarsOf(definition)], facts).matches).map(({ definition }) => definition.name);
  }

  matchingAgents(facts: Facts): string[] {
    return this.agents.filter((agent) => matchSelectors(agent.definition.selectors, facts).matches).map((agent) => agent.definition.name);
  }

  matchingServices(facts: Facts): string[] {
    return this.services.filter((service) => matchSelectors(service.definition.selectors, facts).matches).map((service) => service.definition.name);
  }

  /** Agents whose tasks the caller may open, change, close and see. */
  openableAgents(facts: Facts): string[] {
    return this.agents
      .filter((agent) => agent.definition.openers.length > 0 && matchSelectors(agent.definition.openers, facts).matches)
      .map((agent) => agent.definition.name);
  }

  /** The audiences of a request that a holder may not have a JWT-SVID for. */
  forbiddenAudiences(holder: { agent: string } | { service: string }, audiences: readonly string[]): string[] {
    const definition = "agent" in holder ? this.#agents.get(holder.agent)?.definition : this.#services.get(holder.service)?.definition;
    const allowed = definition?.audiences ?? null;
    return allowed === null ? [] : audiences.filter((audience) => !allowed.some((entry) => audienceName(entry) === audience));
  }

  /** Whom an agent's JWT-SVID for these audiences names: some want its task, some match the agent exactly. */
  subjectsFor(agent: string, audiences: readonly string[]): ReadonlySet<"task" | "agent"> {
    const known = this.#agents.get(agent)?.definition.audiences ?? [];
    return new Set(audiences.map((audience) => {
      const entry = known.find((one) => audienceName(one) === audience);
      return typeof entry === "object" ? entry.subject : "task";
    }));
  }

  #allSets(): (readonly SelectorSet[])[] {
    return [
      ...this.agents.flatMap(({ definition }) => [definition.selectors, definition.openers, sidecarsOf(definition)]),
      ...this.services.map((service) => service.definition.selectors),
    ];
  }
}

function sidecarsOf({ sidecars }: Partial<AgentDefinition>): readonly SelectorSet[] {
  return sidecars ?? [];
}
