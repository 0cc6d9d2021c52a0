// Does the code keep its own rules?
// Each rule is a function of the files, and has a bad sample here that it must find: a rule that finds
// nothing is no rule. The table of imports below is the architecture; ARCHITECTURE.md explains it.
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { describe, expect, test } from "vitest";

type File = { readonly path: string; readonly text: string };

const root = resolve(import.meta.dirname, "..");

/** What a file in each place may import. Entry points and what they share stand by their own names. */
const mayImport: Readonly<Record<string, readonly string[]>> = {
  "src/errors.ts": [],
  "src/kernel.ts": ["src/errors.ts"],
  "src/proto.ts": ["src/generated"],
  "src/identity": ["src/identity", "src/errors.ts"],
  ca: ["ca", "src/identity", "src/errors.ts"],
  "src/attest": ["src/attest", "src/identity", "src/errors.ts", "src/kernel.ts"],
  "src/authorize": ["src/authorize", "src/identity", "src/errors.ts"],
  "src/record": ["src/record", "src/identity", "src/errors.ts"],
  "src/claim": ["src/claim", "src/attest", "src/authorize", "src/record", "src/identity", "src/errors.ts", "src/kernel.ts"],
  "src/issue": ["src/issue", "ca", "src/authorize", "src/record", "src/identity", "src/errors.ts"],
  "src/revoke": ["src/revoke", "ca", "src/record", "src/identity", "src/errors.ts", "src/proto.ts"],
  "src/federation": ["src/federation", "src/verify", "src/record", "src/identity", "src/errors.ts"],
  "src/client": ["src/client", "src/identity", "src/errors.ts", "src/proto.ts", "src/generated"],
  "src/verify": ["src/verify", "src/client", "src/identity", "src/errors.ts", "src/proto.ts", "src/generated"],
  "src/call": ["src/call", "src/verify", "src/client", "src/identity", "src/errors.ts"],
  "src/testing": ["src/testing", "ca", "src/identity", "src/api/status.ts", "src/errors.ts", "src/proto.ts", "src/generated"],
  "src/index.ts": ["src/call", "src/verify", "src/client", "src/errors.ts", "src/identity"],
  "src/api": ["src/api", "src/claim", "src/issue", "src/revoke", "src/attest", "src/authorize", "src/record", "src/verify", "src/identity",
    "src/errors.ts", "src/proto.ts", "src/generated", "src/health.ts", "src/telemetry.ts", "src/config.ts"],
  "src/health.ts": [],
  "src/telemetry.ts": [],
  "src/config-layers.ts": ["src/identity", "src/errors.ts"],
  "src/config.ts": ["src/config-layers.ts", "src/identity", "src/errors.ts"],
  "src/directories.ts": ["src/record", "src/config.ts", "src/errors.ts"],
  "src/database.ts": ["src/record", "src/config.ts", "src/errors.ts", "src/kernel.ts", "src/proto.ts", "src/telemetry.ts"],
  "src/changes.ts": ["src/claim", "src/issue", "src/revoke", "src/record", "src/telemetry.ts"],
  "src/housekeeping.ts": ["ca", "src/claim", "src/issue", "src/revoke", "src/record", "src/attest", "src/errors.ts", "src/health.ts", "src/telemetry.ts"],
  "src/broker.ts": ["src", "ca"],
  "src/cli.ts": ["src/cli", "src/errors.ts"],
  "src/cli": ["src/cli", "src/client", "src/verify", "src/identity", "src/errors.ts", "src/proto.ts", "src/generated", "src/config.ts",
    "src/kernel.ts", "src/broker.ts", "src/attest"],
};

/** Who may use which third-party package. */
const owners: Readonly<Record<string, readonly string[]>> = {
  "@grpc/grpc-js": ["src/api", "src/client", "src/testing", "src/verify/grpc.ts", "src/cli/failure.ts"],
  "@grpc/proto-loader": ["src/proto.ts", "src/client/connect.ts"],
  "@grpc/reflection": ["src/api/reflection.ts"],
  "grpc-health-check": ["src/api/health.ts", "src/api/reflection.ts"],
  koffi: ["src/kernel.ts"],
  pg: ["src/record"],
  "node-pg-migrate": ["src/record/schema.ts"],
  fastify: ["src/api"],
  zod: ["src/identity/schema.ts", "src/identity/catalog.ts", "src/config.ts", "src/config-layers.ts"],
  yaml: ["src/identity/yaml.ts", "src/cli/output.ts"],
  commander: ["src/cli", "src/cli.ts"],
  undici: ["src/call"],
  pino: ["src/telemetry.ts"],
  "prom-client": ["src/telemetry.ts"],
  "node-forge": ["src/cli/p12.ts"],
};

/** Words that DESIGN gives another word for; they may not name anything of ours. */
const foreignWords = /\b\w*(Replica|Registry|Inventory|Permission|Attribute)\w*\b/;

function sources(...folders: string[]): File[] {
  return folders.flatMap((folder) => readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts") && !name.startsWith("generated"))
    .map((name) => ({ path: join(folder, name), text: readFileSync(join(root, folder, name), "utf8") })));
}

function importsOf(file: File): string[] {
  const found = [...file.text.matchAll(/(?:^|\n)\s*(?:import|export)\s[^;]*?from\s+"([^"]+)"/g), ...file.text.matchAll(/\bimport\("([^"]+)"\)/g)];
  return found.map((match) => match[1] ?? "");
}

const isLocal = (specifier: string): boolean => specifier.startsWith(".");
const target = (file: File, specifier: string): string => relative(root, resolve(root, dirname(file.path), specifier));
const within = (path: string, place: string): boolean => path === place || path.startsWith(`${place}/`);

function placeOf(path: string): string | undefined {
  return Object.keys(mayImport).filter((place) => within(path, place)).sort((a, b) => b.length - a.length)[0];
}

function brokenImports(files: readonly File[]): string[] {
  return files.flatMap((file) => {
    const place = placeOf(file.path);
    if (place === undefined) return [`${file.path}: stands in no place of the table`];
    const allowed = mayImport[place] ?? [];
    return importsOf(file).filter(isLocal).map((specifier) => target(file, specifier))
      .filter((path) => !allowed.some((other) => within(path, other)))
      .map((path) => `${file.path} imports ${path}`);
  });
}

function strayPackages(files: readonly File[]): string[] {
  return files.flatMap((file) => importsOf(file).filter((specifier) => !isLocal(specifier) && !specifier.startsWith("node:")).flatMap((specifier) => {
    const name = specifier.split("/").slice(0, specifier.startsWith("@") ? 2 : 1).join("/");
    return owners[name]?.some((place) => within(file.path, place)) ? [] : [`${file.path} imports ${name}`];
  }));
}

function missingHeaders(files: readonly File[]): string[] {
  return files.filter((file) => {
    const header = file.text.replace(/^#!.*\n/, "").split("\n").slice(0, 14);
    const comments = header.findIndex((line) => !line.startsWith("//"));
    const text = header.slice(0, comments).join(" ");
    return comments < 2 || !/[?:.]/.test(text);
  }).map((file) => `${file.path}: begins without saying what question it answers`);
}

/** Values only: a type may stand in a signature that is used. */
function deadExports(files: readonly File[], readers: readonly File[]): string[] {
  return files.flatMap((file) => [...file.text.matchAll(/^export (?:async )?(?:abstract )?(?:const|function\*?|class|let) (\w+)/gm)].flatMap((match) => {
    const name = match[1] ?? "";
    const used = readers.some((reader) => reader.path !== file.path && new RegExp(`\\b${name}\\b`).test(reader.text));
    return used ? [] : [`${file.path}: nobody uses ${name}`];
  }));
}

function forbiddenText(files: readonly File[]): string[] {
  const rules: [RegExp, string][] = [
    [/@ts-(ignore|expect-error|nocheck)/, "a silenced compiler"],
    [/\bthrow new Error\(/, "an error outside the closed list"],
    [/\b(TODO|FIXME|XXX|HACK)\b/, "a mark"],
    [/\.\.\/shared\b/, "a place outside the project"],
    [/console\.(log|error|warn)\(/, "console"],
  ];
  return files.flatMap((file) => rules.filter(([rule]) => rule.test(file.text)).map(([, what]) => `${file.path} holds ${what}`));
}

function foreignNames(files: readonly File[]): string[] {
  return files.flatMap((file) => [...file.text.matchAll(/^export (?:async )?(?:const|function|class|type) (\w+)/gm)]
    .filter((match) => foreignWords.test(match[1] ?? "")).map((match) => `${file.path}: ${match[1]} is not a word of ours`));
}

const product = sources("src", "ca");
const everything = [...product, ...sources("demo", "bench", "scripts", "test")];

describe("the code keeps its rules", () => {
  test("imports point down only", () => expect(brokenImports(product)).toEqual([]));
  test("each package has its owners", () => expect(strayPackages(product)).toEqual([]));
  test("each file says what question it answers", () => expect(missingHeaders(product)).toEqual([]));
  test("nothing is exported for nobody", () => expect(deadExports(product.filter((file) => file.path !== "src/index.ts"), everything)).toEqual([]));
  test("no silenced compiler, no stray error, no mark", () => expect(forbiddenText(product)).toEqual([]));
  test("one word for one concept", () => expect(foreignNames(product)).toEqual([]));
  test("packages are pinned exactly, and all of them have owners", () => {
    const { dependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { dependencies: Record<string, string> };
    expect(Object.values(dependencies).filter((version) => !/^\d+\.\d+\.\d+/.test(version))).toEqual([]);
    const used = new Set(product.flatMap(importsOf));
    expect(Object.keys(dependencies).filter((name) => ![...used].some((specifier) => specifier === name || specifier.startsWith(`${name}/`)))).toEqual([]);
  });
  test("no registry's host in the lock file", () => {
    expect(readFileSync(join(root, "package-lock.json"), "utf8")).not.toMatch(/"resolved":\s*"https?:/);
  });
});

describe("each rule finds its bad sample", () => {
  const header = "// Which sample is this?\n// A bad one.\n";
  const bad = (path: string, text: string): File => ({ path, text: header + text });
  test("an import that points up", () => expect(brokenImports([bad("src/identity/x.ts", 'import { a } from "../api/server.ts";\n')])).toHaveLength(1));
  test("a lazy import that points up", () => expect(brokenImports([bad("src/verify/x.ts", 'const a = await import("../record/store.ts");\n')])).toHaveLength(1));
  test("a sibling that must not be known", () => expect(brokenImports([bad("src/attest/x.ts", 'import type { a } from "../record/store.ts";\n')])).toHaveLength(1));
  test("a file that stands nowhere", () => expect(brokenImports([bad("src/stray.ts", "")])).toHaveLength(1));
  test("a stray package", () => expect(strayPackages([bad("src/claim/x.ts", 'import pg from "pg";\n')])).toHaveLength(1));
  test("a missing header", () => expect(missingHeaders([{ path: "src/x.ts", text: "export const a = 1;\n" }])).toHaveLength(1));
  test("a dead export", () => expect(deadExports([bad("src/x.ts", "export const nobodyWantsThis = 1;\n")], [bad("src/y.ts", "")])).toHaveLength(1));
  test("a silenced compiler", () => expect(forbiddenText([bad("src/x.ts", "// @ts-ignore\n")])).toHaveLength(1));
  test("a bare error", () => expect(forbiddenText([bad("src/x.ts", "throw new Error('x');\n")])).toHaveLength(1));
  test("a foreign word", () => expect(foreignNames([bad("src/x.ts", "export class AgentRegistry {}\n")])).toHaveLength(1));
});
