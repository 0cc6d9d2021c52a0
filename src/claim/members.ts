// Is anybody of an agent left in a cgroup?
// Always true: the agent is held to be there while one process of it that was found in the cgroup lives, by a pidfd;
// when that one exits, all that are in the cgroup then are looked at, children born meanwhile too, before it is said
// that none is left. Processes that the selectors don't match (a sidecar, a helper) keep nothing alive. A cgroup that
// a sidecar claimed before its agent was there waits for the first one, and ends with the cgroup.
// Reading the cgroup is src/attest/cgroup-dir.ts's business; what becomes of the tasks, bindings.ts's.
import { setTimeout as sleep } from "node:timers/promises";
import type { Caller } from "../attest/caller.ts";
import { isThere, membersOf } from "../attest/cgroup-dir.ts";
import { BrevetError } from "../errors.ts";
import type { ExitWatch } from "../kernel.ts";
import type { CgroupRef } from "../record/tasks.ts";

export type MembersOptions = {
  readonly exits: ExitWatch;
  /** Whether the process is of the agent, and no sidecar of it. */
  readonly isMember: (cgroup: CgroupRef, agent: string, process: Caller) => Promise<boolean>;
  readonly attest: (pid: number) => Caller;
};

type Watched = { member: Caller | undefined; hadMember: boolean; readonly stop: AbortController; readonly onFirst: (process: Caller) => void; readonly onNone: () => void };

const lookAgainMs = 250;
const mostRounds = 64;

export class MemberWatch {
  readonly #o: MembersOptions;
  readonly #watched = new Map<string, Watched>();

  constructor(options: MembersOptions) {
    this.#o = options;
  }

  /** `onNone` is called once, when the agent has gone (`hadMember`: it has been there already), or the cgroup has; `onFirst`, when it comes. */
  watch(cgroup: CgroupRef, agent: string, hadMember: boolean, on: Pick<Watched, "onFirst" | "onNone">): void {
    const key = `${cgroup.id} ${agent}`;
    const known = this.#watched.get(key);
    if (known) {
      known.hadMember ||= hadMember;
      return;
    }
    const watched: Watched = { member: undefined, hadMember, stop: new AbortController(), ...on };
    this.#watched.set(key, watched);
    void this.#look(key, cgroup, agent, watched);
  }

  /** It was there, whether or not it still is when the cgroup is looked at. */
  saw(cgroup: CgroupRef, agent: string, process: Caller): void {
    const watched = this.#watched.get(`${cgroup.id} ${agent}`);
    if (!watched || watched.hadMember) return;
    watched.hadMember = true;
    watched.onFirst(process);
  }

  unwatch(cgroup: CgroupRef, agent: string): void {
    const key = `${cgroup.id} ${agent}`;
    const watched = this.#watched.get(key);
    this.#watched.delete(key);
    if (watched) this.#release(watched);
  }

  close(): void {
    for (const watched of this.#watched.values()) this.#release(watched);
    this.#watched.clear();
  }

  #release(watched: Watched): void {
    watched.stop.abort();
    if (watched.member) this.#o.exits.remove(watched.member.pidfd);
    watched.member?.close();
    watched.member = undefined;
  }

  async #look(key: string, cgroup: CgroupRef, agent: string, watched: Watched): Promise<void> {
    for (;;) {
      const found = await this.#find(cgroup, agent);
      if (watched.stop.signal.aborted) {
        if (found !== "unsure") found?.close();
        return;
      }
      if (found === undefined && (watched.hadMember || !isThere(cgroup))) {
        this.#watched.delete(key);
        watched.onNone();
        return;
      }
      if (found !== undefined && found !== "unsure") {
        watched.member = found;
        this.saw(cgroup, agent, found);
        this.#o.exits.add(found.pidfd, () => {
          watched.member = undefined;
          found.close();
          void this.#look(key, cgroup, agent, watched);
        });
        return;
      }
      await sleep(lookAgainMs, undefined, { signal: watched.stop.signal, ref: false }).catch(() => undefined);
    }
  }

  /** Looks until no process is there that was not looked at; one that forks as fast as that is not gone. */
  async #find(cgroup: CgroupRef, agent: string): Promise<Caller | "unsure" | undefined> {
    const seen = new Set<number>();
    for (let round = 0; round < mostRounds; round++) {
      const fresh = membersOf(cgroup).filter((pid) => !seen.has(pid));
      if (fresh.length === 0) return undefined;
      for (const pid of fresh) {
        seen.add(pid);
        const process = await this.#member(pid, cgroup, agent);
        if (process) return process;
      }
    }
    return "unsure";
  }

  async #member(pid: number, cgroup: CgroupRef, agent: string): Promise<Caller | undefined> {
    let process: Caller | undefined;
    try {
      process = this.#o.attest(pid);
      if ((await this.#o.isMember(cgroup, agent, process)) && process.isSame()) return process;
    } catch (error) {
      if (!(error instanceof BrevetError)) throw error; // gone meanwhile, or not to be seen
    }
    process?.close();
    return undefined;
  }
}
