// Would the check of a world notice?
// One world that lived, then was tampered with, each time in a way that breaks one invariant: the check
// that all stories rely on must say which. What it reads, it reads as the database's owner.
import { afterAll, beforeAll, expect, test } from "vitest";
import type { HeldJwt, HeldX509 } from "./support/agent.ts";
import { World } from "./support/world.ts";

let world: World;
let x509: HeldX509;
let jwt: HeldJwt;

beforeAll(async () => {
  world = await World.start();
  const agent = await world.agent();
  const task = await world.open({ context: { user: "alice" }, bind: "ticket" });
  await agent.claim(task.id, { ticket: task.ticket });
  [x509] = (await agent.x509()) as [HeldX509];
  [jwt] = (await agent.jwt(["crm"])) as [HeldJwt];
  await world.change(task.id, { user: "bob" });
  await world.close(task.id);
  await world.check();
  for (const table of ["svids", "revocations", "entries", "attestations"]) await world.sql(`alter table ${table} disable trigger all`);
});
afterAll(async () => {
  await world[Symbol.asyncDispose]();
});

const notTrue = async (what: RegExp): Promise<void> => await expect(world.check()).rejects.toThrow(what);

test.each<[string, string, RegExp]>([
  ["an SVID issued after the end of its task", "update svids set issued_at = clock_timestamp() where kind = 'x509'", /1: \w+ was issued after its task's end/],
  ["an SVID that outlives its task", "update svids set expires_at = expires_at + interval '1 day'", /1: \w+ outlives its task/],
  ["a dead SVID whose revocation is forgotten too early", "update revocations set until = clock_timestamp()", /3: \w+ expires after its revocation may be forgotten/],
  ["an SVID of another instance", "update svids set instance = gen_random_uuid() where kind = 'x509'", /5: \w+ went to another instance/],
  ["a line of the log that was altered", `update entries set body = body || '{"details": {}}' where kind = 'task.opened'`, /7: not in the log: digest of entry/],
  ["a change that is not in the log", "delete from entries where kind = 'task.claimed'", /7: not in the log: claimed/],
  ["a task granted twice", "insert into attestations (attempt, outcome, pid, uid, gid, facts, task) select gen_random_uuid(), 'granted', pid, uid, gid, facts, task from attestations", /5: \S+ was granted twice/],
  ["a gap in the feed", "delete from revocations where sequence = (select max(sequence) from revocations)", /4: the last revocation is \d+, the feed's head \d+/],
])("%s", async (_what, tampering, said) => {
  await world.sql(tampering);
  await notTrue(said);
});

test("an SVID without a row", async () => {
  await world.sql("delete from svids where serial = $1", [jwt.jti]);
  await notTrue(new RegExp(`2: a client has jwt ${jwt.jti}`));
});

test("a secret in the database or in what a broker wrote", async () => {
  await world.sql("update tasks set purpose = $1", [jwt.token]);
  await notTrue(/9: table tasks holds the token/);
  world.broker.output += x509.key.toString("hex");
  await notTrue(/9: what the broker in \S+ wrote holds the key of/);
});

test("a crash", async () => {
  world.broker.output += '{"msg":"broker.crashed"}';
  await notTrue(/10: the broker failed/);
});
