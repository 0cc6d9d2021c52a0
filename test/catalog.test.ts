// Does the catalog parser take what is right, and say all that is wrong, where it stands?
// Each file of test/fixtures/catalog states in its own comments what must be found in it: nothing
// less, nothing more. No text makes the parser throw.
// What applying a catalog does to tasks is tested with the broker.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { canonicalCatalog, diffCatalog, parseCatalog } from "../src/identity/catalog.ts";
import type { Catalog, CatalogProblem } from "../src/identity/catalog.ts";

const fixtures = join(import.meta.dirname, "fixtures/catalog");
const agent = (name: string, more = ""): string => `- { name: ${name}, owner: lead@example.org, selectors: [{ systemdUnit: ${name}.service }]${more} }\n`;
const parse = (...texts: string[]): ReturnType<typeof parseCatalog> => parseCatalog(texts.map((text, index) => ({ name: `${index}.yaml`, text })));
const shown = (list: readonly CatalogProblem[]): string[] => list.map(({ line, column, message }) => `${line}:${column} ${message}`);

function accepted(...texts: string[]): Catalog {
  const { catalog, problems } = parse(...texts);
  expect(problems).toEqual([]);
  return catalog;
}

describe("each fixture is found to be what it says", () => {
  test.each(readdirSync(fixtures))("%s", (name) => {
    const text = readFileSync(join(fixtures, name), "utf8");
    const stated = (kind: string): string[] => [...text.matchAll(new RegExp(`^# ${kind} (.*)$`, "gm"))].map((match) => match[1] ?? "");
    const { catalog, problems, warnings } = parseCatalog([{ name, text }]);
    expect(shown(problems)).toEqual(stated("problem"));
    expect(shown(warnings)).toEqual(stated("warning"));
    expect(problems.length > 0).toBe(name.startsWith("wrong-"));
    expect(catalog.agents.length + catalog.services.length > 0).toBe(name.startsWith("good-"));
  });
});

describe("what passed is normal", () => {
  test("the sample is accepted without a warning, and every agent has a user of its own", () => {
    const text = readFileSync(join(import.meta.dirname, "../deploy/catalog.yaml"), "utf8");
    const { catalog, problems, warnings } = parseCatalog([{ name: "catalog.yaml", text }]);
    expect([problems, warnings]).toEqual([[], []]);
    expect(catalog.agents.map(({ name }) => name)).toEqual(["coder", "researcher"]);
    const uids = [...catalog.agents, ...catalog.services].map(({ selectors }) => [...new Set(selectors.map(({ uid }) => uid))]);
    expect(uids.every((list) => list.length === 1 && list[0] !== undefined)).toBe(true);
    expect(new Set(uids.flat()).size).toBe(uids.length);
  });

  test("defaults", () => {
    const { agents, services } = accepted(`agents:\n${agent("a")}services:\n${agent("s")}`);
    expect(agents).toEqual([{
      name: "a", owner: "lead@example.org", purpose: "", selectors: [{ systemdUnit: "a.service" }], openers: [], sidecars: [], context: null, audiences: null,
      maxTaskTtl: 3_600, x509Ttl: 300, jwtTtl: 120, tasksPerInstance: 1, onExit: "abort",
    }]);
    expect(services).toEqual([{ name: "s", owner: "lead@example.org", selectors: [{ systemdUnit: "s.service" }], audiences: null, x509Ttl: 300, jwtTtl: 120 }]);
  });

  test.each([["90s", 90], ["15m", 900], ["1h", 3_600], ["1h30m", 5_400], ["30d", 2_592_000], ["1d2h3m4s", 93_784]])("%s is %i seconds", (written, seconds) => {
    expect(accepted(`agents:\n${agent("a", `, maxTaskTtl: ${written}`)}`).agents[0]?.maxTaskTtl).toBe(seconds);
  });

  test.each(["", "0s", "31d", "1", "-1h", "1h 30m", "30m1h", "1.5h", "1H", "1w", "١h"])("%j is no lifetime of a task", (written) => {
    const { problems } = parse(`agents:\n${agent("a", `, maxTaskTtl: "${written}"`)}`);
    expect(problems).toHaveLength(1);
    expect(problems[0]?.message).toMatch(/^agents\[0\]\.maxTaskTtl: must be (a duration such as|from 1s to 30d)/);
  });

  test.each(["A", "a b", "-a", "a-", "a..b", "a/b", "ａ", "a".repeat(65)])("%j is no name", (name) => {
    expect(parse(`agents:\n- { name: "${name}", owner: lead@example.org, selectors: [{ uid: 1 }] }`).problems[0]?.message).toMatch(/^agents\[0\]\.name: must be 1 to 64/);
  });

  test.each(["", " ", "\u3164", "a\u00adb", "a\u202eb", "a\u200db", "1\ufe0f", "\u{e0041}", "a\ufffe", "a\nb"])("%j is no text of one line", (purpose) => {
    const { problems } = parse(`services:\n${agent("s")}agents:\n- { name: a, owner: ${JSON.stringify(purpose)}, selectors: [{ uid: 1 }] }`);
    expect(problems[0]?.message).toMatch(/^agents\[0\]\.owner: (is empty|must be one line without invisible characters)/);
  });

  test.each(["می\u200cخواهم", "क्\u200dष", "👩🏽\u200d🚀 ❤\ufe0f 1\ufe0f\u20e3"])("%j is what is written with joiners", (purpose) => {
    expect(accepted(`agents:\n${agent("a", `, purpose: ${JSON.stringify(purpose)}`)}`).agents[0]?.purpose).toBe(purpose);
  });

  test("the same content in another order and another split over files is the same catalog", () => {
    const one = accepted(`agents:\n${agent("b")}${agent("a", ", audiences: [y, x], context: [k, j]")}services:\n${agent("s")}`);
    const other = accepted(`services:\n${agent("s")}`, `agents:\n${agent("a", ", context: [j, k], audiences: [x, y]")}`, `agents:\n${agent("b")}`);
    expect(canonicalCatalog(other)).toBe(canonicalCatalog(one));
    expect(JSON.parse(canonicalCatalog(one))).toEqual(one);
  });
});

describe("bounds", () => {
  test("a name is registered once over all files; an agent and a service may share one", () => {
    const { problems } = parse(`agents:\n${agent("a")}services:\n${agent("a")}`, `agents:\n${agent("b")}${agent("a")}`);
    expect(problems).toEqual([{ file: "1.yaml", line: 3, column: 11, message: "agents[1].name: a is registered already, at 0.yaml:2:11" }]);
  });

  test("problems come in the order of the files and their lines", () => {
    const { problems } = parse(`x: 1\nagents:\n- {}\n`, "y: 1\n");
    expect(problems.map(({ file, line }) => `${file}:${line}`)).toEqual(["0.yaml:1", "0.yaml:3", "0.yaml:3", "0.yaml:3", "1.yaml:1"]);
  });

  test("large files, many files, many items and many problems end early", () => {
    const comment = (bytes: number): string => `#${"x".repeat(bytes - 2)}\n`;
    expect(shown(parse(comment(256 * 1024 + 1)).problems)).toEqual(["1:1 is larger than 256 KiB"]);
    expect(shown(parse(...Array.from({ length: 5 }, () => comment(256 * 1024))).problems)).toEqual(["1:1 the files are larger than 1024 KiB in all"]);
    const ones = (count: number): string => `agents: [${"1,".repeat(count)}]\n`;
    expect(shown(parse(ones(6_000), ones(4_001)).problems)).toEqual(["1:1 more than 10000 agents and services in all"]);
    const { problems } = parse(ones(2_000));
    expect(problems).toHaveLength(1_001);
    expect(problems.at(-1)?.message).toBe("and 1000 more");
  });

  test.each(["[", "[]{}", "{a: ", "- ", "? ", ": ", "- a: [\n", "[}", "[a: "])("%j again and again ends neither the process nor the parser", (piece) => {
    const { catalog, problems } = parse(piece.repeat(Math.floor(20_000 / piece.length)));
    expect(problems.length).toBeGreaterThan(0);
    expect(catalog).toEqual({ agents: [], services: [] });
  });

  test("keys that objects have of themselves are unknown keys like others", () => {
    const { problems } = parse(`__proto__: { agents: [] }\nconstructor: 1\nagents:\n${agent("a", ", __proto__: { uid: 1 }, toString: 1")}`);
    expect(problems.map(({ message }) => message)).toEqual([
      "__proto__: unknown key", "constructor: unknown key", "agents[0].__proto__: unknown key", "agents[0].toString: unknown key",
    ]);
  });
});

describe("no text makes the parser throw, and no problem breaks its line", () => {
  const sample = readFileSync(join(import.meta.dirname, "../deploy/catalog.yaml"), "utf8");
  const pieces = fc.array(fc.oneof(
    fc.constantFrom("agents", "services", "name", "selectors", "uid", ": ", ":", "\n", "\n  ", "- ", "[", "]", "{", "}", ",", "\"", "'", "|", ">", "&a ", "*a", "!!int ", "!x ", "? ", "---\n", "...\n", "%YAML 1.1\n", "#", "\t", "1", "~", "<<", "\u2028", "\u0000", "\ufeff", "\r"),
    fc.string({ unit: "binary", maxLength: 4 }),
  ), { maxLength: 60 }).map((parts) => parts.join(""));
  const damaged = fc.tuple(fc.nat(sample.length), fc.nat(20), pieces).map(([at, drop, put]) => sample.slice(0, at) + put + sample.slice(at + drop));

  test.each([["pieces of YAML", pieces], ["a damaged sample", damaged]] as const)("%s", (_name, texts) => {
    fc.assert(fc.property(texts, (text) => {
      const { catalog, problems, warnings } = parse(text);
      const lines = text.split("\n").length;
      const broken = [...problems, ...warnings].filter(({ file, line, column, message }) =>
        file !== "0.yaml" || line < 1 || line > lines || column < 1 || !/^[^\p{C}\p{Zl}\p{Zp}]+$/u.test(message));
      expect(broken).toEqual([]);
      if (problems.length > 0) expect(catalog).toEqual({ agents: [], services: [] });
    }), { numRuns: 300 });
  });

  test.each(["name", "owner", "purpose", "selectors", "openers", "sidecars", "context", "audiences", "maxTaskTtl", "tasksPerInstance", "onExit"])("%s as a mapping that has a length", (key) => {
    for (const length of ["{}", "{ valueOf: 1, toString: 1 }", "[]", "1", "1e99"]) {
      const { problems } = parse(`agents:\n- { ${key}: { length: ${length} } }`);
      expect(problems.filter(({ message }) => message.startsWith(`agents[0].${key}: must be`))).toHaveLength(1);
    }
  });

  test("any values under the known keys", () => {
    const names = ["name", "owner", "purpose", "selectors", "openers", "sidecars", "context", "audiences", "maxTaskTtl", "x509Ttl", "jwtTtl", "tasksPerInstance", "onExit"];
    const item = fc.dictionary(fc.constantFrom(...names), fc.oneof(fc.jsonValue(), fc.dictionary(fc.constantFrom("length", "uid", "path", "valueOf"), fc.jsonValue())));
    fc.assert(fc.property(fc.record({ agents: fc.array(item), services: fc.array(item) }), (value) => {
      const { catalog, problems } = parse(JSON.stringify(value));
      if (problems.length === 0) expect(catalog.agents.length + catalog.services.length).toBe(value.agents.length + value.services.length);
    }), { numRuns: 40 });
  });
});

describe("the difference", () => {
  const before = accepted(`agents:\n${agent("changed", ", maxTaskTtl: 1h, audiences: [crm]")}${agent("gone")}${agent("same")}`);
  const after = accepted(`agents:\n${agent("changed", ", maxTaskTtl: 90m, onExit: close, purpose: more")}${agent("new")}${agent("same")}services:\n${agent("s")}`);

  test("is by kind and name, and names the keys that changed", () => {
    expect(diffCatalog(before, after)).toEqual([
      { action: "change", kind: "agent", name: "changed", fields: ['purpose: "" → more', 'audiences: ["crm"] → any', "maxTaskTtl: 1h → 1h30m", "onExit: abort → close"] },
      { action: "remove", kind: "agent", name: "gone", fields: [] },
      { action: "add", kind: "agent", name: "new", fields: [] },
      { action: "add", kind: "service", name: "s", fields: [] },
    ]);
  });

  test("is empty between a catalog and what was stored of it", () => {
    expect(diffCatalog(JSON.parse(canonicalCatalog(after)) as Catalog, after)).toEqual([]);
  });
});
