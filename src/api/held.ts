// What does a caller hold, now and for as long as it listens?
// One place for all that hand X.509-SVIDs over (the Workload API, Envoy's SDS): the first delivery as
// soon as there is one, later ones when something changed, new ones at half-life. An SVID whose task is
// over leaves in the same turn in which its end was committed; when none is left, the run ends.
// Who holds what is src/claim's business, what is issued src/issue's; messages are the services'.
import type { Caller } from "../attest/caller.ts";
import type { LiveCatalog } from "../authorize/catalog.ts";
import type { Bindings, Bound } from "../claim/bindings.ts";
import { sidecarOf } from "../claim/claim.ts";
import type { Holding } from "../claim/claim.ts";
import { standing } from "../claim/standing.ts";
import { BrevetError } from "../errors.ts";
import { parseBrevetId } from "../identity/id.ts";
import type { Holder, Issuer, X509Svid } from "../issue/issue.ts";
import type { Call } from "./call.ts";

export type HeldParts = {
  readonly bindings: Bindings;
  readonly catalog: LiveCatalog;
  readonly issuer: Issuer;
  /** Calls back when SVIDs of services were revoked, or the catalog changed. */
  readonly onServicesChanged: (callback: () => void) => () => void;
  /** Told of each SVID that a run loses, by its task or service. */
  readonly onLost: (subject: string) => void;
};

const paceMs = 100;
const retryMs = 1000;

export function isOf(spiffeId: string, holder: Holder, trustDomain: string): boolean {
  const id = parseBrevetId(spiffeId);
  if (id.trustDomain !== trustDomain) return false;
  if (holder.kind === "task") return id.kind === "agent" && id.agent === holder.agent && (id.task ?? holder.task) === holder.task;
  return id.kind === "service" && id.service === holder.service;
}

export function holdersOf(parts: HeldParts, call: Call, holding: Holding): Holder[] {
  const { caller } = call.connection;
  if (holding.kind === "tasks") {
    return boundNow(parts, call, holding).map((bound) => holderOf(parts, caller, holding, bound));
  }
  const process = `uid ${caller.uid} pid ${caller.pid} start ${caller.startTime}`;
  const still = new Set(parts.catalog.matchingServices(caller.facts));
  return holding.services.filter((service) => still.has(service))
    .map((service) => ({ kind: "service", service, process, isSame: () => caller.isSame() }));
}

function holderOf(parts: HeldParts, caller: Caller, holding: Holding & { kind: "tasks" }, bound: Bound): Holder {
  const via = standing(parts.catalog, holding.found.by, bound, caller) === "sidecar" ? sidecarOf(caller) : null;
  return { kind: "task", task: bound.task, agent: bound.agent, instance: bound.instance.id, via, isSame: () => holding.found.isSame() };
}

/** What the instance holds now of what this caller may see: tasks come and go, and the catalog changes, while a stream is open. */
function boundNow({ catalog }: HeldParts, { connection: { caller, endpointTask } }: Call, holding: Holding & { kind: "tasks" }): Bound[] {
  const { instance, by } = holding.found;
  return instance.bound.filter((bound) => (endpointTask === null || bound.task === endpointTask)
    && standing(catalog, by, bound, caller) !== null);
}

/** Hands over everything that the caller holds, and again whenever that changes, until the call or the last task ends. */
export class HeldX509 {
  readonly #parts: HeldParts;
  readonly #call: Call;
  readonly #holding: Holding;
  readonly #deliver: (svids: readonly X509Svid[]) => void;
  #sent: X509Svid[] = [];
  #sentAt = -Infinity;
  #forced = false;
  #over = false;
  #dirty = false;
  #timer: NodeJS.Timeout | undefined;
  #resume: () => void = () => undefined;
  #fail: (error: unknown) => void = () => undefined;

  /** What `deliver` throws ends the run. */
  constructor(parts: HeldParts, call: Call, holding: Holding, deliver: (svids: readonly X509Svid[]) => void) {
    this.#parts = parts;
    this.#call = call;
    this.#holding = holding;
    this.#deliver = deliver;
  }

  async run(): Promise<void> {
    const { bindings, onServicesChanged } = this.#parts;
    const holding = this.#holding;
    const off = [
      ...(holding.kind === "tasks" ? [bindings.watch(holding.found.instance, (task) => this.#changed(task))] : []),
      onServicesChanged(() => (holding.kind === "tasks" ? this.#dropLost() : this.#wake())),
    ];
    try {
      await new Promise<void>((resolve, reject) => {
        this.#fail = reject;
        let gone = false;
        off.push(this.#call.onGone((why) => {
          gone = true;
          this.#fail(why);
        }));
        if (!gone) this.#keepFresh().then(resolve, reject);
      });
    } finally {
      this.#over = true;
      clearTimeout(this.#timer);
      for (const stop of off) stop();
    }
  }

  /** What goes with the SVIDs has changed: they are handed over again. */
  again(): void {
    this.#forced = true;
    this.#wake();
  }

  async #keepFresh(): Promise<void> {
    while (!this.#over) {
      this.#dirty = false;
      const restMs = await this.#refresh();
      await this.#rest(restMs);
      const early = this.#sentAt + paceMs - performance.now();
      if (early > 0) await this.#rest(early, false);
    }
  }

  /** Until the time is over or, if `wakeable`, something changed. Never resumes once the stream is over. */
  #rest(ms: number, wakeable = true): Promise<void> {
    return new Promise((resolve) => {
      if (this.#over) return;
      if (wakeable && this.#dirty) {
        resolve();
        return;
      }
      clearTimeout(this.#timer);
      this.#timer = setTimeout(resolve, Math.min(ms, 2_147_000_000));
      this.#timer.unref();
      this.#resume = wakeable ? resolve : () => undefined;
    });
  }

  #wake(): void {
    this.#dirty = true;
    this.#resume();
  }

  /** Sends what changed; answers how long it may rest, in milliseconds. */
  async #refresh(): Promise<number> {
    const holders = holdersOf(this.#parts, this.#call, this.#holding);
    const fetched = await Promise.allSettled(holders.map((holder) => this.#parts.issuer.x509(holder)));
    const svids: X509Svid[] = [];
    let failure: unknown;
    fetched.forEach((result, i) => {
      const before = this.#sent.find((svid) => svid.hint === hintOf(holders[i]));
      if (result.status === "fulfilled") svids.push(result.value);
      else if (!isDenial(result.reason)) {
        failure = result.reason;
        if (before && holders[i]) svids.push(before);
      }
    });
    // some tasks may have ended while the SVIDs were being made
    if (this.#over) return 0;
    const good = this.#held(svids);
    // a first message without one of them would be taken for all there is
    if (good.length === 0 || (failure && this.#sent.length === 0)) throw failure ?? denial(fetched) ?? ended();
    if (this.#forced || good.length !== this.#sent.length || good.some((svid, i) => svid !== this.#sent[i])) this.#send(good);
    if (failure) return retryMs;
    return Math.max(1, Math.min(...good.map((svid) => svid.renewAt)) - performance.now());
  }

  #lookAgain(): void {
    if (this.#dropLost()) this.#wake();
  }

  /** A task's own endpoint has nothing to do with the others of its process. */
  #changed(task: string): void {
    const { endpointTask } = this.#call.connection;
    if (endpointTask === null || endpointTask === task) this.#lookAgain();
  }

  /** In the same turn as the change: what is no longer held leaves the stream at once. False if that was all. */
  #dropLost(): boolean {
    const left = this.#held(this.#sent);
    for (const svid of this.#sent) if (!left.includes(svid)) this.#parts.onLost(svid.hint);
    if (this.#sent.length > 0 && left.length === 0) {
      this.#sent = []; // lost once
      this.#fail(ended());
      return false;
    }
    if (left.length < this.#sent.length) this.#send(left);
    return true;
  }

  /** Those of them that it may still have. */
  #held(svids: X509Svid[]): X509Svid[] {
    if (this.#holding.kind === "services" || svids.length === 0) return svids;
    const tasks = new Set(boundNow(this.#parts, this.#call, this.#holding).map((bound) => bound.task));
    return svids.filter((svid) => tasks.has(svid.hint));
  }

  #send(svids: X509Svid[]): void {
    this.#sent = svids;
    this.#sentAt = performance.now();
    this.#forced = false;
    try {
      this.#deliver(svids);
    } catch (error) {
      this.#fail(error); // whoever does not read is not written to for ever
    }
  }
}

function hintOf(holder: Holder | undefined): string {
  return holder?.kind === "task" ? holder.task : (holder?.service ?? "");
}

function isDenial(error: unknown): boolean {
  return error instanceof BrevetError && error.code.startsWith("DENIED_");
}

function denial(results: readonly PromiseSettledResult<X509Svid>[]): unknown {
  return results.find((result) => result.status === "rejected")?.reason;
}

function ended(): BrevetError {
  return new BrevetError("DENIED_TASK_ENDED", "the caller holds no task any more");
}
