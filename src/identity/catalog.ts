// What does a catalog register, and what is wrong with it?
// All problems come out at once, each with file, line and column; a catalog with a problem registers
// nothing. What passed is normal: sorted, durations in seconds, defaults filled in, so equal
// catalogs are equal as text.
// Names as in SPIFFE-ID section 2.2 path segments, narrowed by id.ts.
// Applying it is src/record/catalog.ts's business; comparing callers, src/authorize/match.ts's.
import { basename } from "node:path";
import * as z from "zod";
import { isName } from "./id.ts";
import { check, duration, formatDuration, formatPath, listOf, mappingOr, section, setOf, text } from "./schema.ts";
import type { SelectorSet, selectorKeys } from "./selectors.ts";
import { maxFileBytes, printable, readYaml } from "./yaml.ts";
import type { Path, Problem, SourceFile, YamlFile } from "./yaml.ts";

export type Catalog = { readonly agents: readonly AgentDefinition[]; readonly services: readonly ServiceDefinition[] };
export type AgentDefinition = Readonly<z.output<typeof agentSchema>>;
export type ServiceDefinition = Readonly<z.output<typeof serviceSchema>>;
export type CatalogProblem = Problem;
export type CatalogChange = {
  readonly action: "add" | "change" | "remove";
  readonly kind: "agent" | "service";
  readonly name: string;
  /** Of a change: `key: old → new`. */
  readonly fields: readonly string[];
};

const maxBytes = 4 * maxFileBytes;
const maxItems = 10_000;
const maxProblems = 1_000;
const minute = 60;
const hour = 60 * minute;
const day = 24 * hour;

const name = z.string().refine(isName, { error: "must be 1 to 64 of a-z, 0-9 and ._- inside, without two dots in a row" });
const owner = text(254).regex(/^[^\s@<>]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?$/, { error: "must be a person's address such as lead@example.org" });
const id = z.int().min(0).max(0xff_ff_ff_fe);
const hex64 = (what: string): z.ZodString => z.string({ error: (issue) => typeof issue.input === "number" ? "must be text: put it in quotes" : undefined })
  .regex(/^[0-9a-f]{64}$/, { error: `must be ${what}: 64 hexadecimal digits in lower case` });
const absolute = (max: number): z.ZodString => text(max).regex(/^\/(?:(?!\.{1,2}(?:\/|$))[^/]+(?:\/(?!\.{1,2}(?:\/|$))[^/]+)*)?$/, { error: "must be an absolute path without . and .." });

const selectorSet: z.ZodType<SelectorSet> = section({
  uid: id.optional(),
  gid: id.optional(),
  user: text(64).optional(),
  group: text(64).optional(),
  path: absolute(4_096).optional(),
  sha256: hex64("a SHA-256").optional(),
  cgroup: absolute(4_096).optional(),
  systemdUnit: text(255).regex(/^[^/\s]+\.(?:service|scope)$/, { error: "must be a unit's name that ends with .service or .scope" }).optional(),
  containerId: hex64("a container's full ID").optional(),
} satisfies Record<(typeof selectorKeys)[number], z.ZodType>)
  .refine((set) => Object.keys(set).length > 0, {
    error: "is an empty set, which every process would match: name at least one fact",
    when: ({ issues }) => issues.length === 0,
  });

/** Alternatives; which stands first means nothing. */
const alternatives = listOf(selectorSet, 64).transform((sets) => sets.toSorted((a, b) => compare(canonical(a), canonical(b))));
const selectors = alternatives.refine((sets) => sets.length > 0, { error: "needs at least one set of facts" });
const audience = text(256);
/** `sub` names the task, or for those that match exactly the agent alone: then the task is in the claim only. */
const agentAudience = mappingOr(
  section({ name: audience, subject: z.enum(["task", "agent"]).default("task") })
    .transform(({ name, subject }) => (subject === "agent" ? { name, subject } : name)),
  audience,
);
const mostAudiences = 64;
const x509Ttl = duration(2, day).prefault("5m");
const jwtTtl = duration(2, hour).prefault("2m");

const agentSchema = section({
  name,
  owner,
  purpose: text(1_024, 0).default(""),
  selectors,
  /** Who may open, change, close and see its tasks; none: administrators only. */
  openers: alternatives.prefault([]),
  /** Who may claim and fetch for its instances without being one; none: root, and whoever matches the agent itself. */
  sidecars: alternatives.prefault([]),
  /** Keys that a task's context may have; null: any. */
  context: setOf(text(64), 64).nullable().prefault(null),
  /** What its JWT-SVIDs may be for; null: any; none listed: no JWT-SVIDs. */
  audiences: setOf(agentAudience, mostAudiences, audienceName).nullable().prefault(null),
  maxTaskTtl: duration(1, 30 * day).prefault("1h"),
  x509Ttl,
  jwtTtl,
  tasksPerInstance: z.int().min(1).max(256).default(1),
  /** How a task ends when its instance exits. */
  onExit: z.enum(["abort", "close"]).default("abort"),
});

const serviceSchema = section({ name, owner, selectors, audiences: setOf(audience, mostAudiences).nullable().prefault(null), x509Ttl, jwtTtl });

const fileSchema = section({ agents: z.array(agentSchema).default([]), services: z.array(serviceSchema).default([]) });
const kinds = ["agents", "services"] as const;

/** With problems the catalog is empty: never apply it. Warnings don't stop an apply. */
export function parseCatalog(files: readonly SourceFile[]): { catalog: Catalog; problems: CatalogProblem[]; warnings: CatalogProblem[] } {
  const nothing: Catalog = { agents: [], services: [] };
  const tooMuch = tooLarge(files);
  if (tooMuch) return { catalog: nothing, problems: [tooMuch], warnings: [] };

  const problems: CatalogProblem[] = [];
  const warnings: CatalogProblem[] = [];
  const agents: AgentDefinition[] = [];
  const services: ServiceDefinition[] = [];
  const names = new Map<string, string>();
  let items = 0;
  for (const file of files) {
    const yaml = readYaml(file);
    problems.push(...yaml.problems);
    if (yaml.value === undefined) continue;
    items += countItems(yaml.value);
    if (items > maxItems) return { catalog: nothing, problems: [{ file: file.name, line: 1, column: 1, message: `more than ${maxItems} agents and services in all` }], warnings: [] };
    const { value, findings } = check(fileSchema, yaml.value ?? {});
    for (const finding of findings) problems.push(problemAt(file, yaml, finding.path, finding.message, finding.part));
    if (isEmpty(yaml.value)) problems.push(problemAt(file, yaml, [], "registers nothing; if that is meant, write `agents: []`"));
    problems.push(...repeatedNames(file, yaml, names));
    if (!value) continue;
    warnings.push(...weakSets(file, yaml));
    agents.push(...value.agents);
    services.push(...value.services);
  }
  if (problems.length > 0) return { catalog: nothing, problems: inOrder(problems, files), warnings: inOrder(warnings, files) };
  const byName = (a: { name: string }, b: { name: string }): number => compare(a.name, b.name);
  return { catalog: { agents: agents.toSorted(byName), services: services.toSorted(byName) }, problems, warnings: inOrder(warnings, files) };
}

export function audienceName(audience: string | { readonly name: string }): string {
  return typeof audience === "string" ? audience : audience.name;
}

/** The same text for the same catalog: what its digest is made of. */
export function canonicalCatalog(catalog: Catalog): string {
  return canonical(catalog);
}

/** What applying `next` over `old` does, agents first, by name. */
export function diffCatalog(old: Catalog, next: Catalog): CatalogChange[] {
  return [...diffItems("agent", old.agents, next.agents), ...diffItems("service", old.services, next.services)];
}

type Item = AgentDefinition | ServiceDefinition;

function diffItems(kind: CatalogChange["kind"], old: readonly Item[], next: readonly Item[]): CatalogChange[] {
  const before = new Map(old.map((item) => [item.name, item]));
  const after = new Map(next.map((item) => [item.name, item]));
  return [...new Set([...before.keys(), ...after.keys()])].sort(compare).flatMap((name): CatalogChange[] => {
    const [was, is] = [before.get(name), after.get(name)];
    if (!was || !is) return [{ action: is ? "add" : "remove", kind, name, fields: [] }];
    const fields = changedFields(was, is);
    return fields.length > 0 ? [{ action: "change", kind, name, fields }] : [];
  });
}

function changedFields(was: Item, is: Item): string[] {
  const [before, after] = [new Map(Object.entries(was)), new Map(Object.entries(is))];
  return [...new Set([...before.keys(), ...after.keys()])]
    .filter((key) => canonical(before.get(key)) !== canonical(after.get(key)))
    .map((key) => `${key}: ${shown(key, before.get(key))} → ${shown(key, after.get(key))}`);
}

function shown(key: string, value: unknown): string {
  if (value === null || value === undefined) return "any";
  if (typeof value === "number" && key.endsWith("Ttl")) return formatDuration(value);
  return typeof value === "string" && value !== "" ? value : canonical(value);
}

/** JSON with the keys of every object in order. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) => {
    if (typeof inner !== "object" || inner === null || Array.isArray(inner)) return inner;
    return Object.fromEntries(Object.entries(inner).sort(([a], [b]) => compare(a, b)));
  }) ?? "null";
}

function compare(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

function tooLarge(files: readonly SourceFile[]): CatalogProblem | undefined {
  let bytes = 0;
  for (const { name, text } of files) {
    bytes += Buffer.byteLength(text);
    if (bytes > maxBytes) return { file: name, line: 1, column: 1, message: `the files are larger than ${maxBytes / 1024} KiB in all` };
  }
  return undefined;
}

function problemAt(file: SourceFile, yaml: YamlFile, path: Path, what: string, part?: "key" | "value"): CatalogProblem {
  const where = formatPath(path);
  return { file: file.name, ...yaml.place(path, part), message: where === "" ? `the file ${what}` : `${where}: ${what}` };
}

function isEmpty(value: unknown): boolean {
  return value === null || (typeof value === "object" && !Array.isArray(value) && Object.keys(value).length === 0);
}

function listAt(value: unknown, key: string): readonly unknown[] {
  const list = typeof value === "object" && value !== null ? (value as Record<string, unknown>)[key] : undefined;
  return Array.isArray(list) ? list : [];
}

function countItems(value: unknown): number {
  return kinds.reduce((sum, kind) => sum + listAt(value, kind).length, 0);
}

/** On what was read, not on what passed: a name is taken even if its owner is missing. */
function repeatedNames(file: SourceFile, yaml: YamlFile, names: Map<string, string>): CatalogProblem[] {
  return kinds.flatMap((kind) => listAt(yaml.value, kind).flatMap((item, index) => {
    const name = typeof item === "object" && item !== null ? (item as Record<string, unknown>)["name"] : undefined;
    if (typeof name !== "string") return [];
    const path = [kind, index, "name"];
    const first = names.get(`${kind}/${name}`);
    if (first !== undefined) return [problemAt(file, yaml, path, `${printable(name, 64)} is registered already, at ${first}`)];
    const { line, column } = yaml.place(path);
    names.set(`${kind}/${name}`, `${file.name}:${line}:${column}`);
    return [];
  }));
}

const personal = new Set<string>(["uid", "gid", "user", "group"] satisfies (keyof SelectorSet)[]);
const interpreter = /^(?:node|nodejs|deno|bun|java|dotnet|mono|php|lua|Rscript|python|pypy|ruby|perl|tclsh|busybox|bash|dash|zsh|ksh|fish|sh|pwsh|env)[-0-9.]*$/;

/** Sets that hold for more processes than their author may think. */
function weakSets(file: SourceFile, yaml: YamlFile): CatalogProblem[] {
  return kinds.flatMap((kind) => listAt(yaml.value, kind).flatMap((item, index) => ["selectors", "openers", "sidecars"].flatMap((key) =>
    listAt(item, key).flatMap((set, at): CatalogProblem[] => {
      const { path } = set as SelectorSet;
      const where = [kind, index, key, at];
      const found: CatalogProblem[] = [];
      if (Object.keys(set as SelectorSet).every((fact) => personal.has(fact))) {
        found.push(problemAt(file, yaml, where, "matches any process of this user; add systemdUnit, containerId or sha256 to mean one program"));
      }
      if (path !== undefined && interpreter.test(basename(path))) {
        found.push(problemAt(file, yaml, [...where, "path"], `names ${printable(basename(path), 40)}, not your ${kind.slice(0, -1)}: whatever it runs matches`));
      }
      return found;
    }))));
}

/** In the order of the files and of their lines. */
function inOrder(problems: readonly CatalogProblem[], files: readonly SourceFile[]): CatalogProblem[] {
  const rank = new Map(files.map((file, index) => [file.name, index]));
  const sorted = problems.toSorted((a, b) => (rank.get(a.file) ?? 0) - (rank.get(b.file) ?? 0) || a.line - b.line || a.column - b.column);
  const last = sorted[maxProblems];
  if (!last) return sorted;
  return [...sorted.slice(0, maxProblems), { ...last, message: `and ${sorted.length - maxProblems} more` }];
}
