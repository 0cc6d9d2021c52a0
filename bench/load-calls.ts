// How fast are calls answered?
// Each caller asks, waits for the first whole answer, notes how long it took, and asks again: on one
// connection of its own, or on a new one each time. An answer that is a refusal is counted as failed.
// The wire is wire.ts's; which broker or bare server is asked, the rows'.
import { Wire, prefixed } from "./wire.ts";
import { now } from "./worker.ts";

export type CallLoad = {
  readonly socket: string;
  /** `/package.Service/Method`. */
  readonly method: string;
  /** The request's message, base64. */
  readonly request: string;
  readonly callers: number;
  readonly ms: number;
  readonly newConnections?: boolean;
};

export type CallResult = { readonly seconds: number; readonly latencies: number[]; readonly failed: number };

/** Whether it was answered, and not refused; undefined: nobody looked at it, and it is made again. */
type Asked = boolean | undefined;

/** The first answer is all that is wanted. */
function answerOf(wire: Wire, request: Buffer): Promise<Asked> {
  return new Promise((resolve) => {
    const id = wire.call(request, {
      message: () => {
        resolve(true);
        wire.cancel(id); // a stream would go on
      },
      end: (unserved) => resolve(unserved ? undefined : false),
    });
  });
}

/** A unary call must run to its end: a cancelled one costs the server more. */
function unaryAnswer(wire: Wire, request: Buffer): Promise<Asked> {
  return new Promise((resolve) => {
    let answered = false;
    wire.call(request, { message: () => (answered = true), end: (unserved) => resolve(unserved ? undefined : answered) });
  });
}

/** After so many cancelled streams a server takes its client for an attacker (CVE-2023-44487) and hangs up. */
const callsPerConnection = 900;

async function caller(load: CallLoad, request: Buffer, until: number, latencies: number[]): Promise<number> {
  const ask = load.method.endsWith("/FetchX509SVID") ? answerOf : unaryAnswer;
  let failed = 0;
  const mostCalls = load.newConnections ? 1 : callsPerConnection;
  while (now() < until) {
    let began = now();
    const wire = await Wire.connect(load.socket, load.method);
    for (let calls = 0; calls < mostCalls && !wire.leaving && now() < until; calls++) {
      if (!load.newConnections) began = now();
      const answered = await ask(wire, request);
      if (answered) latencies.push(now() - began);
      if (answered !== false) continue;
      failed++;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    wire.close();
  }
  return failed;
}

/** Waits on a stream that stays open: when its first message came, and when it ended. */
type Waiting = { first?: number; ended?: number; messages: number };
const waiting: { wire: Wire; seen: Waiting }[] = [];

export const jobs = {
  /** Callers that ask again and again. */
  async callAgain(load: CallLoad): Promise<CallResult> {
    const request = prefixed(Buffer.from(load.request, "base64"));
    const latencies: number[] = [];
    const began = now();
    const failed = await Promise.all(Array.from({ length: load.callers }, () => caller(load, request, began + load.ms, latencies)));
    return { seconds: (now() - began) / 1000, latencies, failed: failed.reduce((sum, n) => sum + n, 0) };
  },

  /** Callers that ask until the broker refuses; answers with how often it did not. */
  async callUntilRefused(load: Omit<CallLoad, "ms">): Promise<number> {
    const request = prefixed(Buffer.from(load.request, "base64"));
    const counts = await Promise.all(Array.from({ length: load.callers }, async () => {
      const wire = await Wire.connect(load.socket, load.method);
      let count = 0;
      while (await unaryAnswer(wire, request)) count++;
      wire.close();
      return count;
    }));
    return counts.reduce((sum, n) => sum + n, 0);
  },

  /** Asks until it is served, from a moment on; answers when that was. */
  async callUntilServed({ socket, method, request, notBefore, ms }: Omit<CallLoad, "callers"> & { notBefore: number }): Promise<number> {
    const message = prefixed(Buffer.from(request, "base64"));
    const wire = await Wire.connect(socket, method);
    for (const deadline = now() + ms; now() < deadline; ) {
      const asked = now();
      if ((await unaryAnswer(wire, message)) && asked >= notBefore) {
        wire.close();
        return now();
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    throw new Error(`not served within ${ms} ms`);
  },

  /** Opens a stream that may wait long for its first message. Answers when the connection stands. */
  async wait({ socket, method }: { socket: string; method: string }): Promise<void> {
    const wire = await Wire.connect(socket, method);
    const seen: Waiting = { messages: 0 };
    waiting.push({ wire, seen });
    wire.call(prefixed(Buffer.alloc(0)), {
      message: () => {
        seen.messages++;
        seen.first ??= now();
      },
      end: () => (seen.ended = now()),
    });
  },

  /** What became of the last stream that waits; `for`: not before that. */
  async waited({ until, ms }: { until: "first" | "ended"; ms: number }): Promise<Waiting> {
    const seen = waiting.at(-1)?.seen;
    if (!seen) throw new Error("nothing waits");
    for (const deadline = now() + ms; seen[until] === undefined; ) {
      if (now() > deadline) throw new Error(`not ${until} within ${ms} ms`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    return seen;
  },

  /** Asks each few milliseconds, in step with nothing: the longest answer shows the server's longest pause. */
  async probe({ socket, method, request, everyMs, ms }: { socket: string; method: string; request: string; everyMs: number; ms: number }): Promise<number[]> {
    const message = prefixed(Buffer.from(request, "base64"));
    const wire = await Wire.connect(socket, method);
    const latencies: number[] = [];
    const open = new Set<Promise<void>>();
    for (const until = now() + ms; now() < until; ) {
      const began = now();
      const done = unaryAnswer(wire, message).then(() => {
        latencies.push(now() - began);
        open.delete(done);
      });
      open.add(done);
      await new Promise((resolve) => setTimeout(resolve, everyMs));
    }
    await Promise.all(open);
    wire.close();
    return latencies;
  },
};
