// Does one byte-level parser read every SPIFFE ID, and only SPIFFE IDs?
// Characters are tried exhaustively, one in each place; what Brevet writes reads back the same.
// SPIFFE-ID sections 2.1-2.4.
// Which IDs a verifier accepts is left to the verifier's tests.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BrevetError } from "../src/errors.ts";
import {
  formatAgentId, formatAgentTaskId, formatServiceId, isName, isTaskId, newTaskId, parseBrevetId, parseSpiffeId, parseTrustDomain,
} from "../src/identity/id.ts";

const task = "0199f3c0-7d52-7abc-8def-0123456789ab";

describe("a SPIFFE ID", () => {
  test.each([
    ["spiffe://example.org", "example.org", ""],
    ["spiffe://example.org/a", "example.org", "/a"],
    ["spiffe://10.0.0.1/a/B-c_d.e/...", "10.0.0.1", "/a/B-c_d.e/..."],
    ["spiffe://_-./9", "_-.", "/9"],
    [`spiffe://${"a".repeat(255)}/x`, "a".repeat(255), "/x"],
    [`spiffe://td/${"a".repeat(2048 - 12)}`, "td", `/${"a".repeat(2048 - 12)}`],
  ])("%s is read", (text, trustDomain, path) => {
    expect(parseSpiffeId(text)).toEqual({ trustDomain, path });
  });

  test.each([
    ["", "must begin with spiffe://"],
    ["example.org/a", "must begin with spiffe://"],
    ["SPIFFE://example.org/a", "must begin with spiffe://"],
    [" spiffe://example.org/a", "must begin with spiffe://"],
    ["spiffe:/example.org/a", "must begin with spiffe://"],
    ["https://example.org/a", "must begin with spiffe://"],
    ["spiffe://", "trust domain is missing"],
    ["spiffe:///a", "trust domain is missing"],
    [`spiffe://${"a".repeat(256)}`, "longer than 255"],
    ["spiffe://Example.org", "trust domain may hold only"],
    ["spiffe://exämple.org", "trust domain may hold only"],
    ["spiffe://example.org:443/a", "trust domain may hold only"],
    ["spiffe://user@example.org/a", "trust domain may hold only"],
    ["spiffe://example.org?a", "trust domain may hold only"],
    ["spiffe://example.org#a", "trust domain may hold only"],
    ["spiffe://example.org/", "empty segment or ends with a slash"],
    ["spiffe://example.org/a/", "empty segment or ends with a slash"],
    ["spiffe://example.org//a", "empty segment or ends with a slash"],
    ["spiffe://example.org/./a", "segment of dots"],
    ["spiffe://example.org/a/..", "segment of dots"],
    ["spiffe://example.org/a?b", "path may hold only"],
    ["spiffe://example.org/a#b", "path may hold only"],
    ["spiffe://example.org/%61", "path may hold only"],
    ["spiffe://example.org/a\0b", "path may hold only"],
    ["spiffe://example.org/a\n", "path may hold only"],
    ["spiffe://example.org/ａ", "path may hold only"],
    [`spiffe://td/${"a".repeat(2048 - 11)}`, "longer than 2048"],
  ])("%j is refused: %s", (text, why) => {
    expect(() => parseSpiffeId(text)).toThrow(why);
  });

  test("each character has its places and no others", () => {
    const accepted = (text: string): boolean => {
      try {
        parseSpiffeId(text);
        return true;
      } catch {
        return false;
      }
    };
    for (let code = 0; code < 0x500; code++) {
      const character = String.fromCharCode(code);
      expect([character, accepted(`spiffe://a${character}b/p`)]).toEqual([character, /^[a-z0-9._/-]$/.test(character)]);
      expect([character, accepted(`spiffe://td/a${character}b`)]).toEqual([character, /^[a-zA-Z0-9._/-]$/.test(character)]);
    }
  });

  test("a refusal names the field", () => {
    const refusal = (): unknown => parseSpiffeId("x", "subject");
    expect(refusal).toThrow(BrevetError);
    expect(refusal).toThrow(/^subject: /);
    expect(() => parseTrustDomain("A")).toThrow(/^trust_domain: /);
  });

  test("any text is read back as it stands, or refused", () => {
    const likeAnId = fc.string({ unit: fc.constantFrom(..."spiffe:/.-_aZ0%?#@ é"), maxLength: 24 }).map((rest) => `spiffe://${rest}`);
    fc.assert(fc.property(fc.oneof(fc.string({ unit: "binary" }), likeAnId), (text) => {
      try {
        const { trustDomain, path } = parseSpiffeId(text);
        return `spiffe://${trustDomain}${path}` === text;
      } catch (error) {
        return (error as { code?: string }).code === "INVALID_FIELD";
      }
    }), { numRuns: 5_000 });
  });
});

describe("Brevet's own IDs", () => {
  const trustDomains = fc.string({ unit: fc.constantFrom(..."abz09.-_"), minLength: 1, maxLength: 40 });
  const names = fc.string({ unit: fc.constantFrom(..."abz09.-_"), minLength: 1, maxLength: 64 }).filter(isName);
  const tasks = fc.tuple(fc.integer({ min: 0, max: 2 ** 48 - 1 }), fc.uint8Array({ minLength: 10, maxLength: 10 }))
    .map(([ms, random]) => newTaskId(ms, Buffer.from(random)));

  test("are read as they were written", () => {
    fc.assert(fc.property(trustDomains, names, tasks, (trustDomain, name, id) => {
      expect(parseBrevetId(formatAgentTaskId(trustDomain, name, id))).toEqual({ kind: "agent", trustDomain, agent: name, task: id });
      expect(parseBrevetId(formatAgentId(trustDomain, name))).toEqual({ kind: "agent", trustDomain, agent: name });
      expect(parseBrevetId(formatServiceId(trustDomain, name))).toEqual({ kind: "service", trustDomain, service: name });
    }), { numRuns: 1_000 });
  });

  test.each([
    ["spiffe://td/brevet/node/1", "brevet"],
    ["spiffe://td/brevet", "brevet"],
    ["spiffe://td", "other"],
    ["spiffe://td/agent", "other"],
    ["spiffe://td/Agent/a", "other"],
    ["spiffe://td/agent/Upper", "other"],
    ["spiffe://td/agent/-a", "other"],
    ["spiffe://td/agent/a..b", "other"],
    ["spiffe://td/agent/a/task", "other"],
    ["spiffe://td/agent/a/task/1", "other"],
    [`spiffe://td/agent/a/task/${task.toUpperCase()}`, "other"],
    [`spiffe://td/agent/a/task/${task}/x`, "other"],
    [`spiffe://td/agent/a/tasks/${task}`, "other"],
    ["spiffe://td/service/a/b", "other"],
    ["spiffe://td/services/a", "other"],
  ])("%s is of kind %s", (text, kind) => {
    expect(parseBrevetId(text).kind).toBe(kind);
  });

  test("nothing is written that would read as something else", () => {
    expect(() => formatAgentTaskId("td", "a", "1")).toThrow(/^task_id: /);
    expect(() => formatAgentTaskId("td", "a/task", task)).toThrow(/^agent: /);
    expect(() => formatAgentId("td", "..")).toThrow(/^agent: /);
    expect(() => formatServiceId("td", "")).toThrow(/^service: /);
    expect(() => formatServiceId("td/agent", "a")).toThrow(/^trust_domain: /);
  });

  test.each(["a", "0", "a-b.c_d", "a".repeat(64)])("%s is a name", (text) => expect(isName(text)).toBe(true));
  test.each(["", ".", "..", "a..b", "-a", "a-", "a.", "_a", "A", "a b", "a/b", "a\n", "ä", "a".repeat(65)])("%j is no name", (text) => expect(isName(text)).toBe(false));
});

describe("a task ID", () => {
  test("is a UUIDv7 that carries its millisecond and sorts by it", () => {
    const made = [0, 1, 1_763_800_000_000, 2 ** 48 - 1].map((ms) => newTaskId(ms));
    expect(made.every(isTaskId)).toBe(true);
    expect([...made].sort()).toEqual(made);
    expect(newTaskId(0x0199f3c07d52, Buffer.from("ffffffffffffffffffff", "hex"))).toBe("0199f3c0-7d52-7fff-bfff-ffffffffffff");
    expect(new Set(Array.from({ length: 1000 }, () => newTaskId(7))).size).toBe(1000);
  });

  test.each(["", task.toUpperCase(), task.replace("-7abc", "-4abc"), task.replace("-8", "-c"), `${task} `, `${task}\n`, task.replaceAll("-", "")])("%j is none", (text) => {
    expect(isTaskId(text)).toBe(false);
  });
});
