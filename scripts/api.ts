// What does the SDK offer, with which words?
// docs/api.md is made of what src/index.ts, testing and grpc export: the compiler's declarations with
// their comments, in the order of the export lists, and examples cut from test/examples.test.ts, so
// that each example is a test. Nothing in it is written by hand.
// When it is made and compared is golden.ts's business.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { packageRoot } from "../src/proto.ts";

type Exported = { readonly name: string; readonly file: string };
type Part = { readonly title: string; readonly example?: string; readonly exports: readonly Exported[] };

const intro = `# API

What \`import { … } from "brevet"\` offers, and the two entries beside it. Every error is a \`BrevetError\` with a code of one
closed list ([reference](reference.md)). \`address\` is where the broker listens; left out, SPIFFE_ENDPOINT_SOCKET says it.
Each example is a test (\`test/examples.test.ts\`).
`;
const titles: Readonly<Record<string, { readonly title: string; readonly example?: string }>> = {
  services: { title: "Services: accept live tasks, refuse dead ones", example: "services" },
  agents: { title: "Agents: work under a task", example: "agents" },
  orchestrators: { title: "Orchestrators: open, change and end tasks", example: "orchestrators" },
};

const declarations = new Map<string, string>();

/** The compiler's words for a source file. */
function declared(file: string): string {
  const path = join(packageRoot, "dist", file.replace(/\.ts$/, ".d.ts"));
  const text = declarations.get(path) ?? readFileSync(path, "utf8");
  declarations.set(path, text);
  return text;
}

/** The parts of src/index.ts; one begins with each of its comments. */
function partsOfIndex(): Part[] {
  const index = "src/index.ts";
  const parts: { title: string; example?: string; exports: Exported[] }[] = [{ title: "Common", exports: [] }];
  for (const line of readFileSync(join(packageRoot, index), "utf8").split("\n")) {
    const heading = titles[/^\/\/ (\w+)$/.exec(line)?.[1] ?? ""];
    if (heading) parts.push({ ...heading, exports: [] });
    const [, names, from = ""] = /^export (?:type )?\{ ([^}]+) \} from "([^"]+)"/.exec(line) ?? [];
    for (const name of names?.split(", ") ?? []) parts.at(-1)?.exports.push({ name, file: join(dirname(index), from) });
  }
  const [common, ...others] = parts;
  return [...others, ...(common ? [common] : [])];
}

/** Everything that a file exports itself. */
function partOfFile(file: string, title: string, example: string): Part {
  const names = [...declared(file).matchAll(/^export (?:declare )?(?:class|function|type) (\w+)/gm)].map((match) => match[1] ?? "");
  return { title, example, exports: names.map((name) => ({ name, file })) };
}

/** One declaration with the comment before it, from its first line to where its braces close. */
function entry({ name, file }: Exported): string {
  const lines = declared(file).split("\n");
  const start = lines.findIndex((line) => new RegExp(`^export (?:declare )?(?:abstract )?(?:class|function|const|type) ${name}\\b`).test(line));
  let end = start;
  for (let depth = 0; end < lines.length; end++) {
    const line = (lines[end] ?? "").replace(/\/\*.*?\*\//g, "").replace(/^\s*\*.*$/, "");
    for (const character of line) depth += "{([".includes(character) ? 1 : "})]".includes(character) ? -1 : 0;
    if (depth === 0 && /[;}]\s*$/.test(line)) break;
  }
  let first = start;
  if (lines[start - 1]?.trimEnd().endsWith("*/")) while (first > 0 && !lines[--first]?.startsWith("/**"));
  const comment = lines.slice(first, start).join("\n").replace(/^\/\*\*\s?|\s*\*\/$/g, "").replace(/^ \* ?/gm, "").trim();
  const code = lines.slice(start, end + 1).filter((line) => !/^\s+(#private|private constructor\(.*)/.test(line)).join("\n").replace(/^export (declare )?/, "")
    .replace(/\n +\/\*\* For \w+\.ts alone[^\n]*\n[^\n]*/g, "");
  return [`### \`${name}\``, ...(comment === "" ? [] : [comment]), `\`\`\`ts\n${code.replace(/^( {4})+/gm, (indent) => " ".repeat(indent.length / 2))}\n\`\`\``].join("\n\n");
}

/** What stands in the test between `// example: NAME` and `// end`. */
function example(name: string): string {
  const text = readFileSync(join(packageRoot, "test/examples.test.ts"), "utf8");
  const found = [...text.matchAll(new RegExp(`^( *)// example: ${name}\\n([\\s\\S]*?)\\n *// end$`, "gm"))];
  return found.map(([, indent = "", body = ""]) => `\`\`\`ts\n${body.replaceAll(new RegExp(`^${indent}`, "gm"), "")}\n\`\`\``).join("\n\n");
}

export function apiReference(): { readonly path: string; readonly text: string } {
  const parts = [
    ...partsOfIndex(),
    partOfFile("src/testing/broker.ts", "Tests without a broker: `brevet/testing`", "testing"),
    partOfFile("src/verify/grpc.ts", "gRPC: `brevet/grpc`", "grpc"),
  ];
  const text = parts.map((part) => [`## ${part.title}`, ...(part.example === undefined ? [] : [example(part.example)]), ...part.exports.map(entry)].join("\n\n"));
  return { path: "docs/api.md", text: `${intro}\n${text.join("\n\n")}\n` };
}
