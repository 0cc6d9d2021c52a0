// Is an acknowledged revocation ever lost when the primary is?
// Two real PostgreSQL servers in streaming replication, the standby synchronous: tasks are closed all the
// time while the primary is restarted, and then killed for good and the standby promoted. What was
// acknowledged stands there, the feed goes on where it was, and verifiers never go back.
// It holds with `synchronous_standby_names` set and `synchronous_commit` on, as the documents say: an
// asynchronous standby may lack the last commits.
import { cpSync, appendFileSync, chownSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { expect, test, vi } from "vitest";
import { flockExclusive } from "../src/kernel.ts";
import { startEmbedded } from "../src/record/embedded.ts";
import type { EmbeddedPostgres } from "../src/record/embedded.ts";
import { Verifier } from "../src/verify/verifier.ts";
import { World, defaultCatalog } from "./support/world.ts";

const start = async (dataDir: string): Promise<EmbeddedPostgres> => await startEmbedded({ dataDir, lock: flockExclusive, log: () => {} });
const dataOf = (dataDir: string): string => join(dataDir, "postgres", "data");

async function ask(server: EmbeddedPostgres, ...statements: readonly string[]): Promise<Record<string, unknown>[]> {
  const client = new pg.Client(server.connection(server.superuser, "postgres"));
  client.on("error", () => {});
  await client.connect();
  try {
    let rows: Record<string, unknown>[] = [];
    for (const statement of statements) rows = (await client.query<Record<string, unknown>>(statement)).rows;
    return rows;
  } finally {
    await client.end().catch(() => {});
  }
}

/** Its own file or line, owned as the data directory is. */
function put(path: string, text: string, append = false): void {
  if (append) appendFileSync(path, text);
  else writeFileSync(path, text, { mode: 0o600 });
  const { uid, gid } = statSync(join(path, ".."));
  chownSync(path, uid, gid);
}

/** The postmaster and all that it has forked, in the same instant. */
function killAll(postmaster: number): void {
  const children = readdirSync("/proc").filter((name) => /^\d+$/.test(name)).filter((name) => {
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "utf8");
      return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1] === String(postmaster);
    } catch {
      return false; // gone meanwhile
    }
  });
  for (const pid of [postmaster, ...children.map(Number)]) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // it went with its parent
    }
  }
}

/** The one address that a broker has: leads to whichever server is the primary. */
class Address {
  target = "";
  readonly #sockets = new Set<net.Socket>();
  readonly #server = net.createServer((client) => {
    const server = net.connect(this.target);
    for (const [socket, other] of [[client, server], [server, client]] as const) {
      this.#sockets.add(socket);
      socket.setNoDelay(true);
      socket.on("error", () => {});
      socket.on("close", () => {
        this.#sockets.delete(socket);
        other.destroy();
      });
      socket.pipe(other);
    }
  });

  async listen(): Promise<number> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return (this.#server.address() as net.AddressInfo).port;
  }

  lead(server: EmbeddedPostgres): void {
    this.target = join(server.socketDir, `.s.PGSQL.${server.port}`);
    for (const socket of this.#sockets) socket.destroy();
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}

test("what was acknowledged is there after a restart, and after the standby's promotion", { timeout: 300_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), "brevet-fo-"));
  const [a, b] = [join(folder, "a"), join(folder, "b")];
  for (const directory of [a, b]) mkdirSync(directory, { mode: 0o711 });
  const servers: EmbeddedPostgres[] = [];
  const address = new Address();
  let world: World | undefined;
  let verifier: Verifier | undefined;
  try {
    // the standby begins as a copy of the primary's files
    await (await start(a)).stop(10_000);
    mkdirSync(join(b, "postgres"), { mode: 0o711 });
    cpSync(dataOf(a), dataOf(b), { recursive: true, preserveTimestamps: true });
    const own = statSync(dataOf(a));
    for (const name of ["", ...readdirSync(dataOf(b), { recursive: true, encoding: "utf8" })]) chownSync(join(dataOf(b), name), own.uid, own.gid);
    const openPrimary = async (): Promise<EmbeddedPostgres> => {
      const primary = await start(a);
      put(join(dataOf(a), "pg_hba.conf"), "local replication all trust\n", true);
      await ask(primary, "select pg_reload_conf()");
      servers.push(primary);
      return primary;
    };
    let primary = await openPrimary();
    put(join(dataOf(b), "standby.signal"), "");
    const follow = (of: EmbeddedPostgres): void => {
      put(join(dataOf(b), "postgresql.auto.conf"), `primary_conninfo = 'host=${of.socketDir} port=${of.port} user=${of.superuser} application_name=standby'\nhot_standby = on\n`, true);
    };
    follow(primary);
    const standby = await start(b);
    servers.push(standby);
    await ask(primary, "alter system set synchronous_standby_names = 'standby'", "select pg_reload_conf()");
    const port = await address.listen();
    address.lead(primary);
    vi.stubEnv("BREVET_TEST_DATABASE_URL", `postgresql://${primary.superuser}@127.0.0.1:${port}/postgres`);
    vi.stubEnv("BREVET_TEST_TEMPLATE", undefined);
    world = await World.start({ catalog: `${defaultCatalog}    jwtTtl: 10m\n` }); // no token expires before the end
    const here = world;
    const agent = await here.agent();
    verifier = new Verifier({ address: here.broker.workloadSocket, audience: "crm", maxStaleness: "60s" });
    await verifier.ready();
    const { feed } = verifier;

    const acknowledged: string[] = [];
    const tokens = new Map<string, string>();
    let isOver = false;
    const working = (async () => {
      while (!isOver) {
        try {
          const { id } = await here.open();
          await agent.claim(id);
          const token = (await agent.jwt(["crm"])).find(({ hint }) => hint === id)?.token;
          if (token) tokens.set(id, token);
          if ((await here.close(id)).state === "closed") acknowledged.push(id);
        } catch {
          await sleep(50);
        }
      }
    })();
    const progress = async (): Promise<void> => {
      const had = acknowledged.length;
      await here.until("work goes on", () => acknowledged.length > had + 4);
    };
    await here.until("it is synchronous", async () => (await ask(primary, "select 1 from pg_stat_replication where sync_state = 'sync'")).length === 1);
    await progress();

    // the primary is restarted: its standby comes back to it
    killAll(primary.pid);
    await primary.stop(10_000).catch(() => undefined);
    primary = await openPrimary();
    follow(primary);
    await ask(standby, `alter system set primary_conninfo = 'host=${primary.socketDir} port=${primary.port} user=${primary.superuser} application_name=standby'`, "select pg_reload_conf()");
    address.lead(primary);
    await progress();

    // the primary is lost for good, in the middle of work
    const [{ sequence } = { sequence: 0 }] = await here.sql<{ sequence: number }>("select sequence::int from feed_head");
    killAll(primary.pid);
    await ask(standby, "select pg_promote(true, 60)");
    address.lead(standby);
    const atLoss = acknowledged.length;
    await here.until("work goes on", () => acknowledged.length > atLoss + 4);
    isOver = true;
    await working;

    const rows = await here.sql<{ id: string }>("select id from tasks where id = any ($1::uuid[]) and state = 'closed'", [acknowledged]);
    expect(rows).toHaveLength(acknowledged.length);
    const told = await here.sql("select 1 from revocations where subject = any ($1)", [acknowledged]);
    expect(told).toHaveLength(acknowledged.length);
    await here.until("the verifier has heard of the last", () => feed.epochOf(acknowledged.at(-1) ?? "") === 2);
    expect(feed.sequence).toBeGreaterThan(sequence);
    for (const task of acknowledged) expect(verifier.jwt(tokens.get(task) ?? "")).toMatchObject({ accepted: false, reason: "VERIFY_REVOKED" });
    expect(existsSync(join(dataOf(b), "standby.signal"))).toBe(false);
    await here.check();
  } finally {
    verifier?.close();
    await world?.[Symbol.asyncDispose]();
    address.close();
    for (const server of servers.reverse()) await server.stop(5_000).catch(() => undefined);
    vi.unstubAllEnvs();
    rmSync(folder, { recursive: true, force: true });
  }
});
