// How much may wait for a reader that does not read?
// A stream that shows how things are is sent one message at a time, or a few, the newest next: what is not taken is
// not made more of. And what waits for one user in all is bounded: beyond it no call of that user is begun, and
// those of its streams that have kept most waiting are reset, until the rest is within the bound.
// RFC 9113 section 5.2 (a reader's window may stay 0 for ever). Threat T21.
// How many streams and calls a user may have is limits.ts's business.
import { constants } from "node:http2";
import type { ServerHttp2Stream } from "node:http2";
import type { ServerWritableStream } from "@grpc/grpc-js";

/** For one user. */
export const mostUnreadBytes = 64 << 20;
/** What a stream costs beside what waits in it: an answered call lives on until its answer was taken. */
const streamBytes = 16 << 10;
/** As the feed's: a reader that reads takes it in far less. */
const patienceMs = 5000;
const lookMs = 1000;

/**
 * What sends the message as it is when it is sent: at once, and beyond `most` that were not taken yet when one was. However
 * often it is called meanwhile, once.
 */
export function newest<A>(stream: Pick<ServerWritableStream<never, A>, "write" | "writable">, message: () => A, most = 1): () => void {
  let [underWay, isNew] = [0, false];
  const send = (): void => {
    isNew = underWay >= most;
    if (isNew || !stream.writable) return;
    underWay++;
    stream.write(message(), () => {
      underWay--;
      if (isNew) send();
    });
  };
  return send;
}

/** Resolves when the reader has taken the message. */
export async function taken<A>(stream: Pick<ServerWritableStream<never, A>, "write">, message: A, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  await new Promise<void>((resolve, reject) => {
    const gone = (): void => reject(signal.reason as Error);
    signal.addEventListener("abort", gone, { once: true });
    stream.write(message, () => {
      signal.removeEventListener("abort", gone);
      resolve();
    });
  });
}

export class Unread {
  /** Whose it is. */
  readonly #streams = new Map<ServerHttp2Stream, string>();
  /** Since when something of it has been waiting. */
  readonly #since = new Map<ServerHttp2Stream, number>();
  readonly #forget: (this: ServerHttp2Stream) => void;
  readonly #onReset: (share: string) => void;
  readonly #timer: NodeJS.Timeout;
  /** By share, as of the last look. */
  #bytes: ReadonlyMap<string, number> = new Map();

  /** `onReset`: told of each stream that was reset. */
  constructor(onReset: (share: string) => void) {
    this.#onReset = onReset;
    const [streams, since] = [this.#streams, this.#since];
    this.#forget = function () {
      streams.delete(this);
      since.delete(this);
    };
    this.#timer = setInterval(() => this.#look(performance.now()), lookMs);
    this.#timer.unref();
  }

  watch(stream: ServerHttp2Stream, share: string): void {
    this.#streams.set(stream, share);
    stream.on("close", this.#forget);
  }

  isTooMuch(share: string): boolean {
    return (this.#bytes.get(share) ?? 0) > mostUnreadBytes;
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #look(now: number): void {
    const bytes = new Map<string, number>();
    for (const [stream, share] of this.#streams) {
      const unread = unreadOf(stream);
      if (unread === 0) {
        this.#since.delete(stream);
      } else {
        if (!this.#since.has(stream)) this.#since.set(stream, now);
        bytes.set(share, (bytes.get(share) ?? 0) + unread);
      }
    }
    this.#bytes = bytes;
    for (const [share, sum] of bytes) if (sum > mostUnreadBytes) this.#reset(share, sum - mostUnreadBytes, now);
  }

  #reset(share: string, excess: number, now: number): void {
    const stuck = [...this.#since].filter(([stream, since]) => this.#streams.get(stream) === share && now - since >= patienceMs)
      .map(([stream]) => ({ stream, size: unreadOf(stream) })).sort((a, b) => b.size - a.size);
    let left = excess;
    for (const { stream, size } of stuck) {
      if (left <= 0) return;
      left -= size;
      stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
      this.#onReset(share);
    }
  }
}

function unreadOf({ writableLength }: ServerHttp2Stream): number {
  return writableLength === 0 ? 0 : writableLength + streamBytes;
}
