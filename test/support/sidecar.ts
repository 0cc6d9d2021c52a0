// How does a test run a real sidecar, and look into its folder as other software does?
// Always true: it is the built command, a process of its own; a reader takes all files of one generation or
// begins again; whatever was started is dead when its test is over.
// What must be in the folder is the tests' business.
import { readFileSync, readdirSync, readlinkSync } from "node:fs";
import { once } from "node:events";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { start } from "./spawn.ts";
import type { Started } from "./spawn.ts";
import type { World } from "./world.ts";

const bin = fileURLToPath(new URL("../../bin/brevet.js", import.meta.url));

export class Sidecar {
  readonly child: Started;
  readonly folder: string;
  output = "";
  readonly #closed: Promise<unknown>;

  private constructor(child: Started, folder: string) {
    this.child = child;
    this.folder = folder;
    this.#closed = once(child, "close");
    child.stderr?.setEncoding("utf8").on("data", (text: string) => (this.output += text));
  }

  /** `through`: what starts it, e.g. a shell that first goes into a cgroup. */
  static async start(world: World, folder: string, args: readonly string[], { through = [], uid, gid }: { through?: readonly string[]; uid?: number; gid?: number } = {}): Promise<Sidecar> {
    const [command = "", ...rest] = [...through, process.execPath, bin, "sidecar", "--dir", folder, ...args];
    const child = await start(command, rest, { env: world.broker.env, stdio: ["ignore", "ignore", "pipe"], ...(uid !== undefined && { uid }), ...(gid !== undefined && { gid }) });
    return new Sidecar(child, folder);
  }

  /** Its exit code, once all that it said has been heard. */
  async exit(): Promise<number | null> {
    await this.#closed;
    return this.child.exitCode;
  }

  get files(): Map<string, string> {
    return readGeneration(this.folder);
  }
}

/** The files of one generation, which was the current one before and after they were read; empty if there is none. */
export function readGeneration(folder: string): Map<string, string> {
  const link = (): string | undefined => {
    try {
      return readlinkSync(join(folder, "..data"));
    } catch {
      return undefined;
    }
  };
  for (;;) {
    const generation = link();
    if (generation === undefined) return new Map();
    try {
      const path = join(folder, generation);
      const files = new Map(readdirSync(path).map((name) => [name, readFileSync(join(path, name), "utf8")]));
      if (link() === generation) return files;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
  }
}
