// Where does a task's own workload socket come from, and where does it go?
// One socket per active task, open before its claim is answered, gone when the task is over.
// What is served there is src/api's business.
export class Endpoints {
  readonly #listen: (task: string) => Promise<() => Promise<void>>;
  readonly #open = new Map<string, Promise<() => Promise<void>>>();

  constructor(listen: (task: string) => Promise<() => Promise<void>>) {
    this.#listen = listen;
  }

  /** Resolves when the task can be reached there. */
  async open(task: string): Promise<void> {
    let opening = this.#open.get(task);
    if (!opening) {
      opening = this.#listen(task);
      this.#open.set(task, opening);
    }
    try {
      await opening;
    } catch (error) {
      this.#open.delete(task);
      throw error;
    }
  }

  shut(task: string): void {
    const opening = this.#open.get(task);
    if (!opening) return;
    this.#open.delete(task);
    void opening.then((close) => close()).catch(() => undefined);
  }

  async close(): Promise<void> {
    const all = [...this.#open.values()];
    this.#open.clear();
    await Promise.allSettled(all.map(async (opening) => (await opening)()));
  }
}
