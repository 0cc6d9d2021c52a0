// Where does the demo run, and as whom?
// Everything lies in one temporary directory, removed at the end: the broker's data, and a copy of what
// the agent and the service need, which another account can read wherever this clone lies. Each of the
// two runs a program file of its own there, so that the catalog can tell them apart by path even when
// all share one user. No account is made: as root an existing one is used.
// Starting the processes is part.ts's business; what they do, demo.ts's.
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

export type Account = { readonly name: string; readonly uid: number; readonly gid: number };

/** The clone: this file is dist/demo/stage.js in it. */
export const clone = fileURLToPath(new URL("../..", import.meta.url));

/** As root the account that PostgreSQL runs as too; else one's own. */
export function agentAccount(): Account {
  const own = { name: "you", uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
  if (own.uid !== 0) return own;
  const lines = fs.readFileSync("/etc/passwd", "utf8").split("\n").map((line) => line.split(":"));
  for (const wanted of ["postgres", "nobody"]) {
    const found = lines.find(([name]) => name === wanted);
    if (found !== undefined) return { name: wanted, uid: Number(found[2]), gid: Number(found[3]) };
  }
  throw new Error("/etc/passwd has neither postgres nor nobody: run the demo as an ordinary user");
}

/** A fresh directory that everybody can pass and read; sockets' paths in it are short enough. */
export function makeDirectory(): string {
  const base = [tmpdir(), "/tmp"].find((path) => path.length <= 60 && passable(path));
  const directory = fs.mkdtempSync(join(base ?? tmpdir(), "brevet-demo-"));
  fs.chmodSync(directory, 0o755);
  return directory;
}

function passable(path: string): boolean {
  const { mode, uid } = fs.statSync(path, { throwIfNoEntry: false }) ?? { mode: 0, uid: -1 };
  const mine = process.getuid?.() !== 0 && uid === process.getuid?.();
  return ((mode & 0o001) !== 0 || mine) && (path === "/" || passable(dirname(path)));
}

/** Copies the package (as far as an agent and a service need it) and the two program files. */
export function stage(directory: string): { readonly app: string; readonly agent: string; readonly service: string } {
  const app = join(directory, "app");
  const [agent, service] = [join(app, "researcher"), join(app, "crm")];
  makeReadable(app);
  for (const part of ["package.json", "proto", "dist/src", "dist/demo"]) copy(join(clone, part), join(app, part));
  for (const part of packagesOf(clone, ["@grpc/grpc-js", "@grpc/proto-loader", "undici"])) copy(join(clone, part), join(app, part));
  fs.copyFileSync(process.execPath, agent, fs.constants.COPYFILE_FICLONE);
  fs.chmodSync(agent, 0o755);
  fs.linkSync(agent, service);
  return { app, agent, service };
}

/** These packages and all they depend on, as paths in the clone. */
function packagesOf(root: string, names: readonly string[]): Set<string> {
  const found = new Set<string>();
  const add = (from: string, name: string): void => {
    const at = fs.existsSync(join(from, "node_modules", name)) ? join(from, "node_modules", name) : undefined;
    if (at === undefined && from !== root) return add(dirname(from), name);
    if (at === undefined || name.startsWith("@types/")) return;
    const path = relative(root, at);
    if (found.has(path)) return;
    found.add(path);
    const { dependencies = {} } = JSON.parse(fs.readFileSync(join(at, "package.json"), "utf8")) as { dependencies?: Record<string, string> };
    for (const needed of Object.keys(dependencies)) add(at, needed);
  };
  for (const name of names) add(root, name);
  return found;
}

function copy(from: string, to: string): void {
  makeReadable(dirname(to));
  if (!fs.statSync(from).isDirectory()) {
    fs.copyFileSync(from, to);
    fs.chmodSync(to, 0o644);
    return;
  }
  makeReadable(to);
  for (const name of fs.readdirSync(from)) {
    if (name !== "node_modules") copy(join(from, name), join(to, name));
  }
}

/** Whatever this process's umask is. */
function makeReadable(directory: string): void {
  if (fs.existsSync(directory)) return;
  makeReadable(dirname(directory));
  fs.mkdirSync(directory);
  fs.chmodSync(directory, 0o755);
}
