// Does a value that was read from a file say what it may say?
// All that is wrong comes out at once, each with its path, in words that say what to write
// instead; an unknown key is named, with the key that was probably meant.
// The pieces that several schemas share stand here: sections, texts, durations, lists without repeats.
// Where a path stands in its file is src/identity/yaml.ts's business.
import * as z from "zod";
import { parseDuration } from "./duration.ts";
import { hasHidden, isBlank } from "./text.ts";
import { printable, quoted } from "./yaml.ts";
import type { Path } from "./yaml.ts";

/** `part` says whether the key itself is wrong, or its value. */
export type Finding = { readonly path: Path; readonly part: "key" | "value"; readonly message: string };

export function check<S extends z.ZodType>(schema: S, value: unknown): { value?: z.output<S>; findings: Finding[] } {
  const result = schema.safeParse(value, { error: inWords });
  if (result.success) return { value: result.data, findings: [] };
  return { findings: result.error.issues.flatMap(findingsOf) };
}

/** An object of exactly these keys. */
export function section<T extends z.core.$ZodLooseShape>(shape: T): z.ZodObject<T, z.core.$strict> {
  const known = Object.keys(shape);
  return z.strictObject(shape, {
    // One line for each key, in their order: findingsOf takes them apart again.
    error: (issue) => issue.code === "unrecognized_keys" ? issue.keys.map((key) => `unknown key${didYouMean(key, known)}`).join("\n") : undefined,
  });
}

// Lengths are judged here and not by zod's min() and max(): those look at `length` before the type is
// known to be right, and a mapping with a key of that name makes them throw.

/** One line of visible characters; of what is wrong with it, the first. */
export function text(max: number, min: 0 | 1 = 1): z.ZodString {
  const refuse = (error: string, holds: (value: string) => boolean): z.core.$ZodCheck<string> => z.refine(holds, { error, abort: true });
  return z.string().check(
    refuse("is empty", (value) => min === 0 || !isBlank(value)),
    refuse(`must be at most ${max} characters long`, (value) => value.length <= max),
    refuse("must be one line without invisible characters", (value) => !hasHidden(value)),
  );
}

export function listOf<T extends z.ZodType>(item: T, max: number): z.ZodArray<T> {
  return z.array(item).check(z.refine((items: unknown[]) => items.length <= max, { error: `must be at most ${max} items long`, abort: true }));
}

/** Text with units in the file, seconds in the value. */
export function duration(min: number, max: number): z.ZodType<number, string> {
  const examples = "a duration such as 90s, 15m, 1h or 1h30m";
  return z
    .string({ error: (issue) => typeof issue.input === "number" ? `has no unit: write ${examples}` : undefined })
    .transform((written, context) => {
      const seconds = secondsOf(written);
      if (seconds !== null && seconds >= min && seconds <= max) return seconds;
      const message = seconds === null ? `must be ${examples}` : `must be from ${formatDuration(min)} to ${formatDuration(max)}`;
      context.issues.push({ code: "custom", message, input: written });
      return z.NEVER;
    });
}

function secondsOf(written: string): number | null {
  try {
    return parseDuration(written, "") / 1_000;
  } catch {
    return null;
  }
}

/** Seconds as a file has them: `1h30m`. */
export function formatDuration(seconds: number): string {
  const days = Math.trunc(seconds / 86_400);
  const hours = Math.trunc((seconds % 86_400) / 3_600);
  const minutes = Math.trunc((seconds % 3_600) / 60);
  const parts = [[days, "d"], [hours, "h"], [minutes, "m"], [seconds % 60, "s"]] as const;
  return parts.filter(([count]) => count > 0).map(([count, unit]) => `${count}${unit}`).join("") || "0s";
}

/** Sorted by name: the order in the file means nothing. */
export function setOf<T>(item: z.ZodType<T, unknown>, max: number, nameOf: (item: T) => string = String): z.ZodType<T[], unknown[]> {
  return listOf(item, max).transform((items, context) => {
    const names = items.map(nameOf);
    for (const [index, name] of names.entries()) {
      if (names.indexOf(name) < index) context.issues.push({ code: "custom", message: "stands twice", input: name, path: [index] });
    }
    return items.toSorted((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1));
  });
}

/** A mapping by the one schema, anything else by the other: what is wrong is told as if there were only that one. */
export function mappingOr<A, B>(mapping: z.ZodType<A, unknown>, other: z.ZodType<B, unknown>): z.ZodType<A | B, unknown> {
  return z.unknown().transform((written, context): A | B => {
    const isMapping = typeof written === "object" && written !== null && !Array.isArray(written);
    const result = isMapping ? mapping.safeParse(written, { error: inWords }) : other.safeParse(written, { error: inWords });
    if (result.success) return result.data;
    context.issues.push(...(result.error.issues as z.core.$ZodRawIssue[]));
    return z.NEVER;
  });
}

/** `agents[0].owner` */
export function formatPath(path: Path): string {
  return path.reduce<string>((whole, step) => {
    if (typeof step === "number") return `${whole}[${step}]`;
    return whole === "" ? printable(String(step), 40) : `${whole}.${printable(String(step), 40)}`;
  }, "");
}

/** `; did you mean x?`, or nothing where no known word is near. */
export function didYouMean(word: string, known: readonly string[]): string {
  const plain = (name: string): string => name.toLowerCase().replace(/[^a-z0-9]/g, "");
  if (word.length > 64) return "";
  const [best] = known
    .map((name) => ({ name, distance: distance(plain(word), plain(name)) }))
    .filter(({ name, distance }) => distance <= Math.min(2, Math.trunc(name.length / 3)))
    .sort((a, b) => a.distance - b.distance);
  return best ? `; did you mean ${quoted(best.name)}?` : "";
}

/** Letters to insert, drop or change to get from one word to the other. */
function distance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, column) => column);
  for (let i = 1; i <= from.length; i++) {
    const next = [i];
    for (let j = 1; j <= to.length; j++) {
      const change = (row[j - 1] ?? 0) + (from[i - 1] === to[j - 1] ? 0 : 1);
      next.push(Math.min(change, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[to.length] ?? 0;
}

function findingsOf(issue: z.core.$ZodIssue): Finding[] {
  if (issue.code !== "unrecognized_keys") return [{ path: issue.path, part: "value", message: issue.message }];
  const messages = issue.message.split("\n");
  return issue.keys.map((key, index) => ({ path: [...issue.path, key], part: "key", message: messages[index] ?? "unknown key" }));
}

const kinds: Readonly<Record<string, string>> = {
  string: "text", number: "a number", int: "a whole number", boolean: "true or false", array: "a list", object: "a mapping", null: "empty",
};

function inWords(issue: z.core.$ZodRawIssue): string | undefined {
  if (issue.code === "invalid_type") {
    if (issue.input === undefined) return "is missing";
    return `must be ${kinds[issue.expected] ?? issue.expected}, is ${kindOf(issue.input)}`;
  }
  if (issue.code === "invalid_value") return `must be ${issue.values.join(" or ")}`;
  if (issue.code === "too_small") return `must be at least ${issue.minimum}`;
  if (issue.code === "too_big") return `must be at most ${issue.maximum}`;
  return undefined;
}

function kindOf(value: unknown): string {
  if (value === null) return "empty";
  if (typeof value === "number") return Number.isInteger(value) ? "a number" : "not a whole number";
  return kinds[Array.isArray(value) ? "array" : typeof value] ?? "something else";
}
