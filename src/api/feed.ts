// Verifiers follow the feed: brevet.v1.Feed.
// Bytes go out as they were encoded for all; the next message waits until the last has drained.
// What is in them is src/revoke/feed.ts's business.
import type { ServerWritableStream } from "@grpc/grpc-js";
import { BrevetError } from "../errors.ts";
import type { FeedHandlers } from "../generated/brevet/v1/Feed.ts";
import type { FeedMessage } from "../generated/brevet/v1/FeedMessage.ts";
import type { WatchFeedRequest__Output } from "../generated/brevet/v1/WatchFeedRequest.ts";
import type { Feed } from "../revoke/feed.ts";
import { Fields } from "./fields.ts";
import type { ApiServer } from "./server.ts";

export function feedHandlers(server: ApiServer, feed: Feed): FeedHandlers {
  return {
    Watch: server.stream("Feed.Watch", async (request: WatchFeedRequest__Output, call, stream: ServerWritableStream<WatchFeedRequest__Output, FeedMessage>) => {
      const fields = new Fields();
      fields.text("feed_id", request.feedId, 64);
      if (request.afterSequence < 0) fields.wrong("after_sequence", "must not be negative");
      fields.check();
      await new Promise<void>((_, reject) => {
        const subscription = feed.subscribe({
          // the service definition passes Buffers through (broker.ts)
          send: (message) => stream.write(message as unknown as FeedMessage),
          cut: (reason) => reject(new BrevetError("NOT_READY", reason)),
        }, request.feedId, request.afterSequence);
        stream.on("drain", () => subscription.drained());
        const stop = (): void => {
          subscription.close();
          reject(call.signal.reason as Error);
        };
        if (call.signal.aborted) stop();
        else call.signal.addEventListener("abort", stop, { once: true });
      });
    }),
  };
}
