// Which parts of this broker are ready?
// Every part says so for itself; the broker is ready when all are. Readiness is shown, never assumed:
// a part that has not spoken yet is not ready.
export type PartState = { readonly name: string; readonly ready: boolean; readonly detail: string };

export class BrokerParts {
  readonly #parts = new Map<string, PartState>();
  readonly #listeners = new Set<(ready: boolean) => void>();

  constructor(names: readonly string[]) {
    for (const name of names) this.#parts.set(name, { name, ready: false, detail: "starting" });
  }

  set(name: string, ready: boolean, detail = ""): void {
    const before = this.ready;
    this.#parts.set(name, { name, ready, detail });
    if (before !== this.ready) for (const listener of this.#listeners) listener(this.ready);
  }

  get parts(): readonly PartState[] {
    return [...this.#parts.values()];
  }

  get ready(): boolean {
    return this.parts.every((part) => part.ready);
  }

  /** Calls back when the whole becomes ready or stops being so. */
  onChange(listener: (ready: boolean) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
