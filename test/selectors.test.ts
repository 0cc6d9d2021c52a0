// Are selectors compared as values, whatever the values hold?
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { matchSelectors, needsHash } from "../src/authorize/match.ts";
import { selectorKeys } from "../src/identity/selectors.ts";
import type { Facts, SelectorSet } from "../src/identity/selectors.ts";

const facts: Facts = { uid: 1000, gid: 100, user: "ann", path: "/opt/agent", systemdUnit: "agent.service" };

describe("a set matches only if each of its facts holds", () => {
  test.each<[string, SelectorSet[]]>([
    ["one fact", [{ uid: 1000 }]],
    ["several", [{ uid: 1000, path: "/opt/agent", systemdUnit: "agent.service" }]],
    ["one of the alternatives", [{ uid: 0 }, { user: "ann" }]],
    ["a key left open", [{ uid: 1000, gid: undefined } as SelectorSet]],
  ])("yes: %s", (_, sets) => {
    expect(matchSelectors(sets, facts)).toEqual({ matches: true });
  });

  test.each<[string, SelectorSet[], string]>([
    ["no set", [], "no selectors"],
    ["an empty set", [{}], "the set asks for nothing"],
    ["another uid", [{ uid: 1001 }], "uid: wants 1001, is 1000"],
    ["uid 0 is a value", [{ uid: 0 }], "uid: wants 0, is 1000"],
    ["a fact nobody proved", [{ uid: 1000, sha256: "ab" }], "sha256: wants ab, could not be proved"],
    ["a number as text", [{ uid: "1000" } as unknown as SelectorSet], "uid: wants 1000, is 1000"],
    ["a prefix", [{ path: "/opt/agent/" }], "path: wants /opt/agent/, is /opt/agent"],
    ["other case", [{ user: "Ann" }], "user: wants Ann, is ann"],
    ["a key that nobody knows", [{ uid: 1000, tpm: "x" } as SelectorSet], "tpm: wants x, could not be proved"],
    ["a key of every object", [{ uid: 1000, constructor: "x" } as unknown as SelectorSet], "constructor: wants x, could not be proved"],
    ["facts spread over two sets", [{ uid: 1000, gid: 0 }, { uid: 0, gid: 100 }], "gid: wants 0, is 100"],
    ["the set of which the least fails speaks, the hash last", [{ systemdUnit: "b.service", sha256: "ab" }, { sha256: "ab", user: "bob" }, { uid: 1001 }], "uid: wants 1001, is 1000"],
    ["what was looked at speaks before the hash", [{ sha256: "ab", user: "bob" }], "user: wants bob, is ann"],
    ["of sets of which as much fails, the one of which most holds", [{ uid: 0 }, { uid: 1000, user: "ann", gid: 5 }, { uid: 1000, gid: 6 }], "gid: wants 5, is 100"],
  ])("no: %s", (_, sets, firstMismatch) => {
    expect(matchSelectors(sets, facts)).toMatchObject({ matches: false, firstMismatch });
  });
});

test("a hash is asked for only where it could decide", () => {
  expect(needsHash([{ uid: 1000 }])).toBe(false);
  expect(needsHash([{ uid: 1 }, { uid: 1001, sha256: "ab" }])).toBe(true);
  expect(needsHash([{ uid: 1 }, { uid: 1001, sha256: "ab" }], facts)).toBe(false);
  expect(needsHash([{ uid: 1000, sha256: "ab" }], facts)).toBe(true);
});

/** Texts made of what a joined form would use as separators, and of each other's parts. */
const tricky = fc.array(fc.constantFrom(":", ",", "=", "/", "|", "\n", "\0", "uid", "1000", "user", "path", " ", '"', "\\", "a"), { maxLength: 6 }).map((parts) => parts.join(""));
const anyFacts = fc.record(
  { uid: fc.nat(3), gid: fc.nat(3), user: tricky, group: tricky, path: tricky, sha256: tricky, cgroup: tricky, systemdUnit: tricky, containerId: tricky },
  { requiredKeys: ["uid", "gid"] },
);
const anySet = anyFacts.chain((all) => fc.subarray([...selectorKeys]).map((keys) => Object.fromEntries(keys.map((key) => [key, all[key]])) as SelectorSet));

test("whatever the values hold, a set matches exactly if each of its values is the fact's", () => {
  fc.assert(
    fc.property(fc.array(anySet, { maxLength: 3 }), anyFacts, (sets, known) => {
      const expected = sets.some((set) => {
        const asked = selectorKeys.filter((key) => set[key] !== undefined);
        return asked.length > 0 && asked.every((key) => Object.is(set[key], known[key]));
      });
      expect(matchSelectors(sets, known).matches).toBe(expected);
    }),
    { numRuns: 3000 },
  );
});

test("a set made of a caller's own facts matches it; with one value changed it does not", () => {
  fc.assert(
    fc.property(anyFacts, fc.nat(), tricky, (known, pick, other) => {
      const keys = selectorKeys.filter((key) => known[key] !== undefined);
      const key = keys[pick % keys.length] ?? "uid";
      expect(matchSelectors([known], known)).toEqual({ matches: true });
      const changed = typeof known[key] === "number" ? 9 : `${known[key]}${other}x`;
      expect(matchSelectors([{ ...known, [key]: changed }], known).matches).toBe(false);
    }),
  );
});
