// How does a test get a systemd unit without systemd?
// It makes cgroups of the names that systemd gives them, in the real hierarchy (v2), and moves real processes
// into them; where this machine does not let it, `canMakeUnits` is false and the tests say so loudly.
// What a broker makes of them is the tests' business.
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { findRoot } from "../../src/attest/cgroup-dir.ts";

const root = findRoot(readFileSync("/proc/self/mountinfo", "utf8"));

export class Unit implements AsyncDisposable {
  readonly slice = `brevettest${randomBytes(4).toString("hex")}.slice`;
  readonly path: string;
  readonly #below = new Set<string>();

  constructor(name = "agent.service") {
    this.path = `/${this.slice}/${name}`;
    mkdirSync(this.#folder(this.slice));
    this.make();
  }

  make(): void {
    mkdirSync(this.#folder(this.path));
  }

  /** The process, and all that it starts from now on. */
  add(pid: number, below = ""): void {
    if (below !== "") {
      mkdirSync(this.#folder(`${this.path}/${below}`), { recursive: true });
      this.#below.add(below);
    }
    writeFileSync(this.#folder(`${this.path}/${below}/cgroup.procs`), String(pid));
  }

  /** What starts a program in it. */
  get shell(): string[] {
    return ["sh", "-c", `echo $$ > ${this.#folder(this.path)}/cgroup.procs && exec "$@"`, "sh"];
  }

  leave(pid: number): void {
    writeFileSync(this.#folder("cgroup.procs"), String(pid));
  }

  /** Once nothing is in it. */
  async remove(): Promise<void> {
    for (const below of this.#below) await this.#removed(`${this.path}/${below}`);
    await this.#removed(this.path);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.remove();
    await this.#removed(this.slice);
  }

  #folder(path: string): string {
    return join(root ?? "", path);
  }

  /** The kernel lets go of a process a moment after its exit was seen. */
  async #removed(path: string): Promise<void> {
    for (let tries = 0; tries < 500; tries++) {
      try {
        rmdirSync(this.#folder(path));
        return;
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code === "ENOENT") return;
        if (code !== "EBUSY") throw error;
        await sleep(10);
      }
    }
  }
}

export const canMakeUnits = await (async (): Promise<boolean> => {
  try {
    await new Unit()[Symbol.asyncDispose]();
    return root !== undefined;
  } catch (error) {
    process.stderr.write(`SKIPPED: tests of units need a writable cgroup v2 hierarchy: ${String(error)}\n`);
    return false;
  }
})();
