// Do the commands do what they say, on a real broker?
// One broker on its own data directory, its own PostgreSQL, and the built command line as other
// programs start it: each story is the work of an opener, an agent, a verifier or an operator.
// The rules that need no broker are cli.test.ts's business.
import { spawn, spawnSync } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { chmodSync, copyFileSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { parse } from "yaml";
import { plain } from "../src/cli/output.ts";
import { descendants } from "../src/cli/process-tree.ts";
import { connect } from "../src/client/connect.ts";
import type { Connection } from "../src/client/connect.ts";
import type { OpenTaskRequest } from "../src/generated/brevet/v1/OpenTaskRequest.ts";
import { typed } from "./support/command-line.ts";
import { patienceMs } from "./support/patience.ts";

const bin = new URL("../bin/brevet.js", import.meta.url).pathname;
const folder = mkdtempSync(join(tmpdir(), "bcli-"));
const dataDir = join(folder, "d");
const at = (name: string): string => join(folder, name);
const uid = process.getuid?.() ?? 0;

const inherited = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(BREVET_(?!TEST_)|SPIFFE_)/.test(name)));
const env = { ...inherited, XDG_CONFIG_HOME: folder, BREVET_DATA_DIR: dataDir, BREVET_LISTEN_HTTP: "off", BREVET_WAIT_FOR_TASK: "0s", BREVET_LOG_LEVEL: "warn", BREVET: `${process.execPath} ${bin}` };

const patience = { timeout: patienceMs };

type Ended = { readonly code: number | null; readonly signal: NodeJS.Signals | null; readonly stdout: string; readonly stderr: string };
type Options = { readonly input?: string; readonly uid?: number; readonly gid?: number; readonly more?: Readonly<Record<string, string>> };

function start(args: readonly string[], { input = "", more = {}, ...who }: Options = {}): { child: ChildProcess; ended: Promise<Ended> } {
  const child = spawn(process.execPath, [bin, ...args], { env: { ...env, ...more }, stdio: ["pipe", "pipe", "pipe"], ...who });
  child.stdin.end(input);
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const ended = once(child, "close").then(([code, signal]) => ({ code: code as number | null, signal: signal as NodeJS.Signals | null, stdout, stderr }));
  return { child, ended };
}

/** Within this process. Not for `run`, which ends what descends from its own process. */
const brevet = typed;

/** The one document on stdout of a command that succeeds. */
async function json<T = Task>(...args: string[]): Promise<T> {
  const { code, stdout, stderr } = await brevet(...args, "-o", "json");
  expect(stderr, args.join(" ")).toBe("");
  expect(code, args.join(" ")).toBe(0);
  return JSON.parse(stdout) as T;
}

/** `brevet` in a shell script: the shell is the agent, and `$BREVET` the command. */
async function script(text: string): Promise<Ended> {
  return await start(["run", "--agent", "researcher", "--", "sh", "-c", text]).ended;
}

type Task = {
  id: string; agent: string; state: string; epoch: number; spiffeId: string; endReason: string; ticket: string; endpoint: string;
  context: Record<string, string>; instance?: { pid: number }; purpose: string; openedAt: string; onBehalfOf: string; scope: string;
};

/** What a story only needs to be there, or to look at, is asked for without a process of its own. */
let direct: Connection;

async function open(request: Omit<OpenTaskRequest, "agent"> = {}): Promise<Task> {
  return plain(await direct.tasks.open({ agent: "researcher", ...request })) as unknown as Task;
}

async function show(ref: string): Promise<Task> {
  return plain(await direct.tasks.get({ task: ref })) as unknown as Task;
}

async function close(task: Task): Promise<void> {
  await direct.tasks.close({ task: task.id });
}

const catalog = `
agents:
  - name: researcher
    owner: lead@example.org
    purpose: answers questions
    selectors: [{ uid: ${uid} }]
    openers: [{ uid: ${uid} }]
    context: [user, model]
    audiences: [crm, search]
    tasksPerInstance: 4
  - name: sleeper
    owner: lead@example.org
    selectors: [{ uid: 54321 }]
`;

let broker: ReturnType<typeof start>;
Object.assign(process.env, { BREVET_DATA_DIR: dataDir, XDG_CONFIG_HOME: folder });

beforeAll(async () => {
  chmodSync(folder, 0o755); // PostgreSQL runs as another user when this is root
  writeFileSync(at("catalog.yaml"), catalog);
  broker = start(["broker"]);
  const ready = createInterface({ input: broker.child.stdout as NodeJS.ReadableStream });
  const line = await Promise.race([once(ready, "line"), broker.ended]);
  direct = connect({ address: `unix://${dataDir}/admin.sock` });
  expect(line).toEqual([expect.stringContaining(`ready: trust domain brevet.local, workload socket unix://${dataDir}/workload.sock`)]);
});

afterAll(async () => {
  direct.close();
  broker.child.kill("SIGTERM");
  const { code, stderr } = await broker.ended;
  rmSync(folder, { recursive: true, force: true });
  expect(code, stderr).toBe(0);
});

describe("the catalog", () => {
  test("is refused with every problem, one a line, each with its place", async () => {
    writeFileSync(at("bad.yaml"), "agents:\n  - name: Bad Name\n    selectors: []\n    colour: red\n");
    const { code, stdout, stderr } = await brevet("apply", "-f", at("bad.yaml"));
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr.split("\n")[0]).toMatch(/^brevet: catalog: \d+ problems.*\[CATALOG_INVALID\]$/);
    expect(stderr.match(/bad\.yaml:\d+:\d+/g)?.length).toBeGreaterThanOrEqual(3);
  });

  test("shows its difference first, then is applied, then does not differ", async () => {
    const dry = await brevet("apply", "-f", at("catalog.yaml"), "--dry-run");
    expect(dry.stdout).toContain("+ agent researcher");
    expect(dry.stdout).toContain("nothing was changed");
    expect(dry.stderr).toMatch(/catalog\.yaml:\d+:\d+: warning: .*any process of this user/);
    expect((await json<{ agents: unknown[] }>("agent", "list")).agents).toEqual([]);

    expect((await brevet("apply", "-f", at("catalog.yaml"))).code).toBe(0);
    expect((await start(["apply", "-f", "-"], { input: catalog }).ended).stdout).toContain("nothing differed");
    const changed = await start(["apply", "-f", "-", "--dry-run"], { input: catalog.replace("answers questions", "answers") }).ended;
    expect(changed.stdout).toMatch(/~ agent researcher\n.*purpose: .*→/);
    const removed = await start(["apply", "-f", "-", "--dry-run"], { input: "agents: []" }).ended;
    expect(removed.stdout).toContain("- agent sleeper");
  });

  test("lists and shows agents, and says which one there is not", async () => {
    expect((await brevet("agent", "list")).stdout).toMatch(/researcher +lead@example\.org +yes +0 +answers questions/);
    expect(await json("agent", "show", "researcher")).toMatchObject({ name: "researcher", enabled: true, definition: { context: ["model", "user"] } });
    const { code, stderr } = await brevet("agent", "show", "nobody");
    expect(stderr).toBe('brevet: agent: no such agent "nobody" [NOT_FOUND]\n  try: brevet agent list\n');
    expect(code).toBe(1);
  });
});

describe("a task", () => {
  test("is opened with all that was said of it, and shown in each format", async () => {
    const task = await json("task", "open", "--agent", "researcher", "--ttl", "10m", "--purpose", "tests", "--context", "user=alice",
      "--for", "alice@example.org", "--ref", "issue=42", "--scope", "tree");
    expect(task).toMatchObject({ state: "ready", epoch: expect.any(Number), purpose: "tests", context: { user: "alice" }, onBehalfOf: "alice@example.org", scope: "tree" });
    expect(task.openedAt).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    const table = await brevet("task", "show", task.id);
    expect(table.stdout).toMatch(/opened +\d{4}-\d\d-\d\dT[\d:]+Z \((now|\d+s ago)\)/);
    expect(table.stdout).not.toContain("\u001b");
    expect(await json("task", "show", task.id)).toEqual(await show(task.id));
    expect(parse((await brevet("task", "show", task.id, "-o", "yaml")).stdout)).toEqual(await show(task.id));
    expect((await json<{ tasks: Task[] }>("task", "list", "--ref", "issue=42")).tasks.map((t) => t.id)).toEqual([task.id]);
    expect((await json<{ tasks: Task[] }>("task", "list", "--ref", "issue=43")).tasks).toEqual([]);
    await close(task);
  });

  test("what others wrote can't reach the terminal's controls", async () => {
    expect((await brevet("task", "open", "--agent", "researcher", "--purpose", "x\u202ey")).stderr).toMatch(/purpose.*\[INVALID_FIELD\]/);
    const path = at("sl\u001b]0;owned\u0007\u202eeep");
    copyFileSync("/bin/sleep", path);
    const task = await open();
    const agent = spawn(path, ["60"], { stdio: "ignore" });
    onTestFinished(() => void agent.kill("SIGKILL"));
    expect((await json<{ task: Task }>("task", "claim", task.id, "--pid", String(agent.pid))).task.id).toBe(task.id);
    const { stdout } = await brevet("task", "show", task.id);
    expect(stdout).toContain("sl\\u001b]0;owned\\u0007\\u202eeep");
    expect(stdout.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Cf}]/u);
    await close(task);
  });

  test("is refused with the field that is not right, by its flag", async () => {
    const { code, stdout, stderr } = await brevet("task", "open", "--agent", "researcher", "--context", "colour=red", "--ttl", "30d");
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toMatch(/colour/);
    expect(stderr).toMatch(/\[INVALID_FIELD\]/);
    expect((await start(["sidecar", "--task", "short", "--pid", String(process.pid), "--dir", at("side"), "--once"]).ended)).toMatchObject({ code: 2, stderr: expect.stringContaining("[INVALID_FIELD]") as string });
    const task = await open();
    expect((await brevet("task", "context", task.id, "bad key=x")).stderr).toMatch(/^brevet: set\["bad key"\] \(key=value\): .*\n {2}try: brevet task context --help/);
    await close(task);
    expect((await brevet("svid", "jwt", "--audience", "crm", "--spiffe-id", "x")).stderr).toMatch(/^brevet: spiffe_id \(--spiffe-id\): /);
    const unknown = await brevet("task", "open", "--agent", "nobody");
    expect(unknown.stderr).toMatch(/"nobody".*\[NOT_FOUND\]\n {2}try: brevet agent list/);
  });

  test("is changed with all others of its agent, or with those of one run", async () => {
    const task = await open({ context: { user: "alice" }, refs: { run: "cli" } });
    const target = ["task", "context", "--agent", "researcher", "--ref", "run=cli"];
    const dry = await brevet(...target, "model=m7", "--dry-run");
    expect(dry.stdout).toBe(`${task.id}\n1 task would be changed\nnothing was changed (--dry-run)\n`);
    expect(await json(...target, "model=m7")).toEqual({ changed: [task.id], unchanged: 0, dryRun: false });
    expect((await brevet(...target, "model=m7")).stdout).toBe("0 tasks changed, 1 already so\n");
    expect(await json("task", "show", task.id)).toMatchObject({ epoch: task.epoch + 1, context: { user: "alice", model: "m7" } });
    expect((await brevet("task", "context", "--agent", "nobody", "model=m7")).stderr).toMatch(/"nobody".*\[NOT_FOUND\]/);
    await json("task", "close", task.id);
  });

  test("is followed until it ends", async () => {
    const task = await open({ context: { user: "alice" } });
    const watching = start(["task", "watch", task.id, "-o", "json"]);
    const lines: Task[] = [];
    createInterface({ input: watching.child.stdout as NodeJS.ReadableStream }).on("line", (line) => lines.push(JSON.parse(line) as Task));
    await expect.poll(() => lines.length, patience).toBe(1);
    const dry = await brevet("task", "context", task.id, "user=bob", "--dry-run");
    expect(dry.stdout).toMatch(/user=bob[^]*nothing was changed/);
    const changed = await json("task", "context", task.id, "user=bob", "model=m1");
    expect(changed.epoch).toBe(task.epoch + 1);
    expect((await json("task", "context", task.id, "user=bob")).epoch).toBe(changed.epoch);
    expect((await json("task", "context", task.id, "--remove", "model")).context).toEqual({ user: "bob" });
    expect((await json("task", "abort", task.id, "--reason", "tired")).state).toBe("aborted");
    expect((await watching.ended).code).toBe(0);
    expect(lines.map((line) => line.state).at(-1)).toBe("aborted");
    expect(lines.at(-1)?.endReason).toBe("tired");
    const late = await brevet("task", "close", task.id);
    expect(late.stderr).toMatch(/aborted.*\[WRONG_STATE\]\n {2}try: brevet task show/);
    expect((await json("task", "abort", task.id, "--reason", "again")).endReason).toBe("tired");
  });
});

describe("a ticket", () => {
  test("is printed once, or written where nobody else reads it", async () => {
    const printed = await json("task", "open", "--agent", "researcher", "--bind", "ticket");
    expect(printed.ticket).toMatch(/\S{40,}/);
    expect((await show(printed.id)).ticket).toBe("");

    writeFileSync(at("ticket"), "something longer that stood there before, of another mode".repeat(3), { mode: 0o644 });
    const task = await json("task", "open", "--agent", "researcher", "--bind", "ticket", "--ticket-file", at("ticket"));
    expect(task.ticket).toBe("");
    expect(statSync(at("ticket")).mode & 0o777).toBe(0o600);
    const first = readFileSync(at("ticket"), "utf8");
    expect(first).toMatch(/^\S{40,}\n$/);

    await brevet("task", "ticket", task.id, "--ticket-file", at("second"));
    const old = await start(["run", "--task", task.id, "--ticket-file", at("ticket"), "--", "sleep", "60"]).ended;
    expect(old.stderr).toMatch(/\[DENIED_TICKET\]/);
    expect(old.code).toBe(1);
    const ran = await start(["run", "--task", task.id, "--ticket-file", "-", "--", "sh", "-c", "exit 0"], { input: readFileSync(at("second"), "utf8") }).ended;
    expect(ran).toMatchObject({ code: 0, stderr: "" });
    await close(printed);
  });
});

describe("a claim", () => {
  test("is for the calling process, and says how to use what it got", async () => {
    const task = await open({ scope: "tree" });
    const agent = spawn("sh", ["-c", `${env.BREVET} task claim ${task.id}; read x`], { env, stdio: ["pipe", "pipe", "inherit"] });
    onTestFinished(() => void agent.kill("SIGKILL"));
    let said = "";
    agent.stdout.setEncoding("utf8").on("data", (text: string) => (said += text));
    await expect.poll(() => said, patience).toMatch(/export SPIFFE_ENDPOINT_SOCKET=unix:\/\/\/\S+/);
    const now = await show(`pid:${agent.pid}`);
    expect(now).toMatchObject({ id: task.id, state: "active", instance: { pid: agent.pid } });
    expect(said).toContain(now.endpoint);
    agent.kill("SIGKILL");
    await expect.poll(async () => (await show(task.id)).state, patience).toBe("aborted");
  });

  test("for a process that there is not is refused, with what to try", async () => {
    const task = await open();
    const { code, stderr } = await brevet("task", "claim", task.id, "--pid", "4194304");
    expect(code).toBe(1);
    expect(stderr).toMatch(/^brevet: .*\[[A-Z_]+\]/);
    await close(task);
  });
});

describe("brevet run", () => {
  /** Once the command has exited the broker waits 50 ms for word of how; where a busy machine needs longer, the exit decides. */
  const overState = expect.stringMatching(/^(closed|aborted)$/) as string;

  test("closes its task when it ends well", async () => {
    await expect.poll(async () => (await show((await script("echo $BREVET_TASK_ID")).stdout.trim())).state, patience).toBe("closed");
  });

  test("gives the command its task's SVIDs; when it has ended they are dead", async () => {
    const ran = await script(`
      set -e; cd ${folder}
      echo $BREVET_TASK_ID > id
      $BREVET svid x509 --out ./pems/ > /dev/null
      $BREVET svid jwt --audience crm > token
      $BREVET verify x509 pems/svid.pem -o json > accepted.json
      $BREVET verify jwt token --audience crm
      $BREVET svid x509 --format p12 --out store.p12 -o json
      echo secret > password
      $BREVET svid x509 --format p12 --password-file password > piped.p12
      openssl pkcs12 -in piped.p12 -passin pass:secret -nokeys | grep -c "BEGIN CERTIFICATE" > certificates`);
    expect(ran.stderr).toMatch(/^brevet: task \S+ opened for researcher\n$/);
    expect(ran.code).toBe(0);
    expect(ran.stdout).toMatch(/verdict +accepted/);
    const id = readFileSync(at("id"), "utf8").trim();
    expect(JSON.parse(readFileSync(at("accepted.json"), "utf8"))).toMatchObject({ accepted: true, agent: "researcher", task: id });
    expect(readdirSync(at("pems")).sort()).toEqual(["bundle.pem", "key.pem", "svid.pem"]);
    expect(statSync(at("pems/key.pem")).mode & 0o777).toBe(0o600);
    expect(Number(readFileSync(at("certificates"), "utf8"))).toBeGreaterThan(1);
    for (const file of ["store.p12", "store.p12.password"]) expect(statSync(at(file)).mode & 0o777).toBe(0o600);

    expect(await show(id)).toMatchObject({ state: overState, scope: "tree" });
    for (const args of [["x509", at("pems/svid.pem")], ["jwt", at("token"), "--audience", "crm"]]) {
      const refused = await brevet("verify", ...args, "-o", "json");
      expect(refused.code).toBe(1);
      expect(JSON.parse(refused.stdout)).toMatchObject({ accepted: false, reason: "VERIFY_REVOKED", task: id });
    }
  });

  test.each([["exit 3", 3, "exit 3"], ["kill -KILL $$", 137, "killed by SIGKILL"]])("a command that ends by %s aborts its task", async (text, code, reason) => {
    const ran = await script(`echo $BREVET_TASK_ID; ${text}`);
    expect(ran.code).toBe(code);
    expect(await show(ran.stdout.trim())).toMatchObject({ state: "aborted", endReason: expect.stringMatching(`${reason}|the bound process exited`) });
  });

  test("a command does nothing before its task is claimed for it, however short it is", async () => {
    const task = await open({ bind: "ticket" });
    for (let i = 0; i < 30; i++) {
      const ran = await start(["run", "--task", task.id, "--", "touch", at("effect")]).ended;
      expect(ran, `run ${i}`).toMatchObject({ code: 1, stderr: expect.stringContaining("[DENIED_TICKET]") as string });
    }
    expect(existsSync(at("effect"))).toBe(false);
    expect(await show(task.id)).toMatchObject({ state: "ready" });
    await close(task);
  }, 2 * patienceMs);

  test("a refused claim is no success also where the command could not be stopped in time", async () => {
    copyFileSync("/bin/true", at("granted"));
    chmodSync(at("granted"), 0o4755); // what such a file grants would be lost to a process that is followed
    const task = await open({ bind: "ticket" });
    const refused = await start(["run", "--task", task.id, "--", at("granted")]).ended;
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringMatching(/\[DENIED_\w+\]/) as string });
    expect(await show(task.id)).toMatchObject({ state: "ready" });
    await close(task);
    const own = await start(["run", "--agent", "sleeper", "--", at("granted")]).ended;
    expect(own).toMatchObject({ code: 1, stdout: "" });
    expect(await show(/task (\S+) opened/.exec(own.stderr)?.[1] ?? "")).toMatchObject({ state: "aborted", endReason: "claim refused" });
  });

  test("a command's first act may be to use its task's endpoint", async () => {
    const first = `const { existsSync } = require("fs"); process.exit(existsSync(process.env.SPIFFE_ENDPOINT_SOCKET.slice(7)) ? 0 : 9)`;
    expect(await start(["run", "--agent", "researcher", "--", process.execPath, "-e", first]).ended).toMatchObject({ code: 0 });
    expect(await start(["run", "--agent", "researcher", "--", process.execPath, bin, "svid", "jwt", "--audience", "crm"]).ended)
      .toMatchObject({ code: 0, stdout: expect.stringMatching(/^[\w-]+\.[\w-]+\.[\w-]+\n$/) as string });
    const many = await Promise.all([1, 2, 3, 4].map(async () => await start(["run", "--agent", "researcher", "--", "true"]).ended));
    expect(many.map(({ code }) => code)).toEqual([0, 0, 0, 0]);
  });

  test("a command gets the standard input of its caller", async () => {
    expect(await start(["run", "--agent", "researcher", "--", "cat"], { input: "for the command" }).ended).toMatchObject({ code: 0, stdout: "for the command" });
  });

  test("is of this machine's broker, also where other commands ask another's", async () => {
    const elsewhere = { BREVET_SERVER: "127.0.0.1:9", XDG_CONFIG_HOME: folder };
    expect(await start(["task", "list"], { more: elsewhere }).ended).toMatchObject({ code: 1, stderr: expect.stringContaining("identity") });
    expect(await start(["run", "--agent", "researcher", "--", "sleep", "0.1"], { more: elsewhere }).ended).toMatchObject({ code: 0 });
  });

  test("a command that can't be started, or may not be bound, leaves no live task", async () => {
    const before = new Set((await json<{ tasks: Task[] }>("task", "list")).tasks.map((task) => task.id));
    const missing = await start(["run", "--agent", "researcher", "--", "/nonexistent/agent"]).ended;
    expect(missing.code).toBe(127);
    expect(missing.stderr).toMatch(/^brevet: command: \/nonexistent\/agent: ENOENT \[INVALID_FIELD\]\n {2}try: /);
    for (const [command, code, why] of [["no-such-agent", 127, "ENOENT"], [at("catalog.yaml"), 126, "EACCES"], [folder, 126, "EACCES"]] as const) {
      const ran = await start(["run", "--agent", "researcher", "--", command]).ended;
      expect(ran).toMatchObject({ code, stdout: "", stderr: expect.stringMatching(`^brevet: command: ${command}: ${why} `) as string });
    }
    const other = await start(["run", "--agent", "sleeper", "--", "sleep", "60"]).ended;
    expect(other.code).toBe(1);
    expect(other.stderr).toMatch(/\[(NOT_FOUND|DENIED_NO_MATCH)\]\n {2}try: .*brevet explain/);
    const live = await json<{ tasks: Task[] }>("task", "list");
    expect(live.tasks.filter((task) => ["ready", "active"].includes(task.state) && !before.has(task.id))).toEqual([]);
  });

  test("under a task that has ended names the task", async () => {
    const task = await open();
    await close(task);
    const ran = await start(["run", "--task", task.id, "--", "true"]).ended;
    expect(ran).toMatchObject({ code: 1, stderr: `brevet: the task is closed: no command can run under it [WRONG_STATE]\n  try: brevet task show ${task.id}\n` });
  });

  test("when the task ends the whole tree ends, the stubborn and the orphans too", async () => {
    const stubborn = `(trap "" TERM; echo $BREVET_TASK_ID; while :; do sleep 1; done) & (setsid sh -c "sleep 301" &) ; sleep 302`;
    const running = start(["run", "--agent", "researcher", "--grace", "1s", "--", "sh", "-c", stubborn]);
    let said = "";
    running.child.stdout?.on("data", (text: string) => (said += text));
    await expect.poll(() => said, patience).toMatch(/\S\n/);
    await expect.poll(async () => (await show(said.trim())).state, patience).toBe("active");
    const pid = running.child.pid ?? 0;
    await expect.poll(() => descendants(pid).length, patience).toBeGreaterThanOrEqual(4);
    const all = descendants(pid);
    const revoked = await json<Revoked>("revoke", "--task", said.trim(), "--reason", "test");
    expect(revoked.tasks).toMatchObject([{ id: said.trim(), stateBefore: "active" }]);
    const { code, stderr } = await running.ended;
    expect(stderr).toMatch(/aborted.*ending the command/);
    expect(code).toBe(143);
    for (const gone of all) expect(existsSync(`/proc/${gone}`), `${gone}, not even a zombie`).toBe(false);
  });

  test("collects the orphans that die under it", async () => {
    const text = `(setsid sh -c "exec sleep 0.1" & echo $! > ${at("orphan")}); while [ -e /proc/$(cat ${at("orphan")}) ]; do sleep 0.1; done`;
    expect((await script(text)).code).toBe(0);
  });

  test("claims with scope tree where the opener named none, and never against the opener", async () => {
    const [left, narrow] = [await open(), await open({ scope: "process" })];
    const inTask = ["--", "sh", "-c", "$BREVET svid jwt --audience crm > /dev/null"];
    expect(await start(["run", "--task", left.id, ...inTask]).ended).toMatchObject({ code: 0, stderr: "" });
    expect(await show(left.id)).toMatchObject({ state: overState, scope: "tree" });
    const insists = await start(["run", "--task", narrow.id, "--scope", "tree", ...inTask]).ended;
    expect(insists).toMatchObject({ code: 1, stderr: expect.stringContaining("[WRONG_STATE]") as string });
    expect(await show(narrow.id)).toMatchObject({ state: "ready", scope: "process" });
    expect((await start(["run", "--task", narrow.id, "--", "true"]).ended).code).toBe(0);
    expect(await show(narrow.id)).toMatchObject({ state: overState, scope: "process" });
  });

  test("forwards signals, and exits with the command's code", async () => {
    const running = start(["run", "--agent", "researcher", "--", "sh", "-c", 'trap "exit 7" USR1; echo up; while :; do sleep 0.1; done']);
    running.child.stdout?.once("data", () => running.child.kill("SIGUSR1"));
    expect((await running.ended).code).toBe(7);
  });
});

type Revoked = { tasks: { id: string; stateBefore: string }[]; alreadyEnded: number; svids: number; dryRun: boolean; newTasks: string };

describe("an operator", () => {
  test("revokes: shown first, then done, then a repeat changes nothing", async () => {
    const task = await open();
    const dry = await json<Revoked>("revoke", "--task", task.id, "--reason", "test", "--dry-run");
    expect(dry).toMatchObject({ dryRun: true, tasks: [{ id: task.id, stateBefore: "ready" }] });
    expect((await show(task.id)).state).toBe("ready");
    const done = await brevet("revoke", "--task", task.id.slice(0, 18), "--reason", "test");
    expect(done.stdout).toMatch(/1 task ended/);
    expect(done.stdout).toMatch(/new tasks: /);
    expect(await json<Revoked>("revoke", "--task", task.id, "--reason", "test")).toMatchObject({ tasks: [], alreadyEnded: 1 });
    const unknown = await brevet("revoke", "--task", "01234567-0000-7000-8000-000000000000", "--reason", "test");
    expect(unknown.stderr).toMatch(/\[NOT_FOUND\]/);
    expect(unknown.code).toBe(1);
  });

  test("ends everything only with the trust domain's name", async () => {
    const task = await open();
    const unanswered = await start(["revoke", "--all", "--reason", "test"]).ended;
    expect(unanswered).toMatchObject({ code: 2, stdout: "" });
    expect(unanswered.stderr).toMatch(/ to go on: \nbrevet: all: not confirmed, nothing was revoked \[INVALID_FIELD\]\n {2}try: --confirm NAME\n$/);
    const wrong = await start(["revoke", "--all", "--reason", "test"], { input: "wrong.example\n" }).ended;
    expect(wrong.code).toBe(2);
    expect(wrong.stderr).toMatch(/ to go on: \nbrevet: all \(--confirm\): /);
    expect((await show(task.id)).state).toBe("ready");
    const asked = await start(["revoke", "--all", "--reason", "test", "-o", "json"], { input: "brevet.local\n" }).ended;
    expect(asked.stderr).toContain("trust domain's name");
    expect((JSON.parse(asked.stdout) as Revoked).tasks.map((ended) => ended.id)).toContain(task.id);
    expect((await brevet("revoke", "--all", "--confirm", "brevet.local", "--reason", "test")).code).toBe(0);
  });

  test("disables and enables an agent", async () => {
    const task = await open();
    const disabled = await json<{ agent: { enabled: boolean }; tasks: { id: string }[] }>("agent", "disable", "researcher", "--reason", "test");
    expect(disabled).toMatchObject({ agent: { enabled: false, disabledReason: "test" }, tasks: [{ id: task.id }] });
    const refused = await brevet("task", "open", "--agent", "researcher");
    expect(refused.stderr).toMatch(/\[AGENT_DISABLED\]\n {2}try: .*brevet agent enable/);
    expect(await json("agent", "enable", "researcher")).toMatchObject({ enabled: true });
  });

  test("pastes whatever the log shows", async () => {
    const task = await open({ scope: "tree" });
    const ran = await start(["run", "--task", task.id, "--", "sh", "-c",
      `cd ${folder}; $BREVET svid x509 --out paste.pem > /dev/null; $BREVET svid jwt --audience crm > paste.jwt; $BREVET task show pid:$$ -o json`]).ended;
    expect(ran.code, ran.stderr).toBe(0);
    expect(JSON.parse(ran.stdout)).toMatchObject({ id: task.id });
    const { svids } = await json<{ svids: { kind: string; serial: string; jti: string; task: string }[] }>("svid", "list", "--task", task.id);
    const serial = svids.find((svid) => svid.kind === "x509")?.serial ?? "";
    const jti = svids.find((svid) => svid.kind === "jwt")?.jti ?? "";
    const decimal = BigInt(`0x${serial}`).toString();
    const asPrinted = [decimal, `0x${serial}`, `0X${serial.toUpperCase()}`, serial.toUpperCase().replace(/..(?=.)/g, "$&:")];
    for (const ref of [task.id.slice(0, 18), task.spiffeId, serial, jti, ...asPrinted]) expect((await show(ref)).id, ref).toBe(task.id);
    for (const ref of [jti, at("paste.pem"), at("paste.jwt")]) expect((await json("task", "show", ref)).id, ref).toBe(task.id);
    expect((await json<{ svids: unknown[] }>("svid", "list", "--task", serial, "--live")).svids).toEqual([]);
    const other = task.spiffeId.replace("brevet.local", "elsewhere.example");
    await expect(show(other)).rejects.toMatchObject({ code: "NOT_FOUND" });
    type Svids = { svids: { serial: string; jti: string }[]; nextPageToken: string };
    const first = await json<Svids>("svid", "list", "--task", task.id, "--limit", "1");
    const next = await json<Svids>("svid", "list", "--task", task.id, "--page-token", first.nextPageToken);
    expect([...first.svids, ...next.svids]).toEqual(svids);
    expect(next.nextPageToken).toBe("");
  });

  test("reads the log, whole and line by line", async () => {
    const task = await open();
    await brevet("task", "close", task.id);
    const { entries } = await json<{ entries: { kind: string; task: string; at: string }[] }>("log", "list", "--task", task.id);
    expect(entries.map((entry) => entry.kind)).toEqual(["task.opened", "task.closed"]);
    const exported = await brevet("log", "export", "--task", task.id, "--since", "1h");
    expect(exported.stdout.trimEnd().split("\n").map((line) => (JSON.parse(line) as { kind: string }).kind)).toEqual(["task.opened", "task.closed"]);
    expect((await brevet("log", "list", "--since", "1h")).code).toBe(0);
    for (const [noun, rows] of [["log", "entries"], ["attestation", "attestations"]] as const) {
      type Listed = Record<string, { id: string | number }[]> & { nextPageToken: string };
      const ids = (page: Listed): unknown[] => (page[rows] ?? []).map(({ id }) => id);
      const first = await json<Listed>(noun, "list", "--limit", "1");
      const second = await json<Listed>(noun, "list", "--limit", "2", "--page-token", first.nextPageToken);
      const three = [...ids(first), ...ids(second)];
      expect(three, noun).toHaveLength(3);
      expect(ids(await json<Listed>(noun, "list", "--limit", "50")).join(" ")).toContain(three.join(" "));
      expect((await brevet(noun, "list", "--limit", "1")).stdout).toMatch(/\nmore: --page-token \d+, or raise --limit\n$/);
      expect(await json<Listed>(noun, "list", "--since", "2100-01-01")).toMatchObject({ [rows]: [], nextPageToken: "" });
      expect((await brevet(noun, "list", "--page-token", "x")).stderr).toMatch(/page_token \(--page-token\): is not one/);
    }
  });

  test("learns why a caller was refused", async () => {
    const refused = await brevet("svid", "jwt", "--audience", "nobody-knows");
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/\[DENIED_\w+\]\n {2}try: brevet explain \S+/);
    const attempt = /brevet explain (\S+)/.exec(refused.stderr)?.[1] ?? "";
    expect(await json("explain", attempt)).toMatchObject({ attempt, facts: { uid }, remedy: expect.any(String) });
    expect((await brevet("explain", "--last")).stdout).toMatch(/verdict[^]*measured[^]*agents and services/);
    expect((await brevet("explain", "--pid", String(process.pid))).stdout).toMatch(/uid/);
    const { attestations } = await json<{ attestations: { outcome: string }[] }>("attestation", "list", "--denied", "--since", "10m");
    expect(attestations.length).toBeGreaterThan(0);
    expect(new Set(attestations.map((one) => one.outcome))).toEqual(new Set(["denied"]));
  });

  test("is told that no task was waiting, where the wait was shorter than the broker's", async () => {
    const patient = start(["broker"], { more: { BREVET_DATA_DIR: at("p"), BREVET_WAIT_FOR_TASK: "30s" } });
    await once(createInterface({ input: patient.child.stdout as NodeJS.ReadableStream }), "line");
    const there = { more: { BREVET_DATA_DIR: at("p") } };
    expect((await start(["apply", "-f", at("catalog.yaml")], there).ended).code).toBe(0);
    for (const args of [["x509"], ["jwt", "--audience", "crm"]]) {
      const { code, stdout, stderr } = await start(["svid", ...args, "--timeout", "1s"], there).ended;
      expect(stderr).toMatch(/^brevet: svid: none within 1 s: no task was waiting for this process \[DEADLINE\]\n {2}try: brevet explain --pid \d+; or open a task: brevet task open /);
      expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    }
    patient.child.kill("SIGTERM");
    expect((await patient.ended).code).toBe(0);
  });

  test("finds the machine well", async () => {
    const { code, stdout } = await brevet("doctor");
    expect(stdout).toMatch(/broker +ok/);
    expect(stdout).toMatch(/clock +ok/);
    expect(code, stdout).toBe(0);
  });
});

const nobody = { uid: 65534, gid: 65534 };
const asNobody = uid === 0 && spawnSync(process.execPath, [bin, "version"], nobody).status === 0;

describe.skipIf(!asNobody)(asNobody ? "an opener who is no administrator" : "SKIPPED, needs root and a folder that others can read: an opener who is no administrator", () => {
  beforeAll(async () => {
    const agent = (name: string, openers: string): string => `
  - name: ${name}
    owner: lead@example.org
    selectors: [{ uid: ${nobody.uid} }]
    openers: ${openers}
`;
    writeFileSync(at("more.yaml"), `${catalog}${agent("theirs", `[{ uid: ${nobody.uid} }]`)}${agent("ours", "[]")}`);
    expect((await brevet("apply", "-f", at("more.yaml"))).code).toBe(0);
  });

  test("opens, sees and ends the tasks of its agents, and no others", async () => {
    const opened = await start(["task", "open", "--agent", "theirs", "-o", "json"], nobody).ended;
    expect(opened.stderr).toBe("");
    const task = JSON.parse(opened.stdout) as Task;
    const others = await open();
    const listed = JSON.parse((await start(["task", "list", "-o", "json"], nobody).ended).stdout) as { tasks: Task[] };
    expect(listed.tasks.map(({ id }) => id)).toEqual([task.id]);
    expect((await start(["task", "show", others.id], nobody).ended).stderr).toMatch(/\[NOT_FOUND\]/);
    expect((await start(["task", "close", task.id], nobody).ended).code).toBe(0);
    await close(others);
  });

  test("is told what only administrators may do", async () => {
    const { code, stderr } = await start(["revoke", "--agent", "theirs", "--reason", "test"], nobody).ended;
    expect(stderr).toMatch(/only administrators.*admin\.sock \(no permission\) \[DENIED_ROLE\]\n {2}try: /);
    expect(code).toBe(1);
  });

  test("runs a command under a task that it may claim but not see, until it ends", async () => {
    const task = plain(await direct.tasks.open({ agent: "ours", scope: "tree" })) as unknown as Task;
    const running = start(["run", "--task", task.id, "--", "sh", "-c", "echo up; sleep 300"], nobody);
    await expect.poll(async () => (await show(task.id)).state, patience).toBe("active");
    await close(task);
    const { code, stderr } = await running.ended;
    expect(stderr).toMatch(/ending the command/);
    expect(code).toBe(143);
  });
});

describe("a verifier", () => {
  test("follows the feed: each change of the verdict is a line with its time", async () => {
    const task = await open({ scope: "tree" });
    const agent = start(["run", "--task", task.id, "--", "sh", "-c", `$BREVET svid jwt --audience crm > ${at("watched")}; echo done; sleep 300`]);
    await once(agent.child.stdout as NodeJS.ReadableStream, "data");
    const watching = start(["verify", "jwt", at("watched"), "--audience", "crm", "--watch", "-o", "json"]);
    const lines: string[] = [];
    createInterface({ input: watching.child.stdout as NodeJS.ReadableStream }).on("line", (line) => lines.push(line));
    await expect.poll(() => lines.length, patience).toBe(1);
    const before = Date.now();
    await brevet("task", "close", task.id);
    await expect.poll(() => lines.length, patience).toBe(2);
    expect(lines.map((line) => /^\{"t":(\d{19}),"accepted":(true|false),"reason":"(\w+)"\}$/.exec(line)?.slice(2))).toEqual([["true", "accepted"], ["false", "VERIFY_REVOKED"]]);
    const t = Number(BigInt(/\d{19}/.exec(lines[1] ?? "")?.[0] ?? 0) / 1_000_000n);
    expect(t).toBeGreaterThan(before - 1_000);
    expect(t).toBeLessThanOrEqual(Date.now() + 1_000);
    watching.child.kill("SIGINT");
    expect((await watching.ended).signal).toBe("SIGINT");
    expect((await agent.ended).code).toBe(143);
  });

  test("reads a token from standard input, and says what is wrong with a bad one", async () => {
    const bad = await start(["verify", "jwt", "-", "--audience", "crm"], { input: "no.token.here" }).ended;
    expect(bad.code).toBe(1);
    expect(bad.stdout).toMatch(/verdict +refused\nreason +VERIFY_MALFORMED/);
  });

  test("gets the bundle and the feed", async () => {
    expect(JSON.parse((await brevet("bundle", "show")).stdout)).toMatchObject({ keys: expect.arrayContaining([expect.objectContaining({ use: "x509-svid" })]) });
    expect(await json("bundle", "show", "--format", "jwks")).toMatchObject({ keys: [{ kty: "EC" }] });
    expect((await brevet("bundle", "show", "--format", "pem")).stdout).toMatch(/^-----BEGIN CERTIFICATE-----[^]+-----END CERTIFICATE-----\n$/);
    const feed = start(["feed", "watch", "-o", "json"]);
    const [first] = (await once(createInterface({ input: feed.child.stdout as NodeJS.ReadableStream }), "line")) as [string];
    expect(JSON.parse(first)).toMatchObject({ feedId: expect.any(String), sequence: expect.any(Number), snapshot: true });
    feed.child.kill("SIGTERM");
    await feed.ended;
  });
});

test("a broker takes every key as a flag too, and refuses those that are none", async () => {
  expect(await brevet("broker", "--listen-htp", "off")).toMatchObject({ code: 2, stderr: expect.stringContaining("unknown option '--listen-htp'") as string });
  expect(await brevet("broker", "--listen-http")).toMatchObject({ code: 2, stderr: expect.stringContaining("argument missing") as string });
  expect(await brevet("broker", "--listen-http", "off", "--listen-http=off")).toMatchObject({ code: 2, stderr: expect.stringContaining("given twice") as string });
  expect(await brevet("broker", "extra")).toMatchObject({ code: 2, stderr: expect.stringContaining("too many arguments: 'extra'") as string });
  // a flag goes before the environment, which says `off`
  expect((await brevet("broker", "--listen-http=nowhere")).stderr).toMatch(/listen\.http: must be host:port .* \(--listen-http\)/);
});
