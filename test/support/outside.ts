// What does the SDK see from outside?
// A server on a real socket that says what a test tells it to: feed, bundles, SVIDs, tasks. It plays
// the broker's outside, well behaved or not, so that the SDK can be shown what no broker should do.
// Certificates and tokens are real, made by ca/.
// What the broker itself does is left to the tests that start one.
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Metadata, Server, ServerCredentials, status } from "@grpc/grpc-js";
import type { ServerDuplexStream, ServerWritableStream, ServiceError, UntypedServiceImplementation, handleUnaryCall } from "@grpc/grpc-js";
import { issueJwt } from "../../ca/jwt.ts";
import { issueX509, newSerial } from "../../ca/x509.ts";
import type { IssuedX509 } from "../../ca/x509.ts";
import { encodeJwks, publicJwk } from "../../src/identity/bundle.ts";
import { contextDigest } from "../../src/identity/task.ts";
import type { TaskBinding } from "../../src/identity/task.ts";
import { newTaskId } from "../../src/identity/id.ts";
import { messageType, services, toTimestamp } from "../../src/proto.ts";
import type { FeedMessage } from "../../src/generated/brevet/v1/FeedMessage.ts";
import type { Task } from "../../src/generated/brevet/v1/Task.ts";
import { newAuthorities, trustDomain } from "./authorities.ts";
import type { Authorities } from "./authorities.ts";

type Out = ServerWritableStream<object, object>;
type Dialogue = ServerDuplexStream<Record<string, unknown>, object>;
type Revocation = { task: string; epoch: number; sequence: number; until: number };

export const taskA = newTaskId(Date.now());
export const taskB = newTaskId(Date.now());

export function bindingOf(task: string, epoch = 0): TaskBinding {
  return { task, epoch, instance: randomUUID(), context: contextDigest({}) };
}

export function agentSvid(authorities: Authorities, task: string, epoch = 0, ttlSeconds = 300): IssuedX509 {
  return svidOf(authorities, `spiffe://${trustDomain}/agent/researcher/task/${task}`, bindingOf(task, epoch), ttlSeconds);
}

export function serviceSvid(authorities: Authorities, name: string, epoch = 0): IssuedX509 {
  return svidOf(authorities, `spiffe://${trustDomain}/service/${name}`, bindingOf(`service/${name}`, epoch));
}

export function svidOf({ x509 }: Authorities, spiffeId: string, binding: TaskBinding | null, ttlSeconds = 300): IssuedX509 {
  const now = Date.now();
  const [notBefore, notAfter] = [new Date(now - 60_000), new Date(now + ttlSeconds * 1_000)];
  return issueX509({ signer: x509, spiffeId, binding, serial: newSerial(), notBefore, notAfter });
}

export function agentJwt({ jwt }: Authorities, task: string, { epoch = 0, audience = ["crm"], ttlSeconds = 120 } = {}): string {
  const now = Date.now();
  return issueJwt({
    signer: jwt, subject: `spiffe://${trustDomain}/agent/researcher/task/${task}`, audience, jti: randomUUID(),
    issuedAt: new Date(now), expiresAt: new Date(now + ttlSeconds * 1_000), binding: bindingOf(task, epoch),
  });
}

export function jwksOf({ jwt }: Authorities): Buffer {
  const keys = [{ kid: jwt.record.id, publicKey: publicJwk(jwt.record.publicKey) }];
  return encodeJwks({ trustDomain, sequence: 1, refreshHintSeconds: 60, x509: [], jwt: keys });
}

/** A gRPC error as the broker sends them. */
export function refusal(code: number, reason: string, message: string, metadata: Record<string, string> = {}): Partial<ServiceError> {
  const info = messageType("google.rpc.ErrorInfo").serialize({ reason, domain: "brevet", metadata } as object);
  const violations = [{ field: "agent", description: "unknown" }];
  const bad = messageType("google.rpc.BadRequest").serialize({ fieldViolations: violations } as object);
  const details = [
    { type_url: "type.googleapis.com/google.rpc.ErrorInfo", value: info },
    { type_url: "type.googleapis.com/google.rpc.BadRequest", value: bad },
  ];
  const trailer = new Metadata();
  trailer.set("grpc-status-details-bin", messageType("google.rpc.Status").serialize({ code, message, details } as object));
  return { code, details: message, metadata: trailer };
}

export class Outside {
  readonly directory = mkdtempSync(join(tmpdir(), "brevet-sdk-"));
  readonly address = `unix://${this.directory}/w.sock`;
  readonly authorities: Authorities;
  readonly asked: { feedId: string; afterSequence: number }[] = [];
  readonly followers: Record<string, unknown>[] = [];
  /** What followers said after their first message. */
  readonly acknowledged: Record<string, unknown>[] = [];
  readonly calls: string[] = [];
  /** Of each call: whether the security header was there. */
  readonly headers = new Set<string>();
  feedId = "feed-1";
  sequence = 0;
  asOf = Date.now();
  revocations: Revocation[] = [];
  /** Says nothing to those who ask for the feed, nor to those who listen. */
  mute = false;
  bundles: Record<string, Buffer>;
  jwks: Record<string, Buffer>;
  /** What FetchX509SVID answers: SVIDs, or a refusal. */
  held: { svids: { issued: IssuedX509; spiffeId: string; hint: string }[] } | Partial<ServiceError>;
  /** Makes the JWT-SVID that FetchJWTSVID answers with. */
  token: (audience: readonly string[]) => string = (audience) => agentJwt(this.authorities, taskA, { audience: [...audience] });
  readonly tasks = new Map<string, Task>();
  /** Errors for the next unary calls, each used once. */
  readonly failures: Partial<ServiceError>[] = [];
  /** Unary answers are made at once, and sent when this resolves. */
  hold: Promise<void> = Promise.resolve();
  #server: Server | undefined;
  #beat: NodeJS.Timeout | undefined;
  readonly #watchers = new Set<Dialogue>();
  readonly #svidStreams = new Set<Out>();
  readonly #bundleStreams = new Set<() => void>();
  readonly #taskStreams = new Map<Out, string>();

  constructor(authorities = newAuthorities()) {
    this.authorities = authorities;
    this.bundles = { [`spiffe://${trustDomain}`]: this.authorities.root.certificate };
    this.jwks = { [`spiffe://${trustDomain}`]: jwksOf(this.authorities) };
    this.held = this.holding(agentSvid(this.authorities, taskA), taskA);
  }

  holding(issued: IssuedX509, task: string): { svids: { issued: IssuedX509; spiffeId: string; hint: string }[] } {
    const path = task.startsWith("service/") ? task : `agent/researcher/task/${task}`;
    return { svids: [{ issued, spiffeId: `spiffe://${trustDomain}/${path}`, hint: task }] };
  }

  static async start(authorities?: Authorities): Promise<Outside> {
    const outside = new Outside(authorities);
    await outside.listen();
    return outside;
  }

  async listen(): Promise<void> {
    const server = new Server();
    server.addService(services.feed, { watch: (call: Dialogue) => call.on("data", (request: Record<string, unknown>) => this.#heard(call, request)) });
    server.addService(services.workload, this.#workload());
    server.addService(services.agent, {
      claim: this.#unary("claim", ({ task }) => ({ task: this.tasks.get(String(task)) ?? { id: String(task) }, endpoint: this.address })),
      status: this.#unary("status", () => ({ tasks: [] })),
    });
    server.addService(services.tasks, this.#tasks());
    server.addService(services.trust, { getInfo: this.#unary("getInfo", () => ({ trustDomain })) });
    await new Promise<void>((resolve, reject) => {
      server.bindAsync(this.address, ServerCredentials.createInsecure(), (error) => (error ? reject(error) : resolve()));
    });
    this.#server = server;
    this.#beat = setInterval(() => this.beat(), 25);
  }

  /** The broker is gone: its socket too. */
  stop(): void {
    clearInterval(this.#beat);
    this.#server?.forceShutdown();
    this.#watchers.clear();
    this.#svidStreams.clear();
    this.#bundleStreams.clear();
    this.#taskStreams.clear();
    rmSync(`${this.directory}/w.sock`, { force: true });
  }

  close(): void {
    this.stop();
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** A heartbeat, unless mute. */
  beat(): void {
    this.asOf = Math.max(Date.now(), this.asOf + 1);
    if (!this.mute) this.say({});
  }

  /** One message to all who follow the feed, mute or not. */
  say(message: FeedMessage): void {
    const whole = { feedId: this.feedId, revocations: [], sequence: this.sequence, complete: true, snapshot: false, asOf: this.asOf, ...message };
    for (const watcher of this.#watchers) watcher.write(whole);
  }

  revoke(task: string, epoch: number, untilSeconds = Date.now() / 1_000 + 3_600): void {
    const revocation = { task, epoch, sequence: ++this.sequence, until: Math.floor(untilSeconds) };
    this.revocations.push(revocation);
    this.asOf++;
    this.say({ revocations: [revocation] });
  }

  pushSvids(): void {
    for (const stream of this.#svidStreams) this.#sendSvids(stream);
  }

  pushBundles(): void {
    for (const send of this.#bundleStreams) send();
  }

  pushTask(id: string): void {
    for (const [stream, task] of this.#taskStreams) if (task === id) stream.write(this.tasks.get(id) ?? {});
  }

  /** The first message of a follower of the feed begins it; each later one acknowledges. */
  #heard(call: Dialogue, request: Record<string, unknown>): void {
    if (this.#watchers.has(call)) {
      this.acknowledged.push(request);
      return;
    }
    this.#header(call);
    const { feedId, afterSequence } = request as { feedId: string; afterSequence: number };
    this.asked.push({ feedId, afterSequence });
    this.followers.push(request);
    this.#watchers.add(call);
    call.on("cancelled", () => this.#watchers.delete(call));
    if (this.mute) return;
    const resumed = feedId === this.feedId && afterSequence > 0;
    const revocations = this.revocations.filter(({ sequence }) => !resumed || sequence > afterSequence);
    call.write({ feedId: this.feedId, revocations, sequence: this.sequence, complete: true, snapshot: !resumed, asOf: this.asOf });
  }

  #workload(): UntypedServiceImplementation {
    const bundles = (call: Out, read: () => object): void => {
      this.#header(call);
      const send = (): void => void call.write(read());
      this.#bundleStreams.add(send);
      call.on("cancelled", () => this.#bundleStreams.delete(send));
      send();
    };
    return {
      FetchX509SVID: (call: Out) => {
        this.#header(call);
        this.calls.push("fetchX509SVID");
        this.#svidStreams.add(call);
        call.on("cancelled", () => this.#svidStreams.delete(call));
        this.#sendSvids(call);
      },
      FetchX509Bundles: (call: Out) => bundles(call, () => ({ bundles: this.bundles })),
      FetchJWTBundles: (call: Out) => bundles(call, () => ({ bundles: this.jwks })),
      FetchJWTSVID: this.#unary("fetchJWTSVID", ({ audience, spiffeId }) => ({
        svids: [{ spiffeId, svid: this.token(audience as string[]), hint: "" }],
      })),
    };
  }

  #sendSvids(call: Out): void {
    if (!("svids" in this.held)) {
      call.emit("error", Object.assign(new Error("refused"), this.held));
      return;
    }
    const bundle = this.authorities.root.certificate;
    call.write({
      svids: this.held.svids.map(({ issued, spiffeId, hint }) => ({ spiffeId, x509Svid: issued.chain, x509SvidKey: issued.key, bundle, hint })),
    });
  }

  #tasks(): UntypedServiceImplementation {
    const find = ({ task }: Record<string, unknown>): Task => {
      const found = this.tasks.get(String(task));
      if (found === undefined) throw refusal(status.NOT_FOUND, "NOT_FOUND", "task: no such task");
      return found;
    };
    const change = (task: Task, facts: Partial<Task>): Task => {
      Object.assign(task, facts);
      this.pushTask(task.id ?? "");
      return task;
    };
    const keys = new Map<string, Task>();
    return {
      open: this.#unary("open", ({ agent, ttlSeconds, context, idempotencyKey }) => {
        const known = keys.get(String(idempotencyKey));
        if (known !== undefined) return known;
        const id = newTaskId(Date.now());
        const expiresAt = toTimestamp(new Date(Date.now() + (Number(ttlSeconds) || 900) * 1_000));
        const task: Task = { id, agent: String(agent), spiffeId: `spiffe://${trustDomain}/agent/${String(agent)}/task/${id}`, state: "ready", epoch: 0, context: context as Record<string, string>, expiresAt };
        this.tasks.set(id, task);
        keys.set(String(idempotencyKey), task);
        return task;
      }),
      get: this.#unary("get", find),
      list: this.#unary("list", ({ pageToken }) => {
        const all = [...this.tasks.values()];
        const from = Number(pageToken || 0);
        return { tasks: all.slice(from, from + 2), nextPageToken: from + 2 < all.length ? String(from + 2) : "" };
      }),
      changeContext: this.#unary("changeContext", (request) => {
        const task = find(request);
        const context = { ...task.context, ...(request["set"] as Record<string, string>) };
        for (const key of request["remove"] as string[]) delete context[key];
        return change(task, { context, epoch: Number(task.epoch) + 1 });
      }),
      changeContexts: this.#unary("changeContexts", ({ agent, set, remove }) => {
        const [changed, all] = [[] as string[], [...this.tasks.values()].filter((task) => task.agent === agent)];
        for (const task of all) {
          const context = { ...task.context, ...(set as Record<string, string>) };
          for (const key of remove as string[]) delete context[key];
          if (JSON.stringify(context) === JSON.stringify(task.context)) continue;
          change(task, { context, epoch: Number(task.epoch) + 1 });
          changed.push(task.id ?? "");
        }
        return { changed, unchanged: all.length - changed.length };
      }),
      close: this.#unary("close", (request) => change(find(request), { state: "closed" })),
      abort: this.#unary("abort", (request) => change(find(request), { state: "aborted", endReason: String(request["reason"]) })),
      issueTicket: this.#unary("issueTicket", (request) => ({ ...find(request), ticket: "t".repeat(43) })),
      watch: (call: Out) => {
        const { task } = call.request as { task: string };
        this.calls.push("watch");
        this.#taskStreams.set(call, task);
        call.on("cancelled", () => this.#taskStreams.delete(call));
        call.write(this.tasks.get(task) ?? {});
      },
    };
  }

  #unary(name: string, answer: (request: Record<string, unknown>) => object): handleUnaryCall<object, object> {
    return (call, done) => {
      this.#header(call);
      this.calls.push(name);
      const failure = this.failures.shift();
      if (failure !== undefined) return done(failure);
      try {
        const made = answer(call.request as Record<string, unknown>);
        void this.hold.then(() => done(null, made));
      } catch (error) {
        done(error as Partial<ServiceError>);
      }
    };
  }

  #header({ metadata }: { metadata: Metadata }): void {
    this.headers.add(JSON.stringify(metadata.get("workload.spiffe.io")));
  }
}

/** Waits for what must come: tests say what, never when. */
export async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5));
}
