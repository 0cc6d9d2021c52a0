// How does a process get its task, and what does it hold now?
// Who may have a task is decided by its agent's selectors, on facts proved now; how it is claimed, by
// the task (claim, ticket, auto). A ticket is spent and a task bound in one transaction, with the
// attestation and the log entry. Bundles, health and reflection never bind anybody.
// SPIFFE Workload Endpoint section 5: nothing of this needs the agent's help where the bind is `auto`.
// The map of bindings is bindings.ts's; SVIDs for what is held, src/issue's.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Caller } from "../attest/caller.ts";
import { isWithin, unitOf } from "../attest/cgroup-dir.ts";
import { bootId, sameFile } from "../attest/proc.ts";
import type { LiveCatalog } from "../authorize/catalog.ts";
import { BrevetError, notFound } from "../errors.ts";
import type { Facts } from "../identity/selectors.ts";
import type { Scope } from "../identity/task.ts";
import { autoTasks, boundTasks, changeInstance, claimTask, taskOfTicket } from "../record/claims.ts";
import { getTask } from "../record/tasks.ts";
import type { ClaimOutcome } from "../record/claims.ts";
import type { SidecarRef, TaskRow } from "../record/tasks.ts";
import type { Store } from "../record/store.ts";
import type { Bindings, Bound, Found } from "./bindings.ts";
import { standing } from "./standing.ts";
import { hashTicket } from "./ticket.ts";

export type ClaimsOptions = {
  readonly store: Store;
  readonly bindings: Bindings;
  readonly catalog: LiveCatalog;
  readonly waitForTaskSeconds: number;
  /** Makes the task reachable at its own endpoint before the claim is answered. */
  readonly openEndpoint: (task: string) => Promise<void>;
};

/** Whose signal is looked at only where something is waited for. */
export type Waiting = { readonly signal: AbortSignal };

/** What a caller may have SVIDs of. */
export type Holding =
  | { readonly kind: "tasks"; readonly found: Found; readonly bound: readonly Bound[] }
  | { readonly kind: "services"; readonly services: readonly string[] };

const pollMs = 500;
const autoCandidates = 8;

export type Claimed = { readonly bound: Bound; readonly row: TaskRow };

type Waiter = {
  readonly pids: Set<number>;
  readonly agents: Set<string>;
  wake: () => void;
  /** The task that it was woken for, where its row is known: no look is needed to find it. */
  offer?: TaskRow | undefined;
};

export class Claims {
  readonly #o: ClaimsOptions;
  /** Held callers, the longest waiting first. */
  readonly #waiters = new Set<Waiter>();
  #poll: NodeJS.Timeout | undefined;

  constructor(options: ClaimsOptions) {
    this.#o = options;
    options.bindings.onBound((instance) => {
      for (const waiter of this.#waiters) if (instance.cgroup || waiter.pids.has(instance.pid)) waiter.wake();
    });
  }

  /** The number of callers that are held until a task comes. */
  get waiting(): number {
    return this.#waiters.size;
  }

  /** A task with bind `auto` was opened (its row, where it was opened here): it is for the one that has waited longest. */
  autoOpened(agent: string, row?: TaskRow): void {
    for (const waiter of this.#waiters) {
      if (!waiter.agents.has(agent) || (row && waiter.offer)) continue;
      if (row) waiter.offer = row;
      waiter.wake();
      return;
    }
  }

  /**
   * Binds the process to the task, whose row was read for this call. The same process again: answered alike.
   * A process that the agent's selectors don't match is told what one is told for a task that is not there.
   * `sidecar`: who claims and will fetch for it; where the scope is `cgroup` it may be the process itself, and then
   * it claims for the unit, container or pod that it lives in. `scope`: what it shall be bound to, where the opener left that open.
   */
  async claim(opened: TaskRow, ticket: string, process: Caller, by: string, call: Waiting, sidecar: Caller | null = null, scope: Scope | null = null): Promise<Claimed> {
    const { catalog } = this.#o;
    const row = { ...opened, scope: scope ?? opened.scope };
    const may = sidecar !== null && catalog.maySpeakFor(row.agent, await this.facts(sidecar, call));
    const facts = await this.facts(process, call);
    if (!catalog.isAgent(row.agent, facts) && !(may && sidecar === process)) throw notFound("task", "task");
    if (sidecar && !may) throw notSidecar(row.agent);
    if (row.scope !== opened.scope && !(opened.scopeLeft && opened.state === "ready")) {
      throw new BrevetError("WRONG_STATE", `scope: the task has scope ${opened.scope}, not ${row.scope}`, { metadata: { task: opened.id, state: opened.state, scope: opened.scope } });
    }
    if (sidecar === process && row.scope !== "cgroup") {
      throw new BrevetError("WRONG_STATE", `pid: a sidecar is never the agent: name the agent's process, or open the task with scope cgroup (this one has ${row.scope})`);
    }
    if (row.bind === "ticket" && ticket === "" && row.state === "ready") {
      throw new BrevetError("DENIED_TICKET", "ticket: this task wants a ticket");
    }
    return this.#bind(row, ticket === "" ? null : hashTicket(ticket), process, facts, by, sidecar);
  }

  /** The task that a ticket is for, where that is all that is known. */
  async ofTicket(ticket: string): Promise<TaskRow> {
    const row = await taskOfTicket(this.#o.store, hashTicket(ticket));
    if (!row) throw new BrevetError("DENIED_TICKET", "ticket: good for no task (wrong, used or too old): ask for a new one, or name the task");
    return row;
  }

  /**
   * For a sidecar: the task that the process (or its unit, container or pod) holds already, or an `auto` task of an
   * agent that the sidecar may speak for; waits for one up to `waitForTask`.
   */
  async claimAny(process: Caller, by: string, call: Waiting, sidecar: Caller): Promise<Claimed> {
    const { catalog, bindings, store } = this.#o;
    const deadline = performance.now() + this.#o.waitForTaskSeconds * 1000;
    const [facts, sidecarFacts] = [await this.facts(process, call), await this.facts(sidecar, call)];
    const agents = sidecar === process ? catalog.agentsBeside(facts) : catalog.matchingAgents(facts).filter((agent) => catalog.maySpeakFor(agent, sidecarFacts));
    if (agents.length === 0) throw new BrevetError("DENIED_NO_MATCH", "the process is of no agent of the catalog that this sidecar may speak for");
    const waiter: Waiter = { pids: new Set([process.pid]), agents: new Set(agents), wake: () => undefined };
    this.#wait(waiter);
    try {
      for (;;) {
        const woken = new Promise<void>((resolve) => (waiter.wake = resolve));
        waiter.offer = undefined;
        await bindings.refresh(process);
        const found = bindings.find(process);
        const held = found?.by === "tree" ? undefined : found?.bound.find(({ agent }) => agents.includes(agent));
        const row = held && (await getTask(store, held.task));
        const claimed = row ? await this.#bind(row, null, process, facts, by, sidecar) : await this.#takeAuto(process, agents, facts, sidecar);
        if (claimed) return claimed;
        const left = deadline - performance.now();
        if (left <= 0) throw new BrevetError("DENIED_NO_TASK", `no task of ${agents.join(", ")} is waiting for pid ${process.pid}`);
        await this.#news(woken, left, call);
      }
    } finally {
      this.#leave(waiter);
    }
  }

  /**
   * What the caller holds: its tasks, or an `auto` task that it gets by this, or the services it is.
   * A caller that is an agent, but has had no task yet, is held up to `waitForTask`.
   * @throws BrevetError DENIED_NO_MATCH, DENIED_NO_TASK, DENIED_TASK_ENDED
   */
  async hold(caller: Caller, endpointTask: string | null, call: Waiting): Promise<Holding> {
    const { catalog, store, waitForTaskSeconds } = this.#o;
    const deadline = performance.now() + waitForTaskSeconds * 1000;
    const waiter: Waiter = { pids: new Set(), agents: new Set(), wake: () => undefined };
    try {
      for (;;) {
        const woken = new Promise<void>((resolve) => (waiter.wake = resolve));
        const { offer } = waiter;
        waiter.offer = undefined;
        if (offer) {
          const facts = await this.facts(caller, call);
          await this.#takeAuto(caller, catalog.matchingAgents(facts), facts, null, Promise.resolve([offer]));
        }
        // whoever was woken without one wants to know both at once
        const candidates = !offer && waiter.agents.size > 0 ? autoTasks(store, [...waiter.agents], autoCandidates) : undefined;
        candidates?.catch(() => undefined);
        const found = await this.#find(caller, endpointTask, call);
        const mine = found?.bound.filter((bound) => endpointTask === null || bound.task === endpointTask) ?? [];
        if (found && mine.length > 0) return { kind: "tasks", found, bound: mine };
        if (endpointTask !== null) throw new BrevetError("DENIED_TASK_ENDED", "this endpoint's task is over, or the caller is not bound to it");

        const facts = await this.facts(caller, call);
        const agents = catalog.matchingAgents(facts);
        if (await this.#takeAuto(caller, agents, facts, null, candidates)) continue;
        const services = catalog.matchingServices(facts);
        if (services.length > 0) return { kind: "services", services };
        if (agents.length === 0) throw new BrevetError("DENIED_NO_MATCH", "no agent or service of the catalog matches this process");
        // who had a task and lost it is not waiting for one
        if (found && (found.by === "itself" || found.instance.hadTree)) {
          throw new BrevetError("DENIED_TASK_ENDED", "the task of this process has ended");
        }
        const left = deadline - performance.now();
        if (left <= 0) throw new BrevetError("DENIED_NO_TASK", `no task of ${agents.join(", ")} is waiting for this process${found ? leftOut(found) : ""}`);
        if (waiter.pids.size === 0) {
          for (const pid of [caller.pid, ...caller.ancestors().map((link) => link.pid)]) waiter.pids.add(pid);
          for (const agent of agents) waiter.agents.add(agent);
          this.#wait(waiter);
          continue; // what came before we listened is looked for once more
        }
        await this.#news(woken, left, call);
      }
    } finally {
      this.#leave(waiter);
    }
  }

  async #news(woken: Promise<void>, leftMs: number, call: Waiting): Promise<void> {
    const giveUp = new AbortController();
    const limits = AbortSignal.any([call.signal, giveUp.signal]);
    await Promise.race([woken, sleep(leftMs, undefined, { signal: limits, ref: false })]).finally(() => giveUp.abort());
    call.signal.throwIfAborted();
  }

  #leave(waiter: Waiter): void {
    this.#waiters.delete(waiter);
    if (this.#waiters.size === 0) clearInterval(this.#poll);
  }

  /** Notices may be lost, and who was woken may have gone away: one look for all that wait, twice a second. */
  #wait(waiter: Waiter): void {
    if (this.#waiters.size === 0) {
      this.#poll = setInterval(() => void this.#lookForAll().catch(() => undefined), pollMs);
      this.#poll.unref();
    }
    this.#waiters.add(waiter);
  }

  async #lookForAll(): Promise<void> {
    const { store, bindings } = this.#o;
    const [some] = this.#waiters;
    if (!some) return;
    const agents = [...new Set([...this.#waiters].flatMap((waiter) => [...waiter.agents]))];
    for (const { agent } of await autoTasks(store, agents, autoCandidates)) this.autoOpened(agent);
    const pids = [...new Set([...this.#waiters].flatMap((waiter) => [...waiter.pids]))];
    for (const row of await boundTasks(store, bootId(), pids)) if (bindings.add(row)) await this.#o.openEndpoint(row.id);
  }

  /** The caller's facts, with the executable's hash where the catalog asks for one. */
  async facts(caller: Caller, call: Waiting): Promise<Facts> {
    if (caller.facts.sha256 === undefined && this.#o.catalog.wantsHash(caller.facts)) await caller.sha256(call.signal);
    return caller.facts;
  }

  /** The nearest bound process, asking the database for what other brokers bound if none is known here. */
  async #find(caller: Caller, task: string | null, call: Waiting): Promise<Found | undefined> {
    const { bindings, catalog } = this.#o;
    let found = bindings.find(caller, task);
    if (!found || found.bound.length === 0) {
      await bindings.refresh(caller);
      found = bindings.find(caller, task);
    }
    if (!found || found.by === "tree") return found;
    // it must still be what the catalog asks for
    await this.facts(caller, call);
    const { by, instance } = found;
    const bound = found.bound.filter((one) => {
      const as = standing(catalog, by, one, caller);
      if (as === "instance" && by === "cgroup") bindings.saw(one, caller);
      return as !== null;
    });
    if (by === "itself" && bound.length > 0 && !sameFile(instance.executable, caller.executable)) {
      await changeInstance(this.#o.store, instance.id, caller, randomUUID());
      instance.executable = caller.executable;
    }
    return { ...found, bound };
  }

  async #takeAuto(
    caller: Caller, agents: readonly string[], facts: Facts, sidecar: Caller | null = null, candidates?: Promise<readonly TaskRow[]>,
  ): Promise<Claimed | undefined> {
    if (agents.length === 0) return undefined;
    for (const row of await (candidates ?? autoTasks(this.#o.store, agents, autoCandidates))) {
      if (!agents.includes(row.agent)) continue; // the catalog has changed since
      if (sidecar === caller && row.scope !== "cgroup") continue;
      try {
        return await this.#bind(row, null, caller, facts, `uid ${(sidecar ?? caller).uid}`, sidecar);
      } catch (error) {
        // another caller was first, the task just ended, or its scope asks for a unit: the next one may be free
        if (error instanceof BrevetError && ["DENIED_TASK_TAKEN", "WRONG_STATE", "NOT_FOUND", "DENIED_TOO_MANY_TASKS", "DENIED_UNATTESTED"].includes(error.code)) continue;
        throw error;
      }
    }
    return undefined;
  }

  async #bind(row: TaskRow, ticketHash: Buffer | null, process: Caller, facts: Facts, by: string, sidecar: Caller | null = null): Promise<Claimed> {
    const { store, bindings, catalog } = this.#o;
    const cgroup = row.scope === "cgroup" ? unitOf(process.cgroups()) : null;
    // attested on a connection that another process may have taken over: it must not burn a task
    if (!process.isSame()) throw new BrevetError("DENIED_INSTANCE_CHANGED", "the calling process is not the one that was attested on this connection: connect again");
    if (cgroup === undefined) throw new BrevetError("DENIED_UNATTESTED", `scope cgroup: pid ${process.pid} is in no systemd unit, container or pod (cgroup v2) that this broker can see`);
    const outcome = await claimTask(store, {
      task: row.id, scope: row.scope, ticketHash, attempt: randomUUID(), by, facts, sidecar: sidecar && sidecarOf(sidecar),
      mostTasks: catalog.agent(row.agent)?.definition.tasksPerInstance ?? 1,
      instance: {
        id: randomUUID(), bootId: process.bootId, pid: process.pid, startTime: process.startTime,
        exeDev: process.executable.dev, exeIno: process.executable.ino, uid: process.uid, gid: process.gid, path: facts.path ?? "", cgroup,
      },
    });
    if (!("row" in outcome)) throw refusal(row.id, outcome);
    const bound = bindings.add(outcome.row);
    if (!bound || !process.isSame() || (cgroup && !isWithin(process.cgroups(), cgroup))) {
      throw new BrevetError("DENIED_INSTANCE_CHANGED", "the process exited or changed while it was being bound; its task ends with it");
    }
    await this.#o.openEndpoint(row.id);
    return { bound, row: outcome.row };
  }
}

/** A child of a bound process, where the task is its parent's alone: the commonest surprise of a shell. */
function leftOut({ instance, by }: Found): string {
  const [held] = instance.bound;
  if (by !== "tree" || !held) return "";
  return `; pid ${instance.pid}, above it, holds task ${held.task}, whose scope ${held.scope} leaves out its children: open the task with scope tree`;
}

export function sidecarOf({ pid, startTime, executable, uid, gid, facts }: Caller): SidecarRef {
  return { pid, startTime, exeDev: executable.dev, exeIno: executable.ino, uid, gid, path: facts.path ?? "" };
}

function notSidecar(agent: string): BrevetError {
  return new BrevetError("DENIED_ROLE", `sidecar: this process may not speak for agent ${agent}`, {
    metadata: { try: `name it under the agent's sidecars in the catalog, or run it as root` },
  });
}

function refusal(task: string, outcome: Exclude<ClaimOutcome, { row: TaskRow }>): BrevetError {
  const metadata = { task };
  switch (outcome.verdict) {
    case "gone":
      return notFound("task", "task");
    case "taken":
      return new BrevetError("DENIED_TASK_TAKEN", "the task is bound to another process", { metadata });
    case "ticket":
      return new BrevetError("DENIED_TICKET", "ticket: not good for this task (wrong, used or too old): ask for a new one", { metadata });
    case "too_many":
      return new BrevetError("DENIED_TOO_MANY_TASKS", "this process holds as many tasks as its agent's tasksPerInstance allows", { metadata });
    default:
      return new BrevetError("WRONG_STATE", `the task is ${outcome.state ?? "over"}`, { metadata: { ...metadata, state: outcome.state ?? "" } });
  }
}

