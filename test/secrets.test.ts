// Does anything secret ever leave the place where it must be?
// Tickets, tokens and keys that were really issued, and canaries in every field that a stranger fills, are
// looked for in what brokers write at their most talkative, in every answer's text, in every process's
// arguments, in every table, in the files beside PostgreSQL's, and in the metrics.
// What a broker holds in memory is not looked at: SECURITY.md says what that means.
import { readFileSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { services } from "../src/proto.ts";
import { ownUid } from "./support/agent.ts";
import type { Agent, Refusal } from "./support/agent.ts";
import { RawClient, header } from "./support/raw.ts";
import { World } from "./support/world.ts";

let world: World;
let agent: Agent;
let token = "";
const canary = "c4n4ry-7b2e-ticket-of-a-stranger";
const texts: string[] = [];

beforeAll(async () => {
  world = await World.start({ env: { BREVET_LOG_LEVEL: "debug" } });
  agent = await world.agent();
  const task = await world.open({ bind: "ticket", context: { user: "ada" } });
  world.keepSecret("a stranger's ticket", canary);

  // wrong tickets first: what was sent must not come back, nor stay
  for (const ticket of [canary, `${task.ticket}x`, task.ticket.toUpperCase(), ` ${task.ticket}`]) {
    texts.push(await refusalOf(agent.claim(task.id, { ticket })));
  }
  const fresh = await world.workload.tasks.issueTicket({ task: task.id });
  world.keepSecret("the second ticket", fresh.ticket);
  texts.push(await refusalOf(agent.claim(task.id, { ticket: task.ticket })));
  await agent.claim(task.id, { ticket: fresh.ticket });
  texts.push(await refusalOf((await world.agent()).claim(task.id, { ticket: fresh.ticket })));

  await agent.x509();
  token = (await agent.jwt(["crm"]))[0]?.token ?? "";
  await world.change(task.id, { user: "bob" });
  texts.push(await refusalOf(world.workload.workload.validateJWTSVID({ audience: "crm", svid: token })));
  texts.push(await refusalOf(world.workload.workload.validateJWTSVID({ audience: "crm", svid: `${token.slice(0, -6)}AAAAAA` })));
  texts.push(await refusalOf(agent.jwt(["not-allowed"])));
  await world.close(task.id);
  texts.push(await refusalOf(agent.jwt(["crm"])));
});

afterAll(async () => await world?.[Symbol.asyncDispose]());

/** All that a refusal says, in every form. */
async function refusalOf(call: Promise<unknown>): Promise<string> {
  const error = await call.then(() => {
    throw new Error("it was not refused");
  }, (refused: Refusal) => refused);
  return JSON.stringify([error.message, error.code, error.violations, error.metadata]);
}

function expectNoSecret(place: string, text: string): void {
  for (const [secret, what] of world.secrets) expect(text.includes(secret), `${place} holds the ${what}`).toBe(false);
}

test("there is something to look for, and the search finds it", () => {
  expect(world.secrets.size).toBeGreaterThanOrEqual(10);
  expect(() => expectNoSecret("a text", `before ${[...world.secrets.keys()][0]} after`)).toThrow();
  expect(texts.join()).toContain("DENIED_TICKET");
});

test("no refusal repeats what was sent in confidence", () => {
  for (const text of texts) expectNoSecret(`the refusal ${text}`, text);
});

test("no log line, at any level, and each line is one JSON object", async () => {
  const lines = world.broker.output.split("\n").filter((line) => line !== "" && !line.startsWith("brevet: "));
  expect(lines.filter((line) => line.includes("call.refused")).length).toBeGreaterThan(5);
  for (const line of lines) expect(() => JSON.parse(line) as unknown, line).not.toThrow();
  expectNoSecret("the log", world.broker.output);
});

test("no metric and no explanation", async () => {
  expectNoSecret("/metrics", await (await fetch(`${world.broker.httpUrl}/metrics`)).text());
  const recorded = JSON.stringify([
    await world.admin.log.listAttestations({}), await world.admin.log.listEntries({}), await world.admin.log.listSvids({}), await world.admin.log.explain({ last: true }),
    await world.admin.tasks.list({}),
  ]);
  expectNoSecret("what administrators are told", recorded);
});

test("no table holds a secret, nor a key that is not sealed", async () => {
  await world.check();
  const tables = await world.sql<{ name: string }>("select tablename as name from pg_tables where schemaname = 'brevet'");
  for (const { name } of tables) {
    const rows = await world.sql<{ text: string }>(`select t::text as text from ${name} t`);
    const all = rows.map(({ text }) => text).join("\n");
    expectNoSecret(`table ${name}`, all);
    expect(all, name).not.toMatch(/PRIVATE KEY|"d":|308187020100301306072a8648ce3d0201/);
  }
});

test("no process was given one as an argument, and no file beside the database's holds one", () => {
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    let line = "";
    try {
      line = readFileSync(`/proc/${pid}/cmdline`, "latin1");
    } catch {
      continue; // it ended
    }
    expectNoSecret(`the arguments of ${pid}`, line);
  }
  const files = (directory: string): string[] => readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name);
    return entry.isDirectory() ? files(path) : entry.isFile() ? [path] : [];
  });
  for (const path of files(world.broker.dataDir)) {
    const bytes = readFileSync(path);
    expectNoSecret(path, bytes.toString("latin1"));
    if (bytes.includes("PRIVATE")) expect(statSync(path).mode & 0o077, path).toBe(0);
  }
});

describe("what a stranger writes", () => {
  test("stands in the log on one line, without what a terminal would obey", async () => {
    const before = world.broker.output.length;
    using client = new RawClient(world.broker.workloadSocket);
    const hostile = "\u001b[2J\n{\"level\":60,\"msg\":\"forged\"}\u202e";
    const { Get, Abort } = services.tasks;
    await client.call(Get, Get.requestSerialize({ task: hostile }));
    const metadata = header("true");
    metadata.set("user-agent-x", "forged");
    await client.call(Abort, Abort.requestSerialize({ task: "01234567-89ab-7cde-8f01-23456789abcd", reason: hostile }), metadata);
    await client.call({ path: "/x/\u001b[31m", requestStream: false, responseStream: false }, Buffer.alloc(0)).catch(() => undefined);
    const written = await world.until("the log", () => world.broker.output.length > before && world.broker.output.slice(before));
    for (const forbidden of ["\u001b", "\u202e", '\n{"level":60']) expect(written).not.toContain(forbidden);
    for (const line of written.split("\n").filter(Boolean)) expect(() => JSON.parse(line) as unknown, line).not.toThrow();
  });

  test("the broker itself was told nothing on its command line", () => {
    expect(readFileSync(`/proc/${world.broker.pid}/cmdline`, "utf8").split("\0").filter(Boolean).slice(2)).toEqual(["broker"]);
  });

  test.skipIf(ownUid === 0)("nor can another process of the broker's user read its memory", () => {
    // in /proc, a process that is not dumpable belongs to root
    expect(statSync(`/proc/${world.broker.pid}/environ`).uid).toBe(0);
  });
});
