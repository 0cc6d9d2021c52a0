// What world do the stories happen in?
// One or more real brokers on one real database, agents as processes of their own, and short words for
// what orchestrators and operators do. Always true: a world remembers every SVID and every secret that
// its clients were given, so that `check()` can hold all of them against the database, the feed, the
// lists and the logs; and disposing of it leaves no process, file or database.
// What must be true of a world is check.ts's; an agent's side, agent.ts's; a broker's, broker.ts's.
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import type { Task__Output } from "../../src/generated/brevet/v1/Task.ts";
import type { OpenTaskRequest } from "../../src/generated/brevet/v1/OpenTaskRequest.ts";
import type { RevokeRequest } from "../../src/generated/brevet/v1/RevokeRequest.ts";
import type { RevokeResponse__Output } from "../../src/generated/brevet/v1/RevokeResponse.ts";
import type { ApplyResponse__Output } from "../../src/generated/brevet/v1/ApplyResponse.ts";
import type { Connection } from "../../src/client/connect.ts";
import { readJwtSvid, readX509Svid, splitChain } from "../../src/identity/svid.ts";
import { Agent, agentUid, ownUid } from "./agent.ts";
import type { Sight } from "./agent.ts";
import { BrokerProcess } from "./broker.ts";
import { checkWorld } from "./check.ts";
import type { Seen } from "./check.ts";
import { patienceMs } from "./patience.ts";
import { testDatabase } from "./postgres.ts";
import type { TestDatabase } from "./postgres.ts";

export type WorldOptions = {
  /** YAML; default: agent `researcher` for our agents' user, with this process as its opener. */
  readonly catalog?: string;
  /** More of the brokers' environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** The brokers' configuration file. */
  readonly configFile?: string;
  /** How many on one database; default 1. */
  readonly brokers?: number;
  /** The broker runs its own PostgreSQL. */
  readonly embedded?: boolean;
  /** How each broker reaches the database, if not straight. */
  readonly through?: (url: string, broker: number) => string;
};

export const defaultCatalog = `
agents:
  - name: researcher
    owner: lead@example.org
    purpose: answers questions
    selectors: [{ uid: ${agentUid} }]
    openers: [{ uid: ${ownUid} }]
    audiences: [crm, search]
    maxTaskTtl: 1h
    tasksPerInstance: 8
`;

export class World implements AsyncDisposable {
  readonly brokers: readonly BrokerProcess[];
  /** By serial or jti. */
  readonly seen = new Map<string, Seen>();
  /** As they would be written somewhere, and what they are. */
  readonly secrets = new Map<string, string>();
  /** The highest CRL numbers and feed sequence that a check has met. */
  readonly highest = new Map<string, number>();
  readonly #folder: string;
  readonly #database: TestDatabase | undefined;
  readonly #agents = new Set<Agent>();
  #pool: pg.Pool | undefined;

  private constructor(folder: string, database: TestDatabase | undefined, brokers: readonly BrokerProcess[]) {
    this.#folder = folder;
    this.#database = database;
    this.brokers = brokers;
  }

  static async start({ catalog = defaultCatalog, env = {}, configFile, brokers = 1, embedded = false, through = (url) => url }: WorldOptions = {}): Promise<World> {
    const folder = mkdtempSync(join(tmpdir(), "brevet-w-"));
    chmodSync(folder, 0o755); // agents of another user must get through to the sockets
    const database = embedded ? undefined : await testDatabase();
    const common = { BREVET_KEY_ENCRYPTION_KEY_FILE: join(folder, "keys", "kek"), BREVET_WAIT_FOR_TASK: "1s", ...env };
    const world = new World(folder, database, Array.from({ length: brokers }, (_, i) =>
      new BrokerProcess(join(folder, String(i)), { ...(database && reach(through(database.url, i), folder)), ...common }, configFile)));
    try {
      mkdirSync(join(folder, "keys"), { mode: 0o700 });
      for (const broker of world.brokers) await broker.start(); // the first makes the key that the others find
      if (catalog !== "") await world.apply(catalog);
      return world;
    } catch (error) {
      await world[Symbol.asyncDispose]();
      throw error;
    }
  }

  get broker(): BrokerProcess {
    const [first] = this.brokers;
    if (first === undefined) throw new Error("a world has a broker");
    return first;
  }

  /** An administrator's and an opener's connection to the first broker. */
  get admin(): Connection {
    return this.broker.admin;
  }

  get workload(): Connection {
    return this.broker.workload;
  }

  /** A process of its own, of `agentUid`; ends with the world. */
  async agent({ broker = this.broker, uid = agentUid }: { broker?: BrokerProcess; uid?: number } = {}): Promise<Agent> {
    const [agent] = await this.family(1, { broker, uid });
    return agent as Agent;
  }

  /** A chain of processes, each the parent of the next. */
  async family(size: number, { broker = this.broker, uid = agentUid }: { broker?: BrokerProcess; uid?: number } = {}): Promise<Agent[]> {
    const agents = await Agent.family(size, () => broker.workloadSocket, (sight) => this.saw(sight), uid);
    for (const agent of agents) this.#agents.add(agent);
    return agents;
  }

  async apply(catalog: string): Promise<ApplyResponse__Output> {
    const applied = await this.admin.catalog.apply({ files: [{ name: "catalog.yaml", text: catalog }] });
    await this.everyBrokerHasHeard();
    return applied;
  }

  /** As an opener, on the workload socket. */
  async open(request: Partial<OpenTaskRequest> = {}, by: Connection = this.workload): Promise<Task__Output> {
    const task = await by.tasks.open({ agent: "researcher", ...request });
    if (task.ticket !== "") this.keepSecret(`ticket of ${task.id}`, task.ticket);
    return task;
  }

  async get(task: string): Promise<Task__Output> {
    return await this.admin.tasks.get({ task });
  }

  async change(task: string, set: Readonly<Record<string, string>>, remove: readonly string[] = []): Promise<Task__Output> {
    return await this.workload.tasks.changeContext({ task, set: { ...set }, remove: [...remove] });
  }

  async close(task: string, by: Connection = this.workload): Promise<Task__Output> {
    return await by.tasks.close({ task });
  }

  async abort(task: string, reason = "tired"): Promise<Task__Output> {
    return await this.workload.tasks.abort({ task, reason });
  }

  /** As the operator, on the admin socket. */
  async revoke(target: Omit<RevokeRequest, "reason">, reason = "on a test's order"): Promise<RevokeResponse__Output> {
    return await this.admin.revocations.revoke({ ...target, reason });
  }

  /** The rows of one statement, in the broker's schema, as the owner. */
  async sql<T extends object = Record<string, unknown>>(text: string, values: readonly unknown[] = []): Promise<T[]> {
    if (!this.#pool) {
      this.#pool = new pg.Pool({ ...this.#reachDatabase(), max: 2, options: "-c search_path=brevet" });
      this.#pool.on("error", () => {}); // its server may be killed by a test
    }
    return (await this.#pool.query<T>(text, [...values])).rows;
  }

  /** Remembers what a client was given. Those of agents are remembered by themselves. */
  saw(sight: Sight): void {
    if ("x509" in sight) {
      const { serial, binding, spiffeId, notAfter, key } = sight.x509;
      this.seen.set(serial, { kind: "x509", binding, spiffeId, expiresAt: notAfter });
      this.keepSecret(`key of ${serial}`, key.subarray(36, 68)); // the private number within PKCS#8
    } else {
      const { jti, binding, spiffeId, expiresAt, token } = sight.jwt;
      this.seen.set(jti ?? "", { kind: "jwt", binding, spiffeId, expiresAt });
      this.keepSecret(`token ${jti ?? ""}`, token.slice(token.lastIndexOf(".") + 1));
    }
  }

  /** For SVIDs that the SDK fetched: PEM chain and PKCS#8 key, or a token. */
  sawToken(token: string): void {
    this.saw({ jwt: { ...readJwtSvid(token), token, hint: "" } });
  }

  sawIdentity({ cert, key }: { readonly cert: string; readonly key: string }): void {
    const chain = derOf(cert);
    const [leaf = chain] = splitChain(chain);
    this.saw({ x509: { ...readX509Svid(leaf), chain, key: derOf(key), bundle: Buffer.alloc(0), hint: "" } });
  }

  keepSecret(what: string, secret: string | Buffer): void {
    for (const form of typeof secret === "string" ? [secret, Buffer.from(secret).toString("hex")] : [secret.toString("hex"), secret.toString("base64").slice(0, 40)]) {
      this.secrets.set(form, what);
    }
  }

  async kill9(broker: BrokerProcess = this.broker): Promise<void> {
    await broker.kill9();
  }

  async restart(broker: BrokerProcess = this.broker): Promise<void> {
    await broker.stop();
    await broker.start();
  }

  /** Holds what is recorded, published and seen against what must always be true. Throws all that is not. */
  async check(): Promise<void> {
    const wrong = await checkWorld(this);
    if (wrong.length > 0) throw new Error(`not true of this world:\n${wrong.join("\n")}`);
  }

  /** Until it holds, with the patience of a test; for what is told, not acknowledged. */
  async until<T>(what: string, probe: () => Promise<T | undefined | false> | T | undefined | false): Promise<T> {
    const deadline = performance.now() + patienceMs;
    for (;;) {
      const found = await probe();
      if (found !== undefined && found !== false) return found;
      if (performance.now() > deadline) throw new Error(`never came: ${what}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  /** A change of the catalog reaches other brokers by a notice. */
  async everyBrokerHasHeard(): Promise<void> {
    const [{ agents: wanted } = { agents: 0 }] = await this.sql<{ agents: number }>("select count(*)::int as agents from agents where registered");
    for (const broker of this.brokers) {
      await this.until("the catalog", async () => (await broker.admin.catalog.listAgents({})).agents.length === wanted);
    }
  }

  /** A last check, and then nothing is left of it. */
  async end(): Promise<void> {
    try {
      await this.check();
    } finally {
      await this[Symbol.asyncDispose]();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#agents].map((agent) => agent.kill()));
    for (const broker of this.brokers) broker.hangUp();
    await Promise.all(this.brokers.map(async (broker) => {
      broker.signal("SIGCONT");
      await broker.stop();
    }));
    await this.#pool?.end();
    await this.#database?.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #reachDatabase(): pg.PoolConfig {
    if (this.#database) return this.#database.connection;
    const [, , , port, host] = readFileSync(join(this.broker.dataDir, "postgres", "data", "postmaster.pid"), "utf8").split("\n");
    return { host: host ?? "", port: Number(port), user: "postgres", database: "postgres" };
  }
}

/** A password may not stand in the configuration: it has a file. */
function reach(url: string, folder: string): Record<string, string> {
  const { password } = new URL(url);
  if (password === "") return { BREVET_DATABASE_URL: url };
  const file = join(folder, "password");
  writeFileSync(file, decodeURIComponent(password), { mode: 0o600 });
  return { BREVET_DATABASE_URL: url.replace(/:[^:@/]*@/, "@"), BREVET_DATABASE_PASSWORD_FILE: file };
}

function derOf(pem: string): Buffer {
  const blocks = pem.match(/(?<=-----BEGIN [A-Z ]+-----)[^-]+/g) ?? [];
  return Buffer.concat(blocks.map((block) => Buffer.from(block, "base64")));
}
