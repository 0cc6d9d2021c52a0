// How does a test run a recipe of docs/recipes.md as it stands?
// Each block that begins with a file's name becomes that file, with this test's folder in place of /run, /etc
// and /var/lib, and free ports in place of its own. Its shell script then runs in a process group of its own,
// which is gone when the recipe is closed, with all that it started.
// What must come of it is recipes.test.ts's.
import { execFile, spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { inject } from "vitest";
import { freePort } from "../support/port.ts";
import type { World } from "./world.ts";

const text = readFileSync(new URL("../../docs/recipes.md", import.meta.url), "utf8");
const brevet = fileURLToPath(new URL("../../bin/brevet.js", import.meta.url));

/** By the section's heading: name and text of each file. */
function filesOf(section: string): Map<string, string> {
  const after = text.slice(text.indexOf(`\n## ${section}\n`) + 1);
  const body = after.slice(0, after.indexOf("\n## ", 3) < 0 ? undefined : after.indexOf("\n## ", 3));
  return new Map([...body.matchAll(/^```\w+\n((?:#|\/\/|--) ([\w.-]+)\n.*?)^```$/gms)].map(([, block = "", name = ""]) => [name, block]));
}

export class Recipe {
  readonly folder: string;
  readonly port: number;
  readonly #env: NodeJS.ProcessEnv;
  readonly #children: ChildProcess[] = [];
  /** All that its processes wrote. */
  said = "";

  private constructor(folder: string, port: number, env: NodeJS.ProcessEnv) {
    this.folder = folder;
    this.port = port;
    this.#env = env;
  }

  /** Writes the section's files; `replace`: more texts that are this test's own. */
  static async of(world: World, section: string, replace: Readonly<Record<string, string>> = {}): Promise<Recipe> {
    const folder = join(world.folder, section.toLowerCase());
    const port = await freePort();
    const replaced = Object.entries({ "/run/": `${folder}/run/`, "/etc/": `${folder}/etc/`, "/var/lib/": `${folder}/lib/`, ":8443": `:${port}`, ...replace });
    for (const place of ["run", "etc", "lib", "bin"].flatMap((name) => ["", section.toLowerCase()].map((below) => join(folder, name, below)))) {
      mkdirSync(place, { recursive: true });
      chmodSync(place, 0o755);
    }
    for (const [name, block] of filesOf(section)) {
      const file = join(folder, "etc", section.toLowerCase(), name);
      writeFileSync(file, replaced.reduce((all, [from, to]) => all.replaceAll(from, to), block));
    }
    const shim = join(folder, "bin", "brevet");
    writeFileSync(shim, `#!/bin/sh\nexec '${process.execPath}' '${brevet}' "$@"\n`, { mode: 0o755 });
    const { BREVET_DATA_DIR: _, ...env } = process.env;
    return new Recipe(folder, port, {
      ...env, SPIFFE_ENDPOINT_SOCKET: world.socket, PATH: [join(folder, "bin"), "/usr/sbin", inject("foreign").stock.postgresql ?? "", process.env["PATH"]].join(":"),
    });
  }

  file(name: string): string {
    const [section = ""] = this.folder.split("/").slice(-1);
    return join(this.folder, "etc", section, name);
  }

  /** What was started has ended by itself. */
  get isOver(): boolean {
    return this.#children.some(({ exitCode, signalCode }) => exitCode !== null || signalCode !== null);
  }

  /** Runs on until the recipe is closed. */
  start(program: string, ...args: readonly string[]): ChildProcess {
    const child = spawn(program, args, { env: this.#env, cwd: dirname(this.folder), detached: true, stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (more: string) => (this.said += more));
    this.#children.push(child);
    return child;
  }

  /** Runs to its end; what it printed, standard error included, and whether it was content. */
  async run(program: string, ...args: readonly string[]): Promise<{ readonly ok: boolean; readonly text: string }> {
    return await new Promise((resolve) => {
      const child = execFile(program, args, { env: this.#env, timeout: 60_000 }, (error, stdout, stderr) => resolve({ ok: error === null, text: stdout + stderr }));
      child.stdin?.end();
    });
  }

  /** The sidecar alone, for what reads files by itself. */
  async keepFiles(): Promise<string> {
    const at = join(this.folder, "run", "brevet");
    const first = await this.run("brevet", "sidecar", "--verifier", "--dir", at, "--once");
    if (!first.ok) throw new Error(`sidecar: ${first.text}`);
    this.start("brevet", "sidecar", "--verifier", "--dir", at);
    return at;
  }

  async close(): Promise<void> {
    for (const child of this.#children) {
      if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) continue;
      const exited = once(child, "exit");
      process.kill(-child.pid, "SIGTERM");
      await exited;
    }
  }
}
