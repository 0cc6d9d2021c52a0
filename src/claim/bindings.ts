// Which task is a process's own?
// Always true: a binding names one process by a pidfd of our own, so another that gets its PID gets
// nothing; the nearest bound process decides, the caller itself first, and bindings never add up.
// When a bound process exits, its tasks end, however long the database stays away. The rows in the
// database are the truth, and are judged again under lock at each issue; this is the map of them.
// How a binding comes about is claim.ts's business; ending a task, src/revoke's.
import type { Caller } from "../attest/caller.ts";
import { reopenInstance } from "../attest/instance.ts";
import type { Scope } from "../identity/task.ts";
import { closeFd, pidfdExited } from "../kernel.ts";
import type { ExitWatch } from "../kernel.ts";
import { boundTasks } from "../record/tasks.ts";
import type { TaskRow } from "../record/tasks.ts";
import type { Store } from "../record/store.ts";

/** A live task and the process it is bound to. */
export type Bound = {
  readonly task: string;
  readonly agent: string;
  readonly scope: Scope;
  readonly onExit: "abort" | "close";
  readonly expiresAt: Date;
  readonly instance: Instance;
  /** As far as this broker has heard. */
  epoch: number;
  /** The process that will say how the instance ended, if one promised to. */
  supervisor: Supervisor | null;
};

/** A process, as the kernel tells it apart from all others of this boot. */
export type Supervisor = { readonly pid: number; readonly startTime: string };

export type Instance = {
  readonly id: string;
  readonly pid: number;
  readonly startTime: string;
  readonly pidfd: number;
  /** Oldest claim first; empty when all have ended. */
  readonly bound: Bound[];
  /** It has had a task with scope `tree`. */
  hadTree: boolean;
};

export type Found = {
  readonly instance: Instance;
  /** The caller is the bound process itself, not one below it. */
  readonly own: boolean;
  readonly bound: readonly Bound[];
  /** Whether the caller is still the process that it was and still belongs to the instance. */
  isSame(): boolean;
};

export type BindingsOptions = {
  readonly store: Store;
  readonly bootId: string;
  readonly exits: ExitWatch;
  /** Ends the tasks of a process that has exited. Called once per task, and must not give up. */
  readonly onExit: (bound: Bound) => void;
};

export class Bindings {
  readonly #o: BindingsOptions;
  readonly #byPid = new Map<number, Instance>();
  readonly #byTask = new Map<string, Bound>();
  readonly #watchers = new Map<string, Set<(task: string) => void>>();
  readonly #newcomers = new Set<(instance: Instance) => void>();

  constructor(options: BindingsOptions) {
    this.#o = options;
  }

  get size(): number {
    return this.#byTask.size;
  }

  get(task: string): Bound | undefined {
    return this.#byTask.get(task);
  }

  /** Tasks that this very process is bound to. */
  ofPid(pid: number): string[] {
    return this.#byPid.get(pid)?.bound.map((bound) => bound.task) ?? [];
  }

  all(): Bound[] {
    return [...this.#byTask.values()];
  }

  /** Takes in an active task's row. Undefined if its process is gone: then its end has been ordered. */
  add(row: TaskRow): Bound | undefined {
    const known = this.#byTask.get(row.id);
    if (known) return known;
    if (row.state !== "active" || !row.instance) return undefined;
    let instance = this.#byPid.get(row.instance.pid);
    if (instance?.id !== row.instance.id) {
      const pidfd = reopenInstance(row.instance);
      if (pidfd === undefined) {
        const gone: Instance = { id: row.instance.id, pid: row.instance.pid, startTime: row.instance.startTime, pidfd: -1, bound: [], hadTree: false };
        this.#o.onExit(toBound(row, gone));
        return undefined;
      }
      if (instance) this.#drop(instance);
      instance = { id: row.instance.id, pid: row.instance.pid, startTime: row.instance.startTime, pidfd, bound: [], hadTree: false };
      this.#byPid.set(instance.pid, instance);
      const added = instance;
      this.#o.exits.add(pidfd, () => this.#exited(added));
    }
    const bound = toBound(row, instance);
    instance.bound.push(bound);
    if (bound.scope === "tree") instance.hadTree = true;
    this.#byTask.set(bound.task, bound);
    this.#notify(bound);
    for (const newcomer of this.#newcomers) newcomer(instance);
    return bound;
  }

  /** The task is over: its process holds it no more. */
  ended(task: string): Bound | undefined {
    const bound = this.#byTask.get(task);
    if (!bound) return undefined;
    this.#byTask.delete(task);
    bound.instance.bound.splice(bound.instance.bound.indexOf(bound), 1);
    this.#notify(bound);
    return bound;
  }

  /** The task has a new epoch: whoever streams for its instance looks again. */
  changed(task: string, epoch: number): void {
    const bound = this.#byTask.get(task);
    if (!bound) return;
    bound.epoch = Math.max(bound.epoch, epoch);
    this.#notify(bound);
  }

  /** Calls back after each change of what the instance holds, with the task that changed. */
  watch(instance: Instance, callback: (task: string) => void): () => void {
    let set = this.#watchers.get(instance.id);
    if (!set) this.#watchers.set(instance.id, (set = new Set()));
    set.add(callback);
    return () => {
      set.delete(callback);
      if (set.size === 0) this.#watchers.delete(instance.id);
    };
  }

  /** Calls back when a process gets a task. */
  onBound(callback: (instance: Instance) => void): () => void {
    this.#newcomers.add(callback);
    return () => this.#newcomers.delete(callback);
  }

  /** The nearest bound process, the caller itself first; also one whose tasks have all ended. */
  find(caller: Caller): Found | undefined {
    const own = this.#byPid.get(caller.pid);
    if (own?.startTime === caller.startTime) {
      return { instance: own, own: true, bound: own.bound, isSame: () => caller.isSame() && !pidfdExited(own.pidfd) };
    }
    if (this.#byPid.size === 0) return undefined;
    const above = this.#nearestAbove(caller);
    if (!above) return undefined;
    const bound = above.bound.filter((b) => b.scope === "tree");
    return { instance: above, own: false, bound, isSame: () => caller.isSame() && this.#nearestAbove(caller) === above };
  }

  /** The chain is read again after the bound process was found alive: only then it led there all the time. */
  #nearestAbove(caller: Caller): Instance | undefined {
    const lookUp = (): Instance | undefined => {
      for (const link of caller.ancestors()) {
        const instance = this.#byPid.get(link.pid);
        if (instance?.startTime === link.startTime) return instance;
      }
      return undefined;
    };
    const first = lookUp();
    if (!first || pidfdExited(first.pidfd)) return undefined;
    return lookUp() === first ? first : undefined;
  }

  /** Takes in what other brokers bound on this machine, for a caller and its ancestors. */
  async refresh(caller: Caller): Promise<void> {
    const pids = [caller.pid, ...caller.ancestors().map((link) => link.pid)];
    for (const row of await boundTasks(this.#o.store, this.#o.bootId, pids)) this.add(row);
  }

  close(): void {
    for (const instance of [...this.#byPid.values()]) this.#drop(instance);
  }

  #exited(instance: Instance): void {
    const bound = [...instance.bound];
    if (this.#byPid.get(instance.pid) === instance) this.#byPid.delete(instance.pid);
    for (const b of bound) this.#o.onExit(b);
    closeFd(instance.pidfd);
  }

  #drop(instance: Instance): void {
    this.#o.exits.remove(instance.pidfd);
    this.#byPid.delete(instance.pid);
    closeFd(instance.pidfd);
  }

  #notify({ instance, task }: Bound): void {
    for (const callback of [...(this.#watchers.get(instance.id) ?? [])]) callback(task);
  }
}

function toBound(row: TaskRow, instance: Instance): Bound {
  return { task: row.id, agent: row.agent, scope: row.scope, onExit: row.onExit, expiresAt: row.expiresAt, instance, epoch: row.epoch, supervisor: null };
}
