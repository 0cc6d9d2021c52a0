// What does Brevet do, seen in a minute?
// One task from its opening to its revocation, by real processes over real sockets, recorded by a real
// PostgreSQL. Each line that is printed was checked first; the exit code is 0 only if all were. At the
// end, and on failure, Ctrl-C or SIGTERM, no process and no file of it is left.
// The agent is agent.ts, the service service.ts; directory and accounts are stage.ts's business.
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { Tasks } from "brevet";
import { Part, run, stopAll } from "./part.ts";
import type { Words } from "./part.ts";
import { failed, milliseconds, say, step, table, title } from "./show.ts";
import { agentAccount, clone, makeDirectory, stage } from "./stage.ts";

const crm = "spiffe://brevet.local/service/crm";
const now = (): number => performance.timeOrigin + performance.now();

async function demo(directory: string, signal: AbortSignal): Promise<void> {
  const root = process.getuid?.() === 0;
  const account = agentAccount();
  const { app, agent: agentProgram, service: serviceProgram } = stage(directory);
  const dataDir = join(directory, "d");
  const inherited = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(BREVET_|SPIFFE_|NODE_)/.test(name)));
  const brokerEnv = { ...inherited, BREVET_DATA_DIR: dataDir, BREVET_LISTEN_HTTP: "127.0.0.1:0", BREVET_LOG_LEVEL: "warn" };
  const workloadEnv = { PATH: process.env["PATH"], SPIFFE_ENDPOINT_SOCKET: `unix://${dataDir}/workload.sock` };
  const as = { cwd: app, env: workloadEnv, ...(root ? { uid: account.uid, gid: account.gid } : {}) };
  const brevet = join(clone, "bin/brevet.js");
  const cli = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await run(process.execPath, [brevet, ...args], brokerEnv);
    assert.equal(code, 0, `brevet ${args.join(" ")}: ${stderr}`);
    return stdout;
  };

  title(root
    ? `Brevet's demo, in ${directory}. Agent, service and PostgreSQL run as the account ${account.name} (uid ${account.uid}).`
    : `Brevet's demo, in ${directory}. You are not root: agent, service and broker share your uid ${account.uid}, and the program's path tells them apart.`);

  const broker = await step(signal, "broker", async () => {
    const part = new Part("broker", process.execPath, [brevet, "broker"], { env: brokerEnv });
    const { line = "" } = await part.event("line");
    assert.match(line, /^brevet: ready: trust domain brevet\.local/);
    return [part, `runs its own PostgreSQL and can issue (pid ${part.pid})`];
  });

  await step(signal, "operator", async () => {
    const file = join(directory, "catalog.yaml");
    fs.writeFileSync(file, catalog(account.uid, agentProgram, serviceProgram));
    const shown = await cli("apply", "-f", file);
    assert.match(shown, /\+ agent researcher/);
    assert.match(shown, /\+ service crm/);
    return [undefined, "brevet apply -f catalog.yaml: agent researcher, service crm"];
  });

  const service = await step(signal, "service", async () => {
    const part = new Part("service", serviceProgram, [join(app, "dist/demo/service.js")], as);
    const words = await part.event("listening");
    assert.equal(words["spiffeId"], crm);
    return [{ part, mtls: words["mtls"] ?? "", bearer: words["bearer"] ?? "" }, `crm listens with an identity of its own, ${crm} (pid ${part.pid}, uid ${account.uid})`];
  });

  const agent = await step(signal, "agent", async () => {
    const part = new Part("agent", agentProgram, [join(app, "dist/demo/agent.js")], as);
    await part.tell({ do: "follow" });
    return [part, `asks the workload socket with a stock SPIFFE client, and waits: there is no task yet (pid ${part.pid}, uid ${account.uid})`];
  });
  const show = (svid: number, keep = "no"): Promise<Words> => agent.tell({ do: "mtls", server: crm, svid: String(svid), port: service.mtls, keep });
  const bear = (jwt: number): Promise<Words> => agent.tell({ do: "bearer", jwt: String(jwt), port: service.bearer });

  const tasks = new Tasks({ address: workloadEnv.SPIFFE_ENDPOINT_SOCKET });
  const opening = now();
  const task = await step(signal, "orchestrator", async () => {
    const opened = await tasks.open({ agent: "researcher", ttl: "15m", bind: "auto", purpose: "answer ticket 4711", context: { user: "alice", repository: "wiki@4f1c" } });
    return [opened, `opens task ${opened.id} (user=alice, repository=wiki@4f1c)`];
  });

  const first = await step(signal, "agent", async () => {
    const svid = await agent.event("svid");
    assert.equal(svid["spiffeId"], task.spiffeId);
    return [svid, `holds an X.509-SVID, ${secondsUntil(svid)} s long: so long after the call that opened the task`, at(svid) - opening];
  });
  const firstJwt = await step(signal, "agent", async () => {
    const jwt = await agent.tell({ do: "jwt", audience: "crm" });
    assert.ok(jwt["jti"]);
    return [jwt, `fetches a JWT-SVID for crm, ${secondsUntil(jwt)} s long`];
  });
  await step(signal, "service", async () => {
    const mtls = await show(0, "yes");
    assert.deepEqual([mtls["status"], mtls["agent"], mtls["task"], mtls["epoch"]], ["200", "researcher", task.id, 1]);
    const bearer = await bear(0);
    assert.deepEqual([bearer["status"], bearer["accepted"], bearer["task"]], ["200", true, task.id]);
    return [undefined, "accepts both: mutual TLS (the connection stays open) and the bearer token"];
  });

  const changing = now();
  await step(signal, "orchestrator", async () => {
    await task.changeContext({ repository: "wiki@9be2" });
    assert.equal(task.epoch, 2);
    return [undefined, "changes the context to repository=wiki@9be2: the task's epoch is 2"];
  });
  const second = await step(signal, "agent", async () => {
    const svid = await agent.event("svid");
    const cut = await agent.event("cut");
    assert.notEqual(svid["serial"], first["serial"]);
    return [svid, `holds a new X.509-SVID on the same stream; its old connection was cut ${milliseconds(at(cut) - changing)} after the call`, at(svid) - changing];
  });
  const secondJwt = await step(signal, "service", async () => {
    await refuses(await show(0), service.part);
    const old = await bear(0);
    assert.deepEqual([old["status"], old["reason"]], ["401", "VERIFY_REVOKED"]);
    const jwt = await agent.tell({ do: "jwt", audience: "crm" });
    assert.deepEqual([(await show(1, "yes"))["epoch"], (await bear(1))["epoch"]], [2, 2]);
    return [jwt, "refuses the old X.509-SVID and the old JWT-SVID (VERIFY_REVOKED), accepts the new ones"];
  });

  await step(signal, "operator", async () => {
    const shown = await cli("revoke", "--task", task.id, "--reason", "wrong repository");
    assert.match(shown, /1 task ended, 2 SVIDs dead/);
    return [undefined, `brevet revoke --task ${task.id.slice(0, 8)}… --reason "wrong repository": 1 task ended, 2 SVIDs dead`];
  });
  await step(signal, "agent", async () => {
    const revokedAt = await withDatabase(dataDir, (client) => readRevokedAt(client, task.id));
    const ended = await agent.event("ended");
    assert.equal(ended["code"], "PERMISSION_DENIED");
    const cut = await agent.event("cut");
    return [undefined, `its stream ended (PERMISSION_DENIED), its live connection was cut ${milliseconds(at(cut) - revokedAt)} after the revocation was written`, at(ended) - revokedAt];
  });
  await step(signal, "service", async () => {
    await refuses(await show(1), service.part);
    const dead = await bear(1);
    assert.deepEqual([dead["status"], dead["reason"]], ["401", "VERIFY_REVOKED"]);
    assert.deepEqual((await agent.tell({ do: "jwt", audience: "crm" }))["refused"], "PERMISSION_DENIED");
    return [undefined, "refuses both SVIDs that were good until then; the broker gives the agent no others"];
  });

  const rows = await step(signal, "PostgreSQL", async () => {
    const rows = await withDatabase(dataDir, (client) => readRows(client, task.id));
    assert.deepEqual(rows.tasks.map(({ state, epoch }) => [state, epoch]), [["aborted", "3"]]);
    const issued = rows.svids.map(({ serial }) => serial);
    for (const seen of [first["serial"], second["serial"], firstJwt["jti"], secondJwt["jti"]]) assert.ok(issued.includes(seen ?? ""), `${seen} is no row`);
    assert.deepEqual(rows.revocations.map(({ epoch }) => epoch), ["2", "3"]);
    assert.ok(rows.svids.every(({ epoch }) => Number(epoch) < 3));
    for (const kind of ["task.opened", "task.claimed", "svid.issued", "task.context_changed", "task.aborted"]) assert.ok(rows.entries.some((entry) => entry["kind"] === kind), `no entry ${kind}`);
    return [rows, "holds the rows that prove it:"];
  });
  for (const name of ["tasks", "svids", "revocations", "entries"] as const) table(name, rows[name]);
  say("");

  await step(signal, "broker", async () => {
    tasks.close();
    await agent.stop();
    await service.part.stop();
    assert.equal(await broker.stop(), 0);
    return [undefined, "stops, and its PostgreSQL with it"];
  });
}

const at = (words: Words): number => Number(words["at"]);
const secondsUntil = ({ until = "" }: Words): number => Math.round((Date.parse(until) - now()) / 1_000);

/** The handshake's last message may pass before the server judged: what counts is that nothing came back, and why. */
async function refuses(answer: Words, service: Part): Promise<void> {
  assert.ok(answer["broken"], `the service answered: ${JSON.stringify(answer)}`);
  assert.equal((await service.event("refused"))["reason"], "VERIFY_REVOKED");
}

function catalog(uid: number, agent: string, service: string): string {
  const fact = (path: string): string => `{ uid: ${uid}, path: ${JSON.stringify(path)} }`;
  return `agents:
  - name: researcher
    owner: research-lead@example.org
    purpose: answers questions from the product wiki
    selectors: [${fact(agent)}]
    openers: [{ uid: ${process.getuid?.()}, path: ${JSON.stringify(fs.realpathSync(process.execPath))} }]
    context: [user, repository]
    audiences: [crm]
services:
  - name: crm
    owner: crm-lead@example.org
    selectors: [${fact(service)}]
`;
}

type Rows = readonly Readonly<Record<string, string>>[];

/** PostgreSQL's socket is open to the broker's own account alone. */
async function withDatabase<T>(dataDir: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const outside = join(dataDir, "postgres/outside");
  const home = fs.existsSync(outside) ? fs.realpathSync(outside) : join(dataDir, "postgres");
  const client = new pg.Client({ host: join(home, "run"), user: "postgres", database: "postgres", options: "-c search_path=brevet" });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

async function readRevokedAt(client: pg.Client, task: string): Promise<number> {
  const { rows } = await client.query<{ at: string }>("select extract(epoch from max(at)) * 1000 as at from revocations where subject = $1", [task]);
  return Number(rows[0]?.at);
}

async function readRows(client: pg.Client, task: string): Promise<{ tasks: Rows; svids: Rows; revocations: Rows; entries: Rows }> {
  const query = async (text: string): Promise<Rows> => (await client.query<Record<string, string>>(text, [task])).rows;
  const time = (column: string): string => `to_char(${column}, 'HH24:MI:SS.MS') as ${column}`;
  return {
    tasks: await query(`select id, agent, state, epoch::text, ${time("opened_at")}, ${time("ended_at")}, end_reason from tasks where id = $1`),
    svids: await query(`select kind, serial, epoch::text, ${time("issued_at")}, ${time("expires_at")} from svids s where task = $1 order by s.id`),
    revocations: await query(`select sequence::text, epoch::text, ${time("at")}, ${time("until")} from revocations r where subject = $1 order by r.sequence`),
    entries: await query(`select id::text, ${time("at")}, kind, actor from entries e where task = $1 order by e.id`),
  };
}

if (process.platform !== "linux") {
  failed(new Error(`the demo starts a broker, which needs Linux (this is ${process.platform})`));
  process.exit(1);
}
const interrupted = new AbortController();
let exitCode = 1;
for (const [signal, number] of [["SIGINT", 2], ["SIGTERM", 15], ["SIGHUP", 1]] as const) {
  process.on(signal, () => {
    exitCode = 128 + number;
    interrupted.abort(new Error(`stopped by ${signal}`));
  });
}
process.stdout.on("error", (error) => interrupted.abort(error)); // who read the output went away
process.on("uncaughtException", (error) => interrupted.abort(error));
const started = performance.now();
const directory = makeDirectory();
try {
  await demo(directory, interrupted.signal);
  exitCode = 0;
} catch (error) {
  failed(error);
} finally {
  await stopAll();
  fs.rmSync(directory, { recursive: true, force: true });
}
if (exitCode === 0) say(`Every line was checked. Nothing is left of it. ${milliseconds(performance.now() - started)} in all.`);
process.exit(exitCode);
