// When do those who listen hear of it?
// Followers of the feed, real verifiers that judge a real SVID, and workload streams held open: each
// notes the moment at which it knew. Followers decode every message, as a verifier must.
// What is ended, and when that was acknowledged, is the rows' business.
import { services } from "../src/proto.ts";
import { Verifier } from "../src/verify/verifier.ts";
import { Wire, prefixed } from "./wire.ts";
import { now } from "./worker.ts";

const feedMethod = "/brevet.v1.Feed/Watch";
const streamMethod = "/SpiffeWorkloadAPI/FetchX509SVID";
const audience = "crm";

/** Task → when each follower knew of a revocation of it. */
const known = new Map<string, number[]>();
const verifiers: Verifier[] = [];
let token = "";

function note(task: string): void {
  const times = known.get(task);
  if (times) times.push(now());
  else known.set(task, [now()]);
}

type Held = { readonly wire: Wire; messages: number };
const held: Held[] = [];
let endings: number[] = [];

async function settle(done: () => boolean, ms: number, what: string): Promise<void> {
  for (const deadline = now() + ms; !done(); ) {
    if (now() > deadline) throw new Error(`${what}: not within ${ms} ms`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

export const jobs = {
  /** Subscribes; answers when each has its snapshot. */
  async follow({ socket, followers }: { socket: string; followers: number }): Promise<void> {
    let ready = 0;
    for (let i = 0; i < followers; i++) {
      const wire = await Wire.connect(socket, feedMethod);
      let first = true;
      wire.call(prefixed(Buffer.alloc(0)), {
        message: (bytes) => {
          if (first) ready++;
          first = false;
          const { revocations, snapshot } = services.feed.Watch.responseDeserialize(Buffer.from(bytes));
          if (!snapshot) for (const { task } of revocations) note(task);
        },
        end: () => undefined,
      });
    }
    await settle(() => ready === followers, 10_000, "snapshots");
  },

  /** Verifiers as services use them. A revocation counts when they refuse the token told last. */
  async verify({ socket, count }: { socket: string; count: number }): Promise<void> {
    for (let i = 0; i < count; i++) {
      const verifier = new Verifier({ address: `unix://${socket}`, audience });
      verifier.feed.on("revoked", (task) => {
        const verdict = verifier.jwt(token);
        if (!verdict.accepted && verdict.reason === "VERIFY_REVOKED" && verdict.task === task) note(task);
      });
      verifiers.push(verifier);
    }
    await Promise.all(verifiers.map((verifier) => verifier.ready()));
  },

  /** The SVID that the verifiers judge from now on; all must accept it. */
  async present(svid: string): Promise<void> {
    token = svid;
    for (const verifier of verifiers) {
      const verdict = verifier.jwt(token);
      if (!verdict.accepted) throw new Error(`refused before its task was closed: ${verdict.message}`);
    }
  },

  /** When each follower of this process knew. */
  async knew({ task, followers, ms }: { task: string; followers: number; ms: number }): Promise<number[]> {
    await settle(() => (known.get(task)?.length ?? 0) >= followers, ms, `revocation of ${task}`);
    return known.get(task) ?? [];
  },

  /** Opens X.509 streams that stay; answers when each has its first message. */
  async hold({ sockets, streams, connections }: { sockets: readonly string[]; streams: number; connections: number }): Promise<void> {
    let served = 0;
    const wires: Wire[] = [];
    for (let i = 0; i < connections; i++) wires.push(await Wire.connect(sockets[i % sockets.length] ?? "", streamMethod));
    for (let i = 0; i < streams; i++) {
      const wire = wires[i % connections];
      if (!wire) break;
      const stream: Held = { wire, messages: 0 };
      held.push(stream);
      wire.call(prefixed(Buffer.alloc(0)), {
        message: () => {
          if (stream.messages++ === 0) served++;
        },
        end: () => endings.push(now()),
      });
      if (i % 64 === 63) await settle(() => served + endings.length > i - 192, 30_000, `first messages after ${served}`);
    }
    await settle(() => served + endings.length >= streams, 30_000, "last messages");
    if (endings.length > 0) throw new Error(`${endings.length} of ${streams} streams were refused`);
  },

  /** Messages received so far, over all streams held. */
  async received(): Promise<number> {
    return held.reduce((sum, stream) => sum + stream.messages, 0);
  },

  /** When streams have ended since the last question. */
  async ended({ count, ms }: { count: number; ms: number }): Promise<number[]> {
    await settle(() => endings.length >= count, ms, "ends of streams");
    const times = endings;
    endings = [];
    return times;
  },
};
