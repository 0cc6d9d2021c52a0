// How does a test speak HTTP/2 as no library would let it?
// Frames are written byte by byte on a unix socket; what comes back is only counted. A peer is closed
// with the test.
// HTTP/2 (RFC 9113) frames, HPACK (RFC 7541) without its compression.
// Which floods there are is wire.test.ts's business.
import net from "node:net";
import { onTestFinished } from "vitest";

export const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

export const frameTypes = { data: 0, headers: 1, priority: 2, reset: 3, settings: 4, push: 5, ping: 6, goaway: 7, window: 8, continuation: 9 } as const;
export const endStream = 0x1;
export const endHeaders = 0x4;

export function frame(type: keyof typeof frameTypes, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = frameTypes[type];
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** Each field as a literal that is not indexed. */
export function block(fields: readonly (readonly [string, string])[]): Buffer {
  return Buffer.concat(fields.map(([name, value]) => Buffer.concat([Buffer.from([0]), text(name), text(value)])));
}

export function text(value: string): Buffer {
  const bytes = Buffer.from(value, "latin1");
  if (bytes.length < 127) return Buffer.concat([Buffer.from([bytes.length]), bytes]);
  const length: number[] = [127];
  for (let rest = bytes.length - 127; ; rest >>= 7) {
    length.push(rest > 127 ? (rest & 127) | 128 : rest);
    if (rest <= 127) return Buffer.concat([Buffer.from(length), bytes]);
  }
}

/** A call as a gRPC client begins it. */
export function callFields(path: string, more: readonly (readonly [string, string])[] = [["workload.spiffe.io", "true"]]): (readonly [string, string])[] {
  return [[":method", "POST"], [":scheme", "http"], [":path", path], [":authority", "localhost"], ["content-type", "application/grpc"], ["te", "trailers"], ...more];
}

/** One gRPC message with any flag byte. */
export function message(bytes: Buffer, flag = 0, length = bytes.length): Buffer {
  const head = Buffer.alloc(5);
  head[0] = flag;
  head.writeUInt32BE(length, 1);
  return Buffer.concat([head, bytes]);
}

export class Peer {
  readonly socket: net.Socket;
  /** Resolves when the other side has closed. */
  readonly closed: Promise<void>;
  #pending = 0;
  #taken: () => void = () => {};

  constructor(path: string, options: { readonly hello?: boolean; readonly read?: boolean } = {}) {
    const { hello = true, read = true } = options;
    this.socket = net.connect(path.replace("unix://", ""));
    this.socket.on("error", () => {});
    this.closed = new Promise((resolve) => this.socket.once("close", () => resolve()));
    if (read) this.socket.resume();
    else this.socket.pause();
    if (hello) this.write(preface, frame("settings", 0, 0));
    onTestFinished(() => {
      this.socket.destroy();
    });
  }

  write(...bytes: readonly Buffer[]): void {
    if (!this.socket.writable) return;
    this.#pending++;
    this.socket.write(Buffer.concat(bytes), () => {
      if (--this.#pending === 0) this.#taken();
    });
  }

  /** Until the other side has taken it all, or has closed. */
  async drained(): Promise<void> {
    if (this.#pending > 0) await Promise.race([new Promise<void>((resolve) => (this.#taken = resolve)), this.closed]);
  }
}
