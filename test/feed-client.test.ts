// Does a verifier's view of the feed never go back, and never pass for fresher than it is?
// The feed is served by a test, on a real socket, well behaved or not: silent, repeated, rolled back,
// begun anew, cut off, late. What a view says of itself is held against what it was told.
// Against the broker's feed: the tests of revoke/ and the story.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { connect } from "../src/client/connect.ts";
import type { Connection } from "../src/client/connect.ts";
import { FeedView } from "../src/verify/feed.ts";
import type { FeedMessage } from "../src/generated/brevet/v1/FeedMessage.ts";
import { Outside, taskA, taskB, until } from "./support/outside.ts";

let outside: Outside;
let connection: Connection;
const stop: AbortController[] = [];

beforeEach(async () => {
  outside = await Outside.start();
  connection = connect({ address: outside.address });
});
afterEach(() => {
  for (const one of stop.splice(0)) one.abort();
  connection.close();
  outside.close();
});

/** `stale`: how old it may get, in ms. */
function view(stale = 60_000): FeedView {
  const feed = new FeedView(connection.feed.watch, stale, { name: "front desk", graceMs: 1_000 });
  const ending = new AbortController();
  stop.push(ending);
  void feed.run(ending.signal);
  return feed;
}

async function freshView(stale?: number): Promise<FeedView> {
  const feed = view(stale);
  await until(() => feed.fresh);
  return feed;
}

const soon = (): number => Math.floor(Date.now() / 1_000) + 3_600;
const entry = (task: string, epoch: number, sequence: number): NonNullable<FeedMessage["revocations"]>[number] => ({ task, epoch, sequence, until: soon() });

describe("what is revoked", () => {
  it("is what the snapshot and each message since say; an absent task has epoch 0", async () => {
    outside.revocations = [{ task: taskA, epoch: 3, sequence: 7, until: soon() }];
    outside.sequence = 7;
    const feed = await freshView();
    expect([feed.epochOf(taskA), feed.epochOf(taskB), feed.sequence]).toEqual([3, 0, 7]);
    const heard: [string, number][] = [];
    feed.on("revoked", (task, epoch) => heard.push([task, epoch]));
    outside.revoke(taskB, 1);
    await until(() => feed.epochOf(taskB) === 1);
    expect(heard).toEqual([[taskB, 1]]);
  });

  it("never falls: an older epoch of the same task changes nothing", async () => {
    const feed = await freshView();
    outside.revoke(taskA, 5);
    outside.revoke(taskA, 2);
    outside.revoke(taskB, 1);
    await until(() => feed.epochOf(taskB) === 1);
    expect(feed.epochOf(taskA)).toBe(5);
  });

  it("is forgotten only once no SVID of it can be valid, by PostgreSQL's clock", async () => {
    const feed = await freshView();
    outside.revoke(taskA, 1, Date.now() / 1_000 - 180);
    outside.revoke(taskB, 1, Date.now() / 1_000 - 5);
    await until(() => feed.size === 1);
    expect(feed.epochOf(taskB)).toBe(1);
  });

  it("is not known before the last page of a snapshot", async () => {
    outside.mute = true;
    const feed = view();
    await until(() => outside.asked.length > 0);
    outside.say({ snapshot: true, complete: false, sequence: 0, asOf: 0, revocations: [entry(taskA, 1, 1)] });
    await until(() => feed.size === 1);
    expect(feed.ready).toBe(false);
    outside.say({ snapshot: true, complete: true, sequence: 9, revocations: [entry(taskB, 1, 9)] });
    await until(() => feed.fresh);
    expect([feed.epochOf(taskA), feed.epochOf(taskB), feed.sequence]).toEqual([1, 1, 9]);
  });
});

describe("a feed that is lost", () => {
  it("is resumed where it was left", async () => {
    const feed = await freshView();
    outside.revoke(taskA, 1);
    await until(() => feed.sequence === 1);
    outside.stop();
    outside.sequence = 2;
    outside.revocations.push({ task: taskB, epoch: 1, sequence: 2, until: soon() });
    outside.asked.length = 0;
    await outside.listen();
    await until(() => feed.epochOf(taskB) === 1);
    expect(outside.asked).toContainEqual({ feedId: "feed-1", afterSequence: 1 });
    expect(feed.epochOf(taskA)).toBe(1);
  });

  it("is not resumed in the middle of a snapshot", async () => {
    outside.mute = true;
    const feed = view();
    await until(() => outside.asked.length > 0);
    outside.say({ snapshot: true, complete: false, asOf: 0, revocations: [entry(taskA, 1, 4)] });
    await until(() => feed.size === 1);
    outside.stop();
    outside.asked.length = 0;
    await outside.listen();
    await until(() => outside.asked.length > 0);
    expect(outside.asked[0]).toEqual({ feedId: "", afterSequence: 0 });
    outside.say({ sequence: 9 });
    await until(() => outside.asked.length > 1);
    expect(feed.ready).toBe(false);
  });

  it("begun anew under another ID: what was known is dropped, and nothing is ready before its snapshot", async () => {
    const feed = await freshView();
    outside.revoke(taskA, 4);
    await until(() => feed.epochOf(taskA) === 4);
    outside.mute = true;
    outside.feedId = "feed-2";
    outside.sequence = 0;
    outside.revocations = [];
    outside.say({});
    await until(() => !feed.ready);
    expect(feed.epochOf(taskA)).toBe(0);
    outside.mute = false;
    await until(() => outside.asked.length > 1 && feed.fresh);
    expect(feed.sequence).toBe(0);
  });

  it("is stale when its broker is gone, and fresh when it is back", async () => {
    const feed = await freshView(1_000);
    const heard: string[] = [];
    feed.on("stale", () => heard.push("stale")).on("fresh", () => heard.push("fresh"));
    outside.stop();
    await until(() => heard.includes("stale"));
    expect([feed.fresh, feed.ready]).toEqual([false, true]);
    await outside.listen();
    await until(() => heard.includes("fresh"));
    expect(feed.fresh).toBe(true);
  });
});

describe("who listens to a view", () => {
  it("hears of each revocation how long ago it was made, of a snapshot's not", async () => {
    outside.revocations = [{ task: taskA, epoch: 3, sequence: 1, until: soon() }];
    outside.sequence = 1;
    const feed = view();
    const heard: [string, number | undefined][] = [];
    feed.on("revoked", (task, _epoch, latencyMs) => heard.push([task, latencyMs]));
    await until(() => feed.fresh);
    outside.mute = true;
    const revocation = { ...entry(taskB, 1, 2), atUs: (outside.asOf - 500) * 1_000 };
    outside.say({ revocations: [revocation], sequence: 2, asOf: 0 });
    await until(() => heard.length === 2);
    expect(heard[0]).toEqual([taskA, undefined]);
    expect(heard[1]?.[0]).toBe(taskB);
    expect(heard[1]?.[1]).toBeGreaterThanOrEqual(500);
    expect(heard[1]?.[1]).toBeLessThan(20_000);
  });

  it("is warned of silence long before it counts as stale, and told of each lost connection", async () => {
    const feed = await freshView();
    const silent: number[] = [];
    let lost = 0;
    feed.on("silent", (ms) => silent.push(ms)).on("lost", () => lost++);
    outside.mute = true;
    await until(() => silent.length > 1);
    expect(silent[0]).toBeGreaterThanOrEqual(2_900);
    expect([feed.fresh, lost]).toEqual([true, 0]);
    outside.stop();
    await until(() => lost > 0);
  });
});

describe("a feed that must not be trusted", () => {
  it("goes back to a lower sequence: refused, and asked anew", async () => {
    const feed = await freshView(400);
    outside.revoke(taskA, 1);
    outside.revoke(taskB, 1);
    await until(() => feed.sequence === 2);
    outside.asked.length = 0;
    outside.revocations = [];
    outside.sequence = 1;
    await until(() => outside.asked.length > 0);
    await until(() => !feed.fresh);
    expect([feed.sequence, feed.epochOf(taskA), feed.epochOf(taskB)]).toEqual([2, 1, 1]);
  });

  it("is reordered, or leaves something out: nothing of it is taken, and all is asked for anew", async () => {
    const feed = await freshView();
    outside.mute = true;
    outside.asked.length = 0;
    outside.sequence = 2;
    outside.revocations = [entry(taskA, 1, 1), entry(taskB, 1, 2)] as typeof outside.revocations;
    outside.say({ sequence: 2, revocations: [entry(taskB, 1, 2)] });
    await until(() => outside.asked.length > 0);
    expect([feed.sequence, feed.epochOf(taskB)]).toEqual([0, 0]);
    outside.asked.length = 0;
    outside.say({ sequence: 2, revocations: [entry(taskB, 1, 2), entry(taskA, 1, 1)] });
    await until(() => outside.asked.length > 0);
    expect(feed.sequence).toBe(0);
    outside.mute = false;
    outside.asked.length = 0;
    outside.say({ sequence: 2, revocations: [] });
    await until(() => feed.sequence === 2);
    expect([feed.epochOf(taskA), feed.epochOf(taskB)]).toEqual([1, 1]);
  });

  it("falls silent (black hole): stale, whatever the connection looks like, and asked anew", async () => {
    const feed = await freshView(200);
    outside.asked.length = 0;
    outside.mute = true;
    await until(() => !feed.fresh);
    await until(() => outside.asked.length > 1);
    expect(feed.fresh).toBe(false);
    outside.mute = false;
    await until(() => feed.fresh);
  });

  it("repeats its last sign of life: it keeps nobody fresh", async () => {
    const feed = await freshView(200);
    outside.mute = true;
    const replay = setInterval(() => outside.say({ asOf: outside.asOf - 1_000 }), 10);
    outside.asOf -= 1_000;
    await until(() => !feed.fresh);
    clearInterval(replay);
  });

  it("answers a new question with an old sign of life: still stale", async () => {
    const feed = await freshView(200);
    outside.mute = true;
    await until(() => !feed.fresh);
    let fresh = 0;
    feed.on("fresh", () => fresh++);
    const frozen = outside.asOf - 60_000;
    outside.asked.length = 0;
    const replay = setInterval(() => outside.say({ asOf: frozen, snapshot: true }), 10);
    await until(() => outside.asked.length > 3);
    clearInterval(replay);
    expect(fresh).toBe(0);
  });

  it("delivers late what lay in a buffer: as old as it is", async () => {
    const feed = await freshView();
    outside.mute = true;
    const asOf = outside.asOf + 1;
    await new Promise((resolve) => setTimeout(resolve, 500));
    outside.say({ asOf, sequence: 1, revocations: [entry(taskA, 1, 1)] });
    await until(() => feed.epochOf(taskA) === 1);
    expect(feed.silentMs).toBeGreaterThan(300);
  });

  it.each<[string, FeedMessage]>([
    ["has no ID", { feedId: "" }],
    ["has a negative sequence", { sequence: -1 }],
    ["has a time out of range", { asOf: -5 }],
    ["names no task", { revocations: [{ task: "", epoch: 1, sequence: 1, until: 1 }], sequence: 1 }],
    ["names a task of 10,000 characters", { revocations: [{ task: "x".repeat(10_000), epoch: 1, sequence: 1, until: 1 }], sequence: 1 }],
    ["has a negative epoch", { revocations: [{ task: taskB, epoch: -1, sequence: 1, until: 1 }], sequence: 1 }],
    ["has a huge epoch", { revocations: [{ task: taskB, epoch: "9223372036854775807", sequence: 1, until: 1 }], sequence: 1 }],
    ["holds more than it says", { revocations: [{ task: taskB, epoch: 1, sequence: 50, until: soon() }], sequence: 49 }],
  ])("%s: dropped whole, and asked anew", async (_what, message) => {
    const feed = await freshView();
    outside.asked.length = 0;
    outside.asOf++;
    outside.say(message);
    await until(() => outside.asked.length > 0);
    expect(feed.epochOf(taskB)).toBe(0);
    await until(() => feed.fresh);
  });
});

describe("what it says back", () => {
  const applied = (): number[] => outside.acknowledged.map((said) => Number(said["applied"]));

  it("is what it has applied: at once the first time, then coalesced, the last one always", async () => {
    const feed = await freshView();
    await until(() => applied().length === 1);
    for (let i = 0; i < 200; i++) outside.revoke(taskA, i + 1);
    await until(() => feed.sequence === 200);
    await until(() => applied().at(-1) === 200);
    expect(applied()[0]).toBe(0);
    expect(applied().length).toBeLessThan(100);
    expect(applied()).toEqual(applied().toSorted((a, b) => a - b));
  });

  it("is nothing new while nothing is revoked", async () => {
    const feed = await freshView();
    await until(() => applied().length === 1);
    const { asOf } = outside;
    await until(() => outside.asOf > asOf + 300);
    expect([feed.fresh, applied()]).toEqual([true, [0]]);
  });

  it("is said again on another connection, by the same name and ID", async () => {
    const feed = view();
    outside.revoke(taskA, 1);
    await until(() => applied().includes(1));
    outside.stop();
    outside.acknowledged.length = 0;
    await outside.listen();
    await until(() => applied().includes(1));
    expect(feed.fresh).toBe(true);
    expect(new Set(outside.followers.map(({ verifier }) => verifier)).size).toBe(1);
    expect(outside.followers[0]).toMatchObject({ name: "front desk", maxStalenessMs: 61_000, verifier: expect.stringMatching(/^[0-9a-f-]{36}$/) });
  });
});

it("tells the later of two clocks, so that a slow one revives nothing", async () => {
  outside.asOf = Date.now() + 3_600_000;
  const feed = await freshView();
  expect(feed.now()).toBeGreaterThanOrEqual(outside.asOf - 60_000);
});
