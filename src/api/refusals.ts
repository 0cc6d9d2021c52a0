// Who was refused, and how often?
// Every denial gets an attempt's ID, which the caller sees and an administrator can explain. The first
// few of a kind in a minute are recorded with their facts, the rest counted in one row, so that a
// caller that keeps asking can't fill the record. Of a claim for another process, that one's facts are recorded.
import { randomUUID } from "node:crypto";
import { BrevetError } from "../errors.ts";
import { addAttestation } from "../record/log.ts";
import type { NewAttestation } from "../record/log.ts";
import type { Store } from "../record/store.ts";
import type { Call } from "./call.ts";

const recordedPerMinute = 10;
const windowMs = 60_000;
const mostKinds = 1000;

type Window = { since: number; recorded: number; last: NewAttestation; repeats: number };

/** What one may not have is answered as what is not there. */
function isDenial({ code, metadata }: BrevetError): boolean {
  return code.startsWith("DENIED_") || (code === "NOT_FOUND" && (metadata["field"] === "task" || metadata["field"] === "agent"));
}

export class Refusals {
  readonly #store: Store;
  readonly #windows = new Map<string, Window>();
  readonly #timer: NodeJS.Timeout;
  readonly #writing = new Set<Promise<void>>();

  constructor(store: Store) {
    this.#store = store;
    this.#timer = setInterval(() => void this.#flush(false), windowMs / 4);
    this.#timer.unref();
  }

  /** The error that the caller gets: with the attempt's ID, if a process was denied something. What an administrator mistypes is no denial. */
  note(error: BrevetError, call: Pick<Call, "connection" | "about"> | undefined): BrevetError {
    const caller = call?.connection.process;
    if (!caller || call.connection.role !== "process" || !isDenial(error)) return error;
    const attempt = randomUUID();
    // a role is the caller's own; all else hangs on what the process is that was to get something
    const { pid, uid, gid, facts } = error.code === "DENIED_ROLE" ? caller : (call.about?.process ?? caller);
    const recorded = this.#record({ attempt, outcome: "denied", reason: error.code, pid, uid, gid, facts, task: call.about?.task ?? null, repeats: 0 });
    const { code, message, violations, cause } = error;
    return new BrevetError(code, message, { violations, cause, metadata: { ...error.metadata, attempt: recorded } });
  }

  /** Resolves when what was noted until now is in the database, or could not be written. */
  async written(): Promise<void> {
    await Promise.all(this.#writing);
  }

  close(): Promise<void> {
    clearInterval(this.#timer);
    return this.#flush(true);
  }

  /** @returns the ID under which it, or the last recorded one like it, can be explained */
  #record(attestation: NewAttestation): string {
    const kind = `${attestation.uid} ${attestation.reason}`;
    const now = performance.now();
    let window = this.#windows.get(kind);
    if (!window) {
      if (this.#windows.size >= mostKinds) return attestation.attempt;
      window = { since: now, recorded: 0, last: attestation, repeats: 0 };
      this.#windows.set(kind, window);
    }
    if (window.recorded >= recordedPerMinute) {
      window.repeats++;
      return window.last.attempt;
    }
    window.recorded++;
    window.last = attestation;
    const writing = addAttestation(this.#store, attestation).catch(() => undefined).finally(() => this.#writing.delete(writing));
    this.#writing.add(writing);
    return attestation.attempt;
  }

  async #flush(all: boolean): Promise<void> {
    const now = performance.now();
    for (const [kind, window] of this.#windows) {
      if (!all && now - window.since < windowMs) continue;
      this.#windows.delete(kind);
      if (window.repeats > 0) await addAttestation(this.#store, { ...window.last, repeats: window.repeats }).catch(() => undefined);
    }
  }
}
