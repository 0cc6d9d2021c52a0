// Is what a client sends framed as the messages that its call takes?
// One message, whole and plain, or any number of them where the call takes a stream. Anything else is refused before
// its bytes are looked at, by the field `message`: grpc-js takes a flag that it does not know, or "compressed" with
// nothing said of how, for a plain message, and answers a wrong number of them as if there were no such method.
// gRPC over HTTP/2 (Length-Prefixed-Message). Threat T22.
// How large a message may be is grpc-js's business; what is in it, wire.ts's.
import { constants } from "node:http2";
import type { ServerHttp2Stream } from "node:http2";
import { invalid } from "../errors.ts";
import type { BrevetError } from "../errors.ts";

const headBytes = 5; // a flag and a length

/** To be called before anybody else listens: what is refused is not heard by those who come after. */
export function checkFrames(stream: ServerHttp2Stream, takesMany: boolean, answer: (error: BrevetError) => void): void {
  const frames = new Frames(takesMany);
  const refuse = (wrong: string | undefined): void => {
    if (wrong === undefined || stream.closed || stream.writableEnded) return;
    if (stream.headersSent) return stream.close(constants.NGHTTP2_PROTOCOL_ERROR);
    answer(invalid([{ field: "message", description: wrong }]));
    stream.close();
  };
  const take = (chunk: Buffer): void => refuse(frames.take(chunk));
  stream.on("data", take);
  stream.once("end", () => {
    stream.off("data", take); // a stream may stay open for long
    if (!stream.headersSent) refuse(frames.end());
  });
}

class Frames {
  readonly #takesMany: boolean;
  #messages = 0;
  /** Bytes of a head that have come, and the length as far as it is known. */
  #head = 0;
  #length = 0;
  /** Bytes of the message that are to come. */
  #left = 0;

  constructor(takesMany: boolean) {
    this.#takesMany = takesMany;
  }

  /** What is wrong with it. */
  take(chunk: Buffer): string | undefined {
    for (let at = 0; at < chunk.length;) {
      if (this.#left > 0) {
        const passed = Math.min(this.#left, chunk.length - at);
        this.#left -= passed;
        at += passed;
        continue;
      }
      const byte = chunk[at++] ?? 0;
      if (this.#head === 0 && byte !== 0) return "is said to be compressed, or has a flag that is not known";
      this.#length = this.#head === 0 ? 0 : this.#length * 256 + byte;
      if (++this.#head < headBytes) continue;
      this.#head = 0;
      this.#left = this.#length;
      if (++this.#messages > 1 && !this.#takesMany) return "only one is taken";
    }
    return undefined;
  }

  end(): string | undefined {
    if (this.#head > 0 || this.#left > 0) return "is cut short";
    return this.#messages === 0 && !this.#takesMany ? "is required" : undefined;
  }
}
