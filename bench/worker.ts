// How does a benchmark put its load into processes of their own?
// A worker is a process that does one job at a time and answers with plain values; it ends when its
// starter does, whatever happens. Both sides read the same monotonic clock, so their times compare.
// The jobs themselves are load.ts's and what it names.
import { fork } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { Jobs } from "./load.ts";

export type Order = { readonly id: number; readonly job: string; readonly given: unknown };
export type Reply = { readonly id: number; readonly result?: unknown; readonly error?: string };

type Given<K extends keyof Jobs> = Parameters<Jobs[K]>[0];
type Result<K extends keyof Jobs> = Awaited<ReturnType<Jobs[K]>>;

/** Milliseconds on the clock that all processes of this machine share. */
export function now(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

const openFiles = 60_000;

export class Worker {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, { resolve: (result: unknown) => void; reject: (error: Error) => void }>();
  #orders = 0;

  constructor(options: { readonly manyFiles?: boolean } = {}) {
    const program = fileURLToPath(new URL("load.js", import.meta.url));
    const stdio = ["ignore", "inherit", "inherit", "ipc"] as const;
    this.#child = options.manyFiles
      ? fork(program, { stdio: [...stdio], execPath: "/bin/sh", execArgv: ["-c", withFiles, process.execPath] })
      : fork(program, { stdio: [...stdio] });
    this.#child.on("message", (reply: Reply) => {
      const waiting = this.#waiting.get(reply.id);
      this.#waiting.delete(reply.id);
      if (reply.error !== undefined) waiting?.reject(new Error(reply.error));
      else waiting?.resolve(reply.result);
    });
    this.#child.once("exit", (code, signal) => {
      for (const { reject } of this.#waiting.values()) reject(new Error(`a worker ended with ${signal ?? code}`));
    });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  do<K extends keyof Jobs>(job: K, given: Given<K>): Promise<Result<K>> {
    const id = this.#orders++;
    return new Promise<unknown>((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#child.send({ id, job, given } satisfies Order);
    }) as Promise<Result<K>>;
  }

  async stop(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#waiting.clear();
    const exit = once(this.#child, "exit");
    this.#child.kill(signal);
    await exit;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/** For sh -c: raises the limit of open files as far as it may, then becomes the program named in $0. */
export const withFiles = `ulimit -n ${openFiles} 2>/dev/null || ulimit -n $(ulimit -H -n); exec "$0" "$@"`;

/** As many workers as wanted, stopped together. */
export class Workers {
  readonly all: readonly Worker[];

  constructor(count: number, options: { readonly manyFiles?: boolean } = {}) {
    this.all = Array.from({ length: count }, () => new Worker(options));
  }

  /** The same job in each, at the same time. */
  each<K extends keyof Jobs>(job: K, given: (index: number) => Given<K>): Promise<Result<K>[]> {
    return Promise.all(this.all.map((worker, i) => worker.do(job, given(i))));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.all.map((worker) => worker.stop()));
  }
}
