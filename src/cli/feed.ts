// What has been revoked, as verifiers hear it?
// Each message of the feed as it comes; heartbeats are lines too, since their absence is what makes a
// verifier refuse.
// What a verifier makes of it is src/verify's business.
import type { Command } from "commander";
import type { Connection } from "../client/connect.ts";
import type { FeedMessage__Output } from "../generated/brevet/v1/FeedMessage.ts";
import { answering, group, wholeNumber } from "./options.ts";
import type { Common } from "./options.ts";
import { painter, printNext, safe } from "./output.ts";
import { asCaller } from "./reach.ts";

export function addFeed(program: Command): void {
  const feed = group(program, "feed", { summary: "Follow the feed of revocations", example: "brevet feed watch" });
  answering(feed, "watch", { summary: "Print each message of the feed as it comes", example: "brevet feed watch --from 120 -o json" })
    .option("--from <sequence>", "only what came after this sequence (default: all that still matters)", wholeNumber(0, Number.MAX_SAFE_INTEGER), 0)
    .action(async (flags: Common & { from: number }) => {
      await asCaller(flags, async (broker) => {
        const feedId = flags.from === 0 ? "" : await currentFeed(broker);
        for await (const message of broker.feed.watch({ feedId, afterSequence: flags.from })) {
          await printNext(flags.output, message, () => messageText(message));
        }
      });
    });
}

/** A sequence means something within one feed only. */
async function currentFeed(broker: Connection): Promise<string> {
  for await (const message of broker.feed.watch({ feedId: "", afterSequence: 0 })) return message.feedId;
  return "";
}

function messageText(message: FeedMessage__Output): string {
  const paint = painter();
  const at = message.asOf > 0 ? new Date(message.asOf) : new Date();
  const head = `${paint("dim", at.toISOString())}  sequence ${message.sequence}`;
  if (message.revocations.length === 0) return `${head}  ${paint("dim", message.snapshot ? "snapshot" : "heartbeat")}`;
  return message.revocations
    .map((r) => `${head}  ${safe(r.task)} below epoch ${r.epoch} is dead  ${paint("dim", `until ${new Date(r.until * 1000).toISOString()}`)}`)
    .join("\n");
}
