// How does a user test a service or an agent without a broker?
// A broker in memory, for tests only: it opens, changes and closes tasks at once, and whoever listens
// hears of it as from a real one, over real sockets, with real SVIDs. It attests nobody and keeps nothing.
// It runs wherever Node does.
// DESIGN: tasks, epochs and what a revocation says; what only a broker can decide is not played here.
import { randomUUID } from "node:crypto";
import { BrevetError, notFound } from "../errors.ts";
import { parseDuration } from "../identity/duration.ts";
import type { Duration } from "../identity/duration.ts";
import { formatAgentTaskId, formatServiceId, newTaskId } from "../identity/id.ts";
import { contextDigest, terminalStates } from "../identity/task.ts";
import type { TaskBinding, TaskState } from "../identity/task.ts";
import { toTimestamp } from "../proto.ts";
import type { Task } from "../generated/brevet/v1/Task.ts";
import type { X509SVIDResponse } from "../generated/X509SVIDResponse.ts";
import { TestAuthority } from "./authority.ts";
import { Endpoint } from "./endpoint.ts";
import type { Holder, Shared, TaskMethods } from "./endpoint.ts";
import { TestFeed } from "./feed.ts";

export type TestTaskOptions = {
  /** The agent's name. */
  readonly agent: string;
  readonly context?: Readonly<Record<string, string>>;
  readonly ttl?: Duration;
  /** On whose behalf. */
  readonly for?: string;
};

const x509LifetimeMs = 300_000;
const jwtLifetimeMs = 120_000;
const untilMarginMs = 120_000;

/** Tasks and services of one trust domain, in memory. Dispose of it at the end of the test. */
export class TestBroker {
  readonly trustDomain: string;
  readonly #shared: Shared;
  readonly #feed = new TestFeed();
  readonly #tasks = new Map<string, TestTask>();
  readonly #endpoints: Endpoint[] = [];
  #address = "";

  private constructor(trustDomain: string) {
    this.trustDomain = trustDomain;
    const authority = new TestAuthority(trustDomain);
    this.#shared = { authority, feed: this.#feed, tasks: this.#methods(), watch: (task, say) => this.#find(task).watch(say) };
  }

  static async start({ trustDomain = "example.org" }: { readonly trustDomain?: string } = {}): Promise<TestBroker> {
    const broker = new TestBroker(trustDomain);
    const nobody: Holder = { x509: refuse, jwt: refuse, tasks: () => [] };
    broker.#address = (await broker.#listen(nobody)).address;
    return broker;
  }

  /** Where bundles and the feed are, for a Verifier, and tasks may be opened, for `Tasks`. It hands out no SVIDs. */
  get address(): string {
    return this.#address;
  }

  /** A task that is active: whoever asks at its `address` holds it. */
  async open(options: TestTaskOptions): Promise<TestTask> {
    const task = new TestTask(this.#shared, options, (holder) => this.#listen(holder));
    this.#tasks.set(task.id, task);
    await task.ready;
    return task;
  }

  /** An address at which whoever asks is this service. */
  async service(name: string): Promise<{ readonly address: string; readonly spiffeId: string }> {
    const spiffeId = formatServiceId(this.trustDomain, name);
    const binding = { task: `service/${name}`, epoch: 0, instance: randomUUID(), context: contextDigest({}) };
    const { address } = await this.#listen({
      x509: () => svids(this.#shared, spiffeId, binding, x509LifetimeMs),
      jwt: (audience) => ({ spiffeId, svid: this.#shared.authority.jwt(spiffeId, binding, audience, jwtLifetimeMs) }),
      tasks: () => [],
    });
    return { address, spiffeId };
  }

  /** Nothing more is heard of revocations, as when a verifier is cut off: it goes stale after its `maxStaleness`. */
  silence(): void {
    this.#feed.silent = true;
  }

  /** The feed goes on, with all that was revoked meanwhile. */
  speak(): void {
    this.#feed.silent = false;
  }

  close(): void {
    for (const endpoint of this.#endpoints) endpoint.close();
    this.#feed.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async #listen(holder: Holder): Promise<Endpoint> {
    const endpoint = await Endpoint.listen(this.#shared, holder);
    this.#endpoints.push(endpoint);
    return endpoint;
  }

  #find(id: string): TestTask {
    const found = this.#tasks.get(id);
    if (found === undefined) throw notFound("task", "task");
    return found;
  }

  #methods(): TaskMethods {
    const find = ({ task }: Record<string, unknown>): TestTask => this.#find(String(task));
    return {
      open: async ({ agent, context, ttlSeconds, onBehalfOf }) => {
        const options = { agent: String(agent), context: context as Record<string, string>, ttl: Number(ttlSeconds) || 900, for: String(onBehalfOf) };
        return (await this.open(options)).record;
      },
      get: (request) => find(request).record,
      changeContext: (request) => {
        const facts: Record<string, string | undefined> = { ...(request["set"] as Record<string, string>) };
        for (const key of request["remove"] as string[]) facts[key] = undefined;
        return find(request).change(facts).record;
      },
      close: (request) => find(request).close().record,
      abort: (request) => find(request).close("aborted").record,
    };
  }
}

/** One task of a test: change it, close it, and see what the service does. */
export class TestTask {
  readonly id = newTaskId(Date.now());
  readonly agent: string;
  readonly spiffeId: string;
  readonly ready: Promise<void>;
  readonly #shared: Shared;
  readonly #instance = randomUUID();
  readonly #watchers = new Set<(record: Task) => void>();
  readonly #onBehalfOf: string | undefined;
  readonly #openedAt = Date.now();
  readonly #expiresAt: number;
  #context: Record<string, string>;
  #state: TaskState = "active";
  #epoch = 0;
  #endpoint: Endpoint | undefined;

  constructor(shared: Shared, options: TestTaskOptions, listen: (holder: Holder) => Promise<Endpoint>) {
    this.#shared = shared;
    this.agent = options.agent;
    this.spiffeId = formatAgentTaskId(shared.authority.trustDomain, options.agent, this.id);
    this.#context = { ...options.context };
    this.#onBehalfOf = options.for === "" ? undefined : options.for;
    this.#expiresAt = this.#openedAt + parseDuration(options.ttl ?? "15m", "ttl");
    this.ready = listen({ x509: () => this.#x509(), jwt: (audience) => ({ spiffeId: this.spiffeId, svid: this.jwt(...audience) }), tasks: () => [this.record] })
      .then((endpoint) => void (this.#endpoint = endpoint));
  }

  /** Give it to the agent under test, as SPIFFE_ENDPOINT_SOCKET or as `address`. */
  get address(): string {
    return this.#endpoint?.address ?? "";
  }

  get epoch(): number {
    return this.#epoch;
  }

  get state(): TaskState {
    return this.#state;
  }

  /** A JWT-SVID of now, as an agent would send it. Throws DENIED_TASK_ENDED after the end. */
  jwt(...audience: readonly string[]): string {
    this.#mustBeActive();
    return this.#shared.authority.jwt(this.spiffeId, this.#binding, audience, this.#lifetime(jwtLifetimeMs));
  }

  /** Sets facts of the context (`undefined` removes one). If any differs: a new epoch, and older SVIDs are dead. */
  change(facts: Readonly<Record<string, string | undefined>>): this {
    this.#mustBeActive();
    const before = contextDigest(this.#context);
    for (const [key, value] of Object.entries(facts)) {
      if (value === undefined) delete this.#context[key];
      else this.#context[key] = value;
    }
    if (contextDigest(this.#context) !== before) this.#revoke();
    return this;
  }

  /** Ends it: its SVIDs are dead. A task that has ended stays as it is. */
  close(state: "closed" | "aborted" = "closed"): this {
    if (terminalStates.has(this.#state)) return this;
    this.#state = state;
    this.#revoke();
    return this;
  }

  /** As a broker describes it. */
  get record(): Task {
    return {
      id: this.id, agent: this.agent, spiffeId: this.spiffeId, state: this.#state, epoch: this.#epoch, context: { ...this.#context },
      contextDigest: contextDigest(this.#context), onBehalfOf: this.#onBehalfOf ?? "", bind: "claim", scope: "process", endpoint: this.address,
      openedAt: toTimestamp(new Date(this.#openedAt)), expiresAt: toTimestamp(new Date(this.#expiresAt)),
    };
  }

  /** Hears what it is now, and at each change. */
  watch(say: (record: Task) => void): void {
    this.#watchers.add(say);
    say(this.record);
  }

  get #binding(): TaskBinding {
    const context = contextDigest(this.#context);
    return { task: this.id, epoch: this.#epoch, instance: this.#instance, context, ...(this.#onBehalfOf !== undefined && { onBehalfOf: this.#onBehalfOf }) };
  }

  #revoke(): void {
    this.#epoch++;
    this.#shared.feed.revoke(this.id, this.#epoch, Math.ceil((Date.now() + x509LifetimeMs + untilMarginMs) / 1_000));
    this.#endpoint?.push();
    for (const say of this.#watchers) say(this.record);
  }

  #x509(): X509SVIDResponse {
    this.#mustBeActive();
    return svids(this.#shared, this.spiffeId, this.#binding, this.#lifetime(x509LifetimeMs));
  }

  #lifetime(most: number): number {
    return Math.min(most, this.#expiresAt - Date.now());
  }

  #mustBeActive(): void {
    if (this.#state === "active" && this.#expiresAt <= Date.now()) this.#state = "expired";
    if (this.#state !== "active") throw new BrevetError("DENIED_TASK_ENDED", `task ${this.id} is ${this.#state}`);
  }
}

function svids({ authority }: Shared, spiffeId: string, binding: TaskBinding, lifetimeMs: number): X509SVIDResponse {
  const { chain, key } = authority.x509(spiffeId, binding, lifetimeMs);
  return { svids: [{ spiffeId, x509Svid: chain, x509SvidKey: key, bundle: authority.bundle, hint: binding.task }] };
}

function refuse(): never {
  throw new BrevetError("DENIED_NO_TASK", "nobody is whoever asks here: ask at the address of a task or a service");
}
