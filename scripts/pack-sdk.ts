// What does a service or an agent install that must not install a database?
// `npm run pack:sdk` makes brevet-sdk-VERSION.tgz: the SDK, `/testing`, `/grpc` and every command but
// `broker`, from this same tree. What they stand on is put into the package, each with its licence, but
// what has to be shared with its user (undici's types, grpc-js's classes) or is native (koffi).
// What the broker's package holds is package.json's `files`.
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import { rolldown } from "rolldown";
import { packageRoot } from "../src/proto.ts";

const entries = { index: "src/index.js", testing: "src/testing/broker.js", grpc: "src/verify/grpc.js", cli: "src/cli.js" };
const shared = ["undici", "koffi"];
const peer = "@grpc/grpc-js";
const broker = "dist/src/broker.js";

type Manifest = Readonly<Record<"version" | "license", string>> & Readonly<Record<"engines" | "dependencies", Readonly<Record<string, string>>>>;

const manifest = JSON.parse(readFileSync(join(packageRoot, "package.json"), "utf8")) as Manifest;

/** The packages that went in, by their folders. */
async function bundle(into: string): Promise<Set<string>> {
  const made = await rolldown({
    input: Object.fromEntries(Object.entries(entries).map(([name, path]) => [name, join(packageRoot, "dist", path)])),
    platform: "node",
    external: (id, importer) => shared.includes(id) || (id === peer && importer?.endsWith(entries.grpc) === true) || isBroker(id, importer),
  });
  const { output } = await made.write({ dir: join(into, "dist/src"), format: "esm", chunkFileNames: "[name]-[hash].js" });
  await made.close();
  const modules = output.flatMap((part) => (part.type === "chunk" ? part.moduleIds : []));
  return new Set(modules.flatMap((id) => /^(.*\/node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(id)?.[1] ?? []));
}

function isBroker(id: string, importer: string | undefined): boolean {
  return importer !== undefined && resolve(dirname(importer), id) === join(packageRoot, broker);
}

/** The declarations that the entries reach, where they stand in the tree. */
function declarations(into: string): void {
  const seen = new Set<string>();
  const visit = (path: string): void => {
    if (seen.has(path) || !existsSync(path)) return;
    seen.add(path);
    for (const [, specifier = ""] of readFileSync(path, "utf8").matchAll(/(?:from|import\()\s*['"](\.[^'"]+)['"]/g)) {
      visit(resolve(dirname(path), specifier.replace(/\.[jt]s$/, ".d.ts")));
    }
    const to = join(into, relative(packageRoot, path));
    mkdirSync(dirname(to), { recursive: true });
    cpSync(path, to);
  };
  for (const path of Object.values(entries)) visit(join(packageRoot, "dist", path.replace(/\.js$/, ".d.ts")));
}

function licences(folders: ReadonlySet<string>): string {
  return [...folders].sort().map((folder) => {
    const { name, version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as { name: string; version: string; license: string };
    const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
    return `${name} ${version} (${license})\n\n${file === undefined ? "" : readFileSync(join(folder, file), "utf8")}`;
  }).join(`\n${"-".repeat(78)}\n\n`);
}

async function main(): Promise<void> {
  const into = mkdtempSync(join(tmpdir(), "brevet-sdk-"));
  try {
    const folders = await bundle(into);
    declarations(into);
    writeFileSync(join(into, "THIRD-PARTY.txt"), licences(folders));
    for (const name of ["proto", "bin", "LICENSE"]) if (existsSync(join(packageRoot, name))) cpSync(join(packageRoot, name), join(into, name), { recursive: true });
    const { version, license, engines, dependencies } = manifest;
    const exported = (name: keyof typeof entries): object => ({ types: `./dist/${entries[name].replace(/\.js$/, ".d.ts")}`, default: `./dist/src/${name}.js` });
    writeFileSync(join(into, "package.json"), JSON.stringify({
      name: "@brevet/sdk", version, license, engines, type: "module",
      description: "Verifier, agent and orchestrator SDK of Brevet, and its commands: no broker, no database",
      bin: { brevet: "bin/brevet.js" },
      exports: { ".": exported("index"), "./testing": exported("testing"), "./grpc": exported("grpc"), "./package.json": "./package.json" },
      dependencies: Object.fromEntries(shared.map((name) => [name, dependencies[name]])),
      peerDependencies: { [peer]: dependencies[peer] },
      peerDependenciesMeta: { [peer]: { optional: true } },
    }, null, 2));
    const packed = execFileSync("npm", ["pack", "--silent", "--pack-destination", process.argv[2] ?? process.cwd()], { cwd: into, encoding: "utf8" });
    process.stdout.write(`${join(process.argv[2] ?? process.cwd(), packed.trim())}\n`);
  } finally {
    rmSync(into, { recursive: true, force: true });
  }
}

await main();
