// What does a verifier hear, and from where on?
// The stream as it leaves a real broker: snapshot, increments, heartbeats; resuming where one stopped;
// pages; a broker that was killed; two that tell the same. DESIGN section 3 "Feed", invariant 4.
// The verifier's side of it is feed-client.test.ts's; what is revoked when, revoke.test.ts's.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { FeedMessage__Output } from "../src/generated/brevet/v1/FeedMessage.ts";
import { Stream } from "./support/agent.ts";
import type { Agent } from "./support/agent.ts";
import type { BrokerProcess } from "./support/broker.ts";
import { World } from "./support/world.ts";

let world: World;
let agent: Agent;
let second: BrokerProcess;
beforeAll(async () => {
  world = await World.start({ brokers: 2 });
  second = world.brokers[1] as BrokerProcess;
  agent = await world.agent();
});
afterAll(async () => {
  await world[Symbol.asyncDispose]();
});

/** A task that has lived and was ended: one revocation. */
async function revoked(): Promise<string> {
  const { id } = await world.open();
  await agent.claim(id);
  await world.close(id);
  return id;
}

function watch(broker: BrokerProcess = world.broker, request: { feedId?: string; afterSequence?: number } = {}): Stream<FeedMessage__Output> {
  const stop = new AbortController();
  const stream = new Stream<FeedMessage__Output>(() => stop.abort());
  void (async () => {
    try {
      for await (const message of broker.workload.feed.watch({ feedId: "", afterSequence: 0, ...request }, { signal: stop.signal })) stream.push(message);
    } catch {
      // cancelled, or the broker went away
    }
    stream.finish(undefined);
  })();
  return stream;
}

const complete = async (stream: Stream<FeedMessage__Output>): Promise<FeedMessage__Output> => {
  for (;;) {
    const message = await stream.next();
    if (message.complete) return message;
  }
};
const told = (stream: Stream<FeedMessage__Output>): string[] => stream.messages.flatMap(({ revocations }) => revocations.map(({ task }) => task));

describe("a new subscriber", () => {
  test("gets all that still matters, and from there on each as it is committed", async () => {
    const before = [await revoked(), await revoked()];
    const stream = watch();
    const first = await complete(stream);
    expect(first).toMatchObject({ snapshot: true, complete: true, feedId: expect.stringMatching(/^[0-9a-f-]{36}$/) });
    expect(told(stream)).toEqual(expect.arrayContaining(before));
    const after = await revoked();
    const news = await world.until("the revocation", () => stream.messages.find(({ revocations }) => revocations.some(({ task }) => task === after)));
    expect(news).toMatchObject({ snapshot: false, feedId: first.feedId, sequence: first.sequence + 1, revocations: [{ epoch: 2, sequence: first.sequence + 1 }] });
    expect(Number(news.revocations[0]?.until)).toBeGreaterThan(Date.now() / 1_000 + 120);
    stream.cancel();
  });

  test("hears heartbeats that each were read later than the one before", async () => {
    const stream = watch();
    await complete(stream);
    const beats = [await stream.next(), await stream.next(), await stream.next()];
    for (const [i, beat] of beats.entries()) expect(beat.asOf).toBeGreaterThan(stream.messages[i]?.asOf ?? Infinity);
    stream.cancel();
  });

  test("of either broker hears of what the other committed", async () => {
    const streams = world.brokers.map((broker) => watch(broker));
    await Promise.all(streams.map(complete));
    const task = await revoked();
    for (const stream of streams) await world.until("the revocation", () => told(stream).includes(task));
    const { id } = await world.open({}, second.workload);
    await agent.claim(id);
    await second.workload.tasks.changeContext({ task: id, set: { user: "bob" }, remove: [] });
    for (const stream of streams) await world.until("the change", () => told(stream).includes(id));
    await world.close(id);
    for (const stream of streams) stream.cancel();
  });
});

describe("who resumes after a sequence", () => {
  test("gets only what came since, each once and in order", async () => {
    const stream = watch();
    const { feedId, sequence } = await complete(stream);
    stream.cancel();
    const since = [await revoked(), await revoked(), await revoked()];
    const again = watch(world.broker, { feedId, afterSequence: sequence });
    expect(await complete(again)).toMatchObject({ snapshot: false, feedId, sequence: sequence + 3 });
    expect(told(again)).toEqual(since);
    expect(again.messages.flatMap(({ revocations }) => revocations.map((r) => r.sequence))).toEqual([1, 2, 3].map((n) => sequence + n));
    again.cancel();
  });

  test("having missed nothing gets nothing, but a sign of life", async () => {
    const stream = watch();
    const { feedId, sequence } = await complete(stream);
    const again = watch(world.broker, { feedId, afterSequence: sequence });
    expect(await complete(again)).toMatchObject({ snapshot: false, revocations: [], sequence });
    for (const each of [stream, again]) each.cancel();
  });

  test.each([["of another feed", "00000000-0000-4000-8000-000000000000", 1], ["that lies ahead", "", 1_000_000]])("%s starts with a snapshot", async (_what, feedId, afterSequence) => {
    const fresh = watch();
    const { feedId: ours, sequence } = await complete(fresh);
    const stream = watch(world.broker, { feedId: feedId || ours, afterSequence });
    expect(await complete(stream)).toMatchObject({ snapshot: true, feedId: ours, sequence });
    expect(told(stream).sort()).toEqual(told(fresh).sort());
    for (const each of [fresh, stream]) each.cancel();
  });

  test("at a broker that was killed meanwhile misses nothing", async () => {
    const stream = watch();
    const { feedId, sequence } = await complete(stream);
    const before = await revoked();
    await world.kill9();
    await stream.ended;
    const { id: meanwhile } = await world.open({}, second.workload);
    await agent.claim(meanwhile, { socket: second.workloadSocket });
    await second.workload.tasks.close({ task: meanwhile });
    await world.broker.start();
    const again = watch(world.broker, { feedId, afterSequence: sequence });
    expect(await complete(again)).toMatchObject({ snapshot: false, feedId, sequence: sequence + 2 });
    expect(told(again)).toEqual([before, meanwhile]);
    again.cancel();
  });

  test("from a negative sequence is told what is wrong", async () => {
    await expect(world.workload.feed.watch({ afterSequence: -1 }).next()).rejects.toMatchObject({ code: "INVALID_FIELD", violations: [{ field: "after_sequence" }] });
  });
});

test("it says task, epoch, sequence and times: no names, no reasons", async () => {
  const stream = watch();
  const { revocations } = await complete(stream);
  for (const revocation of revocations) expect(Object.keys(revocation).sort()).toEqual(["atUs", "epoch", "sequence", "task", "until"]);
  stream.cancel();
});

test("all of it is true", async () => {
  await world.check();
});

/** Rows of tasks that never were: after this, the world can't be checked any more. */
describe("a long history", () => {
  test("comes in pages, only the last of them complete, ended by the sequence that increments follow", async () => {
    const rows = 20_000;
    const [before] = await world.sql<{ sequence: number }>("select sequence::int from feed_head");
    await world.sql(`with added as (insert into revocations (sequence, subject, epoch, until, at)
        select h.sequence + n, gen_random_uuid()::text, 2, now() + interval '5 minutes', now() from feed_head h, generate_series(1, $1::int) n returning 1)
      update feed_head set sequence = sequence + $1::int where (select count(*) from added) > 0`, [rows]);
    await world.sql("select pg_notify('brevet', 'feed')");
    const stream = await world.until("the broker has read them", async () => {
      const attempt = watch();
      if ((await complete(attempt)).sequence === (before?.sequence ?? 0) + rows) return attempt;
      attempt.cancel();
      return undefined;
    });
    const pages = stream.messages.filter(({ snapshot }) => snapshot);
    expect(pages.length).toBeGreaterThan(1);
    expect(pages.map((page) => page.complete)).toEqual([...pages.slice(1).map(() => false), true]);
    expect(new Set(told(stream)).size).toBeGreaterThanOrEqual(rows);
    const after = await revoked();
    await world.until("the increment", () => told(stream).includes(after));
    expect(stream.messages.at(-1)?.sequence).toBe((before?.sequence ?? 0) + rows + 1);
    // who comes now is told the same pages, and what came since they were made
    const next = watch();
    expect(await complete(next)).toMatchObject({ snapshot: true, sequence: (before?.sequence ?? 0) + rows + 1 });
    expect(new Set(told(next))).toEqual(new Set(told(stream)));
    for (const each of [stream, next]) each.cancel();
  });

  test("holds nothing that has expired", async () => {
    await world.sql(`alter table revocations disable trigger all`);
    await world.sql(`update revocations set until = now() - interval '1 second' where sequence > 10`);
    await world.restart(second);
    const stream = watch(second);
    await complete(stream);
    expect(told(stream).length).toBeLessThanOrEqual(10);
    stream.cancel();
  });
});
