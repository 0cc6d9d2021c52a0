// What must a broker do that nobody asks for?
// End the tasks of processes that exited, however long the database stays away; mark what has expired;
// rotate keys, follow other brokers' notices, keep the record within its retention, and say whether the
// database answers. Every job is idempotent: two brokers that do the same do it once.
import { setTimeout as sleep } from "node:timers/promises";
import { signaturesMade } from "../ca/authority.ts";
import { bootId } from "./attest/proc.ts";
import type { Bindings, Bound } from "./claim/bindings.ts";
import type { Claims } from "./claim/claim.ts";
import type { Endpoints } from "./claim/endpoints.ts";
import { BrevetError } from "./errors.ts";
import type { BrokerParts } from "./health.ts";
import type { Issuer } from "./issue/issue.ts";
import type { Trust } from "./issue/trust.ts";
import { purge } from "./record/log.ts";
import type { Store } from "./record/store.ts";
import { boundBefore, boundTasks } from "./record/claims.ts";
import { dueTasks } from "./record/tasks.ts";
import type { TaskRow } from "./record/tasks.ts";
import { readClock } from "./record/trust.ts";
import type { Crls } from "./revoke/crl.ts";
import type { Feed } from "./revoke/feed.ts";
import type { Revoker } from "./revoke/revoke.ts";
import type { Log } from "./telemetry.ts";

export type HousekeepingOptions = {
  readonly store: Store;
  readonly bindings: Bindings;
  readonly claims: Claims;
  readonly revoker: Revoker;
  readonly trust: Trust;
  readonly issuer: Issuer;
  readonly crls: Crls;
  readonly feed: Feed;
  readonly endpoints: Endpoints;
  readonly reloadCatalog: () => Promise<void>;
  readonly health: BrokerParts;
  readonly log: Log;
  /** Whose earlier boots are over. */
  readonly machine: string;
};

const retryMs = 100;
const supervisorMs = 50;
const mostExpiryMs = 15_000;
const rotationMs = 60_000;
const purgeMs = 3_600_000;
const firstPurgeMs = 5_000;
/** Between two pieces, for those that the database is there for. */
const purgePauseMs = 100;
/** Together two seconds, as with the feed's heartbeats: from then on a verifier may be stale. */
const databaseCheckMs = 1_000;
const databaseAnswerMs = 1_000;
/** Of so many, one is asked while nobody follows. */
const idleChecks = 3;
const graceMs = 200;

export class Housekeeping {
  readonly #o: HousekeepingOptions;
  readonly #closing = new AbortController();
  readonly #jobs = new Set<Promise<void>>();
  #expiryTimer: NodeJS.Timeout | undefined;
  #expiryAt = Infinity;
  #asking = false;

  constructor(options: HousekeepingOptions) {
    this.#o = options;
  }

  start(): void {
    const { store, trust, crls, feed } = this.#o;
    store.listen((payload) => this.#noticed(payload), () => this.#mayHaveMissed(), () => this.#askDatabase());
    crls.changed();
    trust.onChange(() => crls.changed());
    this.#every(rotationMs, () => this.#run(() => trust.refresh(), "rotation"));
    this.#every(rotationMs, () => this.#countSignatures());
    const purgeAll = (): void => this.#run(() => this.#purge(), "retention");
    this.#every(purgeMs, purgeAll);
    // a broker that never runs for an hour keeps its record within bounds, too; its start comes first
    this.#once(firstPurgeMs, purgeAll);
    // while nobody follows the feed nobody can grow stale, and this is all that an idle broker asks
    let seconds = 0;
    this.#every(databaseCheckMs, () => {
      if (feed.isFollowed || ++seconds % idleChecks === 0) this.#askDatabase();
    });
    this.#expire();
  }

  /** Its tasks end, whatever the database does meanwhile. */
  instanceExited(bound: Bound): void {
    const state = bound.onExit === "close" ? "closed" : "aborted";
    this.#run(async () => {
      // its supervisor knows better how it ended, if it says so in time
      if (bound.supervisor) await sleep(supervisorMs, undefined, { signal: this.#closing.signal });
      for (;;) {
        try {
          await this.#o.revoker.end(bound.task, state, bound.scope === "cgroup" ? "nothing of the agent is left in its unit, container or pod" : "the bound process exited", "brevet");
          return;
        } catch (error) {
          if (error instanceof BrevetError && error.code === "NOT_FOUND") return;
          await sleep(retryMs, undefined, { signal: this.#closing.signal });
        }
      }
    });
  }

  /** A task was opened here. */
  opened(row: TaskRow): void {
    if (row.bind === "auto") this.#o.claims.autoOpened(row.agent, row);
    this.#expireWithin(row.expiresAt.getTime() - Date.now());
  }

  /**
   * Tasks bound to processes of an earlier boot of this machine can't have one any more. Of another machine nothing is
   * known here: if it never comes back, its tasks end by their time.
   */
  async endOrphans(): Promise<void> {
    for (const id of await boundBefore(this.#o.store, this.#o.machine, bootId())) {
      await this.#o.revoker.end(id, "aborted", "the machine was restarted", "brevet");
    }
  }

  async close(): Promise<void> {
    this.#closing.abort();
    clearTimeout(this.#expiryTimer);
    await Promise.allSettled(this.#jobs);
  }

  #noticed(payload: string): void {
    const { feed, claims, trust, reloadCatalog, store, bindings, endpoints } = this.#o;
    const [what, detail] = payload.split(" ");
    this.#run(async () => {
      if (what === "feed") await feed.catchUp();
      else if (what === "auto" && detail) claims.autoOpened(detail);
      else if (what === "trust") await trust.refresh();
      else if (what === "catalog") await reloadCatalog();
      else if (what === "claim" && detail) {
        for (const row of await boundTasks(store, bootId(), [Number(detail)])) if (bindings.add(row)) await endpoints.open(row.id);
      }
    });
  }

  #mayHaveMissed(): void {
    const { feed, trust, reloadCatalog, health } = this.#o;
    this.#run(async () => {
      await feed.catchUp();
      await reloadCatalog();
      await trust.refresh();
      health.set("database", true);
    });
  }

  /** One question at a time. A database that is silent fails it only after a while, and is not there from sooner on; it is again with its answer. */
  #askDatabase(): void {
    if (this.#asking || this.#closing.signal.aborted) return;
    this.#asking = true;
    // where this process itself was held up, what came meanwhile is looked at first
    let late = setTimeout(() => (late = setTimeout(() => this.#databaseAway(), graceMs).unref()), databaseAnswerMs).unref();
    this.#run(async () => {
      try {
        await readClock(this.#o.store);
      } finally {
        clearTimeout(late);
        this.#asking = false;
      }
    }, "database");
  }

  #databaseAway(): void {
    this.#o.health.set("database", false, "PostgreSQL does not answer");
  }

  /** No key signs what is not already a row: more signatures than rows means that something else uses the keys. */
  #countSignatures(): void {
    for (const kind of ["x509", "jwt"] as const) {
      const [made, recorded] = [signaturesMade(kind), this.#o.issuer.recorded[kind]];
      if (made > recorded) this.#o.log("signatures.unaccounted", { what: kind, count: made - recorded }, "error");
    }
  }

  /** Piece by piece, until nothing is past the retention. */
  async #purge(): Promise<void> {
    const total = new Map<string, number>();
    try {
      for (;;) {
        const pieces = await purge(this.#o.store);
        if (pieces.length === 0) return;
        for (const { what, removed } of pieces) total.set(what, (total.get(what) ?? 0) + removed);
        await sleep(purgePauseMs, undefined, { signal: this.#closing.signal });
      }
    } finally {
      for (const [what, removed] of total) this.#o.log("retention", { what, removed });
    }
  }

  #expireWithin(ms: number): void {
    const at = performance.now() + Math.max(0, Math.min(ms, mostExpiryMs));
    if (at >= this.#expiryAt || this.#closing.signal.aborted) return;
    this.#expiryAt = at;
    clearTimeout(this.#expiryTimer);
    this.#expiryTimer = setTimeout(() => this.#expire(), at - performance.now());
    this.#expiryTimer.unref();
  }

  #expire(): void {
    this.#expiryAt = Infinity;
    this.#run(async () => {
      try {
        const { due, nextMs } = await dueTasks(this.#o.store);
        await Promise.all(due.map((task) => this.#o.revoker.end(task, "expired", "expired", "brevet")));
        this.#expireWithin(nextMs ?? mostExpiryMs);
      } finally {
        this.#expireWithin(mostExpiryMs);
      }
    });
  }

  #every(ms: number, job: () => void): void {
    const timer = setInterval(job, ms);
    timer.unref();
    this.#closing.signal.addEventListener("abort", () => clearInterval(timer), { once: true });
  }

  #once(ms: number, job: () => void): void {
    const timer = setTimeout(job, ms);
    timer.unref();
    this.#closing.signal.addEventListener("abort", () => clearTimeout(timer), { once: true });
  }

  /** A job that fails is logged, shown as not ready if it was the database, and done again by its timer. */
  #run(job: () => Promise<void>, name = "notice"): void {
    if (this.#closing.signal.aborted) return;
    const running = job().then(
      () => {
        if (name === "database") this.#o.health.set("database", true);
      },
      (error: unknown) => {
        if (this.#closing.signal.aborted) return;
        const code = error instanceof BrevetError ? error.code : "INTERNAL";
        if (code === "DATABASE_UNAVAILABLE" || code === "OUTCOME_UNKNOWN") this.#databaseAway();
        this.#o.log("job.failed", { what: name, code, message: error instanceof Error ? error.message : "" }, "warn");
      },
    );
    this.#jobs.add(running);
    void running.finally(() => this.#jobs.delete(running));
  }
}
