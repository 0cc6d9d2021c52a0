// How do gRPC servers and clients talk so that a dead SVID opens nothing?
// The TLS is tls.ts's, both ways: a server's connections reach grpc-js only once their caller was accepted,
// a client's only once `authorize` agreed to the other side; both are cut when that SVID dies, with all
// calls on them. Certificates are read at each handshake, so a renewed SVID needs no restart.
// Whoever uses this must have one copy of @grpc/grpc-js with this package: it compares classes.
import { CallCredentials, ChannelCredentials, ServerCredentials } from "@grpc/grpc-js";
import type { Server } from "@grpc/grpc-js";
import type { Socket } from "node:net";
import type { Server as TlsServer } from "node:tls";
import { BrevetError } from "../errors.ts";
import { checkOptions } from "../identity/options.ts";
import { callerOf, createMtlsServer, mtlsRules, secured } from "./tls.ts";
import type { MtlsOptions, PeerOptions } from "./tls.ts";
import type { Accepted } from "./verdict.ts";

const protocols = ["h2"];
const drainMs = 5_000;

/** What a handler is given: it says from where it was called. */
export type Called = { getPeer(): string };

/** Serves a grpc-js Server over mutual TLS: `listen` on `tls` as usual; `close` ends its sessions. */
export class GrpcListener {
  readonly tls: TlsServer;
  readonly #callers = new Map<string, Accepted>();
  readonly #injector: ReturnType<Server["createConnectionInjector"]>;

  constructor(server: Server, options: MtlsOptions) {
    this.#injector = server.createConnectionInjector(ServerCredentials.createInsecure());
    this.tls = createMtlsServer({ ...options, protocols }, (socket) => {
      const from = `${socket.remoteAddress}:${socket.remotePort}`;
      // one address, two callers (at two addresses of ours): a call could not tell them apart
      if (socket.remotePort === undefined || this.#callers.has(from)) return void socket.destroy();
      this.#callers.set(from, callerOf(socket));
      socket.once("close", () => this.#callers.delete(from));
      this.#injector.injectConnection(socket);
    });
  }

  /** Whose call this is. Throws VERIFY_REVOKED when its connection was cut meanwhile. */
  callerOf(call: Called): Accepted {
    const caller = this.#callers.get(call.getPeer());
    if (caller === undefined) throw new BrevetError("VERIFY_REVOKED", "the caller's connection was cut");
    return caller;
  }

  close(): void {
    this.tls.close();
    this.#injector.drain(drainMs);
    this.#injector.destroy();
  }
}

/** For a grpc-js client: our SVID, and a server that `authorize` agrees to, whatever it is called. */
export function grpcCredentials(options: PeerOptions): ChannelCredentials {
  checkOptions(options, mtlsRules, ["verifier", "source", "authorize"]);
  return new SvidCredentials(options);
}

class SvidCredentials extends ChannelCredentials {
  readonly #options: PeerOptions;

  constructor(options: PeerOptions) {
    super();
    this.#options = { ...options, protocols };
  }

  override _isSecure(): boolean {
    return true;
  }

  override _equals(other: ChannelCredentials): boolean {
    return this === other;
  }

  override _createSecureConnector(
    ...[, , calls = CallCredentials.createEmpty()]: Parameters<ChannelCredentials["_createSecureConnector"]>
  ): ReturnType<ChannelCredentials["_createSecureConnector"]> {
    return {
      connect: async (socket: Socket) => await new Promise((resolve, reject) => {
        const secure = secured(this.#options, { socket });
        secure.once("error", reject).once("secureConnect", () => resolve({ socket: secure, secure: true }));
      }),
      waitForReady: async () => {},
      getCallCredentials: () => calls,
      destroy: () => {},
    };
  }
}
