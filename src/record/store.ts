// How does Brevet talk to PostgreSQL?
// Every statement is a prepared one with a time limit, on a role with the least rights. NOTIFY is a
// hint, never the truth. An error says whether the statement may have been committed: only then the
// outcome is unknown.
// What the statements are is in the files beside this one; the transactions are in functions/, the
// tables in migrations/, and schema.ts brings both up to date.
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { BrevetError } from "../errors.ts";

export type ConnectionSettings = pg.PoolConfig;

/** A statement is prepared once per connection under its name. */
export type Statement = { readonly name: string; readonly text: string };

/** A time as a number, since a Date has no fractions of a millisecond. */
export function unixMs(expression: string): string {
  return `(extract(epoch from ${expression}) * 1000)::float8`;
}

export type Row = Record<string, unknown>;

/** One open transaction; committed when the function given to `transaction` returns. */
export type Transaction = { query(statement: Statement, values?: readonly unknown[]): Promise<Row[]> };

export type StoreOptions = {
  /** The least-rights role's connection. */
  readonly app: ConnectionSettings;
  readonly log: (event: string, fields: Record<string, string | number>) => void;
  readonly poolSize?: number;
};

const anyDate = pg.types.getTypeParser(1184) as (value: string) => unknown;

/** Sessions run in UTC; what has no such form (infinity, another millennium) is left to the general parser. */
function toDate(value: string): unknown {
  if (value.length < 22 || value[10] !== " " || !value.endsWith("+00")) return anyDate(value);
  return new Date(`${value.slice(0, 10)}T${value.slice(11, -3)}Z`);
}

const types = {
  getTypeParser(oid: number, format?: "text" | "binary"): (value: string) => unknown {
    // int8: everything that Brevet counts stays below 2^53
    if (oid === 20 && format !== "binary") return (value) => Number(value);
    if (oid === 1184 && format !== "binary") return toDate;
    return pg.types.getTypeParser(oid, format) as (value: string) => unknown;
  },
};

const sessionSettings = [
  "-c search_path=brevet",
  "-c TimeZone=UTC",
  "-c statement_timeout=5000",
  "-c lock_timeout=2000",
  "-c idle_in_transaction_session_timeout=5000",
  // Every statement is one of ours, by an index: its plan is made once, not at each call, and must stay
  // right when a table that was empty then has grown.
  "-c plan_cache_mode=force_generic_plan",
  "-c enable_seqscan=off",
  // rows are looked up one by one: to hash or to sort a table, all of it would be read
  "-c enable_hashjoin=off",
  "-c enable_mergejoin=off",
  "-c jit=off",
].join(" ");

/** SQLSTATEs after which the same statement may simply be sent again: it was rolled back. */
const retryable = new Set(["40P01", "40001", "55P03"]);

/** True if the server said itself that it did not commit. */
function certainlyRolledBack(error: unknown): boolean {
  const code = error instanceof pg.DatabaseError ? error.code : undefined;
  return code !== undefined && !code.startsWith("57P") && !code.startsWith("08") && !code.startsWith("XX") && code !== "40003";
}

/** The connection is of no more use: the line broke, or the server ended it and said so. Undefined: it can be used again. */
function breakOf(error: unknown): Error | undefined {
  if (error instanceof BrevetError) return undefined;
  if (error instanceof pg.DatabaseError && error.severity !== "FATAL" && error.severity !== "PANIC") return undefined;
  return error instanceof Error ? error : new Error("broken");
}

/** Database errors become BrevetErrors here; `sent` says whether the server may have acted. */
function translate(error: unknown, sent: boolean): BrevetError {
  if (error instanceof BrevetError) return error;
  if (sent && !certainlyRolledBack(error)) {
    return new BrevetError("OUTCOME_UNKNOWN", "database: the connection broke before the outcome was known", { cause: error });
  }
  if (error instanceof pg.DatabaseError && !["57", "08", "53", "55", "40", "25"].includes(error.code?.slice(0, 2) ?? "")) {
    return new BrevetError("INTERNAL", "internal error", { cause: error });
  }
  return new BrevetError("DATABASE_UNAVAILABLE", "database: not available; nothing was changed", { cause: error });
}

/** pg knows it, its types don't. */
function processId(client: pg.PoolClient): number {
  return (client as unknown as { processID: number }).processID;
}

export class Store {
  readonly #pool: pg.Pool;
  readonly #options: StoreOptions;
  readonly #closing = new AbortController();
  /** Backends of our own pool: their notices tell us nothing new. */
  readonly #own = new Set<number>();
  #listening: Promise<void> | undefined;

  constructor(options: StoreOptions) {
    this.#options = options;
    this.#pool = new pg.Pool({
      ...options.app,
      options: [options.app.options, sessionSettings].filter(Boolean).join(" "),
      max: options.poolSize ?? 12,
      connectionTimeoutMillis: 2000,
      query_timeout: 7000,
      idleTimeoutMillis: 60_000,
      application_name: "brevet",
      types,
    });
    this.#pool.on("connect", (client) => {
      this.#own.add(processId(client));
      // a connection lost at work fails its statement, and says so here too: with nobody listening that ends the process
      client.on("error", () => undefined);
    });
    this.#pool.on("remove", (client) => this.#own.delete(processId(client)));
    this.#pool.on("error", (error) => options.log("database.connection_lost", { message: error.message }));
  }

  /** Runs one statement in a transaction of its own. Deadlocks and lock time-outs are retried, twice. */
  async query(statement: Statement, values: readonly unknown[] = []): Promise<Row[]> {
    for (let attempt = 1; ; attempt++) {
      const client = await this.#connect();
      let broken: Error | undefined;
      try {
        const result = await client.query({ ...statement, values: [...values] });
        return result.rows as Row[];
      } catch (error) {
        broken = breakOf(error);
        if (attempt < 3 && error instanceof pg.DatabaseError && retryable.has(error.code ?? "")) continue;
        throw translate(error, true);
      } finally {
        client.release(broken);
      }
    }
  }

  /** Runs several statements as one transaction; any error rolls all of it back. */
  async transaction<T>(work: (transaction: Transaction) => Promise<T>): Promise<T> {
    const client = await this.#connect();
    let broken: Error | undefined;
    let committing = false;
    try {
      await client.query("begin");
      const result = await work({
        query: async (statement, values = []) => (await client.query({ ...statement, values: [...values] })).rows as Row[],
      });
      committing = true;
      await client.query("commit");
      return result;
    } catch (error) {
      broken = breakOf(error);
      if (!committing && broken === undefined) {
        await client.query("rollback").catch((e: unknown) => (broken = breakOf(e) ?? new Error("not rolled back")));
      }
      throw translate(error, committing);
    } finally {
      client.release(broken);
    }
  }

  async #connect(): Promise<pg.PoolClient> {
    if (this.#closing.signal.aborted) throw new BrevetError("SHUTTING_DOWN", "the broker is shutting down");
    try {
      return await this.#pool.connect();
    } catch (error) {
      throw translate(error, false);
    }
  }

  /**
   * Calls `onNotice` for each NOTIFY on channel `brevet` by another broker, and `onGap` whenever notices may have been
   * missed (at the start and after each reconnection), `onLost` when its connection ended. Reconnects by itself until `close`.
   */
  listen(onNotice: (payload: string) => void, onGap: () => void, onLost: () => void = () => undefined): void {
    this.#listening ??= this.#listenForEver(onNotice, onGap, onLost);
  }

  async #listenForEver(onNotice: (payload: string) => void, onGap: () => void, onLost: () => void): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      const client = new pg.Client({ ...this.#options.app, connectionTimeoutMillis: 2000, keepAlive: true, application_name: "brevet listener" });
      const stop = (): void => void client.end().catch(() => undefined);
      try {
        const ended = new Promise<void>((resolve) => client.once("end", resolve));
        client.on("error", stop);
        client.on("notification", (message) => {
          if (!this.#own.has(message.processId)) onNotice(message.payload ?? "");
        });
        await client.connect();
        await client.query("listen brevet");
        if (signal.aborted) stop();
        else signal.addEventListener("abort", stop, { once: true });
        onGap();
        await ended;
        if (!signal.aborted) onLost();
      } catch {
        stop();
      } finally {
        signal.removeEventListener("abort", stop);
      }
      await sleep(100, undefined, { signal }).catch(() => undefined);
    }
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#listening;
    await this.#pool.end();
  }
}
