// How fast does the SDK judge, and what does it cost to know a million dead tasks?
// A verifier with a live feed judges real SVIDs, beside node:crypto alone on the same bytes in the same
// process; and one that is given a long snapshot, which notes when it was ready and what it then held.
// Who is asked is the rows' business (rows-verify.ts).
import { X509Certificate, createPublicKey, verify } from "node:crypto";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import type { ServerDuplexStream } from "@grpc/grpc-js";
import { once } from "node:events";
import { connect } from "../src/client/connect.ts";
import type { FeedMessage } from "../src/generated/brevet/v1/FeedMessage.ts";
import type { WatchFeedRequest__Output } from "../src/generated/brevet/v1/WatchFeedRequest.ts";
import { newTaskId } from "../src/identity/id.ts";
import { preEncoded, services } from "../src/proto.ts";
import type { Store } from "../src/record/store.ts";
import { Feed } from "../src/revoke/feed.ts";
import { FeedView } from "../src/verify/feed.ts";
import { WorkloadSource } from "../src/client/source.ts";
import { TestBroker } from "../src/testing/broker.ts";
import { Verifier } from "../src/verify/verifier.ts";
import { now } from "./worker.ts";

const different = 100;
const patienceMs = 120_000;

/** Runs of each second in turn, by processor time: what else the machine does meanwhile counts for neither. */
function perSecond<K extends string>(slices: number, work: Readonly<Record<K, (i: number) => void>>): Record<K, number> {
  const names = Object.keys(work) as K[];
  const spent = Object.fromEntries(names.map((name) => [name, { done: 0, microseconds: 0 }])) as Record<K, { done: number; microseconds: number }>;
  for (const name of names) for (let i = 0; i < 4 * different; i++) work[name](i % different);
  for (let slice = 0; slice < slices; slice++) {
    for (const name of names) {
      const before = process.cpuUsage();
      for (let i = 0; i < different; i++) work[name](i);
      const { user, system } = process.cpuUsage(before);
      spent[name].done += different;
      spent[name].microseconds += user + system;
    }
  }
  return Object.fromEntries(names.map((name) => [name, (spent[name].done / spent[name].microseconds) * 1e6])) as Record<K, number>;
}

function must(holds: boolean): void {
  if (!holds) throw new Error("what is measured does not work");
}

function heldBytes(): number {
  setFlagsFromString("--expose-gc");
  (runInNewContext("gc") as () => void)();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

type Rates = Readonly<Record<"jwt" | "jwtAlone" | "x509" | "x509Alone", number>>;

export const jobs = {
  /** Verdicts a second, beside node:crypto's own rates. */
  async judge({ slices }: { slices: number }): Promise<Rates> {
    using broker = await TestBroker.start();
    using verifier = new Verifier({ address: broker.address, audience: "crm", maxStaleness: "1h" }); // nothing is heard while rates are taken
    const task = await broker.open({ agent: "bench" });
    using source = await WorkloadSource.open({ address: task.address });
    await verifier.ready();
    const tokens = Array.from({ length: different }, () => task.jwt("crm"));
    const bundle = verifier.bundles.jwt(broker.trustDomain);
    const key = [...(bundle?.values() ?? [])][0]?.key ?? createPublicKey("");
    const parts = tokens.map((token) => {
      const end = token.lastIndexOf(".");
      return { input: Buffer.from(token.slice(0, end)), signature: Buffer.from(token.slice(end + 1), "base64url") };
    });
    const chain = [...source.svid().cert.matchAll(/-----BEGIN[^-]+-----([^-]+)-----END/g)].map(([, body = ""]) => Buffer.from(body, "base64"));
    const whole = Buffer.concat(chain);
    const [leaf = whole, signer = whole] = chain;
    const signerKey = new X509Certificate(signer).publicKey;
    return perSecond(slices, {
      jwtAlone: (i) => {
        const part = parts[i];
        must(part !== undefined && verify("sha256", part.input, { key, dsaEncoding: "ieee-p1363" }, part.signature));
      },
      jwt: (i) => must(verifier.jwt(tokens[i] ?? "").accepted),
      x509Alone: () => must(new X509Certificate(leaf).verify(signerKey)),
      x509: () => must(verifier.x509(whole).accepted),
    });
  },

  /** The broker's own feed, with so many revocations, on a socket of its own. Answers with the IDs of some. */
  async serveRevoked({ socket, count }: { socket: string; count: number }): Promise<string[]> {
    const until = new Date(Date.now() + 3_600_000);
    const rows = Array.from({ length: count }, (_, i) => ({ subject: newTaskId(Date.now() + (i >> 8)), epoch: 1, sequence: i + 1, until, at: Date.now() }));
    const feed = new Feed(storeOf(rows), () => undefined, () => true);
    await feed.load();
    const server = new Server();
    server.addService(preEncoded(services.feed), {
      Watch: (call: ServerDuplexStream<WatchFeedRequest__Output, FeedMessage>) => void call.once("data", ({ feedId, afterSequence }: WatchFeedRequest__Output) => {
        const subscription = feed.subscribe({
          send: (message) => void call.write(message as unknown as FeedMessage, () => subscription.drained()),
          cut: () => call.end(),
        }, feedId, afterSequence);
        call.resume();
      }),
    });
    await new Promise<void>((resolve, reject) => {
      server.bindAsync(`unix:${socket}`, ServerCredentials.createInsecure(), (error) => (error ? reject(error) : resolve()));
    });
    return rows.filter((_, i) => i % 1000 === 0).map(({ subject }) => subject);
  },

  /** How long until the view is fresh, what it then holds, and what one look-up takes. */
  async know({ socket, tasks }: { socket: string; tasks: readonly string[] }): Promise<{ readyMs: number; count: number; megabytes: number; nanoseconds: number; peakMb: number; cpuMs: number }> {
    const before = heldBytes();
    const began = now();
    const cpu = process.cpuUsage();
    const connection = connect({ address: `unix://${socket}` });
    const feed = new FeedView(connection.feed.watch, patienceMs);
    const stop = new AbortController();
    void feed.run(stop.signal);
    await once(feed, "fresh");
    const readyMs = now() - began;
    const { user, system } = process.cpuUsage(cpu);
    const peakMb = process.resourceUsage().maxRSS / 1024;
    const megabytes = (heldBytes() - before) / 1e6;
    must(tasks.every((task) => feed.epochOf(task) > 0));
    const lookups = 2_000_000;
    const asked = now();
    for (let i = 0; i < lookups; i++) feed.epochOf(tasks[i % tasks.length] ?? "");
    const nanoseconds = ((now() - asked) / lookups) * 1e6;
    stop.abort();
    connection.close();
    return { readyMs, count: feed.size, megabytes, nanoseconds, peakMb, cpuMs: (user + system) / 1000 };
  },
};

/** What the feed asks of its database, answered from memory. */
function storeOf(rows: readonly { readonly sequence: number }[]): Store {
  const query = async ({ name }: { name: string }, [after, limit]: [number, number] = [0, 0]): Promise<unknown[]> => {
    if (name === "feed_head") return [{ feed_id: "bench", sequence: rows.length, as_of: Date.now() }];
    return rows.slice(after, after + limit);
  };
  return { query } as unknown as Store;
}
