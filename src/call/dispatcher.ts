// How do an agent's requests go out by undici and fetch?
// Each epoch of a task has a pool of connections of its own, made with the SVID of that epoch and
// destroyed with it; a renewed SVID of the same epoch retires the pool, whose requests may finish.
// A request that an epoch's end cut is sent once more if sending it twice is harmless (RFC 9110 section
// 9.2.2) and it can be sent again; else its caller hears the reason, never a bare socket error.
// Which epoch is current is epoch.ts's business; the mutual TLS, src/verify/tls.ts's.
import { Agent, DecoratorHandler, Dispatcher, Response, fetch } from "undici";
import type { RequestInfo, RequestInit } from "undici";
import { BrevetError, asBrevetError, invalid } from "../errors.ts";
import { connectMtls } from "../verify/tls.ts";
import type { PeerOptions } from "../verify/tls.ts";
import { reasonOf } from "./epoch.ts";
import type { TaskEpochs } from "./epoch.ts";

const harmless: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS", "PUT", "DELETE"]);
const mostConnections = 16;

type Handler = Dispatcher.DispatchHandler;
type Pool = { readonly agent: Agent; readonly epoch: AbortSignal };

/** A dispatcher for undici's `request`, `fetch` and whatever takes one. */
export class TaskDispatcher extends Dispatcher {
  readonly #peer: PeerOptions;
  readonly #epochs: TaskEpochs;
  #pool: Pool | undefined;

  constructor(peer: PeerOptions, epochs: TaskEpochs) {
    super();
    this.#peer = peer;
    this.#epochs = epochs;
    peer.source.on("update", this.#retire);
    epochs.ended.addEventListener("abort", () => peer.source.off("update", this.#retire), { once: true });
  }

  override dispatch(options: Dispatcher.DispatchOptions, handler: Handler): boolean {
    const again = harmless.has(options.method) && isWhole(options.body);
    return this.#send(options, handler, again);
  }

  /** Ends with the task; on its own only for Dispatcher's users that close what they were given. */
  override async close(): Promise<void> {
    await this.#pool?.agent.close();
  }

  override async destroy(): Promise<void> {
    await this.#pool?.agent.destroy();
  }

  #send(options: Dispatcher.DispatchOptions, handler: Handler, again: boolean): boolean {
    const { agent, epoch } = this.#current();
    return agent.dispatch(options, new Reasoned(handler, epoch, again ? () => void this.#send(options, handler, false) : undefined) as Handler);
  }

  #current(): Pool {
    this.#epochs.ended.throwIfAborted();
    const epoch = this.#epochs.current;
    if (this.#pool?.epoch !== epoch) {
      const agent = new Agent({ connections: mostConnections, connect: (options, done) => this.#connect(options, done) });
      this.#pool = { agent, epoch };
      epoch.addEventListener("abort", () => void agent.destroy(epoch.reason as BrevetError).catch(() => {}), { once: true });
    }
    return this.#pool;
  }

  #connect({ protocol, hostname, port }: { protocol: string; hostname: string; port: string }, done: (...result: [Error, null] | [null, ReturnType<typeof connectMtls>]) => void): void {
    if (protocol !== "https:") return done(invalid([{ field: "url", description: "must begin with https:// where SVIDs are shown" }]), null);
    try {
      const host = hostname.replace(/^\[(.*)\]$/, "$1");
      const socket = connectMtls({ ...this.#peer, host, port: Number(port === "" ? 443 : port) });
      const fail = (error: Error): void => done(error, null);
      socket.once("error", fail).once("secureConnect", () => {
        socket.off("error", fail);
        done(null, socket);
      });
    } catch (error) {
      done(asBrevetError(error), null);
    }
  }

  /** The SVID was renewed: what is under way may finish, what comes goes by new connections. */
  readonly #retire = (): void => {
    const pool = this.#pool;
    this.#pool = undefined;
    if (pool !== undefined && !pool.epoch.aborted) void pool.agent.close().catch(() => {});
  };
}

/** Its types leave out its methods. */
const Passing = DecoratorHandler as unknown as new (handler: Handler) => {
  onResponseStart(...args: Parameters<NonNullable<Handler["onResponseStart"]>>): void;
  onResponseError(controller: Dispatcher.DispatchController, error: Error): void;
};

/** Passes all on, but an error only with its reason; before the first byte of an answer it may try again instead. */
class Reasoned extends Passing {
  readonly #epoch: AbortSignal;
  #again: (() => void) | undefined;

  constructor(handler: Handler, epoch: AbortSignal, again: (() => void) | undefined) {
    super(handler);
    this.#epoch = epoch;
    this.#again = again;
  }

  override onResponseStart(...args: Parameters<NonNullable<Handler["onResponseStart"]>>): void {
    this.#again = undefined;
    super.onResponseStart(...args);
  }

  override onResponseError(controller: Dispatcher.DispatchController, error: Error): void {
    void reasonOf(error, this.#epoch).then((reason) => {
      const changed = reason instanceof BrevetError && reason.code === "CONTEXT_CHANGED";
      if (!changed || this.#again === undefined) return super.onResponseError(controller, reason as Error);
      try {
        this.#again();
      } catch (ended) {
        super.onResponseError(controller, ended as Error);
      }
    });
  }
}

/** `fetch` by this dispatcher; it and reading its answer's body reject with the reason itself, not with a TypeError around it. */
export async function taskFetch(dispatcher: TaskDispatcher, epochs: TaskEpochs, input: RequestInfo, init: RequestInit = {}): Promise<Response> {
  const method = (init.method ?? (typeof input === "object" && "method" in input ? input.method : "GET")).toUpperCase();
  const again = harmless.has(method) && isReplayable(init.body) && init.body !== undefined && init.body !== null;
  for (let attempts = again ? 2 : 1; ; attempts--) {
    const epoch = epochs.current;
    try {
      return withReasons(await fetch(input, { ...init, dispatcher }), epoch);
    } catch (error) {
      const reason = init.signal?.aborted ? error : await reasonOf(error, epoch);
      if (attempts === 1 || !(reason instanceof BrevetError) || reason.code !== "CONTEXT_CHANGED") throw reason;
    }
  }
}

function withReasons(response: Response, epoch: AbortSignal): Response {
  const { body } = response;
  if (body === null) return response;
  const told = ReadableStream.from((async function* () {
    try {
      yield* body;
    } catch (error) {
      throw await reasonOf(error, epoch);
    }
  })());
  const { status, statusText, headers, url, redirected } = response;
  const same = new Response(told as never, { status, statusText, headers });
  return Object.defineProperties(same, { url: { value: url }, redirected: { value: redirected } });
}

/** What dispatch can send again. */
function isWhole(body: Dispatcher.DispatchOptions["body"]): boolean {
  return body === undefined || body === null || typeof body === "string" || body instanceof Uint8Array;
}

/** What fetch can send again: whatever is no stream. */
function isReplayable(body: RequestInit["body"]): boolean {
  return typeof body !== "object" || body === null || !(body instanceof ReadableStream || Symbol.asyncIterator in body);
}
