// How does an instance get an SVID? (The first transaction.)
//   1. The caller is still the process attested on this connection.
//   2. It is bound to a task.
//   3. Authorize: state, audiences, lifetime.
//   4. One transaction: lock the task's row FOR SHARE, insert the SVID's row and the log entry, commit.
//                     Die here: the row counts as issued, so it is revocable.
//   5. Sign.          Die here: the same.
//   6. Hand over.     Die before: the caller never got it; still revocable.
// Always true: no key signs what is not already a row; all times are PostgreSQL's; a task that is being
// ended is waited for, not raced. Steps 1 and 2 are proved by the caller's Holder (src/claim), step 3's
// audiences by src/authorize; the judgement under the lock is the database's (issue_svids).
import { issueJwt } from "../../ca/jwt.ts";
import { issueX509, newSerial } from "../../ca/x509.ts";
import { BrevetError } from "../errors.ts";
import { formatAgentId, formatAgentTaskId, formatServiceId } from "../identity/id.ts";
import { encodeStatusClaim, statusNumber } from "../identity/status.ts";
import type { TaskBinding } from "../identity/task.ts";
import { Batch } from "../record/batch.ts";
import { readServiceEpochs, readTaskStates, recordServiceSvids, recordTaskSvids } from "../record/svids.ts";
import type { ServiceSvidRequest, ServiceSvidVerdict, SigningAuthorities, SvidKind, TaskNow, TaskSvidRequest, TaskSvidVerdict } from "../record/svids.ts";
import type { SidecarRef } from "../record/tasks.ts";
import type { Store } from "../record/store.ts";
import type { StatusIndexes } from "./status.ts";
import type { Signers } from "./trust.ts";

/** Who asks, and under what: a task bound to an instance, or a registered service. */
export type Holder =
  | {
      readonly kind: "task"; readonly task: string; readonly agent: string; readonly instance: string;
      /** Who fetches, if it is not the instance: it gets SVIDs of its own, and their rows say so. */
      readonly via?: SidecarRef | null;
      isSame(): boolean;
    }
  | { readonly kind: "service"; readonly service: string; readonly process: string; isSame(): boolean };

export type X509Svid = {
  readonly spiffeId: string;
  readonly hint: string;
  readonly epoch: number;
  /** Leaf and signing CA, DER, concatenated. */
  readonly chain: Buffer;
  /** PKCS#8 DER; in this broker's memory only, and dropped with the SVID. */
  readonly key: Buffer;
  /** On performance.now()'s clock: from then on a new one is issued. Infinity: none would live longer. */
  readonly renewAt: number;
  /** On the same clock: it is dead. */
  readonly diesAt: number;
};

export type JwtSvid = { readonly spiffeId: string; readonly hint: string; readonly token: string };

export type IssuerOptions = {
  readonly store: Store;
  readonly trustDomain: string;
  /** What its JWT-SVIDs say in `iss`. */
  readonly issuer: string;
  /** Given, agents' JWT-SVIDs have a place in a status list, under `issuer`. */
  readonly statusIndexes?: StatusIndexes | undefined;
  readonly signers: () => Signers;
  /** Certificates name their authority's list under it. */
  readonly publicUrl?: string | undefined;
  /** Resolves when a change of the task that is under way has its outcome. */
  readonly whenClear: (task: string) => Promise<void> | undefined;
};

type Held = { readonly svid: X509Svid; readonly instance: string };
type Granted = { readonly verdict: "ok"; readonly epoch: number; readonly issuedAt: Date; readonly expiresAt: Date; readonly untilEnd?: boolean };

/** `by`: what the row names, and so what has to sign, whatever rotates meanwhile: its list is where the SVID's end is told. */
type Recorded<V> = { readonly verdict: V; readonly by: Signers };

const mostPerBatch = 256;
const blockedTries = 100;
const backdateMs = 60_000;
const mostSkewMs = 5000;
const servicePrefix = "service/";

export class Issuer {
  readonly #o: IssuerOptions;
  readonly #tasks: Batch<TaskSvidRequest, Recorded<TaskSvidVerdict>>;
  readonly #services: Batch<ServiceSvidRequest, Recorded<ServiceSvidVerdict>>;
  readonly #taskReads: Batch<string, TaskNow | null>;
  readonly #serviceReads: Batch<string, number>;
  readonly #held = new Map<string, Held>();
  /** Of the tasks that sidecars fetch for: under what else their SVIDs are held. */
  readonly #viaKeys = new Map<string, Set<string>>();
  readonly #flights = new Map<string, Promise<X509Svid>>();
  /** Rows that were committed for this process, to hold its signatures against. */
  readonly recorded: Record<SvidKind, number> = { x509: 0, jwt: 0 };

  constructor(options: IssuerOptions) {
    this.#o = options;
    const { store, signers } = options;
    const recording = <Q, V>(record: (store: Store, requests: readonly Q[], by: SigningAuthorities) => Promise<readonly V[]>): Batch<Q, Recorded<V>> => new Batch({
      send: async (requests: readonly Q[]) => {
        const by = signers();
        const authorities = { x509: { id: by.x509.record.id, notAfter: by.x509.notAfter }, jwt: { id: by.jwt.record.id, notAfter: by.jwt.notAfter } };
        return (await record(store, requests, authorities)).map((verdict) => ({ verdict, by }));
      },
      most: mostPerBatch,
    });
    this.#tasks = recording(recordTaskSvids);
    this.#services = recording(recordServiceSvids);
    this.#taskReads = new Batch({
      send: async (ids) => {
        const states = await readTaskStates(store, [...new Set(ids)]);
        return ids.map((id) => states.get(id) ?? null);
      },
      most: 1024, lanes: 4,
    });
    this.#serviceReads = new Batch({
      send: async (names) => {
        const epochs = await readServiceEpochs(store, [...new Set(names)]);
        return names.map((name) => epochs.get(name) ?? -1);
      },
      most: 1024, lanes: 4,
    });
  }

  /**
   * The instance's current X.509-SVID for its task and epoch, after the row was read; a new one if it
   * has none, or past half of its life.
   * @throws BrevetError DENIED_TASK_ENDED, DENIED_INSTANCE_CHANGED, DATABASE_UNAVAILABLE, CLOCK_SKEW
   */
  async x509(holder: Holder): Promise<X509Svid> {
    const key = keyOf(holder);
    const held = this.#held.get(key);
    if (held && performance.now() < Math.min(held.svid.renewAt, held.svid.diesAt) && (await this.#stillGood(holder, held))) {
      this.#checkCaller(holder);
      return held.svid;
    }
    const flight = this.#flights.get(key);
    if (flight) {
      // it may have been recorded before what this caller already knows of: its SVID is looked at like any other
      await flight;
      return this.x509(holder);
    }
    const started = this.#newX509(holder);
    this.#flights.set(key, started);
    if (holder.kind === "task" && holder.via) this.#viaKeys.set(holder.task, (this.#viaKeys.get(holder.task) ?? new Set()).add(key));
    try {
      const svid = await started;
      // forgotten meanwhile: good for this caller, who asked before, and for nobody after
      if (this.#flights.get(key) === started) this.#hold(key, holder, svid);
      return svid; // 6
    } finally {
      if (this.#flights.get(key) === started) this.#flights.delete(key);
    }
  }

  /** Always a new JWT-SVID. `subject: agent`: the task is then in its claim only. */
  async jwt(holder: Holder, audiences: readonly string[], subject: "task" | "agent" = "task"): Promise<JwtSvid> {
    const { issuer, trustDomain, statusIndexes } = this.#o;
    const jti = newSerial().toString("base64url");
    const place = holder.kind === "task" ? await statusIndexes?.take() : undefined;
    const { granted, by, binding, spiffeId: own } = await this.#record(holder, "jwt", jti, audiences, place && statusNumber(place)); // 1-4
    const spiffeId = holder.kind === "task" && subject === "agent" ? formatAgentId(trustDomain, holder.agent) : own;
    const token = issueJwt({ // 5
      signer: by.jwt, issuer, subject: spiffeId, audience: audiences, jti, issuedAt: granted.issuedAt, expiresAt: granted.expiresAt, binding,
      status: place && encodeStatusClaim(issuer, place),
    });
    return { spiffeId, hint: hintOf(holder), token };
  }

  /** Whether SVIDs with this binding are alive by the database, now: not by what this broker has heard. */
  async isAlive({ task, epoch, instance }: TaskBinding): Promise<boolean> {
    if (task.startsWith(servicePrefix)) return (await this.#serviceReads.add(task.slice(servicePrefix.length))) === epoch;
    const now = await this.#taskReads.add(task);
    return now?.state === "active" && now.epoch === epoch && now.instance === instance;
  }

  /** Drops the SVIDs held for a task (or a service), keys and all. */
  forget(holderKey: string): void {
    for (const key of [holderKey, ...(this.#viaKeys.get(holderKey) ?? [])]) {
      this.#held.delete(key);
      this.#flights.delete(key);
    }
    this.#viaKeys.delete(holderKey);
  }

  get held(): number {
    return this.#held.size;
  }

  /** A task's are forgotten with it; a service has no end, and its processes, like those of sidecars, come and go. */
  #hold(key: string, holder: Holder, svid: X509Svid): void {
    const held = { svid, instance: holder.kind === "task" ? holder.instance : holder.process };
    this.#held.set(key, held);
    if (key === hintOf(holder)) return;
    setTimeout(() => {
      if (this.#held.get(key) !== held) return;
      this.#held.delete(key);
      this.#viaKeys.get(hintOf(holder))?.delete(key);
    }, Math.min(held.svid.renewAt, held.svid.diesAt) - performance.now()).unref();
  }

  async #newX509(holder: Holder): Promise<X509Svid> {
    const serial = newSerial();
    const { granted, by, binding, spiffeId } = await this.#record(holder, "x509", serial.toString("hex"), []); // 1-4
    const issued = issueX509({ // 5
      signer: by.x509, spiffeId, binding, serial, publicUrl: this.#o.publicUrl,
      notBefore: new Date(granted.issuedAt.getTime() - backdateMs), notAfter: granted.expiresAt,
    });
    const life = granted.expiresAt.getTime() - granted.issuedAt.getTime();
    const now = performance.now();
    return {
      spiffeId, hint: hintOf(holder), epoch: granted.epoch, chain: issued.chain, key: issued.key,
      renewAt: granted.untilEnd ? Infinity : now + life * (0.45 + Math.random() * 0.1), diesAt: now + life,
    };
  }

  async #stillGood(holder: Holder, held: Held): Promise<boolean> {
    if (holder.kind === "service") return (await this.#serviceReads.add(holder.service)) === held.svid.epoch;
    const now = await this.#taskReads.add(holder.task);
    return now?.state === "active" && now.instance === holder.instance && held.instance === holder.instance && now.epoch === held.svid.epoch;
  }

  #checkCaller(holder: Holder): void {
    if (holder.isSame()) return;
    throw new BrevetError("DENIED_INSTANCE_CHANGED", "the calling process is not the one that was attested on this connection: connect again");
  }

  async #record(holder: Holder, kind: SvidKind, serial: string, audiences: readonly string[], status?: number): Promise<{ granted: Granted; by: Signers; binding: TaskBinding; spiffeId: string }> {
    this.#checkCaller(holder); // 1, 2
    const { trustDomain } = this.#o;
    if (holder.kind === "service") {
      const { verdict: granted, by } = await this.#services.add({ service: holder.service, by: holder.process, kind, serial, audiences });
      if (granted.verdict !== "ok") throw new BrevetError("DENIED_NO_MATCH", `service ${holder.service}: no longer registered`);
      this.recorded[kind]++;
      this.#checkClock(granted.issuedAt);
      const binding = { task: `service/${holder.service}`, epoch: granted.epoch, instance: "", context: "" };
      return { granted, by, binding, spiffeId: formatServiceId(trustDomain, holder.service) };
    }
    const { verdict: granted, by } = await this.#recordForTask({ task: holder.task, instance: holder.instance, kind, serial, audiences, via: holder.via ?? null, status });
    this.recorded[kind]++;
    this.#checkClock(granted.issuedAt);
    const binding: TaskBinding = {
      task: holder.task, epoch: granted.epoch, instance: holder.instance, context: granted.contextDigest,
      ...(granted.onBehalfOf ? { onBehalfOf: granted.onBehalfOf } : {}),
    };
    return { granted, by, binding, spiffeId: formatAgentTaskId(trustDomain, granted.agent, holder.task) };
  }

  /** Tries again while the row is being changed; what changes it decides first. */
  async #recordForTask(request: TaskSvidRequest): Promise<Recorded<TaskSvidVerdict & { verdict: "ok" }>> {
    const { task } = request;
    for (let tries = 0; tries < blockedTries; tries++) {
      await this.#o.whenClear(task);
      const { verdict, by } = await this.#tasks.add(request); // 3, 4
      if (verdict.verdict === "ok") return { verdict, by };
      if (verdict.verdict === "blocked") {
        await new Promise((resolve) => setTimeout(resolve, Math.min(1 + tries, 20)));
        continue;
      }
      if (verdict.verdict === "too_late") throw new BrevetError("DENIED_TASK_ENDED", "the task ends within this second", { metadata: { task } });
      if (verdict.verdict === "not_bound") throw new BrevetError("DENIED_NO_TASK", "the task is bound to another instance");
      throw new BrevetError("DENIED_TASK_ENDED", `the task is ${verdict.state ?? "gone"}`, { metadata: { task } });
    }
    throw new BrevetError("RATE_LIMITED", "the task is being changed all the time: try again");
  }

  /** All lifetimes are PostgreSQL's; with clocks far apart our callers would misread them. */
  #checkClock(databaseNow: Date): void {
    const skew = Date.now() - databaseNow.getTime();
    if (Math.abs(skew) <= mostSkewMs) return;
    throw new BrevetError("CLOCK_SKEW", `this machine's clock and PostgreSQL's differ by ${Math.round(skew)} ms: nothing is issued above ${mostSkewMs} ms`);
  }
}

/** Under which an SVID is held. */
export function keyOf(holder: Holder): string {
  if (holder.kind === "task") return holder.via ? `${holder.task} via ${holder.via.pid} ${holder.via.startTime}` : holder.task;
  return `service/${holder.service} ${holder.process}`;
}

function hintOf(holder: Holder): string {
  return holder.kind === "task" ? holder.task : holder.service;
}
