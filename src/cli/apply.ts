// How does the catalog reach the broker?
// The files are read here and sent whole: the broker never opens a path that a caller names. What
// differs is shown line by line; of an invalid catalog every problem, each with file, line and column.
// What a catalog may say is identity's and the broker's business.
import { readFileSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import type { ApplyResponse__Output } from "../generated/brevet/v1/ApplyResponse.ts";
import type { CatalogChange__Output } from "../generated/brevet/v1/CatalogChange.ts";
import { answering, collect, readInput, usageError } from "./options.ts";
import type { Common } from "./options.ts";
import { painter, print, safe } from "./output.ts";
import { asAdmin } from "./reach.ts";

type Flags = Common & { file: readonly string[]; dryRun?: true };

export function addApply(program: Command): void {
  answering(program, "apply", {
    summary: "Make the catalog of agents and services what files say",
    more: "What the files no longer name is removed. Refused as a whole where it would orphan a live task.",
    example: "brevet apply -f deploy/catalog.yaml --dry-run",
  })
    .requiredOption("-f, --file <path>", "a file, a folder of .yaml and .yml files, or - for standard input (repeatable)", collect)
    .option("--dry-run", "show the difference, change nothing")
    .action(async (flags: Flags) => {
      const files = flags.file.flatMap(catalogFiles);
      const answer = await asAdmin(flags, (broker) => broker.catalog.apply({ files, dryRun: flags.dryRun ?? false }));
      const paint = painter(process.stderr);
      for (const w of answer.warnings) {
        process.stderr.write(`${safe(`${w.file}:${w.line}:${w.column}:`)} ${paint("yellow", "warning:")} ${safe(w.message)}\n`);
      }
      await print(flags.output, answer, () => appliedText(answer));
    });
}

type CatalogFile = { readonly name: string; readonly text: string };

function catalogFiles(path: string): CatalogFile[] {
  if (path === "-") return [{ name: "-", text: readInput("-").toString("utf8") }];
  try {
    if (!statSync(path).isDirectory()) return [{ name: path, text: readFileSync(path, "utf8") }];
    const names = readdirSync(path).filter((name) => /\.ya?ml$/.test(name)).sort();
    if (names.length === 0) throw usageError(`${path}: holds no .yaml file`);
    return names.map((name) => ({ name: join(path, name), text: readFileSync(join(path, name), "utf8") }));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === undefined || code.startsWith("brevet.")) throw error;
    throw usageError(`${path}: cannot be read (${code})`);
  }
}

const signs = { add: ["+", "green"], change: ["~", "yellow"], remove: ["-", "red"] } as const;

function appliedText(answer: ApplyResponse__Output): string {
  const changes = answer.changes.flatMap(changeLines);
  const end = answer.dryRun ? "nothing was changed (--dry-run)" : answer.changes.length === 0 ? "nothing differed" : "applied";
  return [...changes, `${end}, digest ${safe(answer.digest)}`].join("\n");
}

function changeLines(change: CatalogChange__Output): string[] {
  const [sign, style] = Object.hasOwn(signs, change.action) ? signs[change.action as keyof typeof signs] : (["?", "dim"] as const);
  const paint = painter();
  return [
    paint(style, `${sign} ${change.kind} ${safe(change.name)}`),
    ...change.fields.map((line) => paint(style, `    ${safe(line)}`)),
  ];
}
