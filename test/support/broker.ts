// How does a test run a real broker?
// Always true: it is the built command, a process of its own on a data directory of its own; ready is
// what the broker itself says; what it wrote is kept, to be searched for secrets; when the test is
// over it is gone.
// Which database and catalog it gets is world.ts's business.
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { connect } from "../../src/client/connect.ts";
import type { Connection } from "../../src/client/connect.ts";

const bin = fileURLToPath(new URL("../../bin/brevet.js", import.meta.url));
const inherited = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(BREVET_|SPIFFE_|NODE_OPTIONS|VITEST)/.test(name)));

export class BrokerProcess {
  readonly dataDir: string;
  readonly workloadSocket: string;
  readonly adminSocket: string;
  /** Connections of the test's own process; they survive a restart. */
  readonly workload: Connection;
  readonly admin: Connection;
  /** All that it wrote, over all its lives. */
  output = "";
  httpUrl = "";
  /** host:port of listen.grpc, where it is on. */
  grpc = "";
  readonly #env: Readonly<Record<string, string>>;
  readonly #configFile: string | undefined;
  #child: ChildProcess | undefined;
  #isOver = false;

  constructor(dataDir: string, env: Readonly<Record<string, string>>, configFile?: string) {
    this.dataDir = dataDir;
    this.workloadSocket = `unix://${dataDir}/workload.sock`;
    this.adminSocket = `unix://${dataDir}/admin.sock`;
    this.workload = connect({ address: this.workloadSocket });
    this.admin = connect({ address: this.adminSocket });
    this.#configFile = configFile;
    this.#env = { BREVET_DATA_DIR: dataDir, BREVET_LISTEN_HTTP: "127.0.0.1:0", XDG_CONFIG_HOME: dataDir, ...env };
  }

  get pid(): number {
    if (this.#child?.pid === undefined) throw new Error("the broker is not running");
    return this.#child.pid;
  }

  get env(): NodeJS.ProcessEnv {
    return { ...inherited, ...this.#env };
  }

  /** Resolves when it says that it is ready. Throws with what it wrote when it ends instead. */
  async start(): Promise<void> {
    if (this.#isOver) throw new Error("its world is over"); // a test that ran out of time may still be at it
    const child = spawn(process.execPath, [bin, "broker", ...(this.#configFile === undefined ? [] : ["--config", this.#configFile])], { env: this.env, stdio: ["ignore", "pipe", "pipe"] });
    this.#child = child;
    const before = this.output.length;
    await new Promise<void>((resolve, reject) => {
      const hear = (text: string): void => {
        this.output += text;
        const [, http] = /^brevet: ready: .* http (\S+)$/m.exec(this.output.slice(before)) ?? [];
        if (http === undefined) return;
        this.httpUrl = http;
        this.grpc = /, grpc (\S+), http /.exec(this.output.slice(before))?.[1] ?? "";
        resolve();
      };
      child.stdout.setEncoding("utf8").on("data", hear);
      child.stderr.setEncoding("utf8").on("data", hear);
      child.once("error", reject);
      child.once("close", () => reject(new Error(`the broker ended: ${this.output.slice(before)}`)));
    });
  }

  /** Asks it to end; its exit code. */
  async stop(): Promise<number | null> {
    return await this.#end("SIGTERM");
  }

  /** It has no time to do anything. */
  async kill9(): Promise<void> {
    await this.#end("SIGKILL");
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }

  /** The command line, as an operator of this broker types it. */
  async command(...args: readonly string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
    const child = spawn(process.execPath, [bin, ...args], { env: this.env, stdio: ["ignore", "pipe", "pipe"] });
    let [stdout, stderr] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    await once(child, "close");
    return { code: child.exitCode, stdout, stderr };
  }

  /** The value of one line of /metrics, or 0 when it is not there. */
  async metric(line: string): Promise<number> {
    return Number((await this.metrics()).split("\n").find((found) => found.startsWith(`${line} `))?.slice(line.length + 1) ?? 0);
  }

  async metrics(): Promise<string> {
    return await (await fetch(`${this.httpUrl}/metrics`)).text();
  }

  /** Never to be started again. */
  hangUp(): void {
    this.#isOver = true;
    this.workload.close();
    this.admin.close();
  }

  get isRunning(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  async #end(signal: NodeJS.Signals): Promise<number | null> {
    const child = this.#child;
    if (child === undefined || !this.isRunning) return child?.exitCode ?? null;
    const closed = once(child, "close");
    child.kill(signal);
    await closed;
    return child.exitCode;
  }
}
