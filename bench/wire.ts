// How does a benchmark call a broker at almost no cost of its own?
// The least client of gRPC over HTTP/2 that measures a server: requests are bytes made beforehand,
// answers are counted, not decoded. It shares no code with the server's library, so what is slow in
// that shows. One path per connection: its header block then stands in the server's table.
// RFC 9113 (frames), RFC 7541 (header blocks), gRPC over HTTP/2.
// What is called, how often and when, is load.ts's business.
import net from "node:net";

export type Answer = {
  /** A whole message. */
  message(bytes: Buffer): void;
  /** The call is over, however it ended. `unserved`: nobody has looked at it, it may be made again. */
  end(unserved: boolean): void;
};

type Stream = { readonly on: Answer; rest: Buffer };

const frame = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, goAway: 7, windowUpdate: 8 } as const;
const endStream = 1;
const ack = 1;
const endHeaders = 4;
const largestWindow = 2 ** 31 - 1;
const topUp = 2 ** 30;
const cancelled = 8;

function encodeFrame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

function number(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** A literal that enters the server's table: name and value shorter than 127 bytes. */
function literal(name: string, value: string): Buffer {
  return Buffer.concat([Buffer.of(0x40, name.length), Buffer.from(name), Buffer.of(value.length), Buffer.from(value)]);
}

const postHttp = Buffer.of(0x83, 0x86); // :method POST, :scheme http
const opening = Buffer.concat([
  Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
  // no push, the largest window for each stream and for all
  encodeFrame(frame.settings, 0, 0, Buffer.concat([Buffer.of(0, 2), number(0), Buffer.of(0, 4), number(largestWindow)])),
  encodeFrame(frame.windowUpdate, 0, 0, number(largestWindow - 65_535)),
]);

/** `request` as one gRPC message. */
export function prefixed(request: Uint8Array): Buffer {
  return Buffer.concat([Buffer.of(0), number(request.length), request]);
}

export class Wire {
  readonly #socket: net.Socket;
  readonly #firstBlock: Buffer;
  readonly #laterBlock: Buffer;
  readonly #streams = new Map<number, Stream>();
  #next = 1;
  #rest: Buffer = Buffer.alloc(0);
  #received = 0;
  #closed = false;
  /** The server wants what comes next on another connection. */
  leaving = false;

  /** Resolves when the connection stands; one that the listener has no room for just now is tried again. */
  static async connect(socketPath: string, method: string): Promise<Wire> {
    for (let tries = 0; ; tries++) {
      try {
        return await Wire.#connectOnce(socketPath, method);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EAGAIN" || tries === 1000) throw error;
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    }
  }

  static #connectOnce(socketPath: string, method: string): Promise<Wire> {
    return new Promise((resolve, reject) => {
      const socket = net.connect(socketPath);
      socket.once("error", reject);
      socket.once("connect", () => {
        socket.off("error", reject);
        resolve(new Wire(socket, method));
      });
    });
  }

  private constructor(socket: net.Socket, method: string) {
    const fields = [literal(":path", method), literal(":authority", "localhost"), literal("content-type", "application/grpc"),
      literal("te", "trailers"), literal("workload.spiffe.io", "true")];
    this.#firstBlock = Buffer.concat([postHttp, ...fields]);
    // the table's newest entry is number 62
    this.#laterBlock = Buffer.concat([postHttp, Buffer.from(fields.map((_, i) => 0x80 | (61 + fields.length - i)))]);
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on("data", (bytes) => this.#take(bytes));
    socket.on("error", () => socket.destroy());
    socket.on("close", () => {
      this.#closed = true;
      for (const id of [...this.#streams.keys()]) this.#end(id);
    });
    socket.write(opening);
  }

  get open(): number {
    return this.#streams.size;
  }

  /** `request` is a message already `prefixed`. */
  call(request: Buffer, on: Answer): number {
    const id = this.#next;
    this.#next += 2;
    if (this.#closed) {
      setImmediate(() => on.end(true));
      return id;
    }
    this.#streams.set(id, { on, rest: Buffer.alloc(0) });
    const block = id === 1 ? this.#firstBlock : this.#laterBlock;
    this.#socket.write(Buffer.concat([encodeFrame(frame.headers, endHeaders, id, block), encodeFrame(frame.data, endStream, id, request)]));
    return id;
  }

  /** Nothing more is heard of it. */
  cancel(id: number): void {
    if (this.#streams.delete(id)) this.#socket.write(encodeFrame(frame.reset, 0, id, number(cancelled)));
  }

  close(): void {
    this.#streams.clear();
    this.#socket.destroy();
  }

  #take(bytes: Buffer): void {
    let buffer = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    while (buffer.length >= 9) {
      const length = buffer.readUIntBE(0, 3);
      if (buffer.length < 9 + length) break;
      this.#frame(buffer[3] ?? 0, buffer[4] ?? 0, buffer.readUInt32BE(5), buffer.subarray(9, 9 + length));
      buffer = buffer.subarray(9 + length);
    }
    this.#rest = buffer;
  }

  #frame(type: number, flags: number, id: number, payload: Buffer): void {
    if (type === frame.data) this.#data(id, payload);
    if ((type === frame.data || type === frame.headers) && (flags & endStream) !== 0) this.#end(id);
    if (type === frame.reset) this.#end(id);
    if (type === frame.goAway) this.#leave(payload.readUInt32BE(0) & 0x7fff_ffff);
    if (type === frame.settings && (flags & ack) === 0) this.#socket.write(encodeFrame(frame.settings, ack, 0, Buffer.alloc(0)));
    if (type === frame.ping && (flags & ack) === 0) this.#socket.write(encodeFrame(frame.ping, ack, 0, payload));
  }

  #leave(lastServed: number): void {
    this.leaving = true;
    for (const id of [...this.#streams.keys()]) if (id > lastServed) this.#end(id, true);
  }

  #data(id: number, payload: Buffer): void {
    this.#received += payload.length;
    if (this.#received > topUp) {
      this.#socket.write(encodeFrame(frame.windowUpdate, 0, 0, number(this.#received)));
      this.#received = 0;
    }
    const stream = this.#streams.get(id);
    if (!stream) return;
    let rest = stream.rest.length === 0 ? payload : Buffer.concat([stream.rest, payload]);
    while (rest.length >= 5 && rest.length >= 5 + rest.readUInt32BE(1)) {
      const end = 5 + rest.readUInt32BE(1);
      stream.on.message(rest.subarray(5, end));
      rest = rest.subarray(end);
    }
    stream.rest = Buffer.from(rest);
  }

  #end(id: number, unserved = false): void {
    const stream = this.#streams.get(id);
    this.#streams.delete(id);
    stream?.on.end(unserved);
  }
}
