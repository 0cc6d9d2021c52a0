// Do the two transactions, and all that meets them, judge what is true under their locks?
// Exact interleavings on two connections, each held open by hand: whoever waits is seen to wait, and
// what it says afterwards rests on what was committed meanwhile, never on its old snapshot.
// DESIGN 3; threats T10, T12, T18, T34, T35.
// The same under load, through the code that uses it, is race.test.ts.
import { createHash, randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { BrevetError } from "../src/errors.ts";
import { Issuer } from "../src/issue/issue.ts";
import { Trust } from "../src/issue/trust.ts";
import { oids, readAuthorityKeyId, readCertificate } from "../src/identity/certificate.ts";
import { splitChain } from "../src/identity/svid.ts";
import { contextDigest } from "../src/identity/task.ts";
import { Batch } from "../src/record/batch.ts";
import { setAgentEnabled } from "../src/record/catalog.ts";
import { purge } from "../src/record/log.ts";
import { liveRevocations, readFeedHead, revocationsSince, revokeServices, revokeTasks } from "../src/record/revocations.ts";
import { deadCertificates, recordServiceSvids, recordTaskSvids } from "../src/record/svids.ts";
import { boundTasks, newTicket } from "../src/record/claims.ts";
import { getTask, openTask } from "../src/record/tasks.ts";
import type { NewTask } from "../src/record/tasks.ts";
import type { Store } from "../src/record/store.ts";
import { nextCrl } from "../src/record/trust.ts";
import type { NextCrl } from "../src/record/trust.ts";
import { kek, newAuthorities, trustDomain } from "./support/authorities.ts";
import { Ledger, Line, authorities, holderOf, newInstance, request } from "./support/ledger.ts";

let ledger: Ledger;
let a: Line;
let b: Line;
let pidA: number;
let pidB: number;

beforeAll(async () => {
  ledger = await Ledger.start();
  [a, b] = [await ledger.line(), await ledger.line()];
  [pidA, pidB] = [await a.pid(), await b.pid()];
});
afterAll(() => ledger.close());

const svidsOf = async (line: Line, task: string): Promise<number> =>
  Number((await line.one<{ n: string }>("select count(*) as n from svids where task = $1", [task])).n);

/** How many rows of these tables have been read until now. */
async function rowsRead(store: Store, tables: readonly string[], of = ledger): Promise<number> {
  // each session counts for itself until then: the owner's insertions would be told in the midst of it
  await store.query({ name: "flush", text: "select pg_stat_force_next_flush()" });
  await of.owner.rows("select pg_stat_force_next_flush()");
  return Number((await of.owner.one<{ n: string }>(`select coalesce(sum(idx_tup_read), 0) + (select coalesce(sum(seq_tup_read), 0)
    from pg_stat_user_tables where relname = any ($1)) as n from pg_stat_user_indexes where relname = any ($1)`, [tables])).n);
}

describe("issue against close", () => {
  test("the closer waits for an issue under way, and then sees its row", async () => {
    const held = await ledger.held();
    await a.rows("begin");
    expect(await a.issue(held)).toMatchObject({ verdict: "ok", epoch: "1" });
    await b.rows("begin");
    const closing = b.end(held.task);
    await ledger.blocked(pidB, pidA);
    await a.rows("commit");
    expect(await closing).toMatchObject({ verdict: "ended", epoch: "2" });
    expect(await svidsOf(b, held.task)).toBe(1);
    await b.rows("commit");
    expect(await a.issue(held)).toMatchObject({ verdict: "ended" });
  });

  test("in a task's last second there is no SVID to have: its whole second would be over", async () => {
    let verdict = "ended";
    while (verdict === "ended") { // the second may be over before it is asked
      const held = await ledger.held();
      await ledger.owner.rows("update tasks set expires_at = date_trunc('second', clock_timestamp()) + interval '999 milliseconds' where id = $1", [held.task]);
      ({ verdict } = await a.issue(held, "jwt"));
      expect(await svidsOf(a, held.task)).toBe(0);
    }
    expect(verdict).toBe("too_late");
  });

  test("the row lock does it alone: an update that knows no fence waits too", async () => {
    const held = await ledger.held();
    await a.rows("begin");
    await a.issue(held);
    const update = b.rows("update tasks set purpose = 'x' where id = $1", [held.task]);
    await ledger.blocked(pidB, pidA);
    await a.rows("commit");
    await update;
  });

  test("the trap itself: a foreign key holds nobody back, and one clever statement counts what was there before it waited", async () => {
    const held = await ledger.held();
    const insert = `insert into svids (kind, serial, task, epoch, authority, issued_at, expires_at)
      values ('jwt', $2, $1, 1, 'j', now(), now() + interval '1 minute')`;
    await a.rows("begin");
    await a.rows("select 1 from tasks where id = $1 for share", [held.task]);
    await a.rows(insert, [held.task, randomUUID()]);
    const clever = b.one<{ n: string }>(`with closed as (update tasks set purpose = 'closed' where id = $1 returning id)
      select count(*) as n from svids s join closed c on c.id = s.task`, [held.task]);
    await ledger.blocked(pidB, pidA);
    await a.rows("commit");
    expect((await clever).n).toBe("0");
    expect(await svidsOf(b, held.task)).toBe(1);
  });

  test("an issue does not wait for a close: it is told to come again, and then what became of it", async () => {
    const held = await ledger.held();
    await b.rows("begin");
    await b.end(held.task);
    expect(await a.issue(held)).toMatchObject({ verdict: "blocked" });
    await b.rows("rollback");
    expect(await a.issue(held)).toMatchObject({ verdict: "ok", epoch: "1" });
    await b.end(held.task);
    expect(await a.issue(held)).toMatchObject({ verdict: "ended" });
    expect(await svidsOf(a, held.task)).toBe(1);
  });

  test("while a closer waits, newcomers do not pass it", async () => {
    const held = await ledger.held();
    const c = await ledger.line();
    await a.rows("begin");
    await a.issue(held);
    const closing = b.end(held.task);
    await ledger.blocked(pidB, pidA);
    expect(await c.issue(held)).toMatchObject({ verdict: "blocked" });
    await a.rows("commit");
    expect(await closing).toMatchObject({ verdict: "ended" });
    await c.close();
  });

  test("a batch gives each its own verdict, in order; one that is blocked holds nobody up", async () => {
    const [good, ended, busy, other] = [await ledger.held(), await ledger.held(), await ledger.held(), await ledger.held()];
    await b.end(ended.task);
    await b.rows("begin");
    await b.end(busy.task);
    const gone = { task: randomUUID(), instance: randomUUID() };
    const verdicts = await recordTaskSvids(ledger.store,
      [request(ended), request(good), request(busy), request(gone), request({ ...other, instance: good.instance }), request(good, "jwt")], authorities);
    await b.rows("rollback");
    expect(verdicts.map((v) => v.verdict)).toEqual(["ended", "ok", "blocked", "gone", "not_bound", "ok"]);
    expect(await svidsOf(a, good.task)).toBe(2);
    for (const task of [ended.task, busy.task, other.task]) expect(await svidsOf(a, task)).toBe(0);
  });
});

describe("a closer that waited judges what is there now", () => {
  test("a task claimed meanwhile has SVIDs to be told of", async () => {
    const task = await ledger.open();
    const i = newInstance();
    await a.rows("begin");
    const claimed = await a.one("select verdict from claim_task($1, null, $2, 'boot', $3, 's', 'd', 'i', 1, 1, '{}', 9, $4, 'x')", [task, i.id, i.pid, randomUUID()]);
    expect(claimed).toEqual({ verdict: "claimed" });
    const closing = b.end(task);
    await ledger.blocked(pidB, pidA);
    await a.rows("commit");
    const { sequence } = await closing;
    expect(sequence).not.toBeNull();
    expect(await revocationsSince(ledger.store, Number(sequence) - 1, 1)).toMatchObject([{ subject: task, epoch: 2 }]);
  });

  test("a context changed meanwhile has raised the epoch", async () => {
    const { task } = await ledger.held();
    await a.rows("begin");
    expect(await a.change(task, { model: "two" })).toEqual({ verdict: "changed", epoch: "2" });
    const closing = b.end(task);
    await ledger.blocked(pidB, pidA);
    await a.rows("commit");
    expect(await closing).toMatchObject({ verdict: "ended", epoch: "3" });
  });

  test("of two closers one ends it, the other finds it ended, with the first one's state", async () => {
    const { task } = await ledger.held();
    await a.rows("begin");
    await a.end(task, "closed");
    const second = b.end(task, "aborted");
    await ledger.blocked(pidB, pidA);
    await a.rows("commit");
    expect(await second).toMatchObject({ verdict: "already", epoch: "2", sequence: null });
    expect(await getTask(ledger.store, task)).toMatchObject({ state: "closed" });
    expect(await b.change(task, { model: "late" })).toEqual({ verdict: "already", epoch: "2" });
  });
});

describe("claim against close", () => {
  const claimSql = "select verdict from claim_task($1, null, $2, 'boot', $3, 's', 'd', 'i', 1, 1, '{}', 9, $4, 'x')";

  test("a claim that waited for a close finds the task ended", async () => {
    const task = await ledger.open();
    const i = newInstance();
    await a.rows("begin");
    await a.end(task);
    const claiming = b.one(claimSql, [task, i.id, i.pid, randomUUID()]);
    await ledger.blocked(pidB, pidA);
    await a.rows("commit");
    expect(await claiming).toEqual({ verdict: "ended" });
    expect(await getTask(ledger.store, task)).toMatchObject({ state: "closed", instance: null });
  });

  test("one process that claims five tasks at once gets as many as it may hold", async () => {
    const tasks = await Promise.all([1, 2, 3, 4, 5].map(() => ledger.open()));
    const instance = newInstance();
    const verdicts = (await Promise.all(tasks.map((task) => ledger.claim(task, { instance, mostTasks: 2 })))).map((o) => o.verdict);
    expect(verdicts.toSorted()).toEqual(["claimed", "claimed", "too_many", "too_many", "too_many"]);
  });
});

describe("tickets", () => {
  const hashOf = (ticket: string): Buffer => createHash("sha256").update(ticket).digest();
  const withTicket = (ticket: string): Promise<string> => ledger.open({ bind: "ticket", ticketHash: hashOf(ticket) });

  test("of thirty claims at once with one ticket, over two brokers, exactly one is the task's", async () => {
    const task = await withTicket("secret");
    const other = ledger.anotherStore();
    const claims = Array.from({ length: 30 }, (_, n) => ledger.claim(task, { ticketHash: hashOf("secret") }, n % 2 ? other : ledger.store));
    const verdicts = (await Promise.all(claims)).map((outcome) => outcome.verdict);
    expect(verdicts.filter((verdict) => verdict === "claimed")).toHaveLength(1);
    expect(new Set(verdicts)).toEqual(new Set(["claimed", "taken"]));
    const granted = await a.rows("select 1 from attestations where task = $1 and outcome = 'granted'", [task]);
    expect(granted).toHaveLength(1);
    expect(await a.one("select ticket_hash, ticket_expires_at from tasks where id = $1", [task])).toEqual({ ticket_hash: null, ticket_expires_at: null });
  });

  test("a spent one opens nothing, not even after a restart of its task's wait", async () => {
    const task = await withTicket("once");
    for (const wrong of ["Once", " once", "once\n", ""]) expect(await ledger.claim(task, { ticketHash: hashOf(wrong) })).toMatchObject({ verdict: "ticket" });
    expect(await ledger.claim(task)).toMatchObject({ verdict: "ticket" });
    await newTicket(ledger.store, task, hashOf("second"), 300, "test");
    expect(await ledger.claim(task, { ticketHash: hashOf("once") })).toMatchObject({ verdict: "ticket" });
    await ledger.owner.rows("update tasks set ticket_expires_at = now() where id = $1", [task]);
    expect(await ledger.claim(task, { ticketHash: hashOf("second") })).toMatchObject({ verdict: "ticket" });
    await newTicket(ledger.store, task, hashOf("third"), 300, "test");
    const instance = newInstance();
    expect(await ledger.claim(task, { ticketHash: hashOf("third"), instance })).toMatchObject({ verdict: "claimed" });
    expect(await ledger.claim(task, { ticketHash: hashOf("third"), instance })).toMatchObject({ verdict: "repeated" });
    expect(await newTicket(ledger.store, task, hashOf("fourth"), 300, "test")).toMatchObject({ verdict: "wrong", state: "active" });
  });
});

describe("open against disable", () => {
  const newTask: Omit<NewTask, "id"> = {
    agent: "brief", ttlSeconds: 60, context: {}, purpose: "", onBehalfOf: "", refs: {}, bind: "claim", scope: "process",
    idempotencyKey: null, openedBy: "test", ticketHash: null, ticketSeconds: 300,
  };
  beforeAll(() => ledger.apply(`agents:
    - { name: researcher, owner: o@example.org, selectors: [{ uid: 1000, path: /bin/a }] }
    - { name: brief, owner: o@example.org, selectors: [{ uid: 1000, path: /bin/b }] }`));
  const openSql = `select verdict from open_tasks(jsonb_build_array(jsonb_build_object('id', $1::uuid, 'agent', 'brief', 'ttl', 60, 'context', '{}'::jsonb, 'digest', '',
    'purpose', '', 'behalf', '', 'refs', '{}'::jsonb, 'bind', 'claim', 'scope', 'process', 'key', $2::text, 'by', 'x')))`;

  test("whoever disables waits for an opening under way, and finds its task to end", async () => {
    const id = randomUUID();
    await a.rows("begin");
    await a.rows(openSql, [id, null]);
    const disabling = b.rows("update agents set disabled_at = now(), disabled_reason = 'leak' where name = 'brief'");
    await ledger.blocked(pidB, pidA);
    await a.rows("commit");
    await disabling;
    expect(await b.rows("select id from tasks where agent = 'brief' and state = 'ready'")).toEqual([{ id }]);
  });

  test("an opening that waited for it is refused", async () => {
    await setAgentEnabled(ledger.store, "brief", true, "", "test");
    await a.rows("begin");
    await a.rows("update agents set disabled_at = now(), disabled_reason = 'leak' where name = 'brief'");
    const opening = openTask(ledger.store, { ...newTask, id: randomUUID() });
    await sleep(50);
    await a.rows("commit");
    expect(await opening).toEqual({ verdict: "disabled", reason: "leak" });
  });

  test("one idempotency key opens one task, however many ask at once", async () => {
    await setAgentEnabled(ledger.store, "brief", true, "", "test");
    const outcomes = await Promise.all(Array.from({ length: 12 }, () => openTask(ledger.store, { ...newTask, id: randomUUID(), idempotencyKey: "k" })));
    expect(outcomes.filter((o) => o.verdict === "opened")).toHaveLength(1);
    expect(new Set(outcomes.map((o) => ("task" in o ? o.task : o.verdict))).size).toBe(1);
  });
});

test("no order of tasks in a batch, and nothing that meets it, makes a deadlock", async () => {
  await ledger.apply(`agents: [{ name: researcher, owner: o@example.org, selectors: [{ uid: 1000, path: /bin/a }] }, { name: brief, owner: o@example.org, selectors: [{ uid: 1000, path: /bin/b }] }]
services: [${["a", "b", "c"].map((name) => `{ name: ${name}, owner: o@example.org, selectors: [{ uid: 7, path: /bin/s }] }`).join(", ")}]`);
  const tasks = await Promise.all(Array.from({ length: 6 }, () => ledger.held()));
  const forEver = new Date("2100-01-01");
  const turned = <T>(list: readonly T[], n: number): T[] => (n % 2 ? [...list] : list.toReversed());
  const errors: unknown[] = [];
  const rounds = async (work: (line: Line, n: number) => Promise<unknown>): Promise<void> => {
    const line = await ledger.line();
    for (let n = 0; n < 60; n++) await work(line, n).catch((error: unknown) => errors.push(error));
    await line.close();
  };
  const issueAll = (line: Line, n: number): Promise<unknown> => {
    const order = turned(tasks, n);
    return line.rows("select * from issue_svids($1, $2, $3, $4, $5, 'x', $6, 'j', $6)",
      [order.map((t) => t.task), order.map((t) => t.instance), order.map(() => "jwt"), order.map(() => randomUUID()), JSON.stringify(order.map(() => [])), forEver]);
  };
  const changeAll = (line: Line, n: number): Promise<unknown> => {
    const order = turned(tasks, n);
    return line.rows("select * from revoke_tasks($1, $2, $3, $4, $5, $5)", [order.map((t) => t.task), order.map(() => null),
      order.map((_, i) => JSON.stringify({ n: `${n} ${i} ${randomUUID()}` })), order.map(() => "[]"), order.map(() => "")]);
  };
  const issueServices = (line: Line, n: number): Promise<unknown> => {
    const order = turned(["a", "b", "c"], n);
    return line.rows("select * from issue_service_svids($1, $2, $3, $4, $5, 'x', $6, 'j', $6)",
      [order, order.map(() => "jwt"), order.map(() => randomUUID()), JSON.stringify(order.map(() => [])), order.map(() => ""), forEver]);
  };
  const mixed = (line: Line, n: number): Promise<unknown> => n % 2
    ? line.rows("select * from revoke_services($1, '', '')", [turned(["a", "b", "c"], n >> 1)])
    : line.rows("select * from claim_task($1, null, $2, 'boot', 1, $3, 'd', 'i', 1, 1, '{}', 9, $4, 'x')", [tasks[n % 6]?.task, randomUUID(), randomUUID(), randomUUID()]);
  await Promise.all([issueAll, issueAll, changeAll, changeAll, issueServices, issueServices, mixed, mixed].map(rounds));
  expect(errors).toEqual([]);
});

test("a catalog that drops services passes issues of theirs without a deadlock", async () => {
  const services = (...names: string[]): string => `agents: [{ name: researcher, owner: o@example.org, selectors: [{ uid: 1000, path: /bin/a }] }, { name: brief, owner: o@example.org, selectors: [{ uid: 1000, path: /bin/b }] }]
services: [${names.map((name) => `{ name: ${name}, owner: o@example.org, selectors: [{ uid: 7, path: /bin/s }] }`).join(", ")}]`;
  await ledger.apply(services("a", "b", "z"));
  // an issue that holds the first and wants the last, while the catalog keeps the last and drops the first
  await a.rows("begin");
  await a.rows("select 1 from services where name = 'a' for share");
  const applying = ledger.apply(services("b", "z"));
  await sleep(150);
  const wanting = a.rows("select 1 from services where name = 'z' for share").then(() => a.rows("commit"));
  await expect(Promise.all([applying, wanting])).resolves.toBeDefined();
});

test("a service that the catalog drops loses its SVIDs in the same transaction", async () => {
  const catalog = (services: string): string => `agents: [{ name: researcher, owner: o@example.org, selectors: [{ uid: 1000, path: /bin/a }] }, { name: brief, owner: o@example.org, selectors: [{ uid: 1000, path: /bin/b }] }]
services: [${services}]`;
  await ledger.apply(catalog("{ name: dropped, owner: o@example.org, selectors: [{ uid: 7, path: /bin/s }] }"));
  await recordServiceSvids(ledger.store, [{ service: "dropped", by: "t", kind: "x509", serial: randomUUID(), audiences: [] }], authorities);
  await ledger.apply(catalog(""));
  expect(await ledger.owner.rows("select epoch::int from revocations where subject = 'service/dropped'")).toEqual([{ epoch: 2 }]);
  const [again] = await recordServiceSvids(ledger.store, [{ service: "dropped", by: "t", kind: "x509", serial: randomUUID(), audiences: [] }], authorities);
  expect(again).toEqual({ verdict: "gone" });
});

describe("the feed", () => {
  test("a reader that asks for what is above the last it knew misses nothing, however commits overtake each other", async () => {
    const { sequence: before } = await readFeedHead(ledger.store);
    const tasks = await Promise.all(Array.from({ length: 64 }, () => ledger.held()));
    const writers = await Promise.all(Array.from({ length: 8 }, () => ledger.line()));
    let writing = true;
    const seen: { subject: string; sequence: number }[] = [];
    const reading = (async () => {
      for (let last = before; ; ) {
        const over = !writing;
        for (const row of await revocationsSince(ledger.store, last, 7)) {
          seen.push(row);
          last = row.sequence;
        }
        if (over && last >= before + tasks.length) return;
        if (over && (await revocationsSince(ledger.store, last, 1)).length === 0) return;
      }
    })();
    await Promise.all(writers.map(async (line, w) => {
      for (let n = w; n < tasks.length; n += writers.length) {
        await line.rows("begin");
        await line.end(tasks[n]?.task ?? "");
        await sleep(Math.random() * 4);
        await line.rows("commit");
      }
    }));
    writing = false;
    await reading;
    await Promise.all(writers.map((line) => line.close()));
    expect(seen.map((row) => row.sequence)).toEqual(tasks.map((_, i) => before + 1 + i));
    expect(new Set(seen.map((row) => row.subject))).toEqual(new Set(tasks.map((t) => t.task)));
    expect((await readFeedHead(ledger.store)).sequence).toBe(before + tasks.length);
  });

  test("a batch takes as many numbers as it has tasks to tell of, and no more", async () => {
    const [x, y, ready, over] = [await ledger.held(), await ledger.held(), await ledger.open(), await ledger.held()];
    await revokeTasks(ledger.store, [{ task: over.task, reason: "", actor: "t", change: { end: "closed" } }]);
    const { sequence: before } = await readFeedHead(ledger.store);
    const verdicts = await revokeTasks(ledger.store, [over.task, y.task, ready, x.task].map((task) => ({ task, reason: "r", actor: "t", change: { end: "aborted" as const } })));
    expect(verdicts.map((v) => [v.verdict, v.sequence])).toEqual([["already", null], ["ended", before + 1], ["ended", null], ["ended", before + 2]]);
    expect((await readFeedHead(ledger.store)).sequence).toBe(before + 2);
  });

  test("a task's revocation outlives every SVID of it", async () => {
    const held = await ledger.held({ ttlSeconds: 86_400 });
    const [svid] = await recordTaskSvids(ledger.store, [request(held)], authorities);
    const [ended] = await revokeTasks(ledger.store, [{ task: held.task, reason: "", actor: "t", change: { end: "closed" } }]);
    if (svid?.verdict !== "ok") throw new Error(svid?.verdict);
    expect((ended?.until?.getTime() ?? 0) - svid.expiresAt.getTime()).toBeGreaterThanOrEqual(120_000);
  });

  test("so does a service's, even if the catalog has shortened their lives since", async () => {
    const service = (ttl: string): Promise<void> => ledger.apply(`agents: [{ name: researcher, owner: o@example.org, selectors: [{ uid: 1000, path: /bin/a }] }, { name: brief, owner: o@example.org, selectors: [{ uid: 1000, path: /bin/b }] }]
services: [{ name: crm, owner: o@example.org, selectors: [{ uid: 7, path: /bin/s }], x509Ttl: ${ttl} }]`);
    await service("12h");
    const [svid] = await recordServiceSvids(ledger.store, [{ service: "crm", by: "t", kind: "x509", serial: randomUUID(), audiences: [] }], authorities);
    await service("1m");
    const [row] = await revokeServices(ledger.store, ["crm"], "r", "t");
    if (svid?.verdict !== "ok") throw new Error(svid?.verdict);
    expect((row?.until.getTime() ?? 0) - svid.expiresAt.getTime()).toBeGreaterThanOrEqual(120_000);
  });
});

test("two brokers that start at once on an empty database share one set of authorities", async () => {
  const empty = await Ledger.start();
  try {
    const both = [empty.store, empty.anotherStore()].map((store) => new Trust(store, "example.org", kek));
    await Promise.all(both.map((trust) => trust.refresh()));
    const [first, second] = both.map(({ signers, published }) => [signers.x509.record.id, signers.jwt.record.id, published.bundle.sequence]);
    expect(second).toEqual(first);
    const uses = await empty.owner.rows("select use from authorities where state = 'active' order by use");
    expect(uses).toEqual([{ use: "jwt" }, { use: "root" }, { use: "x509" }]);
    const [wrong, elsewhere] = [new Trust(empty.store, "example.org", Buffer.alloc(32, 7)), new Trust(empty.store, "other.example", kek)];
    const before = await empty.owner.rows("select id, state, state_since from authorities order by id");
    await expect(wrong.refresh()).rejects.toMatchObject({ code: "KEY_UNUSABLE" });
    await expect(elsewhere.refresh()).rejects.toMatchObject({ code: "START_REFUSED" });
    expect(await empty.owner.rows("select id, state, state_since from authorities order by id")).toEqual(before);
  } finally {
    await empty.close();
  }
});

test("an SVID is signed by the authority that its row names, though another becomes active meanwhile", async () => {
  const [before, after] = [newAuthorities(), newAuthorities()];
  let asked = 0;
  const issuer = new Issuer({
    store: ledger.store, trustDomain, issuer: `spiffe://${trustDomain}`, whenClear: () => undefined,
    signers: () => (asked++ % 2 === 0 ? before : after), // a rotation between recording and signing
  });
  for (let i = 0; i < 4; i++) {
    const { chain } = await issuer.x509(holderOf(await ledger.held()));
    const [leaf = Buffer.alloc(0)] = splitChain(chain);
    const { serial, extensions } = readCertificate(leaf);
    const { authority } = await ledger.owner.one<{ authority: string }>("select authority from svids where serial = $1", [serial.toString("hex")]);
    expect(readAuthorityKeyId(extensions.get(oids.authorityKeyId)?.value ?? Buffer.alloc(0))?.toString("hex")).toBe(authority);
  }
});

describe("the number of a list", () => {
  const newAuthority = async (): Promise<string> => {
    const id = randomUUID();
    await ledger.owner.rows(`insert into authorities (id, use, state, public_key, sealed_key, not_before, not_after)
      values ($1, 'x509', 'retired', '', '', now(), now())`, [id]);
    return id;
  };
  const head = async (): Promise<number> => Number((await ledger.owner.one<{ sequence: string }>("select sequence from feed_head")).sequence);

  test("is given out once, grows, and a higher one never covers less, whatever ends meanwhile", async () => {
    const ca = await newAuthority();
    const brokers = [ledger.store, ledger.anotherStore()];
    const ends = (async () => {
      for (let i = 0; i < 15; i++) await a.end((await ledger.held()).task);
    })();
    const lists = (await Promise.all(brokers.map(async (store) => {
      const given: NextCrl[] = [];
      for (let i = 0; i < 30; i++) {
        const next = await nextCrl(store, ca, given.at(-1)?.number ?? 0, (await readFeedHead(store)).sequence); // as a broker that has heard of all asks
        if (next) given.push(next);
      }
      expect(given.every(({ number }, i) => i === 0 || number > (given[i - 1]?.number ?? 0))).toBe(true);
      return given;
    }))).flat().sort((a, b) => a.number - b.number || a.sequence - b.sequence);
    await ends;
    for (const [i, list] of lists.entries()) {
      const before = lists[i - 1];
      if (!before) continue;
      if (before.number === list.number) expect(list).toEqual(before); // joined: the same list
      expect(list.sequence).toBeGreaterThanOrEqual(before.sequence);
      expect(list.since.getTime()).toBeGreaterThanOrEqual(before.since.getTime());
    }
  });

  test("joins the list of another broker only if that covers what is known here", async () => {
    const ca = await newAuthority();
    const first = await nextCrl(ledger.store, ca, 0, await head());
    expect(await nextCrl(ledger.anotherStore(), ca, 0, await head())).toEqual(first);
    await ledger.owner.end((await ledger.held()).task);
    const second = await nextCrl(ledger.anotherStore(), ca, 0, await head());
    expect([second?.number, second?.sequence]).toEqual([2, await head()]);
  });

  test("stays above what was published, though the database has forgotten, and covers what expired since the last", async () => {
    const ca = await newAuthority();
    expect((await nextCrl(ledger.store, ca, 41, 0))?.number).toBe(42);
    await ledger.owner.rows("update authorities set crl_at = clock_timestamp() - interval '1 hour' where id = $1", [ca]);
    const afterAnHour = await nextCrl(ledger.store, ca, 42, 0);
    expect((afterAnHour?.at.getTime() ?? 0) - (afterAnHour?.since.getTime() ?? 0)).toBeGreaterThan(3_590_000);
    await ledger.owner.rows("update authorities set crl_at = clock_timestamp() + interval '1 hour' where id = $1", [ca]); // the clock was set back
    const steppedBack = await nextCrl(ledger.store, ca, 43, 0);
    expect(steppedBack).toMatchObject({ number: 44, since: new Date((steppedBack?.at.getTime() ?? 0) - 120_000) });
    expect(await nextCrl(ledger.store, "nobody's", 0, 0)).toBeNull();
  });
});

test("what a list holds is read in pieces: each dead certificate once, in order, whatever lies between them", async () => {
  const own = await Ledger.start();
  try {
    const piece = 20_000;
    const since = new Date(Date.now() - 60_000);
    const { sequence: before } = await readFeedHead(own.store);
    const ended = async (svids: number): Promise<string[]> => {
      const held = await own.held();
      const requests = Array.from({ length: svids }, () => request(held));
      const verdicts = await recordTaskSvids(own.store, requests, authorities);
      expect(verdicts.map(({ verdict }) => verdict)).toEqual(requests.map(() => "ok"));
      await own.owner.end(held.task);
      return requests.map(({ serial }) => serial).sort();
    };
    /** Revocations of which nothing remains. */
    const fill = async (count: number): Promise<void> => void (await own.owner.rows(`with added as (insert into revocations (sequence, subject, epoch, until, at)
        select h.sequence + n, gen_random_uuid()::text, 2, now() + interval '5 minutes', now() from feed_head h, generate_series(1, $1::int) n returning 1)
      update feed_head set sequence = sequence + $1::int where (select count(*) from added) > 0`, [count]));
    const first = await ended(1);
    await fill(piece - 2);
    const atTheEnd = await ended(2_001); // more than one page of a piece
    const next = await ended(1);
    await fill(2 * piece); // a whole piece of nothing
    const last = await ended(2);
    const { sequence: to } = await readFeedHead(own.store);
    expect(to).toBe(before + 3 * piece + 2);

    const read = async (after: number): Promise<string[]> => {
      const serials: string[] = [];
      await deadCertificates(own.store, { after, to, since }, async (lines) => void serials.push(...lines.map((line) => line.split(" ")[1] ?? "")));
      return serials;
    };
    const all = await read(before);
    expect([all.slice(0, 1), all.slice(1, 2_002).sort(), all.slice(2_002, 2_003), all.slice(2_003).sort()]).toEqual([first, atTheEnd, next, last]);
    expect((await read(before + piece)).sort()).toEqual([...next, ...last].sort());
    expect(await read(to)).toEqual([]);
  } finally {
    await own.close();
  }
});

test("a certificate stands in what a list is made of once, under the revocation that killed it, however often its task changed since", async () => {
  const held = await ledger.held();
  const { sequence: before } = await readFeedHead(ledger.store);
  for (const model of ["one", "two", "three"]) {
    await a.issue(held);
    await a.change(held.task, { model });
  }
  await a.issue(held);
  const { sequence } = await a.end(held.task);
  const serials = (await a.rows<{ serial: string }>("select serial from svids where task = $1 order by id", [held.task])).map((row) => row.serial);
  const read = async (after: number): Promise<string[]> => {
    const lines: string[] = [];
    await deadCertificates(ledger.store, { after, to: Number(sequence), since: new Date(0) }, async (page) => void lines.push(...page));
    return lines.map((line) => line.split(" ")[1] ?? "").filter((serial) => serials.includes(serial));
  };
  expect(await read(before)).toEqual(serials);
  expect(await read(Number(sequence) - 1)).toEqual(serials.slice(-1));
});

describe("append-only", () => {
  const tables = [["svids", "serial"], ["attestations", "reason"], ["revocations", "subject"], ["entries", "actor"], ["catalog_versions", "digest"]];
  const refused = { code: "42501" };

  test.each(tables)("the broker's role can neither alter, remove nor truncate %s, nor lift the guard", async (table, column) => {
    await expect(a.rows(`update ${table} set ${column} = ${column}`)).rejects.toMatchObject(refused);
    await expect(a.rows(`delete from ${table}`)).rejects.toMatchObject(refused);
    await expect(a.rows(`truncate ${table}`)).rejects.toMatchObject(refused);
    await expect(a.rows(`alter table ${table} disable trigger all`)).rejects.toMatchObject(refused);
    await expect(a.rows(`drop table ${table}`)).rejects.toMatchObject(refused);
  });

  test.each(tables)("nobody alters %s or removes from it, not even its owner", async (table, column) => {
    await expect(ledger.owner.rows(`delete from ${table} where false`)).rejects.toMatchObject(refused);
    await expect(ledger.owner.rows(`update ${table} set ${column} = ${column} where false`)).rejects.toMatchObject(refused);
    await expect(ledger.owner.rows(`truncate ${table}`)).rejects.toMatchObject(refused);
  });

  test("the broker's role can't grow, either", async () => {
    expect(await a.one(`select rolsuper or rolcreaterole or rolcreatedb or rolbypassrls or rolcanlogin as more from pg_roles where rolname = current_user`)).toEqual({ more: false });
    expect(await a.one("select has_schema_privilege('brevet', 'create') as creates, has_table_privilege('migrations', 'insert') as migrates")).toEqual({ creates: false, migrates: false });
  });

  const retain = (seconds: number): Promise<unknown> => ledger.owner.rows("update settings set retention = make_interval(secs => $1)", [seconds]);

  /** No revocation is gone whose SVID is still there. */
  const noOrphans = async (service: string): Promise<void> => {
    expect(await ledger.owner.rows(`select 1 from svids s where s.service = $1 and not exists
      (select 1 from revocations r where r.subject = $2 and r.until > s.expires_at)`, [service, `service/${service}`])).toEqual([]);
  };

  test("however long the record is kept, and in whatever pieces it goes: what the feed, a list or the last day needs stays", async () => {
    const day = 86_400;
    const ages = fc.array(fc.record({ age: fc.integer({ min: -day, max: 40 * day }), life: fc.integer({ min: 1, max: day }) }), { minLength: 1, maxLength: 30 });
    await fc.assert(fc.asyncProperty(ages, fc.integer({ min: -400 * day, max: 400 * day }), fc.integer({ min: 1, max: 40 }), async (rows, retention, most) => {
      const subject = randomUUID();
      const { sequence } = await ledger.owner.one<{ sequence: number }>("update feed_head set sequence = sequence + $1 returning (sequence - $1)::int as sequence", [rows.length]);
      // issued, revoked at once: all of it `age` seconds ago
      await ledger.owner.rows(`insert into svids (kind, serial, service, epoch, authority, issued_at, expires_at)
        select 'x509', $1 || r.n, $1, 1, 'x', now() - make_interval(secs => r.age), now() - make_interval(secs => r.age - r.life)
        from unnest($2::int[], $3::int[]) with ordinality r(age, life, n)`, [subject, rows.map((r) => r.age), rows.map((r) => r.life)]);
      await ledger.owner.rows(`insert into revocations (sequence, subject, epoch, until, at)
        select $1 + r.n, $2, 2, now() - make_interval(secs => r.age - r.life - 120), now() - make_interval(secs => r.age)
        from unnest($3::int[], $4::int[]) with ordinality r(age, life, n)`, [sequence, `service/${subject}`, rows.map((r) => r.age), rows.map((r) => r.life)]);
      await retain(retention);
      while ((await purge(ledger.store, most)).length > 0) await noOrphans(subject);
      const live = await ledger.owner.one<{ svids: number; revocations: number }>(`select
        (select count(*)::int from svids where service = $1) as svids, (select count(*)::int from revocations where subject = $2) as revocations`, [subject, `service/${subject}`]);
      const kept = (extra: number): number => rows.filter((r) => {
        const ends = Date.now() - (r.age - r.life - extra) * 1000;
        return ends >= Date.now() - Math.max(retention, 2 * day) * 1000 + 5000;
      }).length;
      expect(live.svids).toBeGreaterThanOrEqual(kept(0));
      expect(live.revocations).toBeGreaterThanOrEqual(kept(120));
      await noOrphans(subject);
    }), { numRuns: 25 });
    const old = await ledger.owner.rows("select 1 from svids where expires_at < now() - interval '400 days 1 hour'");
    expect(old).toEqual([]);
  });

  test("who may have the old removed can't say what is old; and the owner removes nothing younger, by whatever name", async () => {
    await retain(30 * 86_400);
    await expect(a.rows("select * from purge(now())")).rejects.toMatchObject({ code: "42883" });
    await expect(a.rows("update settings set retention = '2 days'")).rejects.toMatchObject(refused);
    const insert = "insert into entries (at, kind, actor, body, digest) values (now() - make_interval(days => $1), 'age', 'x', '{}', '') returning id";
    const [young, old] = [await ledger.owner.one<{ id: string }>(insert, [29]), await ledger.owner.one<{ id: string }>(insert, [31])];
    const remove = async (bound: string, ids: readonly string[]): Promise<unknown> => {
      await ledger.owner.rows("begin");
      try {
        await ledger.owner.rows(`select set_config('brevet.purged_before', (${bound})::text, true)`);
        return await ledger.owner.rows("delete from entries where id = any ($1) returning id", [ids]);
      } finally {
        await ledger.owner.rows("rollback");
      }
    };
    await expect(remove("now()", [old.id])).rejects.toMatchObject(refused);
    await expect(remove("now() - interval '30 days'", [young.id, old.id])).rejects.toMatchObject(refused);
    expect(await remove("now() - interval '30 days'", [old.id])).toEqual([old]);
    await a.rows("select * from purge(1000)");
    expect(await ledger.owner.rows("select id from entries where id = any ($1)", [[young.id, old.id]])).toEqual([young]);
    await expect(ledger.owner.rows("delete from entries")).rejects.toMatchObject(refused);
  });

  test("while one removes, another finds nothing to do", async () => {
    await a.rows("begin");
    await a.rows("select * from purge(1)");
    expect(await b.rows("select * from purge(1)")).toEqual([]);
    await a.rows("commit");
  });

  const days = (n: number): string => `now() - interval '${n} days'`;
  /** An instance and tasks of it, of long ago: `ended` null lives. */
  const ofOld = async (created: string, ended: readonly (string | null)[]): Promise<{ instance: string; tasks: string[] }> => {
    const { id } = await ledger.owner.one<{ id: string }>(`insert into instances (id, boot_id, pid, start_time, exe_dev, exe_ino, uid, gid, facts, created_at)
      values (gen_random_uuid(), 'boot', 1, gen_random_uuid(), 'd', 'i', 1, 1, '{}', ${created}) returning id`);
    const tasks: string[] = [];
    for (const at of ended) {
      const task = await ledger.owner.one<{ id: string }>(`insert into tasks (id, agent, owner, state, context, context_digest, purpose,
          on_behalf_of, refs, bind, scope, x509_ttl, jwt_ttl, on_exit, opened_at, opened_by, expires_at, instance, ended_at)
        values (gen_random_uuid(), 'researcher', 'o', $1, '{}', '', '', '', '{}', 'claim', 'process', 60, 60, 'abort', ${created}, 'x', now() + interval '1 day', $2, ${at}) returning id`,
        [at === null ? "active" : "closed", id]);
      tasks.push(task.id);
    }
    return { instance: id, tasks };
  };
  const purgeAll = async (): Promise<void> => {
    while ((await purge(ledger.store, 3)).length > 0);
  };
  const there = async (...ids: readonly string[]): Promise<boolean[]> => {
    const rows = await ledger.owner.rows<{ id: string }>("select id from tasks where id = any ($1) union all select id from instances where id = any ($1)", [ids]);
    return ids.map((id) => rows.some((row) => row.id === id));
  };

  test("an ended task goes when nothing of it is left, and its instance when no task is", async () => {
    await retain(30 * 86_400);
    const gone = await ofOld(days(40), [days(39)]);
    const young = await ofOld(days(40), [days(29)]);
    const live = await ofOld(days(40), [null]);
    const worker = await ofOld(days(40), [days(39), null]);
    const [idle, fresh] = [await ofOld(days(40), []), await ofOld(days(1), [])];
    const withSvid = await ofOld(days(40), [days(39)]);
    const inFeed = await ofOld(days(40), [days(39)]);
    for (const [task, expires] of [[gone, days(38)], [withSvid, "now() + interval '1 minute'"]] as const) {
      await ledger.owner.rows(`insert into svids (kind, serial, task, epoch, authority, issued_at, expires_at) values ('jwt', gen_random_uuid(), $1, 1, 'j', ${days(39)}, ${expires})`, [task.tasks[0]]);
    }
    for (const [task, until] of [[gone, days(38)], [inFeed, "now() + interval '1 minute'"]] as const) {
      await ledger.owner.rows(`with head as (update feed_head set sequence = sequence + 1 returning sequence)
        insert into revocations (sequence, subject, epoch, until, at) select sequence, $1, 2, ${until}, ${days(39)} from head`, [task.tasks[0]]);
    }
    await purgeAll();
    const ids = [gone, young, live, worker, idle, fresh, withSvid, inFeed].flatMap(({ instance, tasks }) => [instance, ...tasks]);
    expect(await there(...ids)).toEqual([false, false, true, true, true, true, true, false, true, false, true, true, true, true, true]);
  });

  test("a claim of a process whose instance is just being removed has a new one; one that is being claimed for is not removed", async () => {
    await retain(30 * 86_400);
    const { instance } = await ofOld(days(40), []);
    const { start } = await ledger.owner.one<{ start: string }>("select start_time as start from instances where id = $1", [instance]);
    const claim = (line: Line, task: string): Promise<{ verdict: string; instance_id: string }> =>
      line.one("select verdict, instance_id from claim_task($1, null, $2, 'boot', 1, $3, 'd', 'i', 1, 1, '{}', 9, $4, 'x')", [task, randomUUID(), start, randomUUID()]);
    await a.rows("begin");
    await a.rows("select * from purge(100000)");
    const [first, second] = [await ledger.open(), await ledger.open()];
    const claiming = claim(b, first);
    await ledger.blocked(pidB, pidA);
    await a.rows("commit");
    const claimed = await claiming;
    expect(claimed.verdict).toBe("claimed");
    expect(await there(instance, claimed.instance_id)).toEqual([false, true]);

    await b.end(first);
    await ledger.owner.rows(`update tasks set ended_at = ${days(39)} where id = $1`, [first]);
    await ledger.owner.rows(`update instances set created_at = ${days(40)} where id = $1`, [claimed.instance_id]);
    await a.rows("begin");
    expect(await claim(a, second)).toEqual(claimed);
    await b.rows("select * from purge(100000)");
    await a.rows("commit");
    expect(await there(claimed.instance_id, second)).toEqual([true, true]);
  });

  test("what is young is not read to find the old", async () => {
    await retain(30 * 86_400);
    await purgeAll();
    const own = ledger.anotherStore(1);
    const tables = ["svids", "attestations", "revocations", "entries", "tasks", "instances"];
    await ledger.owner.rows(`insert into svids (kind, serial, service, epoch, authority, issued_at, expires_at)
      select 'jwt', gen_random_uuid(), 's', 1, 'j', ${days(1)}, ${days(1)} from generate_series(1, 3000)`);
    await ledger.owner.rows(`insert into attestations (attempt, at, outcome, pid, uid, gid, facts) select gen_random_uuid(), ${days(1)}, 'denied', 1, 1, 1, '{}' from generate_series(1, 3000)`);
    await ledger.owner.rows(`insert into entries (at, kind, actor, body, digest) select ${days(1)}, 'x', 'x', '{}', '' from generate_series(1, 3000)`);
    await ledger.owner.rows(`with i as (insert into instances (id, boot_id, pid, start_time, exe_dev, exe_ino, uid, gid, facts)
        select gen_random_uuid(), 'boot', n, 'young', 'd', 'i', 0, 0, '{}' from generate_series(1, 3000) n returning id)
      insert into tasks (id, agent, owner, state, context, context_digest, purpose, on_behalf_of, refs, bind, scope, x509_ttl, jwt_ttl, on_exit, opened_at, opened_by, expires_at, instance, ended_at)
      select gen_random_uuid(), 'researcher', 'o', 'closed', '{}', '', '', '', '{}', 'claim', 'process', 60, 60, 'abort', now(), 'x', now(), id, ${days(1)} from i`);
    await ofOld(days(40), [days(39)]);
    const before = await rowsRead(own, tables);
    expect(await purge(own)).toEqual([{ what: "tasks", removed: 1 }, { what: "instances", removed: 1 }]);
    expect((await rowsRead(own, tables)) - before).toBeLessThan(200);
  });

  test("what is past its retention does go", async () => {
    const serial = randomUUID();
    await ledger.owner.rows(`insert into svids (kind, serial, service, epoch, authority, issued_at, expires_at)
      values ('jwt', $1, 's', 1, 'j', now() - interval '9 days', now() - interval '8 days')`, [serial]);
    await retain(7 * 86_400);
    const removed = await purge(ledger.store);
    expect(removed.find((r) => r.what === "svids")?.removed).toBeGreaterThanOrEqual(1);
    expect(await a.rows("select 1 from svids where serial = $1", [serial])).toEqual([]);
  });
});

describe("context", () => {
  // jsonb holds all but NUL and half surrogates, which the API refuses before
  const text = fc.oneof(
    fc.string({ unit: "binary", maxLength: 12 }), fc.string({ unit: "grapheme", maxLength: 6 }),
    fc.constantFrom("", "__proto__", "constructor", "\u202eabc", "é", "e\u0301", "\uffff", "\u{10000}", "\u{1f600}", "ﬀ", "4:user", "\\", "\"", "'", "\u0001", "\u2028", "%s", "ß", "I", "İ", "ı"),
  ).map((s) => s.replaceAll("\0", ""));
  const context = fc.dictionary(text, text, { maxKeys: 6, noNullPrototype: false });

  test("PostgreSQL and we give the same digest to the same context", async () => {
    await fc.assert(fc.asyncProperty(fc.array(context, { minLength: 40, maxLength: 40 }), async (contexts) => {
      const rows = await a.rows<{ digest: string }>("select context_digest(c) as digest from unnest($1::jsonb[]) with ordinality u(c, n) order by n", [contexts.map((c) => JSON.stringify(c))]);
      expect(rows.map((row) => row.digest)).toEqual(contexts.map(contextDigest));
    }), { numRuns: 25 });
  });

  test("a change sets, then removes; what comes out the same is no change, and has no new epoch", async () => {
    await fc.assert(fc.asyncProperty(context, context, fc.array(text, { maxLength: 3 }), async (before, set, remove) => {
      const { task } = await ledger.held({ context: before });
      const [verdict] = await revokeTasks(ledger.store, [{ task, reason: "", actor: "t", change: { set, remove } }]);
      const wanted = Object.fromEntries(Object.entries({ ...before, ...set }).filter(([key]) => !remove.includes(key)));
      const row = await getTask(ledger.store, task);
      expect(row?.context).toEqual(wanted);
      expect(row?.contextDigest).toBe(contextDigest(wanted));
      const same = contextDigest(wanted) === contextDigest(before);
      expect(verdict).toMatchObject({ verdict: same ? "unchanged" : "changed", epoch: same ? 1 : 2 });
    }), { numRuns: 40 });
  });
});

describe("the log", () => {
  test("each change has its entry in the same transaction, under a digest of all that it says", async () => {
    const held = await ledger.held({ context: { model: "one" } });
    await a.rows("begin");
    await a.issue(held);
    await a.rows("rollback");
    await a.issue(held);
    await a.change(held.task, { model: "two" });
    await a.end(held.task, "aborted");
    await a.end(held.task, "aborted");
    const rows = await a.rows<{ kind: string; body: string; digest: Buffer }>("select kind, body::text, digest from entries where task = $1 order by id", [held.task]);
    expect(rows.map((row) => row.kind)).toEqual(["task.opened", "task.claimed", "svid.issued", "task.context_changed", "task.aborted"]);
    for (const row of rows) {
      expect(createHash("sha256").update(row.body).digest()).toEqual(row.digest);
      expect(JSON.parse(row.body)).toMatchObject({ kind: row.kind, task: held.task, agent: "researcher" });
    }
  });
});

test("what expired is over without anybody's help: it issues nothing, is not claimed, not changed, not alive", async () => {
  const [held, ready] = [await ledger.held(), await ledger.open({ bind: "auto" })];
  await ledger.owner.rows("update tasks set expires_at = clock_timestamp() where id = any ($1)", [[held.task, ready]]);
  expect(await a.issue(held)).toMatchObject({ verdict: "ended" });
  expect(await ledger.claim(ready)).toMatchObject({ verdict: "ended", state: "expired" });
  expect(await getTask(ledger.store, held.task)).toMatchObject({ state: "expired", endedBy: "brevet" });
  expect(await a.change(held.task, { model: "late" })).toEqual({ verdict: "ended", epoch: "2" });
  expect(await a.end(ready, "closed")).toMatchObject({ verdict: "ended" });
  expect(await getTask(ledger.store, ready)).toMatchObject({ state: "expired", endReason: "expired" });
  expect((await liveRevocations(ledger.store, 0, 10_000)).filter((row) => row.subject === held.task)).toHaveLength(1);
});

describe("group commit", () => {
  type Sent = { readonly batch: readonly number[]; readonly answer: (answers: readonly string[]) => void; readonly refuse: (error: Error) => void };
  function batchOf(most: number, keyOf?: (n: number) => string, urgent?: (n: number) => boolean): { batch: Batch<number, string>; sent: Sent[]; next(): Promise<Sent> } {
    const sent: Sent[] = [];
    const batch = new Batch<number, string>({
      most, ...(keyOf ? { keyOf } : {}), ...(urgent ? { urgent } : {}),
      send: (requests) => new Promise((resolve, reject) => sent.push({ batch: [...requests], answer: resolve, refuse: reject })),
    });
    let taken = 0;
    const next = async (): Promise<Sent> => {
      while (sent.length <= taken) await new Promise((resolve) => setImmediate(resolve));
      const one = sent[taken++];
      if (!one) throw new Error("nothing was sent");
      return one;
    };
    return { batch, sent, next };
  }
  const echo = (one: Sent): void => one.answer(one.batch.map(String));

  test("what is urgent waits for the batch under way, and for nothing else", async () => {
    const { batch, next } = batchOf(2, String, (n) => n >= 10);
    const added = [1, 2, 3, 4, 5].map((n) => batch.add(n));
    const first = await next();
    added.push(...[10, 6, 11, 12].map((n) => batch.add(n)));
    echo(first);
    const order: number[] = [];
    for (let i = 0; i < 4; i++) {
      const one = await next();
      order.push(...one.batch);
      echo(one);
    }
    expect([first.batch, order]).toEqual([[1, 2], [10, 11, 12, 3, 4, 5, 6]]);
    expect(await Promise.all(added)).toEqual([1, 2, 3, 4, 5, 10, 6, 11, 12].map(String));
  });

  test("nobody joins a batch that has been sent; each gets its own answer, in order", async () => {
    const { batch, sent, next } = batchOf(3);
    const early = [1, 2].map((n) => batch.add(n));
    const first = await next();
    const late = [3, 4, 5, 6].map((n) => batch.add(n));
    await sleep(5);
    expect(sent).toHaveLength(1);
    echo(first);
    echo(await next());
    echo(await next());
    expect(await Promise.all([...early, ...late])).toEqual(["1", "2", "3", "4", "5", "6"]);
    expect(sent.map((one) => one.batch)).toEqual([[1, 2], [3, 4, 5], [6]]);
  });

  test("two of one key go in two batches, in the order in which they came", async () => {
    const { batch, sent, next } = batchOf(10, (n) => String(n % 10));
    const all = [1, 11, 2, 21, 3].map((n) => batch.add(n));
    for (let n = 0; n < 3; n++) echo(await next());
    expect(await Promise.all(all)).toEqual(["1", "11", "2", "21", "3"]);
    expect(sent.map((one) => one.batch)).toEqual([[1, 2, 3], [11], [21]]);
  });

  test("a batch that is rejected as a whole goes again singly, once; its neighbours do not fail with the bad one", async () => {
    const { batch, sent, next } = batchOf(10);
    const all = Promise.allSettled([1, 2, 3].map((n) => batch.add(n)));
    const bad = new BrevetError("INTERNAL", "internal error");
    (await next()).refuse(bad);
    echo(await next());
    (await next()).refuse(bad);
    echo(await next());
    const results = await all;
    expect(results.map((r) => r.status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    expect(sent.map((one) => one.batch)).toEqual([[1, 2, 3], [1], [2], [3]]);
  });

  test.each(["OUTCOME_UNKNOWN", "DATABASE_UNAVAILABLE"] as const)("%s is everybody's: nothing is sent again behind their backs", async (code) => {
    const { batch, sent, next } = batchOf(10);
    const all = Promise.allSettled([1, 2].map((n) => batch.add(n)));
    (await next()).refuse(new BrevetError(code, "no"));
    for (const one of await all) expect(one).toMatchObject({ status: "rejected", reason: { code } });
    expect(sent).toHaveLength(1);
    const after = batch.add(3);
    echo(await next());
    expect(await after).toBe("3");
  });

  test("an answer that is missing is an error, not a silence", async () => {
    const { batch, next } = batchOf(10);
    const all = Promise.allSettled([1, 2].map((n) => batch.add(n)));
    (await next()).answer(["1"]);
    expect(await all).toMatchObject([{ status: "fulfilled" }, { status: "rejected", reason: { code: "INTERNAL" } }]);
  });
});

describe("what an error says of the outcome", () => {
  const slow = { name: "slow", text: "select pg_sleep(4)" };
  /** Once it runs. */
  const strike = async (how: "pg_terminate_backend" | "pg_cancel_backend"): Promise<void> => {
    const struck = `select ${how}(pid) from pg_stat_activity where query = $1 and state = 'active' and datname = current_database()`;
    while ((await ledger.owner.rows(struck, [slow.text])).length === 0) await sleep(20);
  };

  test("a statement whose connection is cut may have been committed", async () => {
    const store = ledger.anotherStore(1);
    const running = store.query(slow).catch((error: unknown) => error);
    await strike("pg_terminate_backend");
    expect(await running).toMatchObject({ code: "OUTCOME_UNKNOWN" });
  });

  test("one that the server cancelled was not, and one that it rejected is our fault", async () => {
    const store = ledger.anotherStore(1);
    const running = store.query(slow).catch((error: unknown) => error);
    await strike("pg_cancel_backend");
    expect(await running).toMatchObject({ code: "DATABASE_UNAVAILABLE" });
    const error = await store.query({ name: "wrong", text: "select 1 / 0" }).catch((e: unknown) => e);
    expect(error).toMatchObject({ code: "INTERNAL", message: "internal error", cause: expect.any(pg.DatabaseError) as unknown });
  });

  test("a row that stays locked is tried again, then given up as unchanged", async () => {
    const { task } = await ledger.held();
    const store = ledger.anotherStore(2);
    await a.rows("begin");
    await a.change(task, { model: "x" });
    const waiting = revokeTasks(store, [{ task, reason: "", actor: "t", change: { end: "closed" } }]);
    await sleep(2500); // past one lock time-out
    await a.rows("commit");
    expect((await waiting)[0]).toMatchObject({ verdict: "ended", epoch: 3 });
  });
});

test.each([["never", false], ["when they were small", true]])("whatever else the tables hold, a statement reads the rows it is about; the tables were counted %s", async (_when, counted) => {
  const own = await Ledger.start();
  try {
    const store = own.anotherStore(1);
    const held = await own.held();
    if (counted) await own.owner.rows("analyze");
    await own.owner.rows(`insert into tasks (id, agent, owner, state, context, context_digest, purpose, on_behalf_of, refs, bind, scope, x509_ttl, jwt_ttl, on_exit, opened_at, opened_by, expires_at)
      select gen_random_uuid(), 'researcher', 'o', 'ready', '{}', '', '', '', '{}', 'claim', 'process', 60, 60, 'abort', now(), 'x', now() + interval '1 hour' from generate_series(1, 3000)`);
    await own.owner.rows(`with i as (insert into instances (id, boot_id, pid, start_time, exe_dev, exe_ino, uid, gid, facts)
        select gen_random_uuid(), 'boot', n, 'many', 'd', 'i', 0, 0, '{}' from generate_series(1, 3000) n returning id)
      insert into tasks (id, agent, owner, state, context, context_digest, purpose, on_behalf_of, refs, bind, scope, x509_ttl, jwt_ttl, on_exit, opened_at, opened_by, expires_at, instance, claimed_at)
      select gen_random_uuid(), 'researcher', 'o', 'active', '{}', '', '', '', '{}', 'claim', 'process', 60, 60, 'abort', now(), 'x', now() + interval '1 hour', id, now() from i`);
    const before = await rowsRead(store, ["tasks", "instances"], own);
    expect(await boundTasks(store, "boot", [7, 8], ["1"])).toHaveLength(2);
    await recordTaskSvids(store, [request(held)], authorities);
    await revokeTasks(store, [{ task: held.task, reason: "", actor: "t", change: { set: { step: "1" }, remove: [] } }]);
    await revokeTasks(store, [{ task: held.task, reason: "", actor: "t", change: { end: "closed" } }]);
    expect((await rowsRead(store, ["tasks", "instances"], own)) - before).toBeLessThan(200);
  } finally {
    await own.close();
  }
});
