// How does a test get a broker, and strangers who talk to it?
// The broker is the command as users start it, on a data directory of its own; the strangers are
// foreign programs, run as an account without rights where the test has any to give. Both are dead and
// their files gone when the world is closed. Whatever waits, waits for an answer, at most a minute.
// What they say to each other is the tests' business.
import { execFile, spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { chmodSync, chownSync, copyFileSync, mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { inject } from "vitest";
import { connect } from "../../src/client/connect.ts";

export const trustDomain = "example.org";
const patience = 60_000;
const brevet = fileURLToPath(new URL("../../bin/brevet.js", import.meta.url));
const ownUid = process.getuid?.() ?? 0;
const agentUid = ownUid === 0 ? 65_534 : ownUid;

export type Task = { readonly id: string; readonly spiffeId: string; readonly endpoint: string };
export type Answer<T> = { readonly code: string; readonly error?: string; readonly result: T };
export type Event<T> = Answer<T> & { readonly event: string; readonly of?: string };
type Line = { readonly id?: number; readonly event?: string } & Answer<unknown>;

/** A path selector for each program; all of them run as one user where the test is not root. */
function catalog(): string {
  const { go, goService, python, rust, java } = inject("foreign");
  const entry = (name: string, uid: number, path: string | null | undefined, more = ""): string =>
    path ? `  - { name: ${name}, owner: lead@${trustDomain}, selectors: [{ uid: ${uid}, path: "${path}" }]${more} }\n` : "";
  const own = realpathSync(process.execPath);
  return "agents:\n"
    + entry("gopher", agentUid, go, ", purpose: proves, tasksPerInstance: 8")
    + entry("brief", agentUid, go, ", purpose: proves, x509Ttl: 15s, jwtTtl: 5s, tasksPerInstance: 8")
    + entry("pythonist", agentUid, python?.path, ", purpose: proves, tasksPerInstance: 8")
    + entry("rustacean", agentUid, rust?.program, ", purpose: proves, tasksPerInstance: 8")
    + entry("javanese", agentUid, java?.program, ", purpose: proves, tasksPerInstance: 8")
    + entry("shell", ownUid, own, ", purpose: proves")
    + "services:\n"
    + entry("crm", ownUid, own)
    + entry("store", agentUid, goService);
}

export class World {
  readonly folder = mkdtempSync(join(tmpdir(), "brevet-i-"));
  readonly socket = `unix://${this.folder}/d/workload.sock`;
  readonly #env: NodeJS.ProcessEnv;
  readonly #strangers: Stranger[] = [];
  #broker: ChildProcess | undefined;
  #log = "";

  private constructor(more: Readonly<Record<string, string>>) {
    chmodSync(this.folder, 0o755);
    const { SPIFFE_ENDPOINT_SOCKET: _, ...env } = process.env;
    this.#env = {
      ...env, BREVET_DATA_DIR: join(this.folder, "d"), BREVET_TRUST_DOMAIN: trustDomain, BREVET_LISTEN_HTTP: "off", BREVET_WAIT_FOR_TASK: "2s", ...more,
    };
  }

  /** `env`: more of the broker's; `configuration`: its file. */
  static async start({ env = {}, configuration = "" }: { env?: Readonly<Record<string, string>>; configuration?: string } = {}): Promise<World> {
    const world = new World(env);
    try {
      await world.#start(configuration);
      return world;
    } catch (error) {
      await world.close();
      throw error;
    }
  }

  async #start(configuration: string): Promise<void> {
    const file = join(this.folder, "brevet.yaml");
    writeFileSync(file, configuration);
    const broker = spawn(process.execPath, [brevet, "broker", "--config", file], { env: this.#env, stdio: ["ignore", "pipe", "pipe"] });
    this.#broker = broker;
    for (const stream of [broker.stdout, broker.stderr]) stream.setEncoding("utf8").on("data", (text: string) => (this.#log += text));
    const connection = connect({ address: this.socket });
    try {
      await until("the broker is ready", async () => {
        if (broker.exitCode !== null) throw new Error(`the broker ended with ${broker.exitCode}:\n${this.#log}`);
        return await connection.trust.getInfo({}, { timeoutMs: 2_000 }).then(({ ready }) => ready, () => false);
      });
    } finally {
      connection.close();
    }
    await this.#command(["apply", "-f", "-"], catalog());
  }

  /** Runs a `brevet` command as a user would; what it answered, or its error. */
  async brevet<T>(...args: string[]): Promise<T> {
    return JSON.parse(await this.#command([...args, "-o", "json"])) as T;
  }

  /** The same for commands that print no document. */
  async text(...args: string[]): Promise<string> {
    return await this.#command(args);
  }

  async #command(args: readonly string[], input = ""): Promise<string> {
    return await new Promise((resolve, reject) => {
      const child = execFile(process.execPath, [brevet, ...args], { env: this.#env, timeout: patience }, (error, stdout, stderr) => {
        if (error === null) return resolve(stdout);
        const why = `${error.code ?? error.signal}\n${stderr}${stdout}`;
        reject(new Error(`brevet ${args.join(" ")}: ${why}\nthe broker's log ends:\n${this.#log.slice(-4_000)}`));
      });
      child.stdin?.on("error", () => {}); // it ended without reading; its exit says why
      child.stdin?.end(input);
    });
  }

  /** Opens a task and claims it for this process. */
  async taskOf(stranger: Stranger, agent: string): Promise<Task> {
    const { id } = await this.brevet<Task>("task", "open", "--agent", agent, "--context", "repository=shop@1");
    const { task, endpoint } = await this.brevet<{ task: Task; endpoint: string }>("task", "claim", id, "--pid", String(stranger.pid));
    return { ...task, endpoint };
  }

  /** A copy of a file where every user may read and run it: under a path that nothing in the catalog names. */
  reachable(file: string): string {
    const path = join(this.folder, basename(file));
    copyFileSync(file, path);
    chmodSync(path, 0o755);
    return path;
  }

  /** A new folder where an account without rights may write. */
  reachableFolder(name: string): string {
    const path = join(this.folder, name);
    mkdirSync(path);
    if (agentUid !== ownUid) chownSync(path, agentUid, agentUid);
    return path;
  }

  /** What follows happens without it. */
  async stopBroker(): Promise<void> {
    if (this.#broker !== undefined) await end(this.#broker);
  }

  async stranger(program: string, ...args: string[]): Promise<Stranger> {
    const stranger = await Stranger.start(program, args);
    this.#strangers.push(stranger);
    return stranger;
  }

  async close(): Promise<void> {
    await Promise.all(this.#strangers.map((stranger) => stranger.kill()));
    if (this.#broker !== undefined) await end(this.#broker);
    rmSync(this.folder, { recursive: true, force: true });
  }
}

async function end(broker: ChildProcess): Promise<void> {
  if (broker.exitCode !== null || broker.signalCode !== null) return;
  const exited = once(broker, "exit");
  broker.kill("SIGTERM");
  await Promise.race([exited, sleep(20_000, undefined, { ref: false }).then(() => broker.kill("SIGKILL"))]);
  await exited;
}

/** Asks again until the answer is yes. */
export async function until(what: string, ask: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + patience;
  while (!(await ask())) {
    if (performance.now() > deadline) throw new Error(`not within ${patience / 1_000} s: ${what}`);
    await sleep(50);
  }
}

/** A foreign program that carries out orders: one JSON object a line each way. */
export class Stranger {
  readonly pid: number;
  readonly #child: ChildProcess;
  readonly #asked = new Map<number, (answer: Line) => void>();
  readonly #unheard: Event<unknown>[] = [];
  readonly #waiting: { readonly fits: (event: Event<unknown>) => boolean; readonly take: (event: Event<unknown>) => void }[] = [];
  #last = 0;

  private constructor(child: ChildProcess, pid: number) {
    this.#child = child;
    this.pid = pid;
    if (!child.stdout || !child.stdin) throw new Error("a stranger has pipes");
    child.stdin.on("error", () => {}); // it went; whoever waits for its answer hears so
    createInterface(child.stdout).on("line", (text) => this.#hear(JSON.parse(text) as Line));
  }

  static async start(program: string, args: readonly string[]): Promise<Stranger> {
    const { SPIFFE_ENDPOINT_SOCKET: _, ...env } = process.env;
    const account = agentUid === ownUid ? {} : { uid: agentUid, gid: agentUid };
    const child = spawn(program, args, { ...account, env, cwd: "/", stdio: ["pipe", "pipe", "inherit"] });
    await once(child, "spawn");
    const stranger = new Stranger(child, child.pid ?? 0);
    await stranger.event("started");
    return stranger;
  }

  /** Its answer, whatever it is: `code` is the gRPC status, or says that no status came off the wire. */
  async ask<T = null>(order: string, fields: Readonly<Record<string, string>> = {}): Promise<Answer<T>> {
    const id = ++this.#last;
    const answered = this.#within(`an answer to ${order}`, new Promise<Line>((resolve) => this.#asked.set(id, resolve)));
    this.#child.stdin?.write(`${JSON.stringify({ id, do: order, ...fields })}\n`);
    return (await answered) as Answer<T>;
  }

  /** For what must succeed: its result. */
  async get<T>(order: string, fields: Readonly<Record<string, string>> = {}): Promise<T> {
    const { code, error, result } = await this.ask<T>(order, fields);
    if (code !== "OK") throw new Error(`${order}: ${code}: ${error}`);
    return result;
  }

  /** The next event of this name, also one that came before it was asked for. */
  async event<T = null>(name: string, of?: string, wanted: (event: Event<T>) => boolean = () => true): Promise<Event<T>> {
    const fits = (event: Event<unknown>): boolean =>
      event.event === name && (of === undefined || event.of === of) && wanted(event as Event<T>);
    const before = this.#unheard.findIndex(fits);
    if (before >= 0) return this.#unheard.splice(before, 1)[0] as Event<T>;
    return (await this.#within(`the event ${name}`, new Promise<Event<unknown>>((take) => this.#waiting.push({ fits, take })))) as Event<T>;
  }

  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await exited;
  }

  #hear(line: Line): void {
    if (line.id !== undefined) {
      this.#asked.get(line.id)?.(line);
      this.#asked.delete(line.id);
      return;
    }
    const event = line as Event<unknown>;
    const at = this.#waiting.findIndex(({ fits }) => fits(event));
    if (at < 0) this.#unheard.push(event);
    else this.#waiting.splice(at, 1)[0]?.take(event);
  }

  async #within<T>(what: string, answer: Promise<T>): Promise<T> {
    const stop = new AbortController();
    const late = sleep(patience, undefined, { signal: stop.signal }).then(() => {
      throw new Error(`not within ${patience / 1_000} s: ${what}; unheard: ${JSON.stringify(this.#unheard)}`);
    });
    const gone = once(this.#child, "exit", { signal: stop.signal }).then(() => {
      throw new Error(`the program ended before ${what}`);
    });
    late.catch(() => {});
    gone.catch(() => {});
    try {
      return await Promise.race([answer, late, gone]);
    } finally {
      stop.abort();
    }
  }
}
