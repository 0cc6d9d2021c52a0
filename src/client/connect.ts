// How does a program ask the broker?
// One connection to one broker (by a socket, or the network: line.ts), with typed callers for every service. Every call has a
// deadline or a signal, every failure is a BrevetError with the broker's own code, and after
// close() nothing of it keeps the process alive.
// SPIFFE Workload Endpoint sections 3 and 4 (metadata, SPIFFE_ENDPOINT_SOCKET), section 6 (retries).
// Reading an error off the wire is status.ts's; what is asked is tasks.ts's, source.ts's, src/verify's.
import { setTimeout as sleep } from "node:timers/promises";
import { Metadata } from "@grpc/grpc-js";
import type { Client, ClientDuplexStream, ClientReadableStream, MethodDefinition as Wire } from "@grpc/grpc-js";
import type { MethodDefinition } from "@grpc/proto-loader";
import { BrevetError, errorCodes, grpcStatus } from "../errors.ts";
import type { FeedMessage__Output } from "../generated/brevet/v1/FeedMessage.ts";
import type { WatchFeedRequest } from "../generated/brevet/v1/WatchFeedRequest.ts";
import { anything } from "../identity/options.ts";
import type { Rules } from "../identity/options.ts";
import { services } from "../proto.ts";
import { IdentityFolder, defaultFolder, identityOf } from "./identity.ts";
import type { SvidSource } from "./identity.ts";
import { Line } from "./line.ts";
import { decodeError } from "./status.ts";
import { keepUp } from "./upkeep.ts";

type CallOptions = {
  /** Ends the call; it then rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Unary calls, all attempts together. Default 10,000 ms. */
  readonly timeoutMs?: number;
  /** Asks again while the broker is unreachable or unavailable: only for idempotent calls. */
  readonly retry?: boolean;
};

type Unary<I, O> = (request: I, options?: CallOptions) => Promise<O>;
/** Ends when the broker ends the stream, throws its error, and is cancelled when the loop is left. */
type Stream<I, O> = (request: I, options?: Pick<CallOptions, "signal">) => AsyncGenerator<O, void, void>;

/** A stream whose caller may go on speaking: `more` is handed the means to, once for each call. */
type Dialogue<I, O> = (request: I, options?: Pick<CallOptions, "signal"> & { readonly more?: More<I> }) => AsyncGenerator<O, void, void>;
type More<I> = (say: (message: I) => void) => void;

type Streaming =
  "Watch" | "WatchBundle" | "WatchPropagation" | "FetchX509SVID" | "FetchX509Bundles" | "FetchJWTBundles" | "FetchWITSVID" | "FetchWITBundles";
type Caller<Definition> = {
  readonly [Name in keyof Definition as Name extends string ? (string extends Name ? never : Uncapitalize<Name>) : never]:
    Definition[Name] extends MethodDefinition<infer I, infer _Wire, infer _Received, infer O>
      ? Name extends Streaming ? Stream<I, O> : Unary<I, O>
      : never;
};

/** A connection: `connection.tasks.open({…})`, `for await (const message of connection.feed.watch({}))`. */
export type Connection = { readonly [Name in Exclude<keyof typeof services, "feed">]: Caller<(typeof services)[Name]> } & {
  readonly feed: { readonly watch: Dialogue<WatchFeedRequest, FeedMessage__Output> };
  readonly address: string;
  /** Cancels what is under way. Repeats change nothing. */
  close(): void;
};

const hopeless: ReadonlySet<number> = new Set([
  grpcStatus.INVALID_ARGUMENT, grpcStatus.UNIMPLEMENTED, grpcStatus.FAILED_PRECONDITION,
]);
const firstDelay = 20;
const longestDelay = 1_000;

export type BrokerOptions = {
  /** `unix:///…`; default SPIFFE_ENDPOINT_SOCKET. Several are one broker: the next is asked where one fails. */
  readonly address?: string | readonly string[];
  /** host:port of a broker's listen.grpc, or of several on one database, instead of a socket. */
  readonly server?: string | readonly string[];
  /**
   * Who we are there: the folder that `brevet operator add` made, whose certificate is then renewed by itself; a
   * WorkloadSource; or a key and its certificates, PEM. Default: the folder brevet/identity in XDG_CONFIG_HOME.
   */
  readonly identity?: string | SvidSource | { readonly key: string; readonly cert: string };
  /** CA certificates that the broker's own must lead to: a file, or PEM. Default: what the identity brings with it. */
  readonly trustBundle?: string;
};

/** What an address, a server or an identity may be, `connect` says. */
export const brokerRules: Rules<BrokerOptions> = { address: anything, server: anything, identity: anything, trustBundle: anything };

/**
 * Connects to a broker, lazily: the first call dials, and a lost connection is dialled again.
 * Throws CONFIG_INVALID for an address that is none, and for a server without an identity or trust.
 */
export function connect(options: BrokerOptions = {}): Connection {
  const { line, folder } = lineTo(options);
  const address = line.address;
  const callers = Object.entries(services).map(([name, definition]) => {
    const methods = Object.entries(definition).map(([method, d]) => {
      const call = d.responseStream ? streamCaller(line, d) : unaryCaller(line, d);
      return [method.charAt(0).toLowerCase() + method.slice(1), call] as const;
    });
    return [name, Object.fromEntries(methods)] as const;
  });
  const closing = new AbortController();
  const close = (): void => {
    closing.abort();
    line.close();
  };
  const connection = { ...Object.fromEntries(callers), address, close } as unknown as Connection;
  if (folder) keepUp(connection, folder, closing.signal);
  return connection;
}

function lineTo({ address, server, identity, trustBundle }: BrokerOptions): { readonly line: Line; readonly folder?: IdentityFolder } {
  const listed = (one: string | readonly string[]): readonly string[] => (typeof one === "string" ? [one] : one);
  if (server === undefined) return { line: new Line(listed(address ?? process.env["SPIFFE_ENDPOINT_SOCKET"] ?? "")) };
  if (address !== undefined) throw new BrevetError("CONFIG_INVALID", "give an address or a server, not both");
  const own = identityOf(identity ?? defaultFolder(), trustBundle);
  own.current();
  return { line: new Line(listed(server), own), ...(own instanceof IdentityFolder && { folder: own }) };
}

function metadata(): Metadata {
  const md = new Metadata();
  md.set("workload.spiffe.io", "true");
  return md;
}

function unaryCaller(line: Line, method: Wire<object, object>): Unary<object, object> {
  const once = (client: Client, request: object, deadline: number, signal: AbortSignal | undefined): Promise<object> =>
    new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const { address } = line;
      const cancel = (): void => call.cancel();
      const call = client.makeUnaryRequest<object, object>(
        method.path, method.requestSerialize, method.responseDeserialize, request, metadata(), { deadline },
        (error, answer) => {
          line.calls.delete(call);
          signal?.removeEventListener("abort", cancel);
          if (signal?.aborted) reject(signal.reason);
          else if (error) reject(failed(line, client, decodeError(error, address)));
          else resolve(answer as object);
        });
      line.calls.set(call, client);
      signal?.addEventListener("abort", cancel, { once: true });
    });
  return async (request, { signal, timeoutMs = 10_000, retry = false } = {}) => {
    const deadline = Date.now() + timeoutMs;
    for (let delay = firstDelay, left = line.size - 1; ; delay = Math.min(delay * 2, longestDelay)) {
      const { client } = line;
      try {
        return await once(client, request, deadline, signal);
      } catch (error) {
        line.mustBeOpen();
        if (!isUnavailable(error) || Date.now() + delay >= deadline) throw error;
        // what was never sent is asked at each of the other addresses, whatever it is
        if (!line.wasReached(client) && left-- > 0) continue;
        if (!retry) throw error;
        await pause(delay, signal);
      }
    }
  };
}

function streamCaller(line: Line, method: Wire<object, object>): Dialogue<object, object> {
  const once = async function* (client: Client, request: object, { signal, more }: Parameters<Dialogue<object, object>>[1] = {}): AsyncGenerator<object, void, void> {
    signal?.throwIfAborted();
    const { address } = line;
    const { path, requestSerialize, responseDeserialize } = method;
    const call: ClientReadableStream<object> = method.requestStream
      ? speak(client.makeBidiStreamRequest<object, object>(path, requestSerialize, responseDeserialize, metadata()), request, more)
      : client.makeServerStreamRequest<object, object>(path, requestSerialize, responseDeserialize, request, metadata());
    const cancel = (): void => call.cancel();
    line.calls.set(call, client);
    signal?.addEventListener("abort", cancel, { once: true });
    try {
      for await (const message of call) yield message as object;
    } catch (error) {
      // whoever gave up because nothing came is not to get the same silence again
      if (isSilence(signal?.reason)) line.moveOn(client);
      signal?.throwIfAborted();
      line.mustBeOpen();
      throw failed(line, client, decodeError(error, address));
    } finally {
      line.calls.delete(call);
      signal?.removeEventListener("abort", cancel);
      call.on("error", () => {}); // the cancellation's own echo, after the loop was left
      call.cancel();
    }
  };
  if (line.size === 1) return (request, options) => once(line.client, request, options);
  return async function* (request, options) {
    for (let left = line.size - 1; ; left--) {
      const { client } = line;
      try {
        return yield* once(client, request, options);
      } catch (error) {
        const wasSent = line.wasReached(client) || !isUnavailable(error);
        if (wasSent || left === 0 || options?.signal?.aborted) throw error;
      }
    }
  };
}

/** A broker that can't serve now is left for the next address. */
function failed(line: Line, client: Client, error: BrevetError): BrevetError {
  if (isUnavailable(error) && error.code !== "RATE_LIMITED") line.moveOn(client);
  return error;
}

function isSilence(reason: unknown): boolean {
  return reason instanceof BrevetError && reason.code === "VERIFY_STALE";
}

function speak(call: ClientDuplexStream<object, object>, first: object, more: More<object> | undefined): ClientReadableStream<object> {
  call.write(first);
  if (more) more((message) => call.writable && call.write(message));
  else call.end();
  return call;
}

/**
 * Keeps a stream up until `signal` aborts: a stream that delivered is reopened at once, one that
 * did not after 20 ms … 1 s. `lost` hears why each ended (undefined: properly); `false` from it ends all.
 * Throws what asking again cannot mend (section 6): a malformed request, a method that is not there.
 * An error that `message` throws discards that message and reopens the stream.
 */
export async function follow<T>(
  open: (signal: AbortSignal) => AsyncIterable<T>,
  on: { message(message: T): void; lost(error: BrevetError | undefined): boolean },
  signal: AbortSignal,
): Promise<void> {
  for (let delay = firstDelay; !signal.aborted; delay = Math.min(delay * 2, longestDelay)) {
    let ended: BrevetError | undefined;
    try {
      for await (const message of open(signal)) {
        on.message(message);
        delay = firstDelay;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof BrevetError) || hopeless.has(errorCodes[error.code].grpc)) throw error;
      ended = error;
    }
    if (signal.aborted || !on.lost(ended)) return;
    await pause(delay, signal).catch(() => {});
  }
}

/** Half of the delay is fixed, half random: many clients must not return in step. */
async function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  await sleep(ms / 2 + Math.random() * (ms / 2), undefined, { signal }).catch((error: unknown) => {
    signal?.throwIfAborted();
    throw error;
  });
}

function isUnavailable(error: unknown): boolean {
  return error instanceof BrevetError && errorCodes[error.code].grpc === grpcStatus.UNAVAILABLE;
}
