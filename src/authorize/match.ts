// Does this caller have what an agent or service asks for?
// Always true: a set matches only if each fact in it is there and equal; an empty set, an
// empty list and a key that this version does not know match nobody.
// Where the facts come from is src/attest's business; which tasks follow is src/claim's.
import type { Facts, SelectorSet } from "../identity/selectors.ts";

export type Match = { readonly matches: true } | { readonly matches: false; readonly firstMismatch: string };

/** Tries each alternative; if none holds, says what failed first in the one of which most facts hold. */
export function matchSelectors(sets: readonly SelectorSet[], facts: Facts): Match {
  let closest: { readonly holding: number; readonly firstMismatch: string } | undefined;
  for (const set of sets) {
    const asked = keysOf(set);
    const failing = asked.filter((key) => set[key] !== facts[key]);
    const [first] = failing;
    if (first === undefined && asked.length > 0) return { matches: true };
    const holding = asked.length - failing.length;
    if (closest && holding <= closest.holding) continue;
    closest = { holding, firstMismatch: first === undefined ? "the set asks for nothing" : mismatch(first, set, facts) };
  }
  return { matches: false, firstMismatch: closest?.firstMismatch ?? "no selectors" };
}

/** Whether the executable's hash could decide: a set asks for it and, of the given facts, all others in that set hold. */
export function needsHash(sets: readonly SelectorSet[], facts?: Facts): boolean {
  return sets.some((set) => {
    if (set.sha256 === undefined) return false;
    return facts === undefined || keysOf(set).every((key) => key === "sha256" || set[key] === facts[key]);
  });
}

/** By the set's own keys, not by the list of known ones: a key nobody knows must fail, not be skipped. */
function keysOf(set: SelectorSet): (keyof Facts)[] {
  return (Object.keys(set) as (keyof Facts)[]).filter((key) => set[key] !== undefined);
}

function mismatch(key: keyof Facts, set: SelectorSet, facts: Facts): string {
  const is = Object.hasOwn(facts, key) ? facts[key] : undefined;
  return is === undefined ? `${key}: wants ${set[key]}, could not be proved` : `${key}: wants ${set[key]}, is ${is}`;
}
