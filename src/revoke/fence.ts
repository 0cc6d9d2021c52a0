// Which tasks are being changed right now?
// A task that is being ended is fenced in memory first, so no later batch of fetches takes it, and
// the waiting UPDATE gets its turn. The fence is lifted when the outcome is known, whatever it is.
// Other brokers are held off by the database (src/record/functions/task_fence.sql).
export class Fences {
  readonly #raised = new Map<string, { count: number; lifted: Promise<void>; lift: () => void }>();

  raise(task: string): void {
    const known = this.#raised.get(task);
    if (known) {
      known.count++;
      return;
    }
    let lift = (): void => undefined;
    const lifted = new Promise<void>((resolve) => (lift = resolve));
    this.#raised.set(task, { count: 1, lifted, lift });
  }

  lower(task: string): void {
    const known = this.#raised.get(task);
    if (!known || --known.count > 0) return;
    this.#raised.delete(task);
    known.lift();
  }

  /** Resolves when no change of the task is under way; undefined if none is. */
  whenClear(task: string): Promise<void> | undefined {
    return this.#raised.get(task)?.lifted;
  }
}
