// Does this caller have what an agent or service asks for?
// Always true: a set matches only if each fact in it is there and equal; an empty set, an
// empty list and a key that this version does not know match nobody.
// Where the facts come from is src/attest's business; which tasks follow is src/claim's.
import type { Facts, SelectorSet } from "../identity/selectors.ts";

/** Of the alternative that is closest: the fewest facts fail, of those alike the most hold. */
export type Match = { readonly matches: true } | { readonly matches: false; readonly firstMismatch: string; readonly failing: number; readonly holding: number };

/** Tries each alternative; if none holds, says what failed first in the closest. */
export function matchSelectors(sets: readonly SelectorSet[], facts: Facts): Match {
  let closest: Match & { readonly matches: false } | undefined;
  for (const set of sets) {
    const asked = keysOf(set);
    const failing = asked.filter((key) => set[key] !== facts[key]);
    if (failing.length === 0 && asked.length > 0) return { matches: true };
    const first = failing.find((key) => key !== "sha256") ?? failing[0]; // the hash is looked at only where all else holds
    const match = { matches: false, failing: Math.max(1, failing.length), holding: asked.length - failing.length,
      firstMismatch: first === undefined ? "the set asks for nothing" : mismatch(first, set, facts) } as const;
    if (!closest || closerFirst(match, closest) < 0) closest = match;
  }
  return closest ?? { matches: false, failing: 1, holding: 0, firstMismatch: "no selectors" };
}

/** A comparison for sort(). */
export function closerFirst(a: Match, b: Match): number {
  if (a.matches || b.matches) return Number(b.matches) - Number(a.matches);
  return a.failing - b.failing || b.holding - a.holding;
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
