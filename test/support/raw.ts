// How does a test send what no proper client would?
// Requests go out as the bytes that a test wrote, with the metadata that it wrote; what comes back is
// the status as it stood on the wire, with the details that came with it. A call that is answered and
// stays open counts as answered, and is cancelled.
// What an answer must be is each test's business.
import { Client, Metadata, credentials, status } from "@grpc/grpc-js";
import type { ServiceError } from "@grpc/grpc-js";
import { messageType } from "../../src/proto.ts";
import { isErrorCode } from "../../src/errors.ts";
import type { BadRequest__Output } from "../../src/generated/google/rpc/BadRequest.ts";
import type { ErrorInfo__Output } from "../../src/generated/google/rpc/ErrorInfo.ts";
import type { Status__Output } from "../../src/generated/google/rpc/Status.ts";
import { patienceMs } from "./patience.ts";

export type Answer = {
  /** The name of the gRPC status; OK when a message came. */
  readonly status: string;
  readonly message: string;
  readonly info: ErrorInfo__Output | undefined;
  readonly fields: readonly string[];
  /** The details' bytes. */
  readonly bytes: Buffer;
  readonly body: Buffer | undefined;
};

export type Wire = { readonly path: string; readonly requestStream: boolean; readonly responseStream: boolean };

/** The security header as it must be. */
export function header(...values: readonly string[]): Metadata {
  const metadata = new Metadata();
  for (const value of values) metadata.add("workload.spiffe.io", value);
  return metadata;
}

export class RawClient implements Disposable {
  readonly #client: Client;

  /** `unix:///…` */
  constructor(socket: string) {
    this.#client = new Client(socket.replace("unix://", "unix:"), credentials.createInsecure(), {
      "grpc.use_local_subchannel_pool": 1, "grpc.max_send_message_length": -1,
    });
  }

  call(method: Wire, request: Buffer, metadata: Metadata = header("true")): Promise<Answer> {
    const same = (bytes: Buffer): Buffer => bytes;
    const options = { deadline: Date.now() + patienceMs };
    return new Promise((resolve) => {
      if (!method.responseStream && !method.requestStream) {
        this.#client.makeUnaryRequest(method.path, same, same, request, metadata, options, (error, body) => resolve(answerOf(error, body)));
        return;
      }
      const bidi = method.requestStream ? this.#client.makeBidiStreamRequest(method.path, same, same, metadata, options) : undefined;
      bidi?.write(request);
      const stream = bidi ?? this.#client.makeServerStreamRequest(method.path, same, same, request, metadata, options);
      stream.once("data", (body: Buffer) => {
        resolve(answerOf(null, body));
        stream.cancel();
      });
      stream.on("error", (error: ServiceError) => resolve(answerOf(error)));
      stream.on("end", () => resolve(answerOf(null)));
    });
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }
}

function answerOf(error: ServiceError | null, body?: Buffer): Answer {
  const bytes = error?.metadata?.get("grpc-status-details-bin")[0];
  const details = { status: status[error?.code ?? 0] ?? "none", message: error?.details ?? "", info: undefined, fields: [], bytes: Buffer.alloc(0), body };
  return Buffer.isBuffer(bytes) ? { ...details, bytes, ...read(bytes) } : details;
}

function read(bytes: Buffer): { info: ErrorInfo__Output | undefined; fields: string[] } {
  const found: { info: ErrorInfo__Output | undefined; fields: string[] } = { info: undefined, fields: [] };
  const outer = messageType("google.rpc.Status").deserialize(bytes) as Status__Output;
  for (const { type_url: type, value } of outer.details as readonly { type_url: string; value: Buffer }[]) {
    const name = type.slice(type.lastIndexOf("/") + 1);
    if (name === "google.rpc.ErrorInfo") found.info = messageType(name).deserialize(value) as ErrorInfo__Output;
    if (name === "google.rpc.BadRequest") found.fields = (messageType(name).deserialize(value) as BadRequest__Output).fieldViolations.map(({ field }) => field);
  }
  return found;
}

/** Whether it is a refusal of ours: a reason from the closed list, and nothing of the broker's inside in its text. */
export function isOurs({ info, message }: Answer): boolean {
  return info?.domain === "brevet" && isErrorCode(info.reason) && !/\b(select|insert|update)\b.*\b(from|into|set)\b|node_modules|\.ts:|\.js:|at .*\(|ECONN|relation "/i.test(message);
}

// Protocol Buffers by hand

export function varint(value: bigint): Buffer {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, value);
  do {
    bytes.push(Number(rest & 0x7fn) | (rest > 0x7fn ? 0x80 : 0));
    rest >>= 7n;
  } while (rest > 0n);
  return Buffer.from(bytes);
}

export function numberField(number: number, value: bigint): Buffer {
  return Buffer.concat([varint(BigInt(number) << 3n), varint(value)]);
}

export function bytesField(number: number, value: Buffer | string): Buffer {
  const bytes = Buffer.from(value as string);
  return Buffer.concat([varint((BigInt(number) << 3n) | 2n), varint(BigInt(bytes.length)), bytes]);
}
