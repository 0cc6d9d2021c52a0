// Where is the broker, and how is it reached there?
// A unix socket, or host:port by mutual TLS 1.3: then the server must show the broker's own SVID, of a chain that
// leads to a CA we trust; its host name means nothing. Several addresses are one broker: who fails, or says nothing
// when dialled, is left for the next, and what was under way is asked anew there. Credentials that change are used
// from the next dial on.
// SPIFFE Workload Endpoint section 4 (unix:///…); X509-SVID section 5. Calls are connect.ts's business.
import { constants } from "node:crypto";
import * as tls from "node:tls";
import { Client, connectivityState, credentials } from "@grpc/grpc-js";
import type { ChannelCredentials } from "@grpc/grpc-js";
import { BrevetError } from "../errors.ts";
import { parseSpiffeId } from "../identity/id.ts";
import { readX509Svid } from "../identity/svid.ts";
import type { Credentials, Identity } from "./identity.ts";

const channelOptions = {
  "grpc.use_local_subchannel_pool": 1,
  "grpc.initial_reconnect_backoff_ms": 20,
  "grpc.max_reconnect_backoff_ms": 1_000,
  "grpc.max_receive_message_length": 8 << 20,
  "grpc.max_send_message_length": 4 << 20,
  "grpc.enable_http_proxy": 0,
  "grpc.service_config_disable_resolution": 1,
};
/** A machine that is gone, or stopped, says nothing: it is asked, so that a verifier moves on before it is stale. */
const networkOptions = {
  ...channelOptions,
  "grpc.keepalive_time_ms": 3_000,
  "grpc.keepalive_timeout_ms": 2_000,
  "grpc.keepalive_permit_without_calls": 0,
  "grpc.ssl_target_name_override": "brevet-broker",
};
const longestSocketPath = 107;
/** For how long somebody who was dialled may say nothing; for less where there is another to ask. */
const patienceMs = { only: 10_000, ofSeveral: 3_000 } as const;
const graceMs = 200;

export class Line {
  /** What is under way, and by which client. */
  readonly calls = new Map<{ cancel(): void }, Client>();
  closed = false;
  readonly #addresses: readonly string[];
  readonly #identity: Identity | undefined;
  #at = 0;
  #client: Client | undefined;
  #used: Credentials | undefined;
  readonly #reached = new WeakSet<Client>();

  /** `identity`: the addresses are host:port. */
  constructor(addresses: readonly string[], identity?: Identity) {
    this.#addresses = addresses;
    this.#identity = identity;
    for (const address of addresses) if (identity) splitServer(address); else dialTarget(address);
  }

  get address(): string {
    return this.#addresses[this.#at] ?? "";
  }

  /** @throws BrevetError WRONG_STATE once it is closed, CONFIG_INVALID while there are no credentials */
  get client(): Client {
    this.mustBeOpen();
    const wanted = this.#identity?.current();
    if (this.#client && wanted === this.#used) return this.#client;
    this.#client?.close(); // its calls run on
    this.#used = wanted;
    this.#client = wanted
      ? new Client(networkTarget(this.address), secure(wanted), networkOptions)
      : new Client(dialTarget(this.address), credentials.createInsecure(), channelOptions);
    this.#expect(this.#client);
    return this.#client;
  }

  /** How many addresses there are. */
  get size(): number {
    return this.#addresses.length;
  }

  /** False: nobody was there, so nothing of its calls was ever sent. */
  wasReached(client: Client): boolean {
    return this.#reached.has(client);
  }

  /** The one that failed is left, if there is another. */
  moveOn(failed: Client): void {
    if (this.size > 1 && failed === this.#client) this.#leave(failed);
  }

  #leave(client: Client): void {
    this.#at = (this.#at + 1) % this.size;
    client.close();
    this.#client = undefined;
  }

  /** Who takes the connection and then says nothing would be waited for without end: grpc-js has no limit for it. */
  #expect(client: Client): void {
    const channel = client.getChannel();
    const giveUp = (): void => {
      const waiting = [...this.calls].filter(([, by]) => by === client);
      this.#leave(client);
      for (const [call] of waiting) call.cancel();
    };
    // where this process itself was held up, what came meanwhile is looked at first
    let timer = setTimeout(() => (timer = setTimeout(giveUp, graceMs)), this.size > 1 ? patienceMs.ofSeveral : patienceMs.only);
    const look = (): void => {
      const state = channel.getConnectivityState(false);
      if (state === connectivityState.READY) this.#reached.add(client);
      if (state === connectivityState.READY || state === connectivityState.SHUTDOWN) clearTimeout(timer);
      else channel.watchConnectivityState(state, Infinity, look);
    };
    look();
  }

  mustBeOpen(): void {
    if (this.closed) throw new BrevetError("WRONG_STATE", "this connection to the broker was closed");
  }

  /** Closing a grpc-js client lets its calls run on: they are cancelled one by one. */
  close(): void {
    this.closed = true;
    for (const call of this.calls.keys()) call.cancel();
    this.#client?.close();
  }
}

/** What grpc-js dials. TCP without TLS only where nobody can listen in, as for tests. */
function dialTarget(address: string): string {
  const remedy = "set SPIFFE_ENDPOINT_SOCKET or give an address, as unix:///run/brevet/workload.sock";
  if (!address) throw new BrevetError("CONFIG_INVALID", `no broker's address: ${remedy}`);
  const port = /^tcp:\/\/127\.0\.0\.1:(\d{1,5})$/.exec(address)?.[1];
  if (port !== undefined) return `ipv4:127.0.0.1:${port}`;
  const path = /^unix:(?:\/\/)?(\/(?!\/)[^?#]*)$/.exec(address)?.[1];
  if (path === undefined) throw new BrevetError("CONFIG_INVALID", `${address}: not a unix socket's address: ${remedy}`);
  if (Buffer.byteLength(path) > longestSocketPath) {
    throw new BrevetError("CONFIG_INVALID", `${path}: a socket's path has at most ${longestSocketPath} bytes`);
  }
  return `unix:${path}`;
}

export function splitServer(server: string): { readonly host: string; readonly port: number } {
  const [, v6, name, port] = /^(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9.-]{1,253})):(\d{1,5})$/.exec(server) ?? [];
  const host = v6 ?? name;
  if (host !== undefined && Number(port) > 0 && Number(port) <= 65_535) return { host, port: Number(port) };
  throw new BrevetError("CONFIG_INVALID", `server: "${server}" is not host:port, such as broker.example.org:8641`);
}

function networkTarget(server: string): string {
  const { host, port } = splitServer(server);
  if (host.includes(":")) return `ipv6:[${host}]:${port}`;
  return /^\d+(\.\d+){3}$/.test(host) ? `ipv4:${host}:${port}` : `dns:${host}:${port}`;
}

function secure({ key, cert, ca }: Credentials): ChannelCredentials {
  let context: tls.SecureContext;
  try {
    context = tls.createSecureContext({ key, cert, ca, minVersion: "TLSv1.3", secureOptions: constants.SSL_OP_NO_TICKET });
  } catch (cause) {
    throw new BrevetError("CONFIG_INVALID", "identity: the key, its certificate or the trust bundle can't be used", { cause });
  }
  return bounded(credentials.createFromSecureContext(context, { checkServerIdentity: (_host, { raw }) => whyNotABroker(raw) }));
}

/** A handshake that does not end is given up, and keeps no process from ending: grpc-js would wait without end. */
function bounded(made: ChannelCredentials): ChannelCredentials {
  const create = made._createSecureConnector.bind(made);
  made._createSecureConnector = (...how) => {
    const connector = create(...how);
    const handshake = connector.connect.bind(connector);
    connector.connect = async (socket) => {
      socket.unref();
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<never>((_, reject) => (timer = setTimeout(() => reject(new Error("the TLS handshake was not answered")), patienceMs.only).unref()));
      try {
        return await Promise.race([handshake(socket), late]);
      } finally {
        clearTimeout(timer);
        socket.ref();
      }
    };
    return connector;
  };
  return made;
}

/** OpenSSL has led the chain to a CA of the bundle; whom it names is judged here. */
function whyNotABroker(leaf: Buffer): Error | undefined {
  try {
    const { spiffeId } = readX509Svid(leaf);
    if (parseSpiffeId(spiffeId).path === "/brevet/broker") return undefined;
    return new BrevetError("VERIFY_NOT_AUTHORIZED", `the server is ${spiffeId}, and no broker`);
  } catch (error) {
    return error as Error;
  }
}
