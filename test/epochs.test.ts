// Does the table of epochs hold what it was told, and nothing else?
// Held against a plain Map under random raises and sweeps, with few hash values so that slots collide,
// and at the sizes where it grows and shrinks.
import { describe, expect, test } from "vitest";
import fc from "fast-check";
import { Epochs } from "../src/identity/epochs.ts";
import { newTaskId } from "../src/identity/id.ts";

const minute = 60;
/** IDs that differ in one digit each: many share a slot. */
const close = Array.from({ length: 40 }, (_, i) => `01999999-0000-7000-8000-0000000000${i.toString(16).padStart(2, "0")}`);

describe("the table of epochs", () => {
  test("is a map of the highest epoch, whatever comes in whatever order", () => {
    const step = fc.record({ task: fc.constantFrom(...close, "service/crm", "service/search"), epoch: fc.integer({ min: 1, max: 9 }), until: fc.integer({ min: 0, max: 50 }) });
    fc.assert(fc.property(fc.array(fc.oneof(step, fc.integer({ min: 0, max: 50 })), { maxLength: 300 }), (steps) => {
      const epochs = new Epochs();
      const plain = new Map<string, { epoch: number; until: number }>();
      for (const one of steps) {
        if (typeof one === "number") {
          epochs.sweep(one * minute);
          for (const [task, { until }] of plain) if (until < one) plain.delete(task);
        } else {
          const known = plain.get(one.task);
          const news = one.epoch > (known?.epoch ?? 0);
          expect(epochs.raise(one.task, one.epoch, one.until * minute)).toBe(news);
          if (news) plain.set(one.task, { epoch: one.epoch, until: Math.max(one.until, known?.until ?? 0) });
        }
      }
      expect(epochs.size).toBe(plain.size);
      for (const task of [...close, "service/crm", "service/search"]) expect(epochs.get(task)).toBe(plain.get(task)?.epoch ?? 0);
    }));
  });

  test("grows and shrinks without losing anything", () => {
    const epochs = new Epochs();
    const tasks = Array.from({ length: 20_000 }, (_, i) => newTaskId(1_760_000_000_000 + (i >> 4)));
    tasks.forEach((task, i) => epochs.raise(task, i + 1, i % 100 === 0 ? 1_000 : 10));
    expect(tasks.every((task, i) => epochs.get(task) === i + 1)).toBe(true);
    for (let i = 0; i < 400; i++) epochs.sweep(500);
    expect(epochs.size).toBe(200);
    expect(tasks.every((task, i) => epochs.get(task) === (i % 100 === 0 ? i + 1 : 0))).toBe(true);
  });

  test("takes no near miss for a task", () => {
    const epochs = new Epochs();
    const task = close[10] ?? "";
    epochs.raise(task, 7, minute);
    expect([task.toUpperCase(), task.replaceAll("-", ""), `${task} `, task.replace("-", "0")].map((text) => epochs.get(text))).toEqual([0, 0, 0, 0]);
  });
});
