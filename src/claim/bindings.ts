// Which task is a process's own?
// Always true: a binding names one process by a pidfd of our own, or one cgroup by the kernel's ID of it, so
// another that gets its PID or its path gets nothing; the nearest bound process decides, the caller itself first,
// then who claimed for one, its ancestors, and its cgroup; bindings never add up. When a bound process exits, or
// nothing of the agent is left in a bound cgroup, its tasks end, however long the database stays away. The rows in
// the database are the truth, and are judged again under lock at each issue; this is the map of them.
// How a binding comes about is claim.ts's business; who is left in a cgroup, members.ts's; ending, src/revoke's.
import type { Caller } from "../attest/caller.ts";
import { isThere, isWithin, unitOf } from "../attest/cgroup-dir.ts";
import { reopenInstance } from "../attest/instance.ts";
import type { FileRef } from "../attest/proc.ts";
import type { Scope } from "../identity/task.ts";
import { closeFd, pidfdExited } from "../kernel.ts";
import type { ExitWatch } from "../kernel.ts";
import { boundTasks, recordFirst } from "../record/claims.ts";
import type { CgroupRef, InstanceRow, SidecarRef, TaskRow } from "../record/tasks.ts";
import type { Store } from "../record/store.ts";
import { MemberWatch } from "./members.ts";

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
  /** Processes that claimed for the instance and may fetch for it, if the catalog lets them. */
  sidecars: readonly SidecarRef[];
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
  /** What it executed when it was last attested. */
  executable: FileRef;
  /** Oldest claim first; empty when all have ended. */
  readonly bound: Bound[];
  /** It has had a task with scope `tree`. */
  hadTree: boolean;
  /** Not null: the instance is all of this cgroup, and the process above was its first. */
  readonly cgroup: CgroupRef | null;
};

export type Found = {
  readonly instance: Instance;
  /** How the caller comes to it: it is the bound process, claimed for it, descends from it, or is in its cgroup. */
  readonly by: "itself" | "claim" | "tree" | "cgroup";
  readonly bound: readonly Bound[];
  /** Whether the caller is still the process that it was and still belongs to the instance. */
  isSame(): boolean;
};

export type BindingsOptions = {
  readonly store: Store;
  readonly bootId: string;
  readonly exits: ExitWatch;
  /** Ends the tasks of an instance that is gone. Called once per task, and must not give up. */
  readonly onExit: (bound: Bound) => void;
  /** Whether the process is what the agent's selectors ask for. */
  readonly isAgent: (agent: string, process: Caller) => Promise<boolean>;
  /** Attests a process by its PID; throws if it is gone. */
  readonly attest: (pid: number) => Caller;
};

const mostRemembered = 1000;

export class Bindings {
  readonly #o: BindingsOptions;
  readonly #byPid = new Map<number, Instance>();
  /** Tasks that a process of this PID claimed for another. */
  readonly #claimers = new Map<number, Set<Bound>>();
  /** By the cgroup's ID. */
  readonly #byCgroup = new Map<string, Instance>();
  readonly #byTask = new Map<string, Bound>();
  /** Of tasks that are over, the newest last: their supervisors may not have spoken yet. */
  readonly #supervised = new Map<string, Bound>();
  readonly #members: MemberWatch;
  readonly #watchers = new Map<string, Set<(task: string) => void>>();
  readonly #newcomers = new Set<(instance: Instance) => void>();

  constructor(options: BindingsOptions) {
    this.#o = options;
    const isSidecar = (cgroup: CgroupRef, process: Caller): boolean =>
      this.#byCgroup.get(cgroup.id)?.bound.some((bound) => claimedFor(bound, process)) === true;
    this.#members = new MemberWatch({
      ...options,
      isMember: async (cgroup, agent, process) => !isSidecar(cgroup, process) && (await options.isAgent(agent, process)),
    });
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
    if (known) {
      this.#setSidecars(known, row.sidecars);
      return known;
    }
    if (row.state !== "active" || !row.instance) return undefined;
    const instance = row.instance.cgroup ? this.#cgroupOf(row.instance, row.instance.cgroup) : this.#processOf(row.instance);
    if (!instance) {
      this.#o.onExit(toBound(row, toInstance(row.instance, -1)));
      return undefined;
    }
    const bound = toBound(row, instance);
    instance.bound.push(bound);
    if (bound.scope === "tree") instance.hadTree = true;
    this.#byTask.set(bound.task, bound);
    this.#setSidecars(bound, row.sidecars);
    if (instance.cgroup) this.#watchMembers(instance, instance.cgroup, bound);
    this.#notify(bound);
    for (const newcomer of this.#newcomers) newcomer(instance);
    return bound;
  }

  #setSidecars(bound: Bound, sidecars: readonly SidecarRef[]): void {
    for (const { pid } of bound.sidecars) {
      const claimed = this.#claimers.get(pid);
      claimed?.delete(bound);
      if (claimed?.size === 0) this.#claimers.delete(pid);
    }
    bound.sidecars = sidecars;
    for (const { pid } of sidecars) this.#claimers.set(pid, (this.#claimers.get(pid) ?? new Set()).add(bound));
  }

  /** Undefined if the process is gone. */
  #processOf(row: InstanceRow): Instance | undefined {
    const known = this.#byPid.get(row.pid);
    if (known?.id === row.id) {
      known.executable = { dev: row.exeDev, ino: row.exeIno };
      return known;
    }
    const pidfd = reopenInstance(row);
    if (pidfd === undefined) return undefined;
    if (known) this.#drop(known);
    const instance = toInstance(row, pidfd);
    this.#byPid.set(instance.pid, instance);
    this.#o.exits.add(pidfd, () => this.#exited(instance));
    return instance;
  }

  /** Undefined if the cgroup is gone. */
  #cgroupOf(row: InstanceRow, cgroup: CgroupRef): Instance | undefined {
    const known = this.#byCgroup.get(cgroup.id);
    if (known) return known;
    if (!isThere(cgroup)) return undefined;
    const instance = toInstance(row, -1);
    this.#byCgroup.set(cgroup.id, instance);
    return instance;
  }

  /** One watch for each agent that has a task there: the tasks of one may be over while another's go on. */
  #watchMembers(instance: Instance, cgroup: CgroupRef, bound: Bound): void {
    // a sidecar may come first; whoever else claimed was one of the agent
    const hadMember = !bound.sidecars.some(({ pid, startTime }) => pid === instance.pid && startTime === instance.startTime);
    this.#members.watch(cgroup, bound.agent, hadMember, {
      // so that a broker that starts later knows that it does not wait for the agent any more; if that fails, it waits
      onFirst: (process) => void recordFirst(this.#o.store, instance.id, process).catch(() => undefined),
      onNone: () => {
        for (const over of instance.bound.filter(({ agent }) => agent === bound.agent)) this.#o.onExit(over);
      },
    });
  }

  /** The task is over: its process holds it no more. */
  ended(task: string): Bound | undefined {
    const bound = this.#byTask.get(task);
    if (!bound) return undefined;
    this.#byTask.delete(task);
    const { instance } = bound;
    this.#setSidecars(bound, []);
    if (bound.supervisor) this.#remember(bound);
    instance.bound.splice(instance.bound.indexOf(bound), 1);
    if (instance.cgroup) {
      if (!instance.bound.some(({ agent }) => agent === bound.agent)) this.#members.unwatch(instance.cgroup, bound.agent);
      if (instance.bound.length === 0) this.#byCgroup.delete(instance.cgroup.id);
    }
    this.#notify(bound);
    return bound;
  }

  /** Who will say how it ended; it may have ended already. */
  supervise(bound: Bound, supervisor: Supervisor): void {
    bound.supervisor = supervisor;
    if (this.#byTask.get(bound.task) !== bound) this.#remember(bound);
  }

  /** Whether this very process is the supervisor of a live task, or of one of the last that ended. */
  isSupervised(task: string, process: Supervisor): boolean {
    return isSupervisor((this.#byTask.get(task) ?? this.#supervised.get(task))?.supervisor, process);
  }

  /** Agents of the tasks that it supervises. */
  supervisedAgents(process: Supervisor): string[] {
    return [...this.#byTask.values(), ...this.#supervised.values()].filter(({ supervisor }) => isSupervisor(supervisor, process)).map(({ agent }) => agent);
  }

  #remember(bound: Bound): void {
    this.#supervised.set(bound.task, bound);
    const [oldest] = this.#supervised.keys();
    if (this.#supervised.size > mostRemembered && oldest !== undefined) this.#supervised.delete(oldest);
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

  /** The nearest bound process, the caller itself first; also one whose tasks have all ended. `task`: the only one asked about. */
  find(caller: Caller, task: string | null = null): Found | undefined {
    const own = this.#byPid.get(caller.pid);
    if (own?.startTime === caller.startTime) {
      return { instance: own, by: "itself", bound: own.bound, isSame: () => caller.isSame() };
    }
    return this.#claimedBy(caller, task) ?? this.#treeOf(caller) ?? this.#unitOf(caller);
  }

  /** Whom it claimed for, the newest claim's instance if there are several. */
  #claimedBy(caller: Caller, task: string | null): Found | undefined {
    const claimed = [...(this.#claimers.get(caller.pid) ?? [])].filter((bound) => (task === null || bound.task === task) && claimedFor(bound, caller));
    const instance = claimed.at(-1)?.instance;
    if (!instance) return undefined;
    const lives = (): boolean => (instance.cgroup ? isThere(instance.cgroup) : !pidfdExited(instance.pidfd));
    return { instance, by: "claim", bound: instance.bound.filter((bound) => claimedFor(bound, caller)), isSame: () => caller.isSame() && lives() };
  }

  #treeOf(caller: Caller): Found | undefined {
    if (this.#byPid.size === 0) return undefined;
    const above = this.#nearestAbove(caller);
    if (!above) return undefined;
    const bound = above.bound.filter((b) => b.scope === "tree");
    return { instance: above, by: "tree", bound, isSame: () => caller.isSame() && this.#nearestAbove(caller) === above };
  }

  #unitOf(caller: Caller): Found | undefined {
    if (this.#byCgroup.size === 0) return undefined;
    const unit = unitOf(caller.cgroups());
    const instance = unit && this.#byCgroup.get(unit.id);
    if (!instance) return undefined;
    return { instance, by: "cgroup", bound: instance.bound, isSame: () => caller.isSame() && isWithin(caller.cgroups(), unit) };
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

  /** A process of the agent, in the cgroup that is its instance, was at work. */
  saw({ instance, agent }: Bound, process: Caller): void {
    if (instance.cgroup) this.#members.saw(instance.cgroup, agent, process);
  }

  /** Takes in what other brokers bound on this machine, for a caller and its ancestors. */
  async refresh(caller: Caller): Promise<void> {
    const pids = [caller.pid, ...caller.ancestors().map((link) => link.pid)];
    const unit = unitOf(caller.cgroups());
    for (const row of await boundTasks(this.#o.store, this.#o.bootId, pids, unit ? [unit.id] : [])) this.add(row);
  }

  close(): void {
    this.#members.close();
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

function toInstance(row: InstanceRow, pidfd: number): Instance {
  return { id: row.id, pid: row.pid, startTime: row.startTime, pidfd, executable: { dev: row.exeDev, ino: row.exeIno }, bound: [], hadTree: false, cgroup: row.cgroup ?? null };
}

function isSupervisor(known: Supervisor | null | undefined, { pid, startTime }: Supervisor): boolean {
  return known?.pid === pid && known.startTime === startTime;
}

/** The very process, by all that the kernel tells it apart by. */
export function claimedFor(bound: Bound, { pid, startTime, executable, uid }: Caller): boolean {
  return bound.sidecars.some((sidecar) => sidecar.pid === pid && sidecar.startTime === startTime
    && sidecar.exeDev === executable.dev && sidecar.exeIno === executable.ino && sidecar.uid === uid);
}

function toBound(row: TaskRow, instance: Instance): Bound {
  return { sidecars: [], task: row.id, agent: row.agent, scope: row.scope, onExit: row.onExit, expiresAt: row.expiresAt, instance, epoch: row.epoch, supervisor: null };
}
