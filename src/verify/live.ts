// Which open connections must be cut now?
// A connection is registered first and judged again after, so that no revocation falls between; a
// revocation costs one look-up and reaches the connections of its own task below its epoch, no others.
// One outlives its SVID as long as the feed is heard without a break, since the end of its task then reaches it:
// a peer renews its SVID, not its connections. None outlives the time for which a silent feed is trusted.
// DESIGN: "Verifier"; invariant 8.
// Making such connections is tls.ts's business.
import type { Duplex } from "node:stream";
import { BrevetError } from "../errors.ts";
import type { ErrorCode } from "../errors.ts";
import type { FeedView } from "./feed.ts";
import type { Accepted } from "./verdict.ts";

type Connection = { readonly socket: Duplex; readonly epoch: number; isExpired: boolean };

const longestTimer = 2 ** 31 - 1;

export class LiveConnections {
  readonly #feed: FeedView;
  readonly #graceMs: number;
  readonly #byTask = new Map<string, Set<Connection>>();
  #silence: NodeJS.Timeout | undefined;
  #closed = false;

  /** `graceMs`: for how long after the feed went stale what is open stays open. */
  constructor(feed: FeedView, graceMs: number) {
    this.#feed = feed;
    this.#graceMs = graceMs;
    feed.on("revoked", (task, epoch) => this.#cutBelow(task, epoch));
    feed.on("stale", () => {
      this.#silence = setTimeout(() => this.#cut(all, "VERIFY_STALE", "the feed is silent"), graceMs).unref();
    });
    feed.on("fresh", () => clearTimeout(this.#silence));
    // what was revoked long ago may have left the feed before it is heard again
    feed.on("lost", () => this.#cut(({ isExpired }) => isExpired, "VERIFY_EXPIRED", "the SVID expired, and the feed was lost"));
  }

  /** Destroys the socket when its caller is not to be accepted any more; false if that is so already. */
  guard(socket: Duplex, caller: Accepted): boolean {
    const connection: Connection = { socket, epoch: caller.epoch, isExpired: false };
    const peers = this.#byTask.get(caller.task) ?? new Set();
    this.#byTask.set(caller.task, peers.add(connection));
    const left = caller.expiresAt.getTime() - this.#feed.now();
    const expiry = setTimeout(() => {
      connection.isExpired = true;
      // of another trust domain's tasks the feed says nothing
      if (!this.#feed.unbroken || caller.task === "") cut(socket, "VERIFY_EXPIRED", "the SVID expired");
    }, Math.min(left, longestTimer)).unref();
    socket.on("error", () => {}); // being cut must not end a process that does not listen
    socket.once("close", () => {
      clearTimeout(expiry);
      peers.delete(connection);
      if (peers.size === 0 && this.#byTask.get(caller.task) === peers) this.#byTask.delete(caller.task);
    });
    if (this.#feed.epochOf(caller.task) > caller.epoch) cut(socket, "VERIFY_REVOKED", `task ${caller.task}: revoked`);
    if (this.#feed.silentMs > this.#feed.maxStalenessMs + this.#graceMs) cut(socket, "VERIFY_STALE", "the feed is silent");
    if (this.#closed) cut(socket, "VERIFY_NOT_READY", "the verifier was closed");
    return !socket.destroyed;
  }

  /** Nobody watches over them any more: none stays. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#silence);
    this.#cut(all, "VERIFY_NOT_READY", "the verifier was closed");
  }

  #cutBelow(task: string, epoch: number): void {
    for (const connection of this.#byTask.get(task) ?? []) {
      if (connection.epoch < epoch) cut(connection.socket, "VERIFY_REVOKED", `task ${task}: revoked`);
    }
  }

  #cut(which: (connection: Connection) => boolean, code: ErrorCode, why: string): void {
    for (const peers of this.#byTask.values()) {
      for (const connection of peers) if (which(connection)) cut(connection.socket, code, why);
    }
  }
}

const all = (): boolean => true;

function cut(socket: Duplex, code: ErrorCode, why: string): void {
  socket.destroy(new BrevetError(code, why));
}
