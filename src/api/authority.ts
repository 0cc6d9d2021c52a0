// What if a client names the socket's path as the authority that it calls?
// grpc-java does on every unix socket, and nghttp2 refuses such a request (RFC 9113 section 8.3.1: no slash).
// So what a client sends is passed through here first, if it may be one of those: a path in `:authority` has
// its slashes made dots, byte for byte, so that both sides' header tables stay the same. No one reads it.
// RFC 9113 sections 4.1 and 6.2, RFC 7541 section 6. All other connections node:http2 reads by itself.
import type { Socket } from "node:net";
import { Duplex } from "node:stream";

const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
const frameHeader = 9;
const frame = { headers: 1, settings: 4 } as const;
const flag = { padded: 0x08, priority: 0x20 } as const;
const maxConcurrentStreams = 3;
/** What we let a client send in one frame. */
const largestFrame = 16_384;
const firstBytesMs = 5000;
/** In HPACK's static table. */
const authority = 1;
const [slash, dot] = [0x2f, 0x2e];

/** Calls back with what is to speak HTTP/2, once the client has begun; closes a connection that does not begin in time. */
export function onceBegun(socket: Socket, speak: (connection: Duplex) => void): void {
  const late = setTimeout(() => socket.destroy(), firstBytesMs);
  const begin = (): void => {
    const first = socket.read() as Buffer | null;
    if (first === null) return; // its end
    socket.off("readable", begin).off("close", forget);
    clearTimeout(late);
    socket.unshift(first);
    speak(mayNamePath(first) ? new Mended(socket) : socket);
  };
  const forget = (): void => clearTimeout(late);
  socket.on("readable", begin).once("close", forget);
}

/** Its first settings want no streams from the server, as those of grpc-java and of gRPC's C core; or they are not all here. */
function mayNamePath(first: Buffer): boolean {
  const at = preface.length;
  if (first.length < at + frameHeader || first[at + 3] !== frame.settings) return true;
  const end = at + frameHeader + first.readUIntBE(at, 3);
  if (first.length < end) return true;
  for (let entry = at + frameHeader; entry + 6 <= end; entry += 6) {
    if (first.readUInt16BE(entry) === maxConcurrentStreams && first.readUInt32BE(entry + 2) === 0) return true;
  }
  return false;
}

class Mended extends Duplex {
  readonly #socket: Socket;
  readonly #frames = new Frames();

  constructor(socket: Socket) {
    super();
    this.#socket = socket;
    socket.on("data", (chunk: Buffer) => {
      for (const part of this.#frames.take(chunk)) if (!this.push(part)) socket.pause();
    });
    socket.once("end", () => this.push(null)).once("close", () => this.destroy());
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(chunk: Buffer, _: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#socket.write(chunk, done);
  }

  override _final(done: () => void): void {
    this.#socket.end(done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#socket.destroy();
    done(error);
  }
}

/** Passes bytes on as they come; the headers of a request all at once. */
export class Frames {
  #held = Buffer.alloc(0);
  /** Bytes that go through as they are: at first the preface. */
  #through = preface.length;

  take(chunk: Buffer): Buffer[] {
    const out: Buffer[] = [];
    let rest = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    for (;;) {
      const passed = rest.subarray(0, this.#through);
      if (passed.length > 0) out.push(passed);
      this.#through -= passed.length;
      rest = rest.subarray(passed.length);
      if (rest.length < frameHeader) break;
      const length = rest.readUIntBE(0, 3);
      if (rest[3] === frame.headers && length <= largestFrame) {
        if (rest.length < frameHeader + length) break;
        mendHeaders(rest.subarray(frameHeader, frameHeader + length), rest[4] ?? 0);
      }
      this.#through = frameHeader + length;
    }
    this.#held = Buffer.from(rest);
    return out;
  }
}

/** In place. What is not well formed stays as it is: it is refused where it is read. */
function mendHeaders(payload: Buffer, flags: number): void {
  let at = (flags & flag.padded ? 1 : 0) + (flags & flag.priority ? 5 : 0);
  /** An integer of HPACK that begins with `bits` of this byte. */
  const integer = (bits: number): number => {
    const most = 2 ** bits - 1;
    let value = (payload[at++] ?? 0) & most;
    if (value < most) return value;
    for (let scale = 1; at < payload.length && scale < 2 ** 28; scale *= 128) {
      const byte = payload[at++] ?? 0;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
    at = payload.length;
    return 0;
  };
  const skip = (): void => {
    const length = integer(7);
    at += length;
  };
  while (at < payload.length) {
    const byte = payload[at] ?? 0;
    if (byte >= 0x80) integer(7);
    else if (byte >= 0x20 && byte < 0x40) integer(5);
    else {
      const name = integer(byte >= 0x40 ? 6 : 4);
      if (name === 0) skip();
      const isPlain = (payload[at] ?? 0) < 0x80;
      const length = integer(7);
      if (name === authority && isPlain) return withoutSlashes(payload.subarray(at, at + length));
      at += length;
    }
  }
}

function withoutSlashes(value: Buffer): void {
  for (let i = value.indexOf(slash); i >= 0; i = value.indexOf(slash, i)) value[i] = dot;
}
