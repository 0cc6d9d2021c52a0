// Verifiers follow the feed, and say what they have applied: brevet.v1.Feed.
// Bytes go out as they were encoded for all; the next message waits until the last has drained. What a
// verifier says is read one message at a time, and no faster than it makes sense, so that no caller
// keeps the broker busy with it.
// What is in the messages is src/revoke/feed.ts's business, who has applied what src/revoke/verifiers.ts's.
import type { ServerDuplexStream } from "@grpc/grpc-js";
import { BrevetError } from "../errors.ts";
import type { FeedHandlers } from "../generated/brevet/v1/Feed.ts";
import type { FeedMessage } from "../generated/brevet/v1/FeedMessage.ts";
import type { WatchFeedRequest__Output } from "../generated/brevet/v1/WatchFeedRequest.ts";
import type { Subscription } from "../revoke/broadcast.ts";
import type { Feed } from "../revoke/feed.ts";
import type { Verifiers } from "../revoke/verifiers.ts";
import { actorOf } from "./access.ts";
import { Fields } from "./fields.ts";
import type { ApiServer } from "./server.ts";
import { Malformed } from "./wire.ts";

type Stream = ServerDuplexStream<WatchFeedRequest__Output, FeedMessage>;

const longestName = 64;
const longestStalenessMs = 24 * 3_600_000;
const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const paceMs = 50;

export function feedHandlers(server: ApiServer, feed: Feed, verifiers: Verifiers): FeedHandlers {
  return {
    Watch: server.dialogue("Feed.Watch", async (first: WatchFeedRequest__Output, call, stream: Stream) => {
      check(first);
      const { verifier: id, name, maxStalenessMs } = first;
      const present = verifiers.join({ id, name, who: actorOf(call), pid: call.connection.process?.pid ?? 0, maxStalenessMs });
      let subscription: Subscription | undefined;
      try {
        await new Promise<void>((resolve, reject) => {
          subscription = feed.subscribe({
            // the service definition passes Buffers through (listeners.ts)
            send: (message) => void stream.write(message as unknown as FeedMessage, () => subscription?.drained()),
            cut: (reason) => reject(new BrevetError("NOT_READY", reason)),
          }, first.feedId, first.afterSequence);
          hear(stream, reject, (message) => {
            if (!message.leaving) return present.applied(message.applied, message.heldUs);
            present.retire();
            resolve();
          });
          const stop = (): void => reject(call.signal.reason as Error);
          if (call.signal.aborted) stop();
          else call.signal.addEventListener("abort", stop, { once: true });
        });
      } finally {
        subscription?.close();
        present.leave();
      }
    }),
  };
}

/** One message, then a pause: what a caller sends meanwhile stays in its own buffers. */
function hear(stream: Stream, refuse: (error: unknown) => void, take: (message: WatchFeedRequest__Output) => void): void {
  stream.on("data", (message: WatchFeedRequest__Output | Malformed) => {
    stream.pause();
    setTimeout(() => stream.resume(), paceMs).unref();
    try {
      if (message instanceof Malformed) throw message.error;
      check(message);
      take(message);
    } catch (error) {
      refuse(error);
    }
  });
  stream.resume();
}

function check(request: WatchFeedRequest__Output): void {
  const fields = new Fields();
  fields.text("feed_id", request.feedId, 64);
  fields.text("name", request.name, longestName);
  if (request.verifier !== "" && !uuid.test(request.verifier)) fields.wrong("verifier", "is not a UUID in lower case");
  fields.integer("max_staleness_ms", request.maxStalenessMs, 0, longestStalenessMs, 0);
  for (const [field, value] of [["after_sequence", request.afterSequence], ["applied", request.applied], ["held_us", request.heldUs]] as const) {
    fields.integer(field, value, 0, Number.MAX_SAFE_INTEGER, 0);
  }
  fields.check();
}
