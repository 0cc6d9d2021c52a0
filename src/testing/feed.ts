// What do verifiers hear in a test?
// The messages are those of a broker's feed, in its order: a snapshot or what came since, each
// revocation at once, a sign of life ten times a second. While it is silent nothing is sent at all,
// as if the wire were cut; whoever listens hears afterwards what it missed.
// What is revoked is broker.ts's business; what a broker's feed does is src/revoke/feed.ts's.
import { randomUUID } from "node:crypto";
import type { ServerDuplexStream } from "@grpc/grpc-js";
import type { FeedMessage } from "../generated/brevet/v1/FeedMessage.ts";
import type { Revocation } from "../generated/brevet/v1/Revocation.ts";
import type { WatchFeedRequest__Output } from "../generated/brevet/v1/WatchFeedRequest.ts";

export type Listener = ServerDuplexStream<WatchFeedRequest__Output, FeedMessage>;

const beatMs = 100;

export class TestFeed {
  readonly #id = randomUUID();
  readonly #revocations: Revocation[] = [];
  /** Each listener, and how much it has heard; undefined: not even the snapshot. */
  readonly #listeners = new Map<Listener, number | undefined>();
  readonly #timer = setInterval(() => this.#say(), beatMs).unref();
  #silent = false;
  #asOf = 0;

  set silent(silent: boolean) {
    this.#silent = silent;
    this.#say();
  }

  /** `until`: Unix seconds, when no SVID of it can be valid any more. */
  revoke(task: string, epoch: number, until: number): void {
    this.#revocations.push({ task, epoch, sequence: this.#revocations.length + 1, until, atUs: Date.now() * 1_000 });
    this.#say();
  }

  listen(listener: Listener, { feedId, afterSequence }: Pick<WatchFeedRequest__Output, "feedId" | "afterSequence">): void {
    const resumes = feedId === this.#id && afterSequence <= this.#revocations.length;
    this.#listeners.set(listener, resumes ? afterSequence : undefined);
    const gone = (): boolean => this.#listeners.delete(listener);
    listener.on("cancelled", gone).on("data", ({ leaving }: WatchFeedRequest__Output) => {
      if (leaving && gone()) listener.end();
    });
    this.#say();
  }

  close(): void {
    clearInterval(this.#timer);
    this.#listeners.clear();
  }

  #say(): void {
    if (this.#silent) return;
    this.#asOf = Math.max(Date.now(), this.#asOf + 1);
    const sequence = this.#revocations.length;
    for (const [listener, heard] of this.#listeners) {
      const revocations = this.#revocations.slice(heard ?? 0);
      listener.write({ feedId: this.#id, revocations, sequence, complete: true, snapshot: heard === undefined, asOf: this.#asOf });
      this.#listeners.set(listener, sequence);
    }
  }
}
