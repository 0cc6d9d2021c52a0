// What does a request rest on, and why was it cut?
// One epoch of one task: it ends when the SVID that is held says another epoch, or none is held any more,
// and says which of both. A server may hear of it first and hang up: an error that looks like a cut
// connection waits a little for our own news, so that its reason is known.
// DESIGN: "Feed" (pushes); what rests on an epoch is dispatcher.ts's and agent.ts's business.
import { BrevetError, asBrevetError } from "../errors.ts";
import type { WorkloadSource } from "../client/source.ts";

/** How much later than a server our own news may come. */
const newsMs = 1_000;
const cutCodes: ReadonlySet<string> = new Set([
  "ECONNRESET", "EPIPE", "ECONNABORTED", "UND_ERR_SOCKET", "UND_ERR_CLOSED", "UND_ERR_DESTROYED", "ERR_SSL_TLSV1_ALERT_UNKNOWN_CA",
]);

/** Follows one task's epochs in a source. */
export class TaskEpochs {
  readonly id: string;
  readonly #source: WorkloadSource;
  readonly #ended = new AbortController();
  #epoch: number;
  #current = new AbortController();

  /** `hint`: the task's ID; default, the task of the source's first SVID. */
  constructor(source: WorkloadSource, hint?: string) {
    const { binding } = source.svid(hint);
    if (binding === null) throw new BrevetError("DENIED_NO_TASK", "the SVID that is held is bound to no task");
    this.id = binding.task;
    this.#epoch = binding.epoch;
    this.#source = source;
    source.on("update", this.#look).on("end", this.#end);
    source.signal.addEventListener("abort", () => this.#end(asBrevetError(source.signal.reason)), { once: true });
  }

  get epoch(): number {
    return this.#epoch;
  }

  /** Aborts with CONTEXT_CHANGED when this epoch is over, with DENIED_TASK_ENDED when the task is. */
  get current(): AbortSignal {
    return this.#current.signal;
  }

  /** Aborts when the task is over. */
  get ended(): AbortSignal {
    return this.#ended.signal;
  }

  close(): void {
    this.#end(new BrevetError("WRONG_STATE", `task ${this.id} was put down here`));
  }

  readonly #look = (): void => {
    const { svids } = this.#source;
    const found = svids.find(({ binding }) => binding?.task === this.id)?.binding;
    if (!found) return this.#end(new BrevetError("DENIED_TASK_ENDED", `no SVID of task ${this.id} is held any more`));
    if (found.epoch === this.#epoch) return;
    const over = this.#current;
    this.#current = new AbortController();
    this.#epoch = found.epoch;
    over.abort(new BrevetError("CONTEXT_CHANGED", `the context of task ${this.id} changed: what rested on epoch ${found.epoch - 1} is over`));
  };

  readonly #end = (reason: BrevetError): void => {
    if (this.#ended.signal.aborted) return;
    this.#source.off("update", this.#look).off("end", this.#end);
    this.#ended.abort(reason);
    this.#current.abort(reason);
  };
}

/** The reason behind an error of a request that rested on `epoch`; the error itself where there is no other. */
export async function reasonOf(error: unknown, epoch: AbortSignal): Promise<unknown> {
  if (!epoch.aborted && !isCut(error)) return brevetIn(error) ?? error;
  const timer = AbortSignal.timeout(newsMs);
  await new Promise((resolve) => {
    for (const signal of [epoch, timer]) {
      if (signal.aborted) resolve(undefined);
      else signal.addEventListener("abort", resolve, { once: true });
    }
  });
  return epoch.aborted ? epoch.reason : (brevetIn(error) ?? error);
}

function isCut(error: unknown): boolean {
  const { code, cause } = error as { readonly code?: unknown; readonly cause?: unknown };
  return (typeof code === "string" && cutCodes.has(code)) || (cause !== undefined && isCut(cause));
}

/** fetch wraps what it fails of in a TypeError. */
function brevetIn(error: unknown): BrevetError | undefined {
  if (error instanceof BrevetError) return error;
  return error instanceof Error && error.cause !== undefined ? brevetIn(error.cause) : undefined;
}
