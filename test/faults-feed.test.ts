// What must a verifier refuse when its broker, its clock or the way between them fails?
// Real brokers and real verifiers; what is broken is outside of them. In each case the rule is the same:
// what an acknowledged close has killed is not accepted by anyone who is fresh, and who is not fresh accepts
// nothing and says so.
// What a view does with a feed that lies is feed-client.test.ts's; the database's faults, faults.test.ts's and
// failover.test.ts's.
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { newTaskId } from "../src/identity/id.ts";
import { Verifier } from "../src/verify/verifier.ts";
import type { Agent, HeldJwt, HeldX509 } from "./support/agent.ts";
import type { BrokerProcess } from "./support/broker.ts";
import { Peer, block, callFields, endHeaders, endStream, frame, message } from "./support/frames.ts";
import { Wire } from "./support/wire.ts";
import { World } from "./support/world.ts";

let world: World;
let wire: Wire;
let second: BrokerProcess;
let agent: Agent;

beforeAll(async () => {
  wire = await Wire.start(process.env["BREVET_TEST_DATABASE_URL"] ?? "");
  world = await World.start({ brokers: 2, through: (url, broker) => (broker === 0 ? wire.through(url) : url) });
  second = world.brokers[1] as BrokerProcess;
});
afterAll(async () => {
  await world[Symbol.asyncDispose]();
  await wire.close();
});

type Held = { readonly task: string; readonly x509: HeldX509; readonly jwt: HeldJwt };

async function held(): Promise<Held> {
  agent = await world.agent();
  const { id } = await world.open();
  await agent.claim(id);
  const [x509] = await agent.x509();
  const [jwt] = await agent.jwt(["crm"]);
  if (!x509 || !jwt) throw new Error("no SVID");
  return { task: id, x509, jwt };
}

async function verifierAt(broker: BrokerProcess, maxStaleness: string): Promise<Verifier> {
  const verifier = new Verifier({ address: broker.workloadSocket, audience: "crm", maxStaleness });
  onTestFinished(() => verifier.close());
  await verifier.ready();
  return verifier;
}

/** Of the certificate and of the token: accepted, or why not. */
const verdicts = (verifier: Verifier, { x509, jwt }: Held): string[] =>
  [verifier.x509(x509.chain), verifier.jwt(jwt.token)].map((verdict) => (verdict.accepted ? "accepted" : verdict.reason));
const [accepted, stale, revoked] = ["accepted", "VERIFY_STALE", "VERIFY_REVOKED"].map((word) => [word, word]);

describe("between the commit and the word of it", () => {
  test("the broker is killed: its verifiers hear of it when it is back", async () => {
    const svids = await held();
    const verifier = await verifierAt(world.broker, "30s");
    expect(verdicts(verifier, svids)).toEqual(accepted);
    const halt = wire.halt("revoke_tasks", "hold after");
    const closing = world.close(svids.task).catch(() => undefined);
    await halt.reached;
    await world.broker.kill9();
    halt.release();
    await closing;
    await world.broker.start();
    await world.until("it refuses", () => verdicts(verifier, svids).join() === revoked?.join());
    expect(verifier.feed.fresh).toBe(true);
  });

  test("the broker sleeps: meanwhile its verifiers grow stale, and awake it tells them before it keeps them fresh", async () => {
    const svids = await held();
    const verifier = await verifierAt(world.broker, "2s");
    const halt = wire.halt("revoke_tasks", "hold after");
    const closing = world.close(svids.task);
    await halt.reached;
    world.broker.signal("SIGSTOP");
    const seen = new Set<string>();
    try {
      halt.release();
      await world.until("it is stale", () => !verifier.feed.fresh);
      expect(verdicts(verifier, svids)).toEqual(stale);
      expect(verifier.x509(svids.x509.chain)).toMatchObject({ message: expect.stringMatching(/revocations were last heard of \d+ s ago/) });
    } finally {
      world.broker.signal("SIGCONT");
    }
    await world.until("it is fresh again", () => {
      for (const verdict of verdicts(verifier, svids)) seen.add(verdict);
      return verifier.feed.fresh;
    });
    expect(await closing).toMatchObject({ state: "closed" });
    await world.until("it refuses", () => {
      for (const verdict of verdicts(verifier, svids)) seen.add(verdict);
      return verdicts(verifier, svids).join() === revoked?.join();
    });
    expect(seen).not.toContain("accepted");
  });

  test("no notice reaches the other broker: its next heartbeat finds it", async () => {
    const svids = await held();
    const verifier = await verifierAt(second, "30s");
    expect(verdicts(verifier, svids)).toEqual(accepted);
    // as revoke_tasks does it, but for pg_notify
    await world.sql(`with ended as (update tasks set state = 'closed', epoch = epoch + 1, ended_at = now(), ended_by = 'test', end_reason = '' where id = $1 returning epoch),
        head as (update feed_head set sequence = sequence + 1 returning sequence)
      insert into revocations (sequence, subject, epoch, until, at) select sequence, $1::uuid::text, epoch, now() + interval '10 minutes', now() from ended, head`, [svids.task]);
    await world.until("it refuses", () => verdicts(verifier, svids).join() === revoked?.join());
  });
});

describe("a verifier whose clock is wrong", () => {
  test.each([-10_000, 10_000])("by %d ms stays fresh, accepts what is alive and refuses what was revoked", async (shift) => {
    const svids = await held();
    const real = Date.now;
    const clock = vi.spyOn(Date, "now").mockImplementation(() => real() + shift);
    onTestFinished(() => clock.mockRestore());
    const verifier = await verifierAt(world.broker, "3s");
    expect(verdicts(verifier, svids)).toEqual(accepted);
    expect(Math.abs(verifier.feed.now() - real())).toBeLessThan(shift > 0 ? shift + 8_000 : 8_000); // the later of both clocks
    await sleep(3_500); // longer than it trusts its first heartbeat
    await world.until("it accepts", () => verdicts(verifier, svids).join() === accepted?.join());
    await world.close(svids.task);
    await world.until("it refuses", () => verdicts(verifier, svids).join() === revoked?.join());
  });
});

describe("a follower that does not read", () => {
  const rows = 60_000;
  test("is cut, and nothing is kept for it; it starts anew", async () => {
    await world.sql(`with added as (insert into revocations (sequence, subject, epoch, until, at)
        select h.sequence + n, gen_random_uuid()::text, 2, now() + interval '5 minutes', now() from feed_head h, generate_series(1, $1::int) n returning 1)
      update feed_head set sequence = sequence + $1::int where (select count(*) from added) > 0`, [rows]);
    await world.sql("select pg_notify('brevet', 'feed')");
    const verifier = await verifierAt(second, "30s");
    await world.until("the broker has them", () => verifier.feed.size >= rows);
    const before = await second.metric('brevet_feed_subscribers{kind="silent"}');
    // its window is never opened: after 64 KiB it takes no more
    const peer = new Peer(second.workloadSocket);
    peer.write(frame("headers", endHeaders, 1, block(callFields("/brevet.v1.Feed/Watch"))), frame("data", endStream, 1, message(Buffer.alloc(0))));
    await world.until("it follows", async () => (await second.metric('brevet_feed_subscribers{kind="silent"}')) === before + 1);
    await world.until("it is cut", async () => (await second.metric('brevet_feed_subscribers{kind="silent"}')) === before);
    const svids = await held();
    await world.close(svids.task);
    await world.until("the others hear", () => verdicts(verifier, svids).join() === revoked?.join());
  });
});

test("a start with 100,000 live revocations has them all before it keeps anybody fresh", async () => {
  const svids = await held();
  await world.close(svids.task);
  const named = newTaskId(Date.now());
  for (let n = 0; n < 10; n++) {
    await world.sql(`with added as (insert into revocations (sequence, subject, epoch, until, at)
        select h.sequence + n, case when n = 1 and $1 then $2::text else gen_random_uuid()::text end, 5, now() + interval '10 minutes', now()
        from feed_head h, generate_series(1, 10000) n returning 1)
      update feed_head set sequence = sequence + 10000 where (select count(*) from added) > 0`, [n === 0, named]);
  }
  await world.kill9();
  await world.broker.start();
  const verifier = await verifierAt(world.broker, "10s");
  expect(verifier.feed.size).toBeGreaterThanOrEqual(100_000);
  expect(verifier.feed.epochOf(named)).toBe(5);
  expect(verdicts(verifier, svids)).toEqual(revoked);
});
