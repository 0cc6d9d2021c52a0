// Can an SVID slip out past a close?
// Two brokers' issuing and revoking halves on one database, in one process so that "before" and "after"
// are certain: thousands of fetches against a thousand closes, each looked at. No fetch invoked after a
// close was acknowledged yields anything, at either; whatever was handed out is a row, and dead.
// DESIGN 3, invariants 1, 2 and 5; threats T10, T11, T12.
// Each interleaving by itself is transactions.test.ts's; the same over sockets, two-brokers.test.ts's.
import { randomUUID } from "node:crypto";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { BrevetError, grpcStatus } from "../src/errors.ts";
import type { Issuer } from "../src/issue/issue.ts";
import { services } from "../src/proto.ts";
import { agentUid } from "./support/agent.ts";
import { Ledger, fetchOne, half, holderOf } from "./support/ledger.ts";
import type { Half, Held } from "./support/ledger.ts";
import { start } from "./support/spawn.ts";
import { Wire } from "./support/wire.ts";
import { World } from "./support/world.ts";

let ledger: Ledger;

beforeAll(async () => {
  ledger = await Ledger.start();
});
afterAll(() => ledger.close());

test("a thousand closes against fetches at two brokers", async () => {
  const issuers: Issuer[] = [];
  const brokers = [half(ledger.store, issuers), half(ledger.anotherStore(), issuers)];
  const all: Held[] = [];
  while (all.length < 1000) all.push(...(await Promise.all(Array.from({ length: 50 }, () => ledger.held()))));
  const seen = new Map<string, string>();
  const late: string[] = [];
  const refusals = new Set<string>();
  let afterwards = 0;
  const oneRound = async (held: Held, n: number): Promise<void> => {
    let isAcknowledged = false;
    const fetching = ([["x509", 0], ["jwt", 1], ["x509", 1]] as const).map(async ([kind, at]) => {
      for (;;) {
        const invokedAfter = isAcknowledged;
        if (invokedAfter) afterwards++;
        try {
          const serial = await fetchOne(brokers[at] as Half, held, kind);
          seen.set(serial, held.task);
          if (invokedAfter) late.push(serial);
        } catch (error) {
          refusals.add(error instanceof BrevetError ? error.code : String(error));
          if (invokedAfter) return;
        }
        await new Promise((resolve) => setImmediate(resolve));
      }
    });
    await sleep(Math.random() * 6);
    await (brokers[n % 2] as Half).revoker.end(held.task, "closed", "done", "test");
    isAcknowledged = true;
    await Promise.all(fetching);
  };
  for (let n = 0; n < all.length; n += 50) await Promise.all(all.slice(n, n + 50).map((held, i) => oneRound(held, n + i)));

  expect(late).toEqual([]);
  expect(afterwards).toBeGreaterThanOrEqual(3000);
  expect([...refusals]).toEqual(["DENIED_TASK_ENDED"]);
  expect(seen.size).toBeGreaterThan(100);
  const rows = await ledger.owner.rows<{ serial: string; task: string; dead: boolean; told: boolean; late: boolean }>(`select s.serial, s.task, t.epoch > s.epoch as dead,
      s.issued_at > t.ended_at as late, exists (select from revocations r where r.subject = s.task::text and r.epoch > s.epoch and r.until > s.expires_at) as told
    from svids s join tasks t on t.id = s.task`);
  expect(rows.filter((row) => !row.dead || !row.told || row.late)).toEqual([]);
  const recorded = new Map(rows.map((row) => [row.serial, row.task]));
  expect([...seen].filter(([serial, task]) => recorded.get(serial) !== task)).toEqual([]);
  // the keys of what is over are gone from memory
  for (const { issuer } of brokers) expect(issuer.held).toBe(0);
});

test("a fetch that comes after a close does not ride along with one from before it", async () => {
  const wire = await Wire.start(ledger.url);
  const slow = ledger.anotherStore(4, wire.through(ledger.url));
  try {
    const [here, there] = [half(slow), half(ledger.store)];
    const held = await ledger.held();
    const halt = wire.halt("issue_svids", "hold after");
    const early = fetchOne(here, held, "x509"); // recorded, but nobody here has heard so yet
    await halt.reached;
    await there.revoker.end(held.task, "closed", "done", "test");
    const late = fetchOne(here, held, "x509").catch((error: unknown) => error);
    await sleep(20);
    halt.release();
    const [row] = await ledger.owner.rows<{ serial: string }>("select serial from svids where task = $1", [held.task]);
    expect(await early).toBe(row?.serial);
    expect(await late).toMatchObject({ code: "DENIED_TASK_ENDED" });
  } finally {
    await wire.close();
  }
});

test("what an issue from before the close makes is not kept for later", async () => {
  const wire = await Wire.start(ledger.url);
  const slow = ledger.anotherStore(4, wire.through(ledger.url));
  try {
    const here = half(slow);
    const held = await ledger.held();
    const halt = wire.halt("issue_svids", "hold after");
    const early = fetchOne(here, held, "x509");
    await halt.reached;
    await here.revoker.end(held.task, "closed", "done", "test");
    halt.release();
    await early;
    expect(here.issuer.held).toBe(0);
  } finally {
    await wire.close();
  }
});

test("context changes against fetches: whoever asks after a change was acknowledged gets its epoch or a later one", async () => {
  const brokers = [half(ledger.store), half(ledger.anotherStore())];
  const held = await Promise.all(Array.from({ length: 8 }, () => ledger.held()));
  const old: string[] = [];
  await Promise.all(held.map(async (one, n) => {
    let acknowledged = 1;
    let isOver = false;
    const fetching = brokers.map(async ({ issuer }) => {
      while (!isOver) {
        const atLeast = acknowledged;
        const { epoch } = await issuer.x509(holderOf(one));
        if (epoch < atLeast) old.push(`${one.task}: ${epoch} after ${atLeast}`);
      }
    });
    for (let turn = 0; turn < 12; turn++) {
      const { revoker } = brokers[(n + turn) % 2] as Half;
      acknowledged = (await revoker.changeContext(one.task, { turn: String(turn) }, [], "test")).epoch;
      await sleep(Math.random() * 4);
    }
    isOver = true;
    await Promise.all(fetching);
    expect(acknowledged).toBe(13);
  }));
  expect(old).toEqual([]);
});

test("repeated and contrary ends of one task, at once, at both: one wins, and all are told the same", async () => {
  const brokers = [half(ledger.store), half(ledger.anotherStore())];
  for (let n = 0; n < 20; n++) {
    const { task } = await ledger.held();
    const verdicts = await Promise.all(Array.from({ length: 8 }, (_, i) =>
      (brokers[i % 2] as Half).revoker.end(task, i % 3 ? "closed" : "aborted", randomUUID(), "test")));
    expect(verdicts.filter(({ verdict }) => verdict === "ended")).toHaveLength(1);
    expect(new Set(verdicts.map(({ state, epoch }) => `${state} ${epoch}`)).size).toBe(1);
    expect(await ledger.owner.rows("select 1 from entries where task = $1 and kind in ('task.closed', 'task.aborted')", [task])).toHaveLength(1);
    expect(await ledger.owner.rows("select 1 from revocations where subject = $1", [task])).toHaveLength(1);
  }
});

/** One gRPC call of a process that is nothing else: its bytes and the header come on stdin, its status goes to stdout. */
const callerText = `
const socket = require("node:net").connect(process.argv[1]);
const session = require("node:http2").connect("http://localhost", { createConnection: () => socket });
session.on("error", () => {});
session.once("connect", () => console.log("connected"));
require("node:readline").createInterface(process.stdin).once("line", (bytes) => {
  const call = session.request({ ":method": "POST", ":path": process.argv[2], "content-type": "application/grpc", te: "trailers", "workload.spiffe.io": "true" });
  let status = "none";
  call.on("response", (headers) => (status = headers["grpc-status"] ?? status));
  call.on("trailers", (headers) => (status = headers["grpc-status"] ?? status));
  call.on("close", () => console.log(status)).resume().end(Buffer.from(bytes, "hex"));
});
`;

test("one ticket, fifty processes: it is the first one's", async () => {
  await using world = await World.start();
  const task = await world.open({ bind: "ticket" });
  const { path, requestSerialize } = services.agent.Claim;
  const message = requestSerialize({ task: task.id, ticket: task.ticket, pid: 0 });
  const frame = Buffer.concat([Buffer.from([0, 0, 0, 0, message.length]), message]).toString("hex");
  const account = agentUid === process.getuid?.() ? {} : { uid: agentUid, gid: agentUid };
  const callers = await Promise.all(Array.from({ length: 50 }, async () => {
    const child = await start(process.execPath, ["-e", callerText, world.broker.workloadSocket.replace("unix://", ""), path], { ...account, cwd: "/", stdio: ["pipe", "pipe", "inherit"] });
    const lines = createInterface(child.stdout as Readable)[Symbol.asyncIterator]();
    await lines.next();
    return { child, lines };
  }));
  for (const { child } of callers) child.stdin?.write(`${frame}\n`);
  const statuses = await Promise.all(callers.map(async ({ lines }) => String((await lines.next()).value)));
  expect(statuses.filter((status) => status === "0")).toHaveLength(1);
  expect(new Set(statuses)).toEqual(new Set(["0", String(grpcStatus.PERMISSION_DENIED)]));
  const [bound] = await world.sql<{ pid: number }>("select i.pid from tasks t join instances i on i.id = t.instance where t.id = $1", [task.id]);
  expect(bound?.pid).toBe(callers[statuses.indexOf("0")]?.child.pid);
  await world.check();
});
