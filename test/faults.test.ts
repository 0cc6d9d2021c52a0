// What is left when a broker, the database or the line between them dies in the middle?
// The failure matrix of both transactions: at each step, each way to die; then the world is held against
// its invariants. An acknowledged close is final, an unacknowledged one happened or did not, never half;
// a broker that can't know keeps the task fenced until it does. And what a broker without its database,
// woken from a pause, or with a wrong clock must not do.
// DESIGN 3, 8; threats T12, T13, T14, T16.
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import type { BrevetError } from "../src/errors.ts";
import { grpcStatus } from "../src/errors.ts";
import { getTask } from "../src/record/tasks.ts";
import { Verifier } from "../src/verify/verifier.ts";
import type { Agent, HeldX509 } from "./support/agent.ts";
import { Ledger, fetchOne, half } from "./support/ledger.ts";
import type { Half, Held } from "./support/ledger.ts";
import { Wire } from "./support/wire.ts";
import type { Stop } from "./support/wire.ts";
import { World } from "./support/world.ts";
import { patienceMs } from "./support/patience.ts";

const codeOf = (error: unknown): string => (error as BrevetError).code;
const refusal = async (call: Promise<unknown>): Promise<string> => await call.then(() => "none", codeOf);

describe("the line to PostgreSQL breaks", () => {
  let ledger: Ledger;
  let wire: Wire;
  let here: Half;

  beforeAll(async () => {
    ledger = await Ledger.start();
    wire = await Wire.start(ledger.url);
    here = half(ledger.anotherStore(4, wire.through(ledger.url)));
  });
  afterAll(async () => {
    await here.revoker.close();
    await wire.close();
    await ledger.close();
  });

  const traces = async ({ task }: Held): Promise<{ epoch: number; revocations: number; entries: number }> => await ledger.owner.one(`select epoch::int,
    (select count(*)::int from revocations where subject = $1::uuid::text) as revocations,
    (select count(*)::int from entries where task = $1::uuid and kind in ('task.closed', 'task.context_changed')) as entries
    from tasks where id = $1::uuid`, [task]);

  test.each<Stop>(["cut before", "cut after"])("of a close (%s the server has acted): the outcome is unknown, the task fenced, the close repeated until it is known, and done once", async (stop) => {
    const held = await ledger.held();
    await fetchOne(here, held, "x509");
    wire.halt("revoke_tasks", stop);
    expect(await refusal(here.revoker.end(held.task, "closed", "", "test"))).toBe("OUTCOME_UNKNOWN");
    expect(here.fences.whenClear(held.task)).toBeDefined();
    expect(await refusal(fetchOne(here, held, "jwt"))).toBe("DENIED_TASK_ENDED");
    expect(here.fences.whenClear(held.task)).toBeUndefined();
    expect(await traces(held)).toEqual({ epoch: 2, revocations: 1, entries: 1 });
    expect(await here.revoker.end(held.task, "closed", "", "test")).toMatchObject({ verdict: "already", state: "closed" });
  });

  test("of a close, and the database stays away: nothing is issued until it is back, and then it is closed", async () => {
    const held = await ledger.held();
    const halt = wire.halt("revoke_tasks", "hold before");
    const closing = refusal(here.revoker.end(held.task, "closed", "", "test"));
    await halt.reached;
    wire.tear();
    expect(await closing).toBe("OUTCOME_UNKNOWN");
    let answered = false;
    const fetching = refusal(fetchOne(here, held, "jwt")).finally(() => (answered = true));
    await sleep(500);
    expect(answered).toBe(false);
    expect(await getTask(ledger.store, held.task)).toMatchObject({ state: "active" });
    wire.mend();
    expect(await fetching).toBe("DENIED_TASK_ENDED");
    expect(await getTask(ledger.store, held.task)).toMatchObject({ state: "closed" });
  });

  test("before a close was sent at all: it did not happen, and the fence is lifted", async () => {
    const held = await ledger.held();
    const another = await ledger.held();
    wire.tear();
    await vi.waitFor(async () => expect(await refusal(fetchOne(here, another, "jwt"))).toBe("DATABASE_UNAVAILABLE"), { timeout: patienceMs }); // no connection is left
    expect(await refusal(here.revoker.end(held.task, "closed", "", "test"))).toBe("DATABASE_UNAVAILABLE");
    expect(here.fences.whenClear(held.task)).toBeUndefined();
    expect(await refusal(fetchOne(here, held, "jwt"))).toBe("DATABASE_UNAVAILABLE");
    wire.mend();
    await fetchOne(here, held, "jwt");
    expect(await traces(held)).toEqual({ epoch: 1, revocations: 0, entries: 0 });
  });

  test.each<Stop>(["cut before", "cut after"])("of a service's revocation (%s the server has acted): it is repeated until it is known", async (stop) => {
    const name = "crm";
    const revoked = async (): Promise<number> => (await ledger.owner.rows("select 1 from revocations where subject = $1", [`service/${name}`])).length;
    const alive = "from svids v join services s on s.name = v.service and s.epoch = v.epoch where s.name = $1";
    await ledger.owner.rows(`insert into svids (kind, serial, service, epoch, authority, issued_at, expires_at)
      select 'jwt', gen_random_uuid(), name, epoch, 'j', now(), now() + interval '1 minute' from services where name = $1`, [name]);
    const before = await revoked();
    wire.halt("revoke_services", stop);
    expect(await refusal(here.revoker.services([name], "x", "test"))).toBe("OUTCOME_UNKNOWN");
    await vi.waitFor(async () => expect(await ledger.owner.rows(`select 1 ${alive}`, [name])).toEqual([]), { timeout: patienceMs });
    expect(await revoked()).toBe(before + 1);
  });

  test.each<[Stop, number]>([["cut before", 2], ["cut after", 3]])("of a context change (%s the server has acted): what was acknowledged after it is not undone", async (stop, epoch) => {
    const held = await ledger.held({ context: { model: "one" } });
    wire.halt("revoke_tasks", stop);
    expect(await refusal(here.revoker.changeContext(held.task, { model: "two" }, [], "test"))).toBe("OUTCOME_UNKNOWN");
    expect(await here.revoker.changeContext(held.task, { model: "three" }, [], "test")).toMatchObject({ verdict: "changed", epoch });
    await here.fences.whenClear(held.task);
    expect(await getTask(ledger.store, held.task)).toMatchObject({ context: { model: "three" }, epoch });
    await fetchOne(here, held, "x509");
  });

  test.each<[Stop, number]>([["cut before", 0], ["cut after", 1]])("of an issue (%s the server has acted): the caller is refused, and a row, if there, is revocable", async (stop, rows) => {
    const held = await ledger.held();
    wire.halt("issue_svids", stop);
    expect(await refusal(fetchOne(here, held, "x509"))).toBe("OUTCOME_UNKNOWN");
    expect(await ledger.owner.rows("select 1 from svids where task = $1", [held.task])).toHaveLength(rows);
    await fetchOne(here, held, "x509");
    await here.revoker.end(held.task, "closed", "", "test");
    const alive = await ledger.owner.rows("select 1 from svids s join tasks t on t.id = s.task where t.id = $1 and s.epoch >= t.epoch", [held.task]);
    expect(alive).toEqual([]);
    expect(await traces(held)).toEqual({ epoch: 2, revocations: 1, entries: 1 });
  });

  test("one that is asked for while its batch's neighbours are lost is lost alone", async () => {
    const tasks = await Promise.all([1, 2, 3, 4].map(() => ledger.held()));
    wire.halt("revoke_tasks", "cut after");
    const outcomes = await Promise.all(tasks.map(({ task }) => refusal(here.revoker.end(task, "closed", "", "test"))));
    expect(outcomes).toEqual(tasks.map(() => "OUTCOME_UNKNOWN"));
    for (const held of tasks) {
      await here.fences.whenClear(held.task);
      expect(await traces(held)).toEqual({ epoch: 2, revocations: 1, entries: 1 });
    }
  });
});

describe("a broker dies", () => {
  let world: World;
  let wire: Wire;
  let agent: Agent;
  let task: string;

  beforeAll(async () => {
    wire = await Wire.start(process.env["BREVET_TEST_DATABASE_URL"] ?? "");
    world = await World.start({ through: (url) => wire.through(url) });
  });
  afterAll(async () => {
    await world[Symbol.asyncDispose]();
    await wire.close();
  });
  beforeEach(async () => {
    agent = await world.agent();
    task = (await world.open()).id;
    await agent.claim(task);
  });
  afterEach(async () => {
    wire.mend();
    await agent.kill();
    await world.until("its tasks ended", async () => (await world.sql("select 1 from tasks where state = 'active'")).length === 0);
    await world.check();
  });

  const lastOf = async (kind: string): Promise<number> => (await world.sql(`select 1 from entries where task = $1 and kind = $2`, [task, kind])).length;

  test.each<[string, Stop, string]>([
    ["before the database has the close", "hold before", "active"],
    ["when the close is committed and nobody has been told", "hold after", "closed"],
  ])("%s", async (_, stop, state) => {
    const [before] = await agent.x509();
    const halt = wire.halt("revoke_tasks", stop);
    const closing = refusal(world.close(task));
    await halt.reached;
    await world.broker.kill9();
    expect(await closing).toMatch(/BROKER_UNREACHABLE|UNAVAILABLE/);
    await world.broker.start();
    expect(await world.get(task)).toMatchObject({ state });
    if (state === "closed") expect(await refusal(agent.x509())).toMatch(/^DENIED_(TASK_ENDED|NO_TASK)$/);
    else expect((await agent.x509())[0]).toMatchObject({ hint: task, binding: { epoch: before?.binding?.epoch } });
    expect(await world.close(task)).toMatchObject({ state: "closed" });
    expect(await lastOf("task.closed")).toBe(1);
  });

  test.each<[string, Stop, number]>([
    ["before the database has the SVID", "hold before", 0],
    ["when the SVID is recorded and not signed", "hold after", 1],
  ])("%s: no client has it, and what is recorded can be revoked", async (_, stop, rows) => {
    const halt = wire.halt("issue_svids", stop);
    const fetching = refusal(agent.jwt(["crm"]));
    await halt.reached;
    await world.broker.kill9();
    expect(await fetching).not.toBe("none");
    await world.broker.start();
    expect(await world.sql("select 1 from svids where task = $1", [task])).toHaveLength(rows);
    await agent.jwt(["crm"]);
    await world.close(task);
  });

  test("when an opening or a claim is done and its answer lost: asking again finds it done, once", async () => {
    const other = await world.agent();
    wire.halt("open_tasks", "cut after");
    const request = { agent: "researcher", idempotencyKey: "twice" };
    expect(await refusal(world.open(request))).toBe("OUTCOME_UNKNOWN");
    const { id } = await world.open(request);
    wire.halt("claim_task", "cut after");
    expect(await refusal(other.claim(id))).toBe("OUTCOME_UNKNOWN");
    await other.claim(id);
    expect(await world.sql("select 1 from entries where kind = 'task.claimed' and task = $1", [id])).toHaveLength(1);
    await world.close(id);
    await other.kill();
  });

  test("a lost answer to a close reaches streams, feed and lists all the same", async () => {
    const stream = agent.follow();
    await stream.next();
    const [jwt] = await agent.jwt(["crm"]);
    const verifier = new Verifier({ address: world.broker.workloadSocket, audience: "crm" });
    await verifier.ready();
    wire.halt("revoke_tasks", "cut after");
    expect(await refusal(world.close(task))).toBe("OUTCOME_UNKNOWN");
    expect(codeOf(await stream.ended)).toBe("DENIED_TASK_ENDED");
    await world.until("the verifier has heard", () => verifier.feed.epochOf(task) === 2);
    expect(verifier.jwt(jwt?.token ?? "")).toMatchObject({ accepted: false, reason: "VERIFY_REVOKED" });
    verifier.close();
  });

  test("nor does a broker that nobody listens to go on believing in what it ended so", async () => {
    const [jwt] = await agent.jwt(["crm"]);
    const validate = (): Promise<unknown> => world.workload.workload.validateJWTSVID({ audience: "crm", svid: jwt?.token ?? "" });
    await validate();
    wire.halt("revoke_tasks", "cut after");
    expect(await refusal(world.close(task))).toBe("OUTCOME_UNKNOWN");
    await world.until("it validates no more", async () => (await refusal(validate())) !== "none");
  });

  test("a backend is terminated in the middle of a close: it is repeated, and done once", async () => {
    const [{ pid } = { pid: 0 }] = await world.sql<{ pid: number }>("select pg_backend_pid() as pid");
    expect(pid).toBeGreaterThan(0);
    const blocker = await blockRow(world, task);
    const closing = refusal(world.close(task));
    await world.until("the close waits, and its backend is terminated", async () => (await terminateWaiting(world)) > 0);
    expect(await closing).toBe("OUTCOME_UNKNOWN");
    await blocker.release();
    await world.until("it is closed", async () => (await world.get(task)).state === "closed");
    expect(await lastOf("task.closed")).toBe(1);
    expect(await refusal(agent.x509())).toBe("DENIED_TASK_ENDED");
  });

  test("the database goes away: nothing is issued, the broker says so, verifiers grow stale; it comes back, and so do they", async () => {
    const [x509] = await agent.x509();
    const verifier = new Verifier({ address: world.broker.workloadSocket, maxStaleness: "2s" });
    await verifier.ready();
    expect(verifier.x509((x509 as HeldX509).chain)).toMatchObject({ accepted: true });
    const leaving = await world.agent();
    const theirs = (await world.open()).id;
    await leaving.claim(theirs);

    wire.tear();
    expect(await agent.x509().then(() => 0, (error: { status: number }) => error.status)).toBe(grpcStatus.UNAVAILABLE);
    await world.until("no connection is left", async () => (await refusal(agent.jwt(["crm"]))) === "DATABASE_UNAVAILABLE");
    expect(await refusal(world.close(task))).toBe("DATABASE_UNAVAILABLE");
    await leaving.exit();
    await world.until("it is not ready, by its database", async () => {
      const answer = await fetch(`${world.broker.httpUrl}/readyz`);
      const { parts } = (await answer.json()) as { parts: { name: string; ready: boolean }[] };
      return answer.status === 503 && parts.some(({ name, ready }) => name === "database" && !ready);
    });
    await world.until("the verifier is stale", () => !verifier.feed.fresh);
    expect(verifier.x509((x509 as HeldX509).chain)).toMatchObject({ accepted: false, reason: "VERIFY_STALE" });

    wire.mend();
    await world.until("it issues again", async () => (await refusal(agent.jwt(["crm"]))) === "none");
    await world.until("it is ready", async () => (await fetch(`${world.broker.httpUrl}/readyz`)).ok);
    await world.until("the verifier is fresh", () => verifier.feed.fresh);
    expect(verifier.x509((x509 as HeldX509).chain)).toMatchObject({ accepted: true });
    await world.until("who left meanwhile has no task", async () => (await world.get(theirs)).state === "aborted");
    verifier.close();
  });

  test("a database that is silent is not there before a question of it has failed, and is there with its answer", async () => {
    const readyz = async (): Promise<number> => (await fetch(`${world.broker.httpUrl}/readyz`)).status;
    const before = world.broker.output.length;
    const halt = wire.halt("now", "hold before");
    await halt.reached;
    await world.until("it is not ready", async () => (await readyz()) === 503);
    expect(world.broker.output.slice(before)).not.toContain("job.failed");
    halt.release();
    await world.until("it is ready", async () => (await readyz()) === 200);
    expect(world.broker.output.slice(before)).not.toContain("job.failed");
  });

  test("a broker that is paused keeps nobody fresh, and closes what it was asked to when it wakes", async () => {
    const [x509] = await agent.x509();
    const verifier = new Verifier({ address: world.broker.workloadSocket, maxStaleness: "1s" });
    await verifier.ready();
    world.broker.signal("SIGSTOP");
    const closing = world.close(task);
    try {
      await world.until("the verifier is stale", () => !verifier.feed.fresh);
      expect(verifier.x509((x509 as HeldX509).chain)).toMatchObject({ accepted: false, reason: "VERIFY_STALE" });
    } finally {
      world.broker.signal("SIGCONT");
    }
    expect(await closing).toMatchObject({ state: "closed" });
    await world.until("the verifier is fresh", () => verifier.feed.fresh && verifier.feed.epochOf(task) === 2);
    expect(verifier.x509((x509 as HeldX509).chain)).toMatchObject({ accepted: false, reason: "VERIFY_REVOKED" });
    verifier.close();
  });

  test("what was said before a silence, and is heard after it, is as old as it is", async () => {
    const [x509] = await agent.x509();
    const slow = await SlowSocket.start(world.broker.workloadSocket);
    const verifier = new Verifier({ address: slow.address, maxStaleness: "2s" });
    try {
      await verifier.ready();
      await sleep(1200); // its usual lag is known
      slow.hold();
      await world.close(task);
      await sleep(1700); // a heartbeat or two of before and after the close lie in the buffer
      await world.until("the verifier is stale", () => !verifier.feed.fresh);
      expect(verifier.feed.epochOf(task)).toBe(0);
      expect(verifier.x509((x509 as HeldX509).chain)).toMatchObject({ accepted: false, reason: "VERIFY_STALE" });
      slow.flow();
      await world.until("the verifier is fresh", () => verifier.feed.fresh);
      expect(verifier.x509((x509 as HeldX509).chain)).toMatchObject({ accepted: false, reason: "VERIFY_REVOKED" });
    } finally {
      verifier.close();
      slow.close();
    }
  });
});

test("a clock that differs from the database's by more than five seconds issues nothing, and issues again when it is right", async () => {
  const folder = mkdtempSync(join(tmpdir(), "brevet-clock-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const [file, shim] = [join(folder, "skew"), join(folder, "shim.cjs")];
  writeFileSync(file, "0");
  // the broker's own idea of the time, and nothing else of it, is led by a file
  writeFileSync(shim, `const { readFileSync } = require("node:fs"); const now = Date.now;
    Date.now = () => now() + Number(readFileSync(${JSON.stringify(file)}, "utf8") || 0);`);
  await using world = await World.start({ env: { NODE_OPTIONS: `--require ${shim}` } });
  const agent = await world.agent();
  const { id } = await world.open();
  await agent.claim(id);
  for (const skew of [-3_600_000, -8000, 8000, 86_400_000]) {
    writeFileSync(file, String(skew));
    expect(await refusal(agent.jwt(["crm"]))).toBe("CLOCK_SKEW");
    expect(await refusal(world.close((await world.open()).id))).toBe("none"); // to end a task no clock is needed
  }
  for (const skew of [-2000, 2000, 0]) {
    writeFileSync(file, String(skew));
    const [jwt] = await agent.jwt(["crm"]);
    const [row] = await world.sql<{ expires_at: Date }>("select expires_at from svids where serial = $1", [jwt?.jti]);
    expect(jwt?.expiresAt.getTime()).toBeLessThanOrEqual(row?.expires_at.getTime() ?? 0); // PostgreSQL's time, not ours
  }
  await world.close(id);
  await world.check();
});

test("whatever is killed, again and again, under load: what was acknowledged holds", async () => {
  await using world = await World.start({ embedded: true });
  const agents = await Promise.all(Array.from({ length: 2 }, () => world.agent()));
  const acknowledged: string[] = [];
  let isOver = false;
  const working = agents.map(async (agent) => {
    while (!isOver) {
      try {
        const { id } = await world.open();
        await agent.claim(id);
        await Promise.all([agent.x509(), agent.jwt(["crm"]), agent.jwt(["search"])]);
        await world.change(id, { model: createHash("sha256").update(id).digest("hex") });
        await agent.x509();
        if ((await world.close(id)).state === "closed") acknowledged.push(id);
      } catch {
        await sleep(50);
      }
    }
  });
  const postmaster = (): number => Number(readFileSync(join(world.broker.dataDir, "postgres", "data", "postmaster.pid"), "utf8").split("\n")[0]);
  const progress = async (): Promise<void> => {
    const before = acknowledged.length;
    await world.until("work goes on", () => acknowledged.length > before + 1);
  };
  await progress();
  await world.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'brevet%'").catch(() => {});
  await progress();
  process.kill(postmaster(), "SIGKILL");
  await progress();
  await world.broker.kill9();
  await world.broker.start();
  await progress();
  await world.broker.kill9();
  process.kill(postmaster(), "SIGKILL");
  await world.broker.start();
  await progress();
  isOver = true;
  await Promise.all(working);
  const open = await world.sql("select id from tasks where id = any ($1::uuid[]) and state <> 'closed'", [acknowledged]);
  expect(open).toEqual([]);
  await world.check();
});

/** A transaction that holds a task's row. */
async function blockRow(world: World, task: string): Promise<{ release(): Promise<void> }> {
  const { default: pg } = await import("pg");
  const [{ name } = { name: "" }] = await world.sql<{ name: string }>("select current_database() as name");
  const url = new URL(process.env["BREVET_TEST_DATABASE_URL"] ?? "");
  url.pathname = `/${name}`;
  const client = new pg.Client({ connectionString: url.href, options: "-c search_path=brevet" });
  await client.connect();
  await client.query("begin");
  await client.query("select 1 from tasks where id = $1 for update", [task]);
  return {
    release: async () => {
      await client.query("commit");
      await client.end();
    },
  };
}

/** Ends the broker's backends that wait for a lock; how many there were. */
async function terminateWaiting(world: World): Promise<number> {
  return (await world.sql(`select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()
    and wait_event_type = 'Lock' and query like '%revoke_tasks%'`)).length;
}

/** A unix socket before the broker's, whose answers can be held back. */
class SlowSocket {
  readonly address: string;
  readonly #server: net.Server;
  readonly #pairs = new Set<{ readonly client: net.Socket; readonly broker: net.Socket }>();
  #held = false;

  private constructor(path: string, target: string) {
    this.address = `unix://${path}`;
    this.#server = net.createServer((client) => {
      const broker = net.connect(target.replace("unix://", ""));
      const pair = { client, broker };
      this.#pairs.add(pair);
      client.pipe(broker);
      broker.on("data", (bytes) => client.write(bytes));
      if (this.#held) broker.pause();
      for (const socket of [client, broker]) {
        socket.on("error", () => {});
        socket.on("close", () => {
          client.destroy();
          broker.destroy();
          this.#pairs.delete(pair);
        });
      }
    });
  }

  static async start(target: string): Promise<SlowSocket> {
    const slow = new SlowSocket(join(tmpdir(), `brevet-slow-${process.pid}.sock`), target);
    await new Promise<void>((resolve) => slow.#server.listen(slow.address.replace("unix://", ""), resolve));
    return slow;
  }

  hold(): void {
    this.#held = true;
    for (const { broker } of this.#pairs) broker.pause();
  }

  flow(): void {
    this.#held = false;
    for (const { broker } of this.#pairs) broker.resume();
  }

  close(): void {
    this.#server.close();
    for (const { client } of this.#pairs) client.destroy();
  }
}
