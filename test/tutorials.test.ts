// Do the README's tutorials work as they stand, and do the documents speak of what is there?
// Every fenced block of its section "Tutorials" is taken out and used in order: a program is written to
// the file that its first line names, commands run in a shell (those "in a terminal of its own" stay
// running), and a text is what the commands before it print, line by line; IDs, times and numbers of
// processes may differ. What `npm link` does is made here by two links, so the machine's own stays as it is.
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, expect, test } from "vitest";
import { commandsOf, program } from "../src/cli/program.ts";
import { errorCodes } from "../src/errors.ts";
import { selectorKeys } from "../src/identity/selectors.ts";
import { patienceMs } from "./support/patience.ts";

const root = new URL("..", import.meta.url).pathname;
const home = mkdtempSync(join(tmpdir(), "btut-"));
const folder = join(home, "try");

type Block = { readonly language: string; readonly text: string; readonly heading: string };

function blocksOf(readme: string): Block[] {
  const section = readme.slice(readme.indexOf("\n## Tutorials"), readme.indexOf("\n## How it works"));
  return [...section.matchAll(/^```(\w+)\n(.*?)^```$/gms)].map((match) => {
    const [, language = "", text = ""] = match;
    const heading = [...section.slice(0, match.index).replaceAll(/^```.*?^```$/gms, "").matchAll(/^#+ (.*)$/gm)].at(-1)?.[1] ?? "";
    return { language, text, heading };
  });
}

/** What differs from run to run is written the same way each time. */
function masked(text: string): string {
  return text.replaceAll(home, "/home/you").replaceAll(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, "<id>")
    .replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z \((?:now|\w+ ago|in \w+)\)/g, "<time>").replaceAll(/http:\/\/127\.0\.0\.1:\d+/g, "<http>")
    .replaceAll(/digest [0-9a-f]+…?/g, "digest <digest>").replaceAll(/(<time>)\s+\d+\b/g, "$1 <pid>").replaceAll(/[ \t]+/g, " ");
}

const linesOf = (text: string): string[] => masked(text).split("\n").map((line) => line.trim()).filter((line) => line !== "");

/** The lines of the README that were not printed, in their order. */
function missing(expected: string, printed: string): string[] {
  const left = linesOf(printed);
  return linesOf(expected).filter((line) => {
    const index = left.indexOf(line);
    if (index >= 0) left.splice(0, index + 1);
    return index < 0;
  });
}

type Terminal = { readonly child: ChildProcess; readonly printed: () => string };

const terminals: Terminal[] = [];
let prelude = "";

function shell(text: string): Terminal {
  const inherited = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(BREVET_|SPIFFE_)/.test(name)));
  const PATH = [join(home, "bin"), dirname(process.execPath), process.env["PATH"]].join(":");
  const env = { ...inherited, HOME: home, PATH, BREVET_LISTEN_HTTP: "127.0.0.1:0", BREVET_LOG_LEVEL: "error" };
  const child = spawn("sh", ["-ec", `${prelude}\n${text}`], { cwd: home, env, detached: true, stdio: ["ignore", "pipe", "pipe"] });
  let printed = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (more: string) => (printed += more));
  return { child, printed: () => printed };
}

async function inItsOwnTerminal(text: string, expected: string | undefined): Promise<void> {
  const { child, printed } = shell(text);
  terminals.push({ child, printed });
  const until = performance.now() + patienceMs;
  while (expected !== undefined && missing(expected, printed()).length > 0 && performance.now() < until && child.exitCode === null) await sleep(50);
  expect(missing(expected ?? "", printed()), printed()).toEqual([]);
}

async function toItsEnd(text: string, expected: string | undefined): Promise<void> {
  const { child, printed } = shell(text);
  const [code] = (await once(child, "close")) as [number | null];
  expect(code, printed()).toBe(0);
  expect(missing(expected ?? "", printed()), printed()).toEqual([]);
}

async function closeTerminal({ child }: Terminal): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const closed = once(child, "close");
  process.kill(-(child.pid ?? 0), "SIGTERM");
  await closed;
}

afterAll(async () => {
  for (const terminal of terminals.reverse()) await closeTerminal(terminal);
  rmSync(home, { recursive: true, force: true });
});

chmodSync(home, 0o755); // PostgreSQL runs as another user when this is root
for (const directory of [join(home, "bin"), join(folder, "node_modules")]) mkdirSync(directory, { recursive: true });
symlinkSync(join(root, "bin/brevet.js"), join(home, "bin/brevet"));
symlinkSync(root, join(folder, "node_modules/brevet"));

const blocks = blocksOf(readFileSync(join(root, "README.md"), "utf8"));

test("there are tutorials for all four", () => {
  const headings = new Set(blocks.map(({ heading }) => heading.split(":")[0]));
  expect([...headings]).toEqual(expect.arrayContaining(["The operator", "The service", "The agent", "The orchestrator"]));
});

for (const [index, { language, text, heading }] of blocks.entries()) {
  const next = blocks[index + 1];
  const expected = next?.language === "text" ? next.text : undefined;
  const [first = ""] = text.split("\n");
  const file = /^\/\/ ([\w.]+)$/.exec(first)?.[1];
  if (language === "text") continue;
  test(`${heading}: ${first}`, async () => {
    if (prelude === "") prelude = text;
    else if (file?.endsWith(".mts")) {
      writeFileSync(join(folder, file), text);
      const tsc = join(root, "node_modules/.bin/tsc");
      await toItsEnd(`${tsc} --target es2022 --lib es2022,esnext.disposable --module nodenext --strict --skipLibCheck ${file}\nnode ${file.replace(".mts", ".mjs")}`, expected);
    } else if (file !== undefined) writeFileSync(join(folder, file), text);
    else if (first.includes("in a terminal of its own")) await inItsOwnTerminal(text, expected);
    else await toItsEnd(text, expected);
  });
}

test("the agent was told of the change and of the end, and the orchestrator went on", async () => {
  const [, , orchestrator] = terminals;
  await expect.poll(() => orchestrator?.child.exitCode, { timeout: patienceMs }).toBe(0);
  expect(linesOf(orchestrator?.printed() ?? "")).toEqual(["hello researcher", "epoch 2", "over: DENIED_TASK_ENDED"]);
});

test("the reference names every command, error and selector, and none that there is not", () => {
  const reference = readFileSync(join(root, "docs/reference.md"), "utf8");
  const rows = (heading: string): string[] => {
    const section = reference.slice(reference.indexOf(`\n## ${heading}\n`)).slice(1).split("\n## ")[0] ?? "";
    return [...section.matchAll(/^\| (`[^|]*`) \|/gm)].flatMap(([, cell = ""]) => [...cell.matchAll(/`([^`]+)`/g)].map(([, word = ""]) => word));
  };
  const commands = commandsOf(program(() => {
    throw new Error("nothing is parsed here");
  })).filter(([command]) => command.commands.length === 0).map(([, path]) => path);
  expect(rows("Commands").sort()).toEqual(commands.sort());
  expect(rows("Errors").sort()).toEqual(Object.keys(errorCodes).sort());
  expect(rows("Catalog")).toEqual(expect.arrayContaining([...selectorKeys]));
});

test("documents name only files and headings that there are", () => {
  const documents = ["README.md", "ARCHITECTURE.md", "SECURITY.md", "CHANGELOG.md", "docs/reference.md", "docs/envoy.md", "docs/recipes.md"];
  const text = (path: string): string => readFileSync(join(root, path), "utf8");
  const anchors = (path: string): string[] => [...text(path).matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) => heading.toLowerCase().replaceAll(/[^\w -]/g, "").replaceAll(" ", "-"));
  const broken = documents.flatMap((document) => {
    const links = [...text(document).matchAll(/\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)/g)].map(([, path = "", anchor]) => ({ path: path === "" ? document : join(dirname(document), path), anchor }));
    const named = [...text(document).matchAll(/`((?:[\w-]+\/)*[\w-]+\.(?:ts|yaml|sql))`/g)].map(([, path = ""]) => path);
    return [
      ...links.filter(({ path, anchor }) => !existsSync(join(root, path)) || (anchor !== undefined && !anchors(path).includes(anchor))).map(({ path, anchor }) => `${document}: ${path}#${anchor}`),
      ...named.filter((path) => !["", "src/"].some((place) => existsSync(join(root, place, path)))).map((path) => `${document}: ${path}`),
    ];
  });
  expect(broken).toEqual([]);
});
