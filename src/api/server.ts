// Who is on the other end of this call, and may it be served at all?
// Every connection is attested before its first byte is read; every call passes one wrapper: security
// header, connection, limits, handler, error, log, count. No handler sees a call that skipped one.
// SPIFFE Workload Endpoint sections 3 (`workload.spiffe.io: true`), 5 and 6.
// What each call answers is in the files beside this one; facts about callers come from src/attest.
import type net from "node:net";
import type { Duplex } from "node:stream";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import type { sendUnaryData, ServerDuplexStream, ServerUnaryCall, ServerWritableStream, UntypedServiceImplementation } from "@grpc/grpc-js";
import type { Caller } from "../attest/caller.ts";
import { BrevetError, asBrevetError } from "../errors.ts";
import { onceBegun } from "./authority.ts";
import { AdmittedCall, firstMessage, publicError } from "./call.ts";
import type { AnyStream, AnyUnary, Call } from "./call.ts";
import { Connection } from "./connection.ts";
import type { Known } from "./connection.ts";
import type { CallKind, CallerLimits } from "./limits.ts";
import { mayCall } from "./roles.ts";
import type { Role } from "./roles.ts";
import { guardSessions } from "./session.ts";
import { toGrpcError } from "./status.ts";
import { listenAt } from "./unix-socket.ts";
import { Unread, mostUnreadBytes } from "./unread.ts";
import { Malformed, readable, strict } from "./wire.ts";

export type ServerOptions = {
  /** What whoever comes in here may be. */
  readonly roles: readonly Role[];
  /** For those that come through unix sockets. */
  readonly door?: Door;
  readonly limits: CallerLimits;
  readonly maxStreamsPerConnection: number;
  readonly messageBytes: number;
  readonly metadataBytes: number;
  readonly connectionIdleSeconds: number;
  /** Told of every refused call and connection; may add metadata (the attempt's ID) to the error. */
  readonly onRefused: (error: BrevetError, call: Pick<Call, "connection" | "about"> | undefined, method: string) => BrevetError;
  readonly onServed: (method: string, ms: number) => void;
};

type Door = {
  readonly role: "administrator" | "process";
  readonly attest: (socket: net.Socket) => Caller;
  /** The kernel's word of who opened it, where no more can be known. */
  readonly openerOf: (socket: net.Socket) => Omit<Known, "facts"> | null;
  /** Refuses a caller for good; undefined lets it in. */
  readonly admit?: (caller: Caller) => BrevetError | undefined;
};

const sessionMemoryMb = 10;
const refusedMs = 5000;

export class ApiServer {
  readonly #o: ServerOptions;
  readonly #grpc: Server;
  readonly #connections = new Map<string, Connection>();
  /** By path, whether it takes a stream of messages. */
  readonly #methods = new Map<string, boolean>();
  readonly #unread: Unread;
  readonly #injector: ReturnType<Server["createConnectionInjector"]>;
  #next = 0;

  constructor(options: ServerOptions) {
    this.#o = options;
    this.#unread = new Unread((share) => void options.onRefused(unreadOf(share), undefined, "unread"));
    this.#grpc = new Server({
      "grpc.enable_channelz": 0,
      "grpc.max_concurrent_streams": options.maxStreamsPerConnection,
      "grpc.max_receive_message_length": options.messageBytes,
      "grpc.max_send_message_length": 8 << 20,
      "grpc.max_connection_idle_ms": options.connectionIdleSeconds * 1000,
      "grpc-node.max_session_memory": sessionMemoryMb,
    });
    this.#injector = this.#grpc.createConnectionInjector(ServerCredentials.createInsecure());
    guardSessions(this.#grpc, {
      metadataBytes: options.metadataBytes,
      refuse: (path, address) => this.#refuse(path, this.#connections.get(address)),
      takesMany: (path) => this.#methods.get(path) === true,
      onStream: (stream, address) => this.#unread.watch(stream, this.#connections.get(address)?.share ?? "nobody"),
      onRefused: (error) => options.onRefused(error, undefined, "unknown"),
    });
  }

  get connections(): number {
    return this.#connections.size;
  }

  /** For handlers that were not written here (health, reflection): the same guard before each. */
  get guarded(): Pick<Server, "addService"> {
    return {
      addService: (definition, implementation) => {
        const guarded: UntypedServiceImplementation = {};
        for (const [name, handler] of Object.entries(implementation)) guarded[name] = this.#guard(name, handler as (...args: unknown[]) => void) as never;
        this.#add(readable(definition), guarded);
      },
    };
  }

  addService(definition: Parameters<Server["addService"]>[0], implementation: UntypedServiceImplementation): void {
    this.#add(strict(definition), implementation);
  }

  /** What nobody who comes in here may call is not there. */
  #add(definition: Parameters<Server["addService"]>[0], implementation: UntypedServiceImplementation): void {
    const served = Object.entries(definition).filter(([, { path }]) => this.#o.roles.some((role) => mayCall(role, path)));
    for (const [, { path, requestStream }] of served) this.#methods.set(path, requestStream);
    this.#grpc.addService(Object.fromEntries(served), implementation);
  }

  #refuse(path: string, connection: Connection | undefined): BrevetError | undefined {
    if (!this.#methods.has(path)) return new BrevetError("UNIMPLEMENTED", "there is no such method on this socket");
    if (!connection) return new BrevetError("DENIED_UNATTESTED", "the connection is gone");
    if (connection.refusal) return connection.refusal;
    return mayCall(connection.role, path) ? undefined : new BrevetError("DENIED_ROLE", `the role ${connection.role} may not call this`);
  }

  /** Answers once. */
  unary<Q, A>(method: string, handler: (request: Q, call: Call) => Promise<A> | A, kind: CallKind = "fetches"): (call: ServerUnaryCall<Q, A>, done: sendUnaryData<A>) => void {
    return (grpcCall, done) => {
      const began = performance.now();
      let call: Call | undefined;
      const fail = (error: unknown): void => done(toGrpcError(this.#o.onRefused(publicError(error), call, method)));
      try {
        const found = this.#admit(grpcCall as unknown as AnyUnary, method, kind);
        call = found;
        const answer = handler(grpcCall.request, found);
        if (!(answer instanceof Promise)) {
          done(null, answer);
          return;
        }
        answer.then((value) => {
          done(null, value);
          this.#o.onServed(method, performance.now() - began);
        }, fail);
      } catch (error) {
        fail(error);
      }
    };
  }

  /** Runs until the handler returns (OK) or throws; the signal ends with the stream. */
  stream<Q, A>(method: string, handler: (request: Q, call: Call, stream: ServerWritableStream<Q, A>) => Promise<void>): (stream: ServerWritableStream<Q, A>) => void {
    return (stream) => this.#serve(method, stream as unknown as AnyStream, (call) => handler(stream.request, call, stream));
  }

  /** As `stream`; the first message is the request, what follows stands in the stream, and may be Malformed. Half-closing ends nothing. */
  dialogue<Q, A>(method: string, handler: (request: Q, call: Call, stream: ServerDuplexStream<Q, A>) => Promise<void>): (stream: ServerDuplexStream<Q, A>) => void {
    return (stream) => this.#serve(method, stream as unknown as AnyStream, async (call) => handler(await firstMessage(stream, call.signal), call, stream));
  }

  #serve(method: string, stream: AnyStream, run: (call: Call) => Promise<void>): void {
    let call: Call | undefined;
    let share: string | undefined;
    void (async () => {
      try {
        call = this.#admit(stream, method);
        this.#o.limits.openStream(call.connection.share);
        share = call.connection.share;
        await run(call);
        stream.end();
      } catch (error) {
        if (stream.cancelled) return;
        const refused = this.#o.onRefused(publicError(error), call, method);
        stream.emit("error", toGrpcError(refused));
      } finally {
        if (share !== undefined) this.#o.limits.closeStream(share);
      }
    })();
  }

  /**
   * Serves on a unix socket. What stands at the path already is removed only if it is a socket that nobody answers.
   * @returns closes the socket, its path and its connections
   */
  async listen(path: string, mode: number, endpointTask: string | null): Promise<() => Promise<void>> {
    const { door } = this.#o;
    if (!door) throw new TypeError("a server without a door listens on no socket");
    return await listenAt(path, mode, (socket) => this.#accept(socket, door, endpointTask));
  }

  /** Lets calls under way finish until the deadline. */
  async close(deadlineMs: number): Promise<void> {
    this.#unread.close();
    const { promise, resolve } = withResolvers();
    const timer = setTimeout(() => {
      this.#grpc.forceShutdown();
      resolve();
    }, deadlineMs);
    this.#grpc.tryShutdown(() => resolve());
    await promise;
    clearTimeout(timer);
  }

  #accept(socket: net.Socket, { role, attest, openerOf, admit }: Door, endpointTask: string | null): void {
    socket.on("error", () => socket.destroy());
    let caller: Caller | undefined;
    try {
      caller = attest(socket);
      const refused = admit?.(caller);
      if (refused) throw refused;
      this.serve(socket, Connection.ofProcess(caller, role, endpointTask));
      socket.once("close", () => caller?.close());
    } catch (error) {
      caller?.close();
      const refusal = asBrevetError(error);
      const opener = openerOf(socket);
      const process = caller ?? (opener && { ...opener, facts: { uid: opener.uid, gid: opener.gid } });
      const told = this.#o.onRefused(refusal, { connection: Connection.ofRefused(refusal, process) }, "connect");
      if (told.code.startsWith("DENIED_")) this.tellWhy(socket, Connection.ofRefused(told, process));
      else socket.destroy();
    }
  }

  /** Answers every call with the connection's refusal, for no longer than a client needs to ask. */
  tellWhy(socket: net.Socket, refused: Connection): void {
    const timer = setTimeout(() => socket.destroy(), refusedMs);
    socket.once("close", () => clearTimeout(timer));
    try {
      this.serve(socket, refused);
    } catch {
      socket.destroy(); // too many of them
    }
  }

  /**
   * Speaks HTTP/2 on a socket whose other end is known.
   * @throws BrevetError RATE_LIMITED if its share of the connections is used up
   */
  serve(socket: net.Socket, connection: Connection): void {
    const { share } = connection;
    if (!this.#o.limits.connect(share)) throw new BrevetError("RATE_LIMITED", `${share} holds too many connections`);
    const id = `c${this.#next++}`;
    this.#connections.set(id, connection);
    socket.once("close", () => {
      this.#connections.delete(id);
      this.#o.limits.disconnect(share);
    });
    const speak = (connection: Duplex): void => {
      // grpc-js hands a call's peer address on as text: for our connections it is this key
      Object.defineProperties(connection, { remoteAddress: { value: id }, remotePort: { value: undefined } });
      this.#injector.injectConnection(connection);
    };
    if (this.#o.door) onceBegun(socket, speak);
    else speak(socket);
  }

  #admit(call: AnyUnary | AnyStream, method: string, kind: CallKind = "fetches"): Call {
    const connection = this.#connections.get(call.getPeer());
    const refused = this.#refuse(call.getPath(), connection);
    if (refused || !connection) throw refused ?? new BrevetError("DENIED_UNATTESTED", "the connection is gone");
    this.#o.limits.call(connection.share, kind);
    if (this.#unread.isTooMuch(connection.share)) throw unreadOf(connection.share);
    if ("request" in call && call.request instanceof Malformed) throw call.request.error;
    return new AdmittedCall(connection, method, call);
  }

  #guard(method: string, handler: (...args: unknown[]) => void): (...args: unknown[]) => void {
    return (call, ...rest) => {
      try {
        this.#admit(call as AnyUnary, method);
      } catch (error) {
        const refused = toGrpcError(this.#o.onRefused(publicError(error), undefined, method));
        const done = rest[0];
        if (typeof done === "function") done(refused);
        else (call as AnyStream).emit("error", refused);
        return;
      }
      handler(call, ...rest);
    };
  }
}

function unreadOf(share: string): BrevetError {
  return new BrevetError("RATE_LIMITED", `${share} leaves more than ${mostUnreadBytes >> 20} MiB unread of what it was sent`);
}

function withResolvers(): { promise: Promise<void>; resolve: () => void } {
  let resolve = (): void => undefined;
  const promise = new Promise<void>((r) => (resolve = r));
  return { promise, resolve };
}
