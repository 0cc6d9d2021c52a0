// How is the thread asked that keeps the entries of lists?
// One question at a time, each with one answer; a thread that ended answers nothing any more, and everything
// that it was asked fails: who asks begins again with a new one, and reads again what the old one held.
// What the thread does is crl-worker.ts's business.
import { Worker } from "node:worker_threads";
import type { UnsignedCrl } from "../../ca/crl.ts";
import { BrevetError } from "../errors.ts";

/** All times of lists are a minute early, for verifiers whose clocks are behind; none of an entry is after its list's. */
export const backdateMs = 60_000;

export type Ask =
  /** Lines of `deadCertificates`. */
  | { readonly do: "enter"; readonly lines: readonly string[] }
  | {
      readonly do: "make"; readonly authority: string; readonly name: Uint8Array; readonly keyId: Uint8Array; readonly algorithm: Uint8Array;
      readonly number: bigint; readonly thisUpdate: Date; readonly nextUpdate: Date;
      /** Seconds: what expired before has left the list. */
      readonly since: number;
    };
/** Authorities that have an entry more. */
export type Entered = { readonly grown: readonly string[] };
export type Made = { readonly list: UnsignedCrl; readonly entries: number };

export class CrlThread {
  readonly #worker: Worker;
  #asked: { readonly resolve: (answer: unknown) => void; readonly reject: (error: BrevetError) => void } | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #over = false;

  constructor() {
    this.#worker = new Worker(new URL(import.meta.url.endsWith(".ts") ? "./crl-worker.ts" : "./crl-worker.js", import.meta.url));
    this.#worker.unref();
    this.#worker.on("message", (answer: unknown) => this.#asked?.resolve(answer));
    this.#worker.on("error", (error) => this.#end(error));
    this.#worker.on("exit", () => this.#end());
  }

  /** Once true, it stays so. */
  get over(): boolean {
    return this.#over;
  }

  async enter(lines: readonly string[]): Promise<Entered> {
    return (await this.#ask({ do: "enter", lines })) as Entered;
  }

  async make(ask: Omit<Ask & { do: "make" }, "do">): Promise<Made> {
    return (await this.#ask({ ...ask, do: "make" })) as Made;
  }

  async close(): Promise<void> {
    await this.#worker.terminate();
  }

  #ask(ask: Ask): Promise<unknown> {
    const answer = this.#last.then(async () => {
      if (this.#over) throw ended();
      return await new Promise((resolve, reject) => {
        this.#asked = { resolve, reject };
        this.#worker.postMessage(ask);
      });
    });
    this.#last = answer.catch(() => undefined);
    return answer;
  }

  #end(cause?: unknown): void {
    this.#over = true;
    this.#asked?.reject(ended(cause));
  }
}

function ended(cause?: unknown): BrevetError {
  return new BrevetError("INTERNAL", "the thread that keeps lists has ended", { cause });
}
