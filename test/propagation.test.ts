// Can a person see that a revocation worked?
// Two brokers on one database, verifiers at both, one that never acknowledges and one that goes away: what
// is shown of a revocation, from its commit until nobody is waited for, is held against what they do.
// How fast it is, the benchmark says; what a verifier says back, feed-client.test.ts.
import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { Propagation__Output } from "../src/generated/brevet/v1/Propagation.ts";
import { fromTimestamp } from "../src/proto.ts";
import { nobodyAfter, offlineLeewayMs, residuals } from "../src/revoke/residual.ts";
import type { Revoked } from "../src/revoke/residual.ts";
import type { VerifierState } from "../src/revoke/verifiers.ts";
import { Verifier } from "../src/verify/verifier.ts";
import type { Agent } from "./support/agent.ts";
import type { BrokerProcess } from "./support/broker.ts";
import { typed } from "./support/command-line.ts";
import { World } from "./support/world.ts";

let world: World;
let second: BrokerProcess;
let agent: Agent;
const verifiers: Verifier[] = [];
const followers: AbortController[] = [];

beforeAll(async () => {
  world = await World.start({ brokers: 2 });
  second = world.brokers[1] as BrokerProcess;
  agent = await world.agent();
});
afterEach(async () => {
  for (const verifier of verifiers.splice(0)) verifier.close();
  for (const follower of followers.splice(0)) follower.abort();
  for (const broker of world.brokers) await world.until("all have left", async () => (await names(broker)).length === 0);
});
afterAll(async () => {
  await world[Symbol.asyncDispose]();
});

async function verifierAt(broker: BrokerProcess, name: string): Promise<Verifier> {
  const verifier = new Verifier({ address: broker.workloadSocket, name, audience: "crm", maxStaleness: "3s" });
  verifiers.push(verifier);
  await verifier.ready();
  return verifier;
}

/** Follows the feed and never acknowledges; what it says of itself is up to it. */
async function follower(said: { name?: string; verifier?: string; maxStalenessMs?: number }): Promise<AbortController> {
  const stop = new AbortController();
  followers.push(stop);
  const messages = world.workload.feed.watch({ feedId: "", afterSequence: 0, ...said }, { signal: stop.signal, more: () => undefined });
  await messages.next();
  void (async () => {
    for await (const _ of messages);
  })().catch(() => undefined);
  return stop;
}

const names = async (broker: BrokerProcess): Promise<string[]> =>
  (await broker.admin.revocations.listVerifiers({})).verifiers.filter(({ connected }) => connected).map(({ name }) => name).sort();

async function closedTask(): Promise<string> {
  const { id } = await world.open();
  await agent.claim(id);
  await agent.x509();
  await agent.jwt(["crm"]);
  await world.close(id);
  return id;
}

async function followed(subject: string): Promise<Propagation__Output[]> {
  const states: Propagation__Output[] = [];
  for await (const state of world.admin.revocations.watchPropagation({ subjects: [subject] })) states.push(state);
  return states;
}

async function now(subject: string): Promise<Propagation__Output> {
  const { value } = await world.admin.revocations.watchPropagation({ subjects: [subject], once: true }).next();
  return value as Propagation__Output;
}

/** Nobody of before may still accept anything. */
async function nobodyLeft(): Promise<void> {
  await world.until("nobody is left", async () => (await world.admin.revocations.listVerifiers({})).verifiers.length === 0);
}

const ms = (time: Propagation__Output["at"]): number => fromTimestamp(time)?.getTime() ?? NaN;

describe("verifiers", () => {
  test("of both brokers are listed at each, with what they have applied, until they can accept nothing: at once when they were closed", async () => {
    await verifierAt(world.broker, "front");
    const back = await verifierAt(second, "back");
    for (const broker of world.brokers) await world.until("both are listed", async () => (await names(broker)).join() === "back,front");
    const task = await closedTask();
    const { sequence } = await now(task);
    for (const broker of world.brokers) {
      await world.until("both have applied it", async () => {
        const { verifiers: listed } = await broker.admin.revocations.listVerifiers({});
        return listed.length === 2 && listed.every(({ applied }) => applied === sequence);
      });
    }
    const id = randomUUID();
    const lost = await follower({ verifier: id, name: "lost", maxStalenessMs: 60_000 });
    const listedAt = async (broker: BrokerProcess): Promise<string[]> =>
      (await broker.admin.revocations.listVerifiers({})).verifiers.map(({ name, connected }) => `${name} ${connected ? "connected" : "gone"}`).sort();
    for (const broker of world.brokers) await world.until("the third", async () => (await listedAt(broker)).length === 3);
    lost.abort();
    back.close();
    for (const broker of world.brokers) {
      await world.until("only the lost one is waited for", async () => (await listedAt(broker)).join() === "front connected,lost gone");
    }
    // back by the same name, it may say goodbye as well
    const stop = new AbortController();
    const messages = world.workload.feed.watch({ verifier: id, name: "lost", maxStalenessMs: 60_000 }, { signal: stop.signal, more: (say) => say({ leaving: true }) });
    for await (const _ of messages); // the broker ends it
    for (const broker of world.brokers) await world.until("it is gone too", async () => (await listedAt(broker)).length === 1);
  });

  test("that say nothing are counted; who speaks for another does not become it", async () => {
    await follower({});
    const id = randomUUID();
    await follower({ verifier: id, name: "one", maxStalenessMs: 2_000 });
    await follower({ verifier: id, name: "the other", maxStalenessMs: 2_000 });
    const { verifiers: listed } = await world.until("the one that says nothing", async () => {
      const all = await world.admin.revocations.listVerifiers({});
      return all.silent === 1 && all;
    });
    expect(listed.filter((verifier) => verifier.id === id).map(({ name }) => name)).toEqual(["the other"]); // the same user: its newest connection counts
  });

  test("that trusts nothing may come and go as it likes: all others stay known to every broker", async () => {
    const id = randomUUID();
    for (let i = 0; i < 4; i++) { // more often than it is written down
      (await follower({ verifier: id, name: "restless", maxStalenessMs: 0 })).abort();
      await world.until("it has left", async () => (await names(world.broker)).length === 0);
    }
    await follower({ verifier: randomUUID(), name: "beside it", maxStalenessMs: 2_000 });
    await world.until("the other broker knows of it", async () => (await names(second)).join() === "beside it");
  });

  test.each([["name", { name: "a\u001b[2J" }], ["verifier", { verifier: "me" }], ["max_staleness_ms", { maxStalenessMs: 90_000_000 }]])("can't say just anything: %s", async (field, said) => {
    await expect(world.workload.feed.watch(said).next()).rejects.toMatchObject({ code: "INVALID_FIELD", violations: [{ field }] });
  });
});

describe("what is shown of a revocation", () => {
  test("ends when every verifier has applied it and the lists carry it; and says who can still accept, and until when", async () => {
    const front = await verifierAt(world.broker, "front");
    await verifierAt(second, "back");
    await world.until("both are listed", async () => (await names(world.broker)).join() === "back,front");
    const { id } = await world.open();
    await agent.claim(id);
    await agent.jwt(["crm"]);
    await world.change(id, { step: "2" }); // that one was dead before
    const stream = agent.follow();
    await stream.next();
    const [jwt] = await agent.jwt(["crm"]);
    const refused = new Promise<void>((resolve) => front.feed.on("revoked", (task) => task === id && resolve()));
    await world.close(id);
    await stream.ended;
    const states = await followed(id);
    await refused;
    const last = states.at(-1) as Propagation__Output;
    expect(last).toMatchObject({ x509Svids: 1, jwtSvids: 1, streams: 1, settled: true });
    const shown = last.verifiers.filter(({ verifier }) => verifier?.connected);
    expect(shown.map(({ verifier }) => verifier?.name ?? "").sort()).toEqual(["back", "front"]);
    expect(shown.filter(({ applied }) => !applied)).toEqual([]);
    expect(last.lists).toHaveLength(1);
    expect(last.lists[0]).toMatchObject({ carries: true });
    const rows = await world.sql<{ kind: string; expires_at: Date }>("select kind, expires_at from svids where task = $1", [id]);
    const expiry = (kind: string): number => Math.max(...rows.filter((row) => row.kind === kind).map((row) => row.expires_at.getTime()));
    const until = Object.fromEntries(last.residuals.map((residual) => [residual.class, residual.until && ms(residual.until)]));
    expect(until).toMatchObject({ sdk: null, "x509-offline": expiry("x509"), "jwt-offline": expiry("jwt") + 60_000 });
    expect(until["crl"]).toBeLessThanOrEqual(ms(last.committedAt) + 300_000);
    expect(ms(last.nobodyAfter)).toBe(Math.max(expiry("x509"), expiry("jwt") + 60_000));
    await world.until("the refusal", () => {
      const verdict = front.jwt(jwt?.token ?? "");
      expect(verdict.accepted).toBe(false);
      return !verdict.accepted && verdict.reason === "VERIFY_REVOKED"; // else it is stale, for the moment
    });
  });

  test("waits for a verifier that does not acknowledge, says when it refuses by itself, and from then on does not wait", async () => {
    await nobodyLeft();
    await follower({ verifier: randomUUID(), name: "mute", maxStalenessMs: 5_000 });
    const task = await closedTask();
    const first = await now(task);
    const mute = first.verifiers.find(({ verifier }) => verifier?.name === "mute");
    expect(mute).toMatchObject({ applied: false, verifier: { connected: true } });
    const refuses = ms(mute?.refusesBy ?? null);
    // what it heard last was said at most at the commit; when that was, is an estimate of PostgreSQL's time
    expect(refuses).toBeGreaterThan(ms(first.committedAt) + 4_000);
    expect(refuses).toBeLessThanOrEqual(ms(first.committedAt) + 5_000);
    expect(ms(first.residuals.find((residual) => residual.class === "sdk")?.until ?? null)).toBe(refuses);
    const states = await followed(task);
    expect(states.at(-1)).toMatchObject({ settled: true });
    expect(ms(states.at(-1)?.at ?? null)).toBeGreaterThanOrEqual(refuses);
  });

  test("of a task that nobody claimed: nothing", async () => {
    const { id } = await world.open();
    await world.close(id);
    expect(await followed(id)).toMatchObject([{ sequence: 0, x509Svids: 0, committedAt: null, nobodyAfter: null, settled: true }]);
  });

  test("is asked for by whole names", async () => {
    for (const subjects of [[], ["0190c2a4"], ["service/"], ["service/a b"]]) {
      await expect(world.admin.revocations.watchPropagation({ subjects }).next()).rejects.toMatchObject({ code: "INVALID_FIELD" });
    }
  });

  test("is counted, by class, without a name", async () => {
    await verifierAt(world.broker, "front");
    const stream = async (): Promise<string> => {
      const { id } = await world.open();
      await agent.claim(id);
      const following = agent.follow();
      await following.next();
      await world.close(id);
      await following.ended;
      return id;
    };
    await stream();
    const text = await world.until("all are counted", async () => {
      const metrics = await (await fetch(`${world.broker.httpUrl}/metrics`)).text();
      const counts = ["sdk", "stream", "crl"].map((told) => Number(new RegExp(`propagation_seconds_count\\{class="${told}"\\} (\\d+)`).exec(metrics)?.[1] ?? 0));
      return counts.every((count) => count > 0) && /^brevet_feed_acknowledgement_lag_seconds 0$/m.test(metrics) && metrics;
    });
    expect(text).toMatch(/brevet_feed_subscribers\{kind="acknowledging"\} 1/);
    expect(Number(/^brevet_crl_age_seconds (\S+)$/m.exec(text)?.[1])).toBeLessThan(600);
    expect(text).not.toMatch(/[0-9a-f]{8}-[0-9a-f]{4}-7/);
  });
});

describe("brevet", () => {

  const brevet = async (...args: string[]): ReturnType<typeof typed> => await typed(...args, "--admin-socket", world.broker.adminSocket.replace("unix://", ""));
  const live = async (): Promise<string> => {
    const { id } = await world.open();
    await agent.claim(id);
    await agent.x509();
    return id;
  };

  test("task show says of an ended task how far its end has come; verifier list says who there is", async () => {
    await verifierAt(world.broker, "front");
    const task = await closedTask();
    expect((await brevet("task", "show", task)).stdout).toMatch(/verifiers +\d of \d have applied it/);
    expect((await brevet("verifier", "list")).stdout).toMatch(/^front +uid:/m);
  });

  test("revoke --wait says line by line who has applied it, and all of it at the end: exit 0", async () => {
    await verifierAt(world.broker, "front");
    const { code, stdout } = await brevet("revoke", "--task", await live(), "--reason", "test", "--wait");
    expect(code).toBe(0);
    expect(stdout).toMatch(/verifier front \(uid:\d+.*\) has applied it/);
    expect(stdout).toMatch(/list of authority .* carries it/);
    expect(stdout).toMatch(/nobody accepts +after \d{4}-/);
    expect(stdout).toMatch(/^x509-offline +for \d+/m);
  });

  test("revoke --wait with a verifier that does not: exit 1 in time, and who", async () => {
    await nobodyLeft();
    await follower({ verifier: randomUUID(), name: "mute", maxStalenessMs: 60_000 });
    const task = await live();
    const { code, stdout, stderr } = await brevet("revoke", "--task", task, "--reason", "test", "--wait", "--timeout", "1s", "-o", "json");
    expect(code).toBe(1);
    expect(stderr).toMatch(/not applied within 1 s by 1 of 1: mute \(uid:\d+.*refuses by itself at /);
    const [revoked, ...states] = stdout.trim().split("\n").map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(revoked).toMatchObject({ tasks: [{ id: task }] });
    expect(states.at(-1)).toMatchObject({ settled: false });
    const again = await brevet("revoke", "--task", task, "--reason", "test", "--wait", "--timeout", "1s");
    expect(again.stdout).toMatch(/not yet: refuses by itself in \d+s/); // a repeat shows the same revocation
  });

});

describe("until when anybody can accept", () => {
  const committedAt = 1_000_000;
  const verifier = (applied: number, more: Partial<VerifierState> = {}): VerifierState => ({
    id: randomUUID(), who: "uid:0", name: "v", pid: 1, broker: "b", maxStalenessMs: 10_000, applied, appliedAt: null, joinedAt: 0, leftAt: null, heardUntil: committedAt + 500, ...more,
  });
  const revoked = (x509: number, jwt: number): Revoked => ({
    sequence: 7, committedAt,
    svids: [...(x509 ? [{ kind: "x509" as const, authority: "a", count: 1, lastExpiry: x509 }] : []), ...(jwt ? [{ kind: "jwt" as const, authority: "j", count: 1, lastExpiry: jwt }] : [])],
  });
  const list = (carries: boolean, previousEnds: number): { authority: string; carries: boolean; previousEnds: number } => ({ authority: "a", carries, previousEnds });
  const of = (what: Revoked, verifiers: VerifierState[], lists: ReturnType<typeof list>[], now = committedAt + 500): Record<string, number | undefined> =>
    Object.fromEntries(residuals(what, now, verifiers, lists).map((residual) => [residual.class, residual.until]));

  test("is the commit and what they trust, for verifiers that have not applied it; none for the others", () => {
    const what = revoked(committedAt + 300_000, 0);
    expect(of(what, [verifier(7), verifier(9)], [])["sdk"]).toBeUndefined();
    expect(of(what, [verifier(7), verifier(6), verifier(2, { maxStalenessMs: 4_000 })], [])["sdk"]).toBe(committedAt + 10_000);
  });
  test("of one that left before, what it trusts from when it left", () => {
    expect(of(revoked(committedAt + 300_000, 0), [verifier(6, { leftAt: committedAt - 3_000, heardUntil: committedAt - 3_000 })], [])["sdk"]).toBe(committedAt + 7_000);
  });
  test("is the end of the list before, for who reads lists; never beyond the certificate's own", () => {
    expect(of(revoked(committedAt + 300_000, 0), [], [list(true, committedAt + 200_000)])["crl"]).toBe(committedAt + 200_000);
    expect(of(revoked(committedAt + 100_000, 0), [], [list(false, committedAt + 200_000)])["crl"]).toBe(committedAt + 100_000);
  });
  test("is the SVIDs' own end for who checks nothing else, of tokens a minute more; nothing is later", () => {
    const what = revoked(committedAt + 300_000, committedAt + 120_000);
    expect(of(what, [], [])).toEqual({ sdk: undefined, crl: undefined, "x509-offline": committedAt + 300_000, "jwt-offline": committedAt + 120_000 + offlineLeewayMs });
    expect(nobodyAfter(what, residuals(what, committedAt, [verifier(1, { maxStalenessMs: 86_400_000 })], [list(false, committedAt + 900_000)]))).toBe(committedAt + 300_000);
  });
  test("is the commit itself when nothing was alive", () => {
    const what = revoked(0, 0);
    expect(of(what, [verifier(1)], [])).toEqual({ sdk: undefined, crl: undefined, "x509-offline": undefined, "jwt-offline": undefined });
    expect(nobodyAfter(what, residuals(what, committedAt, [], []))).toBe(committedAt);
  });
});
