// How does the demo start its processes, hear them, and leave none behind?
// Each speaks JSON objects, one a line; what nobody waited for yet is kept. A process that ends while
// something is expected of it fails the step, with what it wrote on stderr. stopAll() returns when the
// kernel has no trace of any of them.
// Which processes there are is demo.ts's business.
import { spawn } from "node:child_process";
import type { ChildProcess, SpawnOptions } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

export type Words = Readonly<Record<string, string>>;
type Waiting = { readonly event: string; readonly resolve: (words: Words) => void; readonly reject: (error: Error) => void };

const running = new Set<Part>();

export class Part {
  readonly #child: ChildProcess;
  readonly #name: string;
  readonly #ended: Promise<unknown>;
  readonly #heard: Words[] = [];
  readonly #waiting: Waiting[] = [];
  #stderr = "";
  #over = false;

  /** A process group of its own: Ctrl-C reaches the demo alone, which then stops what it started. */
  constructor(name: string, command: string, args: readonly string[], options: SpawnOptions) {
    this.#name = name;
    this.#child = spawn(command, args, { ...options, detached: true, stdio: ["pipe", "pipe", "pipe"] });
    this.#ended = once(this.#child, "close").catch(() => {}).then(() => this.#end());
    running.add(this);
    this.#child.on("error", (error) => this.#end(error.message));
    this.#child.stdin?.on("error", () => {});
    this.#child.stderr?.setEncoding("utf8").on("data", (text: string) => (this.#stderr = (this.#stderr + text).slice(-4_000)));
    if (this.#child.stdout) createInterface({ input: this.#child.stdout }).on("line", (line) => this.#hear(line));
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** The next event of this name that nobody took yet. A line that is no JSON is the event `line`. */
  async event(event: string): Promise<Words> {
    const index = this.#heard.findIndex((words) => words["event"] === event);
    if (index >= 0) return this.#heard.splice(index, 1)[0] as Words;
    if (this.#over) throw this.#failure();
    return await new Promise((resolve, reject) => void this.#waiting.push({ event, resolve, reject }));
  }

  /** Tells it what to do and waits for its answer. */
  async tell(words: Words): Promise<Words> {
    this.#child.stdin?.write(`${JSON.stringify(words)}\n`);
    return await this.event("answer");
  }

  /** SIGTERM, and SIGKILL if it stays. Resolves with its exit code. */
  async stop(patienceMs = 10_000): Promise<number | null> {
    const impatient = setTimeout(() => this.#child.kill("SIGKILL"), patienceMs);
    this.#child.kill("SIGTERM");
    await this.#ended;
    clearTimeout(impatient);
    return this.#child.exitCode;
  }

  #hear(line: string): void {
    const words: Words = line.startsWith("{") ? (JSON.parse(line) as Words) : { event: "line", line };
    const index = this.#waiting.findIndex(({ event }) => event === words["event"]);
    if (index < 0) this.#heard.push(words);
    else this.#waiting.splice(index, 1)[0]?.resolve(words);
  }

  #end(why?: string): void {
    this.#over = true;
    running.delete(this);
    if (why !== undefined) this.#stderr += why;
    for (const { reject } of this.#waiting.splice(0)) reject(this.#failure());
  }

  #failure(): Error {
    return new Error(`the ${this.#name} ended unexpectedly:\n${this.#stderr.trimEnd()}`);
  }
}

/** The last started first. */
export async function stopAll(): Promise<void> {
  for (const part of [...running].reverse()) await part.stop();
}

/** Runs a command to its end. */
export async function run(command: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }> {
  const child = spawn(command, args, { env, stdio: ["ignore", "pipe", "pipe"], timeout: 15_000 });
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const [code] = (await once(child, "close")) as [number | null];
  return { code: code ?? -1, stdout, stderr };
}
