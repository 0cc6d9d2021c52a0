// How does other software hear that its files have changed?
// One run at a time, the first at once and then at most one a second, each after the files are in place; a
// change during a run brings one more. What was taken away is told before what was changed, and waits for
// no pace. A run that fails or takes too long is killed with all it started, and repeated until one succeeds.
// When it is to run is sidecar-keeper.ts's business.
import { spawn } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";

export type HookEvent = "changed" | "revoked";

const longestMs = 30_000;
const paceMs = 1_000;
const longestRetryMs = 60_000;

export class Hook {
  readonly #command: string | undefined;
  readonly #folder: string;
  readonly #log: (text: string) => void;
  readonly #due = new Set<HookEvent>();
  #working: Promise<void> | undefined;
  #wake = new AbortController();
  #closing = false;
  #failure: string | undefined;
  #onRun = (): void => undefined;
  #lastStart = -Infinity;

  constructor(command: string | undefined, folder: string, log: (text: string) => void) {
    this.#command = command;
    this.#folder = folder;
    this.#log = log;
    this.#failure = command === undefined ? undefined : "has not run yet";
  }

  /** Called after each run. */
  onRun(callback: () => void): void {
    this.#onRun = callback;
  }

  /** Why the newest run failed. */
  get failure(): string | undefined {
    return this.#failure;
  }

  call(event: HookEvent): void {
    if (this.#command === undefined || this.#closing) return;
    this.#due.add(event);
    this.#wake.abort();
    this.#start(this.#command);
  }

  #start(command: string): void {
    this.#working ??= this.#work(command).finally(() => {
      this.#working = undefined;
      if (this.#due.size > 0) this.#start(command); // came in the turn in which the work ended
    });
  }

  /** After it there is nothing more to tell, and what was to be told before is so no more. */
  callLast(event: HookEvent): void {
    this.#due.clear();
    this.call(event);
  }

  /** One try of what is due, and no more after it. The failure, if it failed. */
  async finish(): Promise<string | undefined> {
    this.#closing = true;
    this.#wake.abort();
    await this.#working;
    return this.#failure;
  }

  async #work(command: string): Promise<void> {
    for (let retryMs = paceMs; this.#due.size > 0; ) {
      const early = this.#lastStart + paceMs - performance.now();
      if (!this.#closing && !this.#due.has("revoked") && early > 0) {
        await this.#rest(early);
        continue;
      }
      const event = this.#due.has("revoked") ? "revoked" : "changed";
      this.#due.delete(event);
      this.#lastStart = performance.now();
      this.#failure = await run(command, { BREVET_EVENT: event, BREVET_DIR: this.#folder });
      this.#onRun();
      if (this.#failure === undefined) {
        retryMs = paceMs;
        continue;
      }
      this.#log(`hook: ${event}: ${this.#failure}`);
      if (!this.#closing) {
        this.#due.add(event);
        await this.#rest(retryMs);
        retryMs = Math.min(retryMs * 2, longestRetryMs);
      }
    }
  }

  /** Until the time is over or there is more to tell. */
  async #rest(ms: number): Promise<void> {
    if (this.#closing) return;
    this.#wake = new AbortController();
    await sleep(ms, undefined, { signal: this.#wake.signal }).catch(() => undefined);
  }
}

/** Its failure in words. A group of its own, so that all of it can be ended. */
async function run(command: string, about: Readonly<Record<string, string>>): Promise<string | undefined> {
  return await new Promise((resolve) => {
    const child = spawn("/bin/sh", ["-c", command], { detached: true, stdio: ["ignore", process.stderr, process.stderr], env: { ...process.env, ...about } });
    const timer = setTimeout(() => {
      endGroup(child.pid);
      resolve(`not done within ${longestMs / 1000} s`);
    }, longestMs);
    child.once("error", (error: NodeJS.ErrnoException) => {
      clearTimeout(timer);
      resolve(`cannot be started (${error.code ?? "error"})`);
    });
    child.once("exit", (code, signal) => {
      clearTimeout(timer);
      resolve(code === 0 ? undefined : signal === null ? `exit ${code ?? 1}` : `killed by ${signal}`);
    });
  });
}

function endGroup(leader: number | undefined): void {
  try {
    if (leader !== undefined) process.kill(-leader, "SIGKILL");
  } catch {
    // it went by itself
  }
}
