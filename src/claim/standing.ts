// As what does a caller come to a task: as its instance, as a sidecar of it, or not at all?
// Always true: a process that is not the instance gets SVIDs only if the catalog lets it speak for the agent, and
// only if it claimed for this instance itself, or lives in the very cgroup that is the instance. So being of another
// user, knowing a task's ID or a PID, or living beside an agent is never enough.
// Who claimed, and who lives where, is bindings.ts's business; selectors are src/authorize's.
import type { Caller } from "../attest/caller.ts";
import type { LiveCatalog } from "../authorize/catalog.ts";
import { claimedFor } from "./bindings.ts";
import type { Bound, Found } from "./bindings.ts";

/** Asked again at each issue, on facts that were proved. */
export function standing(catalog: LiveCatalog, by: Found["by"], bound: Bound, caller: Caller): "instance" | "sidecar" | null {
  const sidecar = catalog.maySpeakFor(bound.agent, caller.facts) ? "sidecar" : null;
  const instance = catalog.isAgent(bound.agent, caller.facts) ? "instance" : null;
  switch (by) {
    case "itself": return instance;
    case "tree": return bound.scope === "tree" ? "instance" : null;
    case "cgroup": return bound.scope === "cgroup" ? (instance ?? sidecar) : null;
    case "claim": return claimedFor(bound, caller) ? sidecar : null;
  }
}
