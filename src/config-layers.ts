// How does a key of the configuration get its value from outside the file?
// Each key has one variable and one flag, derived from its path, so none can be forgotten; what is
// written there is text, and becomes the type that the schema has at that key.
// What the keys are, and what they may say, is src/config.ts's business.
import { resolve } from "node:path";
import * as z from "zod";
import type { Violation } from "./errors.ts";
import { didYouMean, text } from "./identity/schema.ts";
import { printable, readYaml } from "./identity/yaml.ts";

/** `document`: a list of mappings, written as YAML (or JSON, which is YAML). */
type LeafType = "text" | "number" | "list" | "document" | "path";
type Leaf = { readonly path: readonly string[]; readonly type: LeafType; readonly initial: unknown; readonly documentation: string };
type Text = { readonly leaf: Leaf; readonly written: string; readonly origin: string };

/** In a variable or a flag, a relative path counts from the current directory. */
export const absolutePath = text(4_096).refine((path) => path.startsWith("/"), { error: "must be an absolute path" });

/** Every key, in the order of the schema. */
export function leavesOf(part: z.core.$ZodType, path: readonly string[] = []): Leaf[] {
  let inner = part;
  let initial: unknown;
  while (inner instanceof z.ZodPrefault || inner instanceof z.ZodDefault || inner instanceof z.ZodOptional) {
    if (!(inner instanceof z.ZodOptional)) initial = inner.def.defaultValue;
    inner = inner.unwrap();
  }
  if (inner instanceof z.ZodObject) {
    return Object.entries(inner.shape as z.core.$ZodShape).flatMap(([key, child]) => leavesOf(child, [...path, key]));
  }
  return [{ path, type: typeOf(inner), initial, documentation: (part as z.ZodType).description ?? "" }];
}

function typeOf(type: z.core.$ZodType): LeafType {
  if (type === absolutePath) return "path";
  if (type instanceof z.ZodArray) return type.element instanceof z.ZodObject ? "document" : "list";
  return type instanceof z.ZodNumber ? "number" : "text";
}

/** `limits.perUidConnections` → limits, per, uid, connections */
function words(path: readonly string[]): string[] {
  return path.flatMap((key) => key.split(/(?=[A-Z])/)).map((word) => word.toLowerCase());
}

export function envName(path: readonly string[]): string {
  return `BREVET_${words(path).join("_").toUpperCase()}`;
}

export function flagName(path: readonly string[]): string {
  return `--${words(path).join("-")}`;
}

/** Variables that other parts of Brevet read. */
const otherVariables = /^BREVET_(?:TASK_ID$|SERVER$|TEST_|BENCH_)/;

export function textsFromEnv(leaves: readonly Leaf[], env: NodeJS.ProcessEnv, violations: Violation[]): Text[] {
  const known = new Map(leaves.map((leaf) => [envName(leaf.path), leaf]));
  return Object.entries(env).flatMap(([name, written]): Text[] => {
    if (!name.startsWith("BREVET_") || written === undefined || otherVariables.test(name)) return [];
    const leaf = known.get(name);
    if (leaf) return [{ leaf, written, origin: name }];
    violations.push({ field: printable(name), description: `unknown variable${didYouMean(name, [...known.keys()])}` });
    return [];
  });
}

export function textsFromFlags(leaves: readonly Leaf[], flags: Readonly<Record<string, string>>, violations: Violation[]): Text[] {
  const known = new Map(leaves.map((leaf) => [leaf.path.join("."), leaf]));
  return Object.entries(flags).flatMap(([key, written]): Text[] => {
    const leaf = known.get(key);
    if (leaf) return [{ leaf, written, origin: flagName(leaf.path) }];
    violations.push({ field: printable(key), description: `unknown key${didYouMean(key, [...known.keys()])}` });
    return [];
  });
}

/** A section whose keys are all commented out is an empty one. */
export function fillSections(leaves: readonly Leaf[], values: unknown): void {
  if (!isMapping(values)) return;
  for (const { path: [section = "", key] } of leaves) {
    if (key !== undefined && values[section] === null) values[section] = {};
  }
}

/** Later texts win. */
export function override(values: unknown, texts: readonly Text[], origins: Map<string, string>): void {
  for (const { leaf, written, origin } of texts) {
    const parents = leaf.path.slice(0, -1);
    const key = leaf.path.at(-1) ?? "";
    let here = values;
    for (const parent of parents) here = isMapping(here) ? (here[parent] ??= {}) : undefined;
    // Where the file has something else than a mapping, the schema says so.
    if (!isMapping(here)) continue;
    here[key] = valueOf(leaf.type, written);
    origins.set(leaf.path.join("."), origin);
  }
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** What isn't a number, or no YAML, stays text, for the schema to refuse. */
function valueOf(type: LeafType, written: string): unknown {
  if (type === "document") return written === "" ? [] : (readYaml({ name: "", text: written }).value ?? written);
  if (type === "list") return written === "" ? [] : written.split(",").map((item) => valueOf("number", item.trim()));
  if (type === "number") return /^-?\d{1,15}$/.test(written) ? Number(written) : written;
  return type === "path" && written !== "" ? resolve(written) : written;
}
