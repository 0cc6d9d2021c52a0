// Who is told when SVIDs die?
// Everybody in this process, in the same turn as the commit: streams first, then the feed, then the
// lists. What other brokers committed arrives through the feed and takes the same way, after a look
// at the row. Nothing here decides; a missed change is found again by sequence.
import type { Bindings } from "./claim/bindings.ts";
import type { Endpoints } from "./claim/endpoints.ts";
import type { Issuer } from "./issue/issue.ts";
import type { FeedRow, RevokeVerdict } from "./record/revocations.ts";
import type { Store } from "./record/store.ts";
import { getTasks } from "./record/tasks.ts";
import type { Crls } from "./revoke/crl.ts";
import type { Feed } from "./revoke/feed.ts";
import type { Propagation } from "./revoke/propagation.ts";
import type { Metrics } from "./telemetry.ts";

export type Told = {
  readonly store: Store;
  readonly bindings: Bindings;
  readonly issuer: Issuer;
  readonly feed: Feed;
  readonly crls: Crls;
  readonly propagation: Propagation;
  readonly endpoints: Endpoints;
  readonly metrics: Metrics;
};

const lookAgainMs = 200;

export class Changes {
  #told: Told | undefined;
  readonly #tasks = new Map<string, Set<() => void>>();
  readonly #services = new Set<() => void>();
  readonly #revoked = new Set<(rows: readonly FeedRow[]) => void>();

  connect(told: Told): void {
    this.#told = told;
  }

  /** A batch of this broker's own is committed. */
  committed(verdicts: readonly RevokeVerdict[], rows: readonly FeedRow[]): void {
    for (const verdict of verdicts) {
      if (verdict.verdict === "ended" || verdict.verdict === "already") this.#ended(verdict.task, verdict.verdict === "ended" ? verdict.at : undefined);
      else if (verdict.verdict === "changed" || verdict.epoch > this.#epochOf(verdict.task)) this.#changed(verdict.task, verdict.epoch);
      this.#told?.metrics.ended.inc({ verdict: verdict.verdict, state: verdict.state ?? "" });
    }
    this.#told?.feed.committed(rows);
    // who comes second finds what another broker, or a first try whose answer was lost, has committed
    const isSecond = verdicts.length === 0 ? rows.length === 0 : verdicts.some(({ verdict }) => verdict === "already" || verdict === "unchanged");
    if (isSecond) void this.#told?.feed.catchUp().catch(() => undefined);
  }

  /** The feed has moved on, by whomever. */
  revoked(rows: readonly FeedRow[]): void {
    const told = this.#told;
    if (!told) return;
    for (const callback of [...this.#revoked]) callback(rows);
    told.crls.changed();
    const foreign = rows.filter((row) => this.#epochOf(row.subject) < row.epoch);
    if (rows.some((row) => row.subject.startsWith("service/"))) this.servicesChanged();
    if (foreign.length > 0) void this.#look(told, foreign);
  }

  /** Calls back with each revocation, whoever committed it, once and in order. */
  onRevoked(callback: (rows: readonly FeedRow[]) => void): () => void {
    this.#revoked.add(callback);
    return () => this.#revoked.delete(callback);
  }

  /** Calls back when the task has changed in any way. */
  onTask(task: string, callback: () => void): () => void {
    let set = this.#tasks.get(task);
    if (!set) this.#tasks.set(task, (set = new Set()));
    set.add(callback);
    return () => {
      set.delete(callback);
      if (set.size === 0) this.#tasks.delete(task);
    };
  }

  onServices(callback: () => void): () => void {
    this.#services.add(callback);
    return () => this.#services.delete(callback);
  }

  servicesChanged(): void {
    for (const callback of [...this.#services]) callback();
  }

  task(task: string): void {
    for (const callback of [...(this.#tasks.get(task) ?? [])]) callback();
  }

  /** As this broker knows it; of a task that nobody here is bound to, there is nothing to hear. */
  #epochOf(task: string): number {
    return this.#told?.bindings.get(task)?.epoch ?? Infinity;
  }

  async #look(told: Told, revoked: readonly FeedRow[]): Promise<void> {
    try {
      const rows = new Map((await getTasks(told.store, revoked.map(({ subject }) => subject))).map((row) => [row.id, row]));
      for (const { subject, at } of revoked) {
        const row = rows.get(subject);
        if (row?.state === "active") this.#changed(subject, row.epoch);
        else this.#ended(subject, at);
      }
    } catch {
      // over or only changed, who knows: a task taken for ended would lose its process's watch for good
      setTimeout(() => void this.#look(told, revoked), lookAgainMs).unref();
    }
  }

  #ended(task: string, committedAt: number | undefined): void {
    this.#told?.propagation.ending(task, committedAt);
    this.#told?.issuer.forget(task);
    this.#told?.bindings.ended(task);
    this.#told?.endpoints.shut(task);
    this.task(task);
  }

  #changed(task: string, epoch: number): void {
    this.#told?.issuer.forget(task);
    this.#told?.bindings.changed(task, epoch);
    this.task(task);
  }
}
