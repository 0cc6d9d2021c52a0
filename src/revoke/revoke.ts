// How does a task end, and how does its context change? (The second transaction.)
//   1. Fence the task in memory.        Die here: nothing happened.
//   2. One transaction, many tasks: lock and update the rows, feed sequence, log entry, commit.
//                                       Die here, before the commit: nothing happened.
//   3. Committed: tell the feed, the streams, the lists.
//                                       Die here: every consumer catches up by sequence.
//   4. Say success, lower the fence.    Die here: a repeat finds it done.
// Always true: success is said only after the durable commit; an unknown outcome keeps the fence until
// it is known: an end is repeated, which is harmless; a change of context is not, since another may have
// been acknowledged after it, and the row's lock alone says what became of it. Only this file changes
// the fate of SVIDs already issued; who may ask is src/api's and src/authorize's business.
import { setTimeout as sleep } from "node:timers/promises";
import { BrevetError, notFound } from "../errors.ts";
import { Batch } from "../record/batch.ts";
import { addOperator, removeOperator } from "../record/operators.ts";
import type { NewOperator } from "../record/operators.ts";
import { revokeServices, revokeTasks } from "../record/revocations.ts";
import type { FeedRow, RevokeRequest, RevokeVerdict } from "../record/revocations.ts";
import type { Store } from "../record/store.ts";
import type { Fences } from "./fence.ts";

export type RevokerOptions = {
  readonly store: Store;
  readonly fences: Fences;
  /** Called at once after each commit, before anybody is told of the success. */
  readonly onCommitted: (verdicts: readonly RevokeVerdict[], feed: readonly FeedRow[]) => void;
  readonly log: (event: string, fields: Record<string, string | number>) => void;
};

export type EndState = "closed" | "aborted" | "expired";

const mostTasksPerBatch = 128;
const repeatEveryMs = 200;

export class Revoker {
  readonly #options: RevokerOptions;
  readonly #batch: Batch<RevokeRequest, RevokeVerdict>;
  readonly #closing = new AbortController();
  readonly #repeating = new Set<Promise<void>>();

  constructor(options: RevokerOptions) {
    this.#options = options;
    this.#batch = new Batch({
      send: (requests) => this.#commit(requests), most: mostTasksPerBatch, keyOf: (request) => request.task,
      urgent: ({ change }) => "end" in change, // however many contexts are being changed
    });
  }

  /** Ends a task. Already ended: verdict `already`, with the state it ended in. */
  end(task: string, state: EndState, reason: string, actor: string): Promise<RevokeVerdict> {
    return this.#change({ task, reason, actor, change: { end: state } });
  }

  /** Sets and removes facts. `unchanged` if nothing differs; `already` or `ended` if the task is over. `rowless`: the verdict is all that is asked for. */
  changeContext(task: string, set: Readonly<Record<string, string>>, remove: readonly string[], actor: string, { rowless = false } = {}): Promise<RevokeVerdict> {
    return this.#change({ task, reason: "", actor, change: { set, remove }, rowless });
  }

  /** Ends every SVID that the services have now. A repeat ends what they got since, and they get new ones at once. */
  async services(names: readonly string[], reason: string, actor: string): Promise<FeedRow[]> {
    const revoke = async (): Promise<FeedRow[]> => {
      const rows = await revokeServices(this.#options.store, names, reason, actor);
      this.#options.onCommitted([], rows);
      return rows;
    };
    try {
      return await revoke();
    } catch (error) {
      if (isUnknown(error)) this.#repeatUntilKnown(names.join(", "), revoke);
      throw error;
    }
  }

  /** From its commit on the operator's certificates until now are dead. Undefined: there is none of this name. */
  async removeOperator(name: string, reason: string, actor: string): Promise<FeedRow | undefined> {
    const row = await removeOperator(this.#options.store, name, reason, actor);
    if (row) this.#options.onCommitted([], [row]);
    return row;
  }

  /** A new one; or, with `replace`, one that ends what there was. */
  async addOperator(operator: NewOperator): ReturnType<typeof addOperator> {
    const outcome = await addOperator(this.#options.store, operator);
    if (outcome.ended.length > 0) this.#options.onCommitted([], outcome.ended);
    return outcome;
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.all(this.#repeating);
  }

  async #change(request: RevokeRequest): Promise<RevokeVerdict> {
    this.#options.fences.raise(request.task); // 1
    let lower = true;
    try {
      const verdict = await this.#batch.add(request);
      if (verdict.verdict === "gone") throw notFound("task", "task");
      return verdict;
    } catch (error) {
      if (isUnknown(error)) {
        lower = false;
        const question: RevokeRequest = "end" in request.change ? request : { ...request, change: { set: {}, remove: [] } };
        this.#repeatUntilKnown(request.task, () => this.#batch.add(question), () => this.#options.fences.lower(request.task));
      }
      throw error;
    } finally {
      if (lower) this.#options.fences.lower(request.task); // 4
    }
  }

  async #commit(requests: readonly RevokeRequest[]): Promise<readonly RevokeVerdict[]> {
    const verdicts = await revokeTasks(this.#options.store, requests); // 2
    const feed = verdicts.flatMap((v) =>
      v.sequence === null || v.until === null ? [] : [{ subject: v.task, epoch: v.epoch, sequence: v.sequence, until: v.until, at: v.at }]);
    this.#options.onCommitted(verdicts, feed); // 3
    return verdicts;
  }

  #repeatUntilKnown(what: string, ask: () => Promise<unknown>, known: () => void = () => undefined): void {
    const work = (async () => {
      const { signal } = this.#closing;
      while (!signal.aborted) {
        await sleep(repeatEveryMs, undefined, { signal }).catch(() => undefined);
        if (signal.aborted) return;
        try {
          await ask();
          break;
        } catch (error) {
          this.#options.log("revoke.repeated", { what, message: (error as Error).message });
        }
      }
      known();
    })();
    this.#repeating.add(work);
    void work.finally(() => this.#repeating.delete(work));
  }
}

function isUnknown(error: unknown): boolean {
  return error instanceof BrevetError && error.code === "OUTCOME_UNKNOWN";
}
