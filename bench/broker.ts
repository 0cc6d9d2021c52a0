// Which broker is measured?
// The real command with its own PostgreSQL (durable commits) in a temporary directory, started by the
// row that measures it and gone with it, files and processes. Its cost is read from /proc.
// What is asked of it is the rows' business.
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, readdirSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { connect } from "../src/client/connect.ts";
import type { Connection } from "../src/client/connect.ts";
import type { Task__Output } from "../src/generated/brevet/v1/Task.ts";
import { openPlace, port, socketDir } from "../src/record/embedded-place.ts";
import { superuser } from "../src/record/embedded-program.ts";
import { Store } from "../src/record/store.ts";
import { withFiles } from "./worker.ts";

const program = fileURLToPath(new URL("../../bin/brevet.js", import.meta.url));
const startMs = 30_000;
const lifted = { BREVET_LIMITS_PER_UID_FETCHES_PER_SECOND: "0", BREVET_LIMITS_PER_UID_CONNECTIONS: "0" };

export const agent = "bench";
export const service = "bench-service";
const catalog = `
agents:
  - name: ${agent}
    owner: bench@example.org
    purpose: measures
    selectors: [{ uid: ${process.getuid?.() ?? 0} }]
    openers: [{ uid: ${process.getuid?.() ?? 0} }]
    audiences: [crm]
    maxTaskTtl: 1h
    tasksPerInstance: 256
`;
const services = `
services:
  - name: ${service}
    owner: bench@example.org
    selectors: [{ uid: ${process.getuid?.() ?? 0} }]
`;

export type BrokerOptions = {
  /** Without the limits of each user: all load here is one user's. */
  readonly lifted?: boolean;
  /** This user's processes are a service too, where they are bound to no task. */
  readonly withService?: boolean;
  /** A database and keys of another broker, instead of its own. */
  readonly shares?: Broker;
};

export class Broker {
  /** Started here and not yet gone. */
  static readonly running = new Set<Broker>();
  /** Where each broker leaves a profile of its processor time, if anywhere. */
  static profiles: string | undefined;
  readonly dataDir: string;
  readonly workload: string;
  readonly admin: string;
  readonly connection: Connection;
  /** Of its HTTP listener. */
  httpUrl = "";
  readonly #child: ChildProcess;
  #database: Store | undefined;

  private constructor(dataDir: string, child: ChildProcess) {
    this.dataDir = dataDir;
    this.workload = join(dataDir, "workload.sock");
    this.admin = join(dataDir, "admin.sock");
    this.connection = connect({ address: `unix://${this.admin}` });
    this.#child = child;
    Broker.running.add(this);
  }

  /** Resolves when it can issue. */
  static async start(options: BrokerOptions = {}): Promise<Broker> {
    const dataDir = realpathSync(mkdtempSync(join(tmpdir(), "bb-")));
    const shared = options.shares && {
      BREVET_DATABASE_URL: `postgres://${superuser}@${encodeURIComponent(options.shares.databaseDirectory)}:${port}/postgres`,
      BREVET_KEY_ENCRYPTION_KEY_FILE: join(options.shares.dataDir, "keys", "kek"),
    };
    const env = {
      PATH: process.env["PATH"], HOME: process.env["HOME"],
      BREVET_DATA_DIR: dataDir, BREVET_LISTEN_HTTP: "127.0.0.1:0", BREVET_LOG_LEVEL: "error",
      ...(options.lifted ? lifted : {}), ...shared,
    };
    const profiling = Broker.profiles === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${Broker.profiles}`];
    const child = spawn("/bin/sh", ["-c", withFiles, process.execPath, ...profiling, program, "broker"], { env, stdio: ["ignore", "pipe", "inherit"] });
    const broker = new Broker(dataDir, child);
    const ready = new Promise<void>((resolve, reject) => {
      child.stdout.on("data", (text: Buffer) => {
        broker.httpUrl = / http (http:\S+)/.exec(text.toString())?.[1] ?? broker.httpUrl;
        if (text.includes("brevet: ready")) resolve();
      });
      child.once("exit", (code) => reject(new Error(`the broker ended with ${code} before it was ready`)));
      setTimeout(() => reject(new Error("the broker was not ready in time")), startMs).unref();
    });
    try {
      await ready;
      if (!options.shares) await broker.connection.catalog.apply({ files: [{ name: "bench.yaml", text: options.withService ? catalog + services : catalog }], dryRun: false });
    } catch (error) {
      await broker.stop();
      throw error;
    }
    return broker;
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get databaseDirectory(): string {
    return socketDir(openPlace(this.dataDir, undefined));
  }

  /** Its PostgreSQL, as the owner. */
  get database(): Store {
    const app = { host: this.databaseDirectory, port, user: superuser, database: "postgres" };
    return (this.#database ??= new Store({ app, log: () => undefined, poolSize: 32 }));
  }

  async open(fields: { readonly bind?: string; readonly ttlSeconds?: number } = {}): Promise<Task__Output> {
    return await this.connection.tasks.open({ agent, ttlSeconds: 3600, ...fields });
  }

  get postmasterPid(): number {
    return Number(readFileSync(join(this.dataDir, "postgres", "data", "postmaster.pid"), "utf8").split("\n")[0]);
  }

  /** Resident memory of the broker itself, MB. */
  get memoryMb(): number {
    const status = readFileSync(`/proc/${this.pid}/status`, "utf8");
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024;
  }

  get openFilesLimit(): number {
    return Number(/^Max open files\s+(\d+)/m.exec(readFileSync(`/proc/${this.pid}/limits`, "utf8"))?.[1]);
  }

  /** Seconds of processor time that it and its PostgreSQL have used. */
  get cpuSeconds(): number {
    const root = String(this.postmasterPid);
    const processes = readdirSync("/proc").filter((name) => /^\d+$/.test(name)).flatMap((name) => {
      try {
        const stat = readFileSync(`/proc/${name}/stat`, "utf8");
        const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
        return name === root || fields[1] === root || Number(name) === this.pid ? [Number(fields[11]) + Number(fields[12])] : [];
      } catch {
        return []; // gone meanwhile
      }
    });
    return processes.reduce((sum, ticks) => sum + ticks, 0) / 100;
  }

  async stop(): Promise<void> {
    if (!Broker.running.delete(this)) return;
    this.connection.close();
    await this.#database?.close();
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const exit = once(this.#child, "exit");
      this.#child.kill("SIGTERM");
      await exit;
    }
    rmSync(this.dataDir, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
