// What does a handler know of the call that it answers?
// Who makes it, and whether the caller still waits: a call that nobody waits for any more ends with its signal,
// and what it says then is said to nobody. The first message of a dialogue is its request, and must come in time.
// gRPC over HTTP/2 (cancellation).
// Whether the call may be made at all is server.ts's business.
import type { EventEmitter } from "node:events";
import type { ServerDuplexStream, ServerUnaryCall, ServerWritableStream } from "@grpc/grpc-js";
import { BrevetError, asBrevetError, invalid } from "../errors.ts";
import type { Connection, Known } from "./connection.ts";
import { Malformed } from "./wire.ts";

/** The process that something was asked for, where that is not the caller, and the task that it was. */
export type About = { readonly process: Known; readonly task: string | null };

export type Call = {
  readonly connection: Connection;
  readonly method: string;
  readonly signal: AbortSignal;
  /** For the record of a refusal. */
  about?: About;
  /** The same without the cost of a signal: calls back once, at once if the caller has gone already. */
  onGone(callback: (why: BrevetError) => void): () => void;
};

export type AnyUnary = ServerUnaryCall<unknown, unknown>;
export type AnyStream = ServerWritableStream<unknown, unknown> | ServerDuplexStream<unknown, unknown>;

const firstMessageMs = 10_000;
const callerGone = new BrevetError("DEADLINE", "the caller went away");

/** Most calls never look at their signal: it is made for those that do. */
export class AdmittedCall implements Call {
  readonly connection: Connection;
  readonly method: string;
  about?: About;
  readonly #call: AnyUnary | AnyStream;
  #ended: AbortController | undefined;

  constructor(connection: Connection, method: string, call: AnyUnary | AnyStream) {
    this.connection = connection;
    this.method = method;
    this.#call = call;
  }

  onGone(callback: (why: BrevetError) => void): () => void {
    const call = this.#call as EventEmitter;
    const gone = (): void => callback(callerGone);
    if (this.#call.cancelled) gone();
    else call.once("cancelled", gone);
    return () => call.off("cancelled", gone);
  }

  get signal(): AbortSignal {
    if (this.#ended) return this.#ended.signal;
    const ended = new AbortController();
    this.#ended = ended;
    if (this.#call.cancelled) ended.abort(callerGone);
    else (this.#call as EventEmitter).once("cancelled", () => ended.abort(callerGone));
    return ended.signal;
  }
}

/** @throws BrevetError if it is not one, or none comes */
export async function firstMessage<Q, A>(stream: ServerDuplexStream<Q, A>, signal: AbortSignal): Promise<Q> {
  return await new Promise<Q>((resolve, reject) => {
    const settle = (done: () => void): void => {
      clearTimeout(timer);
      stream.pause().removeAllListeners("data");
      stream.off("end", none);
      signal.removeEventListener("abort", gone);
      done();
    };
    const none = (): void => settle(() => reject(invalid([{ field: "message", description: "is required" }])));
    const gone = (): void => settle(() => reject(signal.reason as Error));
    const timer = setTimeout(none, firstMessageMs);
    stream.once("end", none);
    signal.addEventListener("abort", gone, { once: true });
    stream.once("data", (message: Q | Malformed) => settle(() => (message instanceof Malformed ? reject(message.error) : resolve(message))));
  });
}

/** What a handler threw, as the caller is told. */
export function publicError(error: unknown): BrevetError {
  if (error instanceof Error && error.name === "AbortError") return asBrevetError(error.cause ?? callerGone);
  return asBrevetError(error);
}
