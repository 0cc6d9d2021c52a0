// How does an orchestrator open a task, change its context, and end it?
// A task handle leaves its block ended. Opening, changing and ending may be repeated without
// harm, so each is asked again while the broker is away; a task whose end could not be told
// to the broker ends by its expiry. What `await using` cannot know (that the block threw),
// `tasks.run` does: it aborts with the error's class, never with its text.
// Claiming a task and fetching its SVIDs, as the agent does, is source.ts's business.
import { randomUUID } from "node:crypto";
import { BrevetError, asBrevetError } from "../errors.ts";
import { parseDuration } from "../identity/duration.ts";
import type { Duration } from "../identity/duration.ts";
import { anything, checkOptions, filledText, oneOf, text, textMap, time } from "../identity/options.ts";
import type { Rules } from "../identity/options.ts";
import { terminalStates } from "../identity/task.ts";
import type { Bind, Scope, TaskState } from "../identity/task.ts";
import { fromTimestamp } from "../proto.ts";
import type { Task__Output } from "../generated/brevet/v1/Task.ts";
import { brokerRules, connect, follow } from "./connect.ts";
import type { BrokerOptions, Connection } from "./connect.ts";

export type OpenOptions = {
  /** The agent's name in the catalog. */
  readonly agent: string;
  /** `15m`, or seconds. Default: the broker's (15m). The task ends then, whatever happens. */
  readonly ttl?: Duration;
  /** Facts that the authority rests on: user, repository@commit, model. Changing one makes a new epoch. */
  readonly context?: Readonly<Record<string, string>>;
  readonly purpose?: string;
  /** On whose behalf: recorded and in the `brevet` claim, never an authority. */
  readonly for?: string;
  /** Search keys: workflow run, issue, trace. */
  readonly ref?: Readonly<Record<string, string>>;
  /** How it is claimed. Default `claim`. With `ticket`, `task.ticket` holds the one-use secret. */
  readonly bind?: Bind;
  /** What the claim binds. Default `process`. */
  readonly scope?: Scope;
  /**
   * The same key of the same agent answers with the task that it opened first, as that one was opened: another ttl, context
   * or purpose beside it is not looked at. Default: a new one.
   */
  readonly idempotencyKey?: string;
  /** Gives up the opening (not the task). */
  readonly signal?: AbortSignal;
};

/** Facts to set; `undefined` removes one. */
export type Facts = Readonly<Record<string, string | undefined>>;

export type ChangeOptions = {
  /** Whose tasks: all that live. */
  readonly agent: string;
  /** Only those with these search keys. */
  readonly ref?: Readonly<Record<string, string>>;
  readonly facts: Facts;
};

export type ListOptions = {
  readonly agent?: string;
  readonly state?: TaskState;
  readonly ref?: Readonly<Record<string, string>>;
};

const openRules: Rules<OpenOptions> = {
  agent: filledText, ttl: time, context: textMap(), purpose: text, for: text, ref: textMap(),
  bind: oneOf("claim", "ticket", "auto"), scope: oneOf("process", "tree", "cgroup"), idempotencyKey: filledText, signal: anything,
};
const factRules = textMap({ gaps: true });
const changeRules: Rules<ChangeOptions> = { agent: filledText, ref: textMap(), facts: factRules };
const listRules: Rules<ListOptions> = { agent: filledText, state: filledText, ref: textMap() };

/** The broker goes away for a restart, not for longer. */
const patient = { retry: true, timeoutMs: 30_000 } as const;
/** One agent may have tens of thousands of tasks. */
const forMany = { retry: true, timeoutMs: 120_000 } as const;

/** The tasks of the agents that this process may open for. Holds one connection: `close()` it, or `using`. */
export class Tasks {
  readonly #connection: Connection;

  /** Throws INVALID_FIELD, CONFIG_INVALID. */
  constructor(options: BrokerOptions = {}) {
    checkOptions(options, brokerRules);
    this.#connection = connect(options);
  }

  /** Throws INVALID_FIELD, NOT_FOUND (no such agent, or not yours to open for), AGENT_DISABLED, BROKER_UNREACHABLE. */
  async open(options: OpenOptions): Promise<Task> {
    checkOptions(options, openRules, ["agent"]);
    const ttlMs = options.ttl === undefined ? 0 : parseDuration(options.ttl, "ttl");
    const record = await this.#connection.tasks.open({
      agent: options.agent,
      ttlSeconds: Math.ceil(ttlMs / 1_000),
      context: { ...options.context },
      purpose: options.purpose ?? "",
      onBehalfOf: options.for ?? "",
      refs: { ...options.ref },
      bind: options.bind ?? "",
      scope: options.scope ?? "",
      idempotencyKey: options.idempotencyKey ?? randomUUID(),
    }, { ...patient, ...(options.signal && { signal: options.signal }) });
    return new Task(this.#connection, record);
  }

  /** Opens, works, closes; aborts with the error's class when `work` throws, and throws that error on. */
  async run<T>(options: OpenOptions, work: (task: Task) => T | Promise<T>): Promise<T> {
    const task = await this.open(options);
    let result: T;
    try {
      result = await work(task);
    } catch (error) {
      await task.abort(error instanceof Error ? error : typeof error).catch((failure: unknown) => {
        process.emitWarning(`task ${task.id} could not be aborted and lives until its expiry: ${String(failure)}`);
      });
      throw error;
    }
    await task.close();
    return result;
  }

  /** `task`: a task ID, a unique prefix, a SPIFFE ID, a serial, a jti or `pid:N`. Throws NOT_FOUND. */
  async get(task: string): Promise<Task> {
    return new Task(this.#connection, await this.#connection.tasks.get({ task }, patient));
  }

  /** Newest first; asks for the next page when it is reached. */
  async *list(options: ListOptions = {}): AsyncGenerator<Task, void, void> {
    checkOptions(options, listRules);
    const { agent = "", state, ref = {} } = options;
    let pageToken = "";
    do {
      const request = { agent, state: state ?? "", refs: { ...ref }, pageSize: 0, pageToken };
      const page = await this.#connection.tasks.list(request, patient);
      for (const record of page.tasks) yield new Task(this.#connection, record);
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
  }

  /**
   * The same change for all live tasks of an agent: each that it makes a difference to has a new epoch, and its older SVIDs
   * are dead. Answers with the IDs of those, and with how many were so already. A call that failed is simply repeated.
   */
  async changeContexts(options: ChangeOptions): Promise<{ readonly changed: readonly string[]; readonly unchanged: number }> {
    checkOptions(options, changeRules, ["agent", "facts"]);
    const { agent, ref = {}, facts } = options;
    const { changed, unchanged } = await this.#connection.tasks.changeContexts({ agent, refs: { ...ref }, ...changeOf(facts), dryRun: false }, forMany);
    return { changed, unchanged };
  }

  close(): void {
    this.#connection.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** One task, as the broker last described it (`record`). */
export class Task {
  readonly id: string;
  readonly agent: string;
  readonly spiffeId: string;
  /** The one-use secret of a task with bind `ticket`; empty otherwise, and on handles not from `open`. */
  readonly ticket: string;
  readonly #connection: Connection;
  #record: Task__Output;
  #ended: AbortController | undefined;

  constructor(connection: Connection, record: Task__Output) {
    this.#connection = connection;
    this.#record = record;
    this.id = record.id;
    this.agent = record.agent;
    this.spiffeId = record.spiffeId;
    this.ticket = record.ticket;
  }

  /** All that the broker last said of it; renewed by every call, and by the watch behind `signal`. */
  get record(): Readonly<Task__Output> {
    return this.#record;
  }

  get epoch(): number {
    return this.#record.epoch;
  }

  get state(): TaskState {
    return this.#record.state as TaskState;
  }

  /** This task's own workload socket (`unix:///…`), once it is claimed; give it to the agent. */
  get endpoint(): string {
    return this.#record.endpoint;
  }

  /** Aborts when the task ends, whoever ends it; the reason is a BrevetError DENIED_TASK_ENDED. Watches from its first use on. */
  get signal(): AbortSignal {
    if (this.#ended === undefined) {
      this.#ended = new AbortController();
      this.#learn(this.#record);
      void this.#watch(this.#ended);
    }
    return this.#ended.signal;
  }

  /**
   * If any fact differs: a new epoch, and older SVIDs are dead. Who holds them hears it by the stream a moment later, a
   * WorkloadSource of this very program too: it holds the new ones when its `svid().binding` has this task's `epoch`.
   */
  async changeContext(facts: Facts): Promise<this> {
    checkOptions({ facts }, { facts: factRules }, ["facts"]);
    return this.#learn(await this.#connection.tasks.changeContext({ task: this.id, ...changeOf(facts), dryRun: false }, patient));
  }

  /** Makes a new ticket for a task not yet claimed; the one before is void. */
  async newTicket(): Promise<string> {
    const record = await this.#connection.tasks.issueTicket({ task: this.id }, patient);
    this.#learn(record);
    return record.ticket;
  }

  /** Ends it as done. A task that has ended stays as it is: `state` and `record.endReason` say how. */
  async close(): Promise<void> {
    await this.#end(() => this.#connection.tasks.close({ task: this.id }, patient));
  }

  /** Ends it as failed. Of an Error only the class is told: its text may hold what is secret. */
  async abort(reason: string | Error): Promise<void> {
    const text = reason instanceof Error ? className(reason) : reason;
    await this.#end(() => this.#connection.tasks.abort({ task: this.id, reason: text }, patient));
  }

  /**
   * Leaving the block closes, also by a throw: the language does not tell it apart. The SVIDs die
   * either way; where "failed" must be on record, use `tasks.run`, or `task.abort(error)` in a catch.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Whoever ended it first, in whatever way: it is over, which is what the caller wants. */
  async #end(ask: () => Promise<Task__Output>): Promise<void> {
    if (terminalStates.has(this.state)) return;
    try {
      this.#learn(await ask());
    } catch (error) {
      if (!(error instanceof BrevetError) || error.code !== "WRONG_STATE") throw error;
      this.#learn(await this.#connection.tasks.get({ task: this.id }, patient));
      if (!terminalStates.has(this.state)) throw error;
    }
  }

  #learn(record: Task__Output): this {
    this.#record = record;
    if (terminalStates.has(this.state)) {
      const why = record.endReason === "" ? "" : `: ${record.endReason}`;
      this.#ended?.abort(new BrevetError("DENIED_TASK_ENDED", `task ${this.id} is ${record.state}${why}`));
    }
    return this;
  }

  async #watch(ended: AbortController): Promise<void> {
    const stop = (reason: BrevetError): void => ended.abort(reason);
    const cancelTimer = atExpiry(fromTimestamp(this.#record.expiresAt), () => {
      stop(new BrevetError("DENIED_TASK_ENDED", `task ${this.id} is expired`));
    });
    await follow((signal) => this.#connection.tasks.watch({ task: this.id }, { signal }), {
      message: (record) => void this.#learn(record),
      lost: (error) => {
        if (error?.code === "NOT_FOUND" || error?.code.startsWith("DENIED_")) stop(error);
        return true;
      },
    }, ended.signal).catch((error: unknown) => stop(asBrevetError(error))); // e.g. the connection was closed
    cancelTimer();
  }
}

function changeOf(facts: Facts): { set: Record<string, string>; remove: string[] } {
  const set: Record<string, string> = {};
  const remove: string[] = [];
  for (const [key, value] of Object.entries(facts)) {
    if (value === undefined) remove.push(key);
    else set[key] = value;
  }
  return { set, remove };
}

function className(error: Error): string {
  const name = error.constructor.name || error.name;
  return (error instanceof BrevetError ? `${name} ${error.code}` : name).slice(0, 128);
}

const longestTimer = 2 ** 31 - 1;

/** Expiry needs no broker. The timer does not keep the process alive. */
function atExpiry(at: Date | undefined, then: () => void): () => void {
  if (at === undefined) return () => {};
  let timer: NodeJS.Timeout;
  const arm = (): void => {
    const left = at.getTime() - Date.now();
    timer = setTimeout(left > longestTimer ? arm : then, Math.min(Math.max(left, 0), longestTimer)).unref();
  };
  arm();
  return () => clearTimeout(timer);
}
