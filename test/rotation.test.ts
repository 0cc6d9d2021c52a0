// Does the plan of rotation keep each use able to sign, and every signature verifiable?
// Whatever the records and however long the broker was away, the plan leaves one active authority of
// each use with time left; over weeks of simulated hours no SVID's authority leaves the bundle early.
// SPIFFE Federation section 4.1.
// What a single authority may sign is left to keys.test.ts.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bundleOf, carryOut, planRotation } from "../ca/authority.ts";
import type { AuthorityRecord, AuthorityState, AuthorityUse } from "../ca/authority.ts";
import { defaultRotation } from "../ca/rotation.ts";
import type { RotationAction } from "../ca/rotation.ts";
import { kek, trustDomain } from "./support/authorities.ts";

const start = Date.parse("2026-01-01T00:00:00Z");
const hour = 3_600_000;
const uses: AuthorityUse[] = ["root", "x509", "jwt"];
const at = (ms: number): Date => new Date(ms);
const said = (plan: readonly RotationAction[]): string[] => plan.map((action) => `${action.do} ${action.do === "create" ? `${action.state} ${action.use}` : action.use}`);
const next = (records: readonly AuthorityRecord[], ms: number): AuthorityRecord[] =>
  carryOut(planRotation(records, at(ms)), records, { trustDomain, kek, now: at(ms) });
const active = (records: readonly AuthorityRecord[], use: AuthorityUse): AuthorityRecord[] => records.filter((record) => record.use === use && record.state === "active");

describe("the plan", () => {
  test("of the first start makes one active authority of each use, the root first, and then rests", () => {
    expect(said(planRotation([], at(start)))).toEqual(["create active root", "create active x509", "create active jwt"]);
    const records = next([], start);
    expect(records.map(({ use, state }) => `${use} ${state}`)).toEqual(["root active", "x509 active", "jwt active"]);
    expect(records[1]?.parent).toBe(records[0]?.id);
    expect(planRotation(records, at(start + hour))).toEqual([]);
  });

  test("prepares at half life, activates once published, and drops when nothing signed can be valid", () => {
    let records = next([], start);
    const steps: Record<number, string[]> = {};
    for (let h = 0; h <= 38; h++) {
      const plan = planRotation(records, at(start + h * hour));
      if (plan.length > 0) steps[h] = said(plan);
      records = carryOut(plan, records, { trustDomain, kek, now: at(start + h * hour) });
    }
    expect(steps).toEqual({
      12: ["create prepared x509", "create prepared jwt"],
      13: ["retire x509", "activate x509", "retire jwt", "activate jwt"],
      24: ["create prepared x509", "create prepared jwt"],
      25: ["retire x509", "activate x509", "retire jwt", "activate jwt"],
      26: ["drop x509", "drop jwt"],
      36: ["create prepared x509", "create prepared jwt"],
      37: ["retire x509", "activate x509", "retire jwt", "activate jwt"],
      38: ["drop x509", "drop jwt"],
    });
  });

  test("after a long absence activates what was published, or makes anew, at once", () => {
    const records = next([], start);
    expect(said(planRotation(records, at(start + 48 * hour)))).toEqual(["retire x509", "create active x509", "retire jwt", "create active jwt"]);
    const prepared = next(records, start + 13 * hour);
    expect(said(planRotation(prepared, at(start + 23 * hour)))).toEqual(["retire x509", "activate x509", "retire jwt", "activate jwt"]);
    expect(said(planRotation(records, at(start + 400 * 24 * hour)))).toEqual([
      "retire root", "create active root", "retire x509", "create active x509", "retire jwt", "create active jwt",
    ]);
  });

  test("leaves one active authority of each use with time left, whatever it finds, and then rests", () => {
    const template = next([], start);
    const states = fc.constantFrom<AuthorityState>("prepared", "active", "retired");
    const found = fc.array(fc.record({ use: fc.constantFrom(...uses), state: states, begin: fc.integer({ min: -600, max: 10 }), life: fc.integer({ min: 1, max: 9_000 }) }), { maxLength: 12 });
    fc.assert(fc.property(found, (rows) => {
      const records = rows.map(({ use, state, begin, life }, i): AuthorityRecord => ({
        ...(template.find((record) => record.use === use) as AuthorityRecord),
        id: `found-${i}`, state, notBefore: at(start + begin * hour), notAfter: at(start + (begin + life) * hour),
      }));
      // The plan's effect on states alone: what it creates is as good as the policy makes it.
      const plan = planRotation(records, at(start));
      for (const use of uses) {
        const gone = new Set(plan.flatMap((action) => (action.do === "retire" || action.do === "drop" ? [action.id] : [])));
        const made = plan.filter((action) => action.use === use && action.do === "create" && action.state === "active").length;
        const left = records.filter((record) => record.use === use && record.notAfter.getTime() > start
          && ((record.state === "active" && !gone.has(record.id)) || plan.some((action) => action.do === "activate" && action.id === record.id)));
        expect(made + left.length).toBe(1);
      }
      const dropped = plan.flatMap((action) => (action.do === "drop" ? records.filter((record) => record.id === action.id) : []));
      for (const record of dropped) {
        expect(record.state === "prepared" || record.notAfter.getTime() + defaultRotation.keepSeconds * 1000 < start).toBe(true);
      }
    }), { numRuns: 2_000 });
  });
});

test("over three weeks of gaps every signature stays verifiable for as long as it may live", () => {
  fc.assert(fc.property(fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 20, maxLength: 30 }), (gaps) => {
    let records: AuthorityRecord[] = [];
    let now = start;
    const signedUntil = new Map<string, number>();
    for (const gap of gaps) {
      records = next(records, now);
      for (const use of uses) {
        const [signer, ...others] = active(records, use);
        expect(others).toEqual([]);
        expect(signer?.notAfter.getTime()).toBeGreaterThan(now);
        if (signer) signedUntil.set(use === "x509" ? (signer.parent ?? "") : signer.id, signer.notAfter.getTime());
      }
      const published = bundleOf(records, { trustDomain, sequence: 1, refreshHintSeconds: 60 });
      const ids = new Set([...published.jwt.map(({ kid }) => kid), ...records.filter(({ use }) => use === "root").map(({ id }) => id)]);
      for (const [id, until] of signedUntil) {
        if (until > now) expect(ids.has(id)).toBe(true);
      }
      expect(published.x509.length).toBe(records.filter(({ use }) => use === "root").length);
      now += gap * hour;
    }
  }), { numRuns: 8 });
});
