// How does a test speak to the record alone, without a broker?
// A migrated database with one agent `researcher`, reached the two ways that count: through the Store,
// and through single connections of the broker's own role, on which a test holds transactions open.
// Instances here are rows only: no process stands behind them. A half is what issues and revokes in a
// broker, with what they share, and nothing around it.
// What must hold between transactions is said in transactions.test.ts and race.test.ts.
import { randomBytes, randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { parseCatalog } from "../../src/identity/catalog.ts";
import type { Catalog } from "../../src/identity/catalog.ts";
import { newTaskId } from "../../src/identity/id.ts";
import { readJwtSvid, readX509Svid, splitChain } from "../../src/identity/svid.ts";
import { Issuer } from "../../src/issue/issue.ts";
import type { Holder } from "../../src/issue/issue.ts";
import { applyCatalog } from "../../src/record/catalog.ts";
import { migrate } from "../../src/record/schema.ts";
import { Store } from "../../src/record/store.ts";
import type { SigningAuthorities, TaskSvidRequest } from "../../src/record/svids.ts";
import { claimTask } from "../../src/record/claims.ts";
import { openTask } from "../../src/record/tasks.ts";
import type { Claim, ClaimOutcome } from "../../src/record/claims.ts";
import type { NewTask } from "../../src/record/tasks.ts";
import { Fences } from "../../src/revoke/fence.ts";
import { Revoker } from "../../src/revoke/revoke.ts";
import { newAuthorities, trustDomain } from "./authorities.ts";
import { patienceMs } from "./patience.ts";
import { testDatabase } from "./postgres.ts";

export const sql = fileURLToPath(new URL("../../src/record", import.meta.url));
const forEver = new Date("2100-01-01T00:00:00Z");
export const authorities: SigningAuthorities = { x509: { id: "x", notAfter: forEver }, jwt: { id: "j", notAfter: forEver } };

export type Held = { readonly task: string; readonly instance: string };

export function catalogOf(text: string): Catalog {
  const { catalog, problems } = parseCatalog([{ name: "catalog.yaml", text }]);
  if (problems.length > 0) throw new Error(JSON.stringify(problems));
  return catalog;
}

/** A connection that a test drives by hand. */
export class Line {
  readonly #client: pg.Client;

  constructor(client: pg.Client) {
    this.#client = client;
  }

  async rows<T extends pg.QueryResultRow = pg.QueryResultRow>(text: string, values: readonly unknown[] = []): Promise<T[]> {
    return (await this.#client.query<T>(text, [...values])).rows;
  }

  async one<T extends pg.QueryResultRow = pg.QueryResultRow>(text: string, values: readonly unknown[] = []): Promise<T> {
    const [row] = await this.rows<T>(text, values);
    if (!row) throw new Error(`no row: ${text}`);
    return row;
  }

  /** Of the server's few connections, give this one back. */
  close(): Promise<void> {
    return this.#client.end();
  }

  async pid(): Promise<number> {
    return (await this.one<{ pid: number }>("select pg_backend_pid() as pid")).pid;
  }

  issue(held: Held, kind: "x509" | "jwt" = "x509"): Promise<{ verdict: string; epoch: string }> {
    return this.one("select verdict, epoch from issue_svids($1, $2, $3, $4, '[[]]', 'x', $5, 'j', $5)",
      [[held.task], [held.instance], [kind], [randomUUID()], forEver]);
  }

  end(task: string, state = "closed"): Promise<{ verdict: string; epoch: string; sequence: string | null }> {
    return this.one("select verdict, epoch, sequence from revoke_tasks($1, $2, '{\"{}\"}', '{[]}', '{r}', '{a}')", [[task], [state]]);
  }

  change(task: string, set: Readonly<Record<string, string>>): Promise<{ verdict: string; epoch: string }> {
    return this.one("select verdict, epoch from revoke_tasks($1, '{null}', $2, '{[]}', '{r}', '{a}')", [[task], [JSON.stringify(set)]]);
  }
}

export class Ledger {
  readonly url: string;
  readonly store: Store;
  /** A connection of the tables' owner. */
  readonly owner: Line;
  readonly #undo: (() => Promise<void>)[] = [];

  private constructor(url: string, owner: Line) {
    this.url = url;
    this.owner = owner;
    this.store = this.anotherStore();
  }

  static async start(): Promise<Ledger> {
    const database = await testDatabase();
    await migrate(database.connection, sql);
    const client = new pg.Client({ ...database.connection, options: "-c search_path=brevet" });
    await client.connect();
    const ledger = new Ledger(database.url, new Line(client));
    ledger.#undo.unshift(() => database.close(), () => client.end());
    await ledger.apply("agents: [{ name: researcher, owner: o@example.org, selectors: [{ uid: 1000, path: /bin/a }], maxTaskTtl: 30d }]\n"
      + "services: [{ name: crm, owner: o@example.org, selectors: [{ uid: 1002 }] }]");
    return ledger;
  }

  async close(): Promise<void> {
    for (const step of this.#undo.splice(0).reverse()) await step();
  }

  async apply(text: string): Promise<void> {
    await applyCatalog(this.store, catalogOf(text), { digest: "d", canonical: "{}", by: "test", changes: [] });
  }

  /** As a second broker has one. */
  anotherStore(poolSize = 6, url = this.url): Store {
    const store = new Store({ app: { connectionString: url, options: "-c role=brevet_app" }, log: () => {}, poolSize });
    this.#undo.push(() => store.close());
    return store;
  }

  async line(): Promise<Line> {
    const client = new pg.Client({ connectionString: this.url, options: "-c role=brevet_app -c search_path=brevet -c statement_timeout=20000" });
    await client.connect();
    const line = new Line(client);
    this.#undo.push(() => line.close());
    return line;
  }

  async open(change: Partial<NewTask> = {}): Promise<string> {
    const outcome = await openTask(this.store, {
      id: newTaskId(Date.now()), agent: "researcher", ttlSeconds: 600, context: {}, purpose: "", onBehalfOf: "", refs: {},
      bind: "claim", scope: "process", idempotencyKey: null, openedBy: "test", ticketHash: null, ticketSeconds: 300, ...change,
    });
    if (!("task" in outcome)) throw new Error(outcome.verdict);
    return outcome.task;
  }

  claim(task: string, change: Partial<Claim> = {}, store = this.store): Promise<ClaimOutcome> {
    return claimTask(store, {
      task, ticketHash: null, instance: newInstance(), facts: {}, mostTasks: 256, attempt: randomUUID(), by: "test", ...change,
    });
  }

  async held(change: Partial<NewTask> = {}): Promise<Held> {
    const task = await this.open(change);
    return { task, instance: (await this.claim(task)).instance };
  }

  /** Resolves when the backend waits for a lock that `by` holds. */
  async blocked(pid: number, by: number): Promise<void> {
    const deadline = Date.now() + patienceMs;
    while (!(await this.owner.one<{ by: boolean }>("select $2 = any (pg_blocking_pids($1)) as by", [pid, by])).by) {
      if (Date.now() > deadline) throw new Error(`backend ${pid} does not wait for ${by}`);
      await sleep(5);
    }
  }
}

export function newInstance(): Claim["instance"] {
  return {
    id: randomUUID(), bootId: "boot", pid: randomBytes(3).readUIntBE(0, 3), startTime: randomBytes(6).toString("hex"),
    exeDev: "1", exeIno: "1", uid: 1000, gid: 1000, path: "/bin/a",
  };
}

export function request(held: Held, kind: "x509" | "jwt" = "x509"): TaskSvidRequest {
  return { ...held, kind, serial: randomUUID(), audiences: [] };
}

export type Half = { readonly issuer: Issuer; readonly revoker: Revoker; readonly fences: Fences };

const { x509, jwt } = newAuthorities();

/** `others`: issuers that hear of this one's commits, as they do by the feed. */
export function half(store: Store, others: Issuer[] = []): Half {
  const fences = new Fences();
  const issuer = new Issuer({ store, trustDomain, issuer: `spiffe://${trustDomain}`, signers: () => ({ x509, jwt }), whenClear: (task) => fences.whenClear(task) });
  others.push(issuer);
  const onCommitted = (verdicts: readonly { readonly task: string }[]): void => {
    for (const { task } of verdicts) for (const told of others) told.forget(task);
  };
  return { issuer, fences, revoker: new Revoker({ store, fences, log: () => {}, onCommitted }) };
}

export function holderOf({ task, instance }: Held): Holder {
  return { kind: "task", task, agent: "researcher", instance, isSame: () => true };
}

/** The serial or jti of what it got. */
export async function fetchOne({ issuer }: Half, held: Held, kind: "x509" | "jwt"): Promise<string> {
  if (kind === "jwt") return readJwtSvid((await issuer.jwt(holderOf(held), ["crm"])).token).jti ?? "";
  const { chain } = await issuer.x509(holderOf(held));
  return readX509Svid(splitChain(chain)[0] ?? chain).serial;
}
