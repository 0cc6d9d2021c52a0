// What may one connection do with HTTP/2 before any call of it is looked at?
// A connection that does not speak HTTP/2 in time is closed, one that makes noise (streams reset before
// their answer, pings, settings) beyond what clients do is cut, and a request without the security
// header, in a compressed encoding or to a method that is not there is refused from its headers alone, and what
// is no gRPC is answered in HTTP.
// SPIFFE Workload Endpoint section 3; gRPC over HTTP/2 (encodings, timeouts, unknown methods).
// CONTINUATION floods are bounded by nghttp2, header sizes by the settings given here to node:http2;
// what a call's message holds is wire.ts's business, how many calls a user may make limits.ts's.
import { constants } from "node:http2";
import type { Http2Server, IncomingHttpHeaders, ServerHttp2Session, ServerHttp2Stream } from "node:http2";
import type { Socket } from "node:net";
import type { Server } from "@grpc/grpc-js";
import { BrevetError, invalid } from "../errors.ts";
import { checkFrames } from "./frames.ts";
import { toGrpcError } from "./status.ts";

export type SessionOptions = {
  readonly metadataBytes: number;
  /** Whether this method may be called by whoever is at this address, as far as its path tells. */
  readonly refuse: (path: string, address: string) => BrevetError | undefined;
  /** Whether the method takes a stream of messages. */
  readonly takesMany: (path: string) => boolean;
  /** Told of each stream that is served, and of whoever is at its other end. */
  readonly onStream: (stream: ServerHttp2Stream, address: string) => void;
  /** Told of what was refused here; may add to the error. */
  readonly onRefused: (error: BrevetError) => BrevetError;
};

type Serve = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void;

const helloMs = 5000;
const windowMs = 10_000;
const noisePerWindow = 2000;
/** nghttp2 cuts a connection with an error at 1,000 (and 33 more a second); some may be on their way. */
const cancelledBeforeRenewal = 700;
const graceMs = 1000;
const cost = { reset: 20, settings: 20, ping: 1 } as const;

/** Called once, when the server's injector has been made and before its first connection. */
export function guardSessions(grpc: Server, options: SessionOptions): void {
  const server = http2Of(grpc);
  server.updateSettings({ maxHeaderListSize: options.metadataBytes });
  server.prependListener("session", (session) => {
    keepAddress(session);
    watchStreams(session);
  });
  const [serve] = server.listeners("stream") as Serve[];
  if (!serve) throw new TypeError("grpc-js: its HTTP/2 server serves no streams");
  server.removeAllListeners("stream");
  server.on("stream", (stream, headers) => {
    // it may be reset, or its connection broken, before it is looked at: then there is nobody to answer
    stream.on("error", nothing);
    if (stream.destroyed) return;
    const address = stream.session?.socket.remoteAddress ?? "";
    const status = unspoken(headers);
    if (status !== undefined) return stream.respond({ ":status": status }, { endStream: true });
    const refused = refuse(headers, address, options);
    if (refused) return answer(stream, options.onRefused(refused));
    options.onStream(stream, address);
    checkFrames(stream, options.takesMany(String(headers[":path"])), (error) => answer(stream, options.onRefused(error)));
    serve(stream, headers);
  });
}

/** grpc-js offers no way to the HTTP/2 server that it makes for an injector. */
function http2Of(grpc: Server): Http2Server {
  const servers = Reflect.get(grpc, "http2Servers") as ReadonlyMap<Http2Server, unknown> | undefined;
  const [server] = servers?.keys() ?? [];
  if (!server) throw new TypeError("grpc-js: its HTTP/2 server is not where it was");
  return server;
}

/** What is no net.Socket node:http2 wraps into one, which has no address; `session.socket` shows it, but is a proxy of it. */
function keepAddress(session: ServerHttp2Session): void {
  const socket = session.socket.once("close", () => undefined) as Socket & { readonly stream?: { readonly remoteAddress?: string } };
  const address = socket.stream?.remoteAddress;
  if (address !== undefined) Object.defineProperty(socket, "remoteAddress", { value: address });
}

/** One listener for each stream, of which a broker may hold many thousands. */
function watchStreams(session: ServerHttp2Session): void {
  const heard = watchNoise(session);
  const cancelled = renewInTime(session);
  session.on("stream", (stream) => {
    stream.on("close", () => {
      if (!stream.headersSent) heard(cost.reset);
      if (stream.rstCode !== 0) cancelled();
    });
  });
}

/** To be told of what costs its sender nothing. */
function watchNoise(session: ServerHttp2Session): (points: number) => void {
  const hello = setTimeout(() => session.destroy(), helloMs);
  let since = performance.now();
  let noise = 0;
  const heard = (points: number): void => {
    const now = performance.now();
    if (now - since > windowMs) {
      since = now;
      noise = 0;
    }
    noise += points;
    if (noise > noisePerWindow) session.destroy();
  };
  session.on("remoteSettings", () => {
    clearTimeout(hello);
    heard(cost.settings);
  });
  session.on("ping", () => heard(cost.ping));
  session.once("close", () => clearTimeout(hello));
  return heard;
}

/**
 * To be told of each stream that was cancelled. A client that takes one answer of each and cancels is told in time to
 * go on with a new connection, and up to which stream it was served: what it sent meanwhile it may send again, since
 * nobody has looked at it. What is open goes on.
 */
function renewInTime(session: ServerHttp2Session): () => void {
  let cancelled = 0;
  const renew = (): void => {
    if (session.closed || session.destroyed) return;
    session.goaway(constants.NGHTTP2_NO_ERROR);
    const closing = setTimeout(() => session.close(), graceMs).unref();
    session.once("close", () => clearTimeout(closing));
  };
  return () => {
    if (++cancelled === cancelledBeforeRenewal) setImmediate(renew); // not from within a stream's end
  };
}

const nothing = (): void => undefined;

/** The HTTP status for what is not gRPC, or not in the one encoding of messages that is known here. */
function unspoken(headers: IncomingHttpHeaders): number | undefined {
  if (headers[":method"] !== constants.HTTP2_METHOD_POST) return constants.HTTP_STATUS_METHOD_NOT_ALLOWED;
  return /^application\/grpc(\+proto)?\s*(;|$)/i.test(headers["content-type"] ?? "") ? undefined : constants.HTTP_STATUS_UNSUPPORTED_MEDIA_TYPE;
}

/** Before anything else: a request forged through a browser or a proxy has no such header. */
function refuse(headers: IncomingHttpHeaders, address: string, { refuse: refusePath, metadataBytes }: SessionOptions): BrevetError | undefined {
  if (headers["workload.spiffe.io"] !== "true") {
    return new BrevetError("SECURITY_HEADER_MISSING", "metadata workload.spiffe.io: true is required, exactly once (SPIFFE Workload Endpoint, section 3)");
  }
  if (sizeOf(headers) > metadataBytes) return invalid([{ field: "metadata", description: `at most ${metadataBytes} bytes (limits.metadataBytes)` }]);
  const forbidden = refusePath(String(headers[":path"]), address);
  if (forbidden) return forbidden;
  if ((headers["grpc-encoding"] ?? "identity") !== "identity") return new BrevetError("UNIMPLEMENTED", "grpc-encoding: only identity is accepted");
  const timeout = headers["grpc-timeout"];
  if (timeout !== undefined && !/^\d{1,8}[HMSmun]$/.test(String(timeout))) {
    return invalid([{ field: "grpc-timeout", description: "must be 1 to 8 digits and one of H, M, S, m, u, n" }]);
  }
  return undefined;
}

/** As HTTP/2 counts it. The setting alone holds only from when the other side has acknowledged it. */
function sizeOf(headers: IncomingHttpHeaders): number {
  return Object.entries(headers).reduce((sum, [name, value]) => sum + name.length + String(value).length + 32, 0);
}

function answer(stream: ServerHttp2Stream, error: BrevetError): void {
  const { code, details, metadata } = toGrpcError(error);
  stream.respond({
    ":status": 200, "content-type": "application/grpc+proto", "grpc-status": String(code), "grpc-message": encodeURI(details), ...metadata.toHttp2Headers(),
  }, { endStream: true });
}
