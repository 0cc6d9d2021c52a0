// What do verifiers do with faults that last as long as they do in life?
// Nothing is shortened: the defaults of a service, a broker that sleeps for half a minute between a commit and
// the word of it, a way that swallows everything, brokers killed while tasks end as fast as they can. Whatever
// else happens, what an acknowledged close has killed is accepted by nobody from the first refusal on.
// Threats T13, T14. The same faults, shortened, are test/faults-feed.test.ts's.
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { BrevetError } from "../../src/errors.ts";
import { Verifier } from "../../src/verify/verifier.ts";
import type { VerifierOptions } from "../../src/verify/verifier.ts";
import type { Agent, HeldX509 } from "../support/agent.ts";
import type { BrokerProcess } from "../support/broker.ts";
import { addOperator } from "../support/operator.ts";
import { Sidecar } from "../support/sidecar.ts";
import { Wire } from "../support/wire.ts";
import { World, defaultCatalog } from "../support/world.ts";

const longMs = 90_000;
/** No token expires before its test has ended. */
const catalog = `${defaultCatalog}    jwtTtl: 10m\n`;
let folder: string;
const open: Verifier[] = [];
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "brevet-long-"));
});
afterAll(() => {
  for (const verifier of open) verifier.close();
  rmSync(folder, { recursive: true, force: true });
});

async function verifierOf(options: VerifierOptions): Promise<Verifier> {
  const verifier = new Verifier({ audience: "crm", ...options });
  open.push(verifier);
  await verifier.ready();
  return verifier;
}

/** Accepted, or why not; what it says is in `words`. */
function verdictOf(verifier: Verifier, evidence: string | Buffer, words?: Set<string>): string {
  const verdict = typeof evidence === "string" ? verifier.jwt(evidence) : verifier.x509(evidence);
  if (!verdict.accepted) words?.add(verdict.message);
  return verdict.accepted ? "accepted" : verdict.reason;
}

/** Without an end of its own. */
async function until(what: string, isSo: () => boolean): Promise<void> {
  for (const deadline = performance.now() + longMs; !isSo(); await sleep(50)) {
    if (performance.now() > deadline) throw new Error(`never came: ${what}`);
  }
}

async function held(world: World): Promise<{ agent: Agent; task: string; x509: HeldX509; token: string }> {
  const agent = await world.agent();
  const { id: task } = await world.open();
  await agent.claim(task);
  const [x509] = await agent.x509();
  const [jwt] = await agent.jwt(["crm"]);
  if (!x509 || !jwt) throw new Error("no SVID");
  return { agent, task, x509, token: jwt.token };
}

test("the broker sleeps for more than 30 s between commit and word: over the socket and over TLS it is refused from 10 s on, and for good", { timeout: 240_000 }, async () => {
  const wire = await Wire.start(process.env["BREVET_TEST_DATABASE_URL"] ?? "");
  const world = await World.start({ catalog, through: (url) => wire.through(url), env: { BREVET_LISTEN_GRPC: "127.0.0.1:0" } });
  try {
    const { agent, task, x509, token } = await held(world);
    const identity = await addOperator(world, { name: "far", role: "service" });
    const verifiers = await Promise.all([
      verifierOf({ address: world.broker.workloadSocket }),
      verifierOf({ server: world.broker.grpc, identity, trustBundle: identity.ca }),
    ]);
    const files = join(folder, "files");
    const sidecar = await Sidecar.start(world, files, ["--verifier"]);
    const ready = (): boolean => existsSync(join(files, ".ready"));
    await until("the sidecar is ready", ready);
    const stream = agent.follow();
    await stream.next();
    const words = new Set<string>();
    const now = (): string[] => verifiers.flatMap((verifier) => [x509.chain, token].map((evidence) => verdictOf(verifier, evidence, words)));
    expect(new Set(now())).toEqual(new Set(["accepted"]));

    const halt = wire.halt("revoke_tasks", "hold after");
    // it may wake up to a statement that was answered and has timed out: then it repeats it, and says so
    const closing = world.workload.tasks.close({ task }, { timeoutMs: 2 * longMs }).then(({ state }) => state, (error: BrevetError) => error.code);
    await halt.reached;
    world.broker.signal("SIGSTOP");
    const sleptAt = performance.now();
    const after = new Set<string>();
    try {
      halt.release();
      await until("all refuse", () => now().every((verdict) => verdict === "VERIFY_STALE"));
      expect([...words].every((text) => /revocations were last heard of \d+ s ago/.test(text))).toBe(true);
      await until("the sidecar says that its broker is not there", () => {
        for (const verdict of now()) after.add(verdict);
        return !ready();
      });
      while (performance.now() - sleptAt < 30_000) {
        for (const verdict of now()) after.add(verdict);
        await sleep(50);
      }
      expect([...after]).toEqual(["VERIFY_STALE"]);
    } finally {
      world.broker.signal("SIGCONT");
    }
    await until("they know", () => {
      const verdicts = now();
      for (const verdict of verdicts) after.add(verdict);
      return verdicts.every((verdict) => verdict === "VERIFY_REVOKED");
    });
    expect([...after].sort()).toEqual(["VERIFY_REVOKED", "VERIFY_STALE"]);
    expect(["closed", "OUTCOME_UNKNOWN"]).toContain(await closing);
    expect(await world.close(task)).toMatchObject({ state: "closed", epoch: 2 });
    await stream.ended;
    await until("the sidecar is ready again", ready);
    sidecar.child.kill("SIGTERM");
    await sidecar.exit();
    await world.check();
  } finally {
    await world[Symbol.asyncDispose]();
    await wire.close();
  }
});

/** Before a broker's port; swallows all from `swallow` on, and takes connections as if nothing were. */
class Way {
  readonly #sockets = new Set<net.Socket>();
  readonly #server: net.Server;
  #isOpen = true;

  constructor(to: string) {
    const [host, port] = to.split(":");
    this.#server = net.createServer((client) => {
      const server = net.connect({ host: host ?? "", port: Number(port) });
      for (const [from, other] of [[client, server], [server, client]] as const) {
        this.#sockets.add(from);
        from.on("error", () => {}).on("close", () => other.destroy());
        from.on("data", (bytes) => this.#isOpen && other.write(bytes));
      }
    });
  }

  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return `127.0.0.1:${(this.#server.address() as net.AddressInfo).port}`;
  }

  swallow(): void {
    this.#isOpen = false;
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}

test("a way that swallows everything: each service does as it has said it would, from 10 s on", { timeout: 240_000 }, async () => {
  const world = await World.start({ catalog, env: { BREVET_LISTEN_GRPC: "127.0.0.1:0" } });
  const way = new Way(world.broker.grpc);
  try {
    const { agent, task, x509, token } = await held(world);
    const identity = await addOperator(world, { name: "far", role: "service" });
    const reach = { server: await way.listen(), identity, trustBundle: identity.ca };
    const [strict, lenient] = await Promise.all([verifierOf(reach), verifierOf({ ...reach, onStale: { acceptIssuedBefore: "8s" } })]);
    expect([verdictOf(strict, x509.chain), verdictOf(lenient, x509.chain)]).toEqual(["accepted", "accepted"]);
    way.swallow();
    await world.close(task);
    await until("the strict one refuses", () => verdictOf(strict, x509.chain) === "VERIFY_STALE");
    expect(strict.feed.silentMs).toBeGreaterThan(10_000);
    // the other goes on with what it had seen, and with nothing else
    await until("the other is stale", () => !lenient.feed.fresh);
    const [unseen, seen] = [verdictOf(lenient, token), verdictOf(lenient, x509.chain)];
    if (lenient.feed.silentMs < 18_000) expect(seen).toBe("accepted");
    expect(unseen).toBe("VERIFY_STALE");
    await until("so does the lenient one", () => verdictOf(lenient, x509.chain) === "VERIFY_STALE");
    expect(lenient.feed.silentMs).toBeGreaterThan(18_000);
    expect(verdictOf(strict, x509.chain)).toBe("VERIFY_STALE");
    await agent.kill();
  } finally {
    way.close();
    await world[Symbol.asyncDispose]();
  }
});

test("brokers are killed while others end tasks as fast as they can: what was acknowledged is final, and every verifier knows it", { timeout: 240_000 }, async () => {
  const world = await World.start({ catalog, brokers: 2, env: { BREVET_LIMITS_PER_UID_FETCHES_PER_SECOND: "0" } });
  try {
    const [first, second] = world.brokers as readonly [BrokerProcess, BrokerProcess];
    const agent = await world.agent();
    const verifiers = await Promise.all([[first, second], [second, first]].map((brokers) =>
      verifierOf({ address: brokers.map(({ workloadSocket }) => workloadSocket), maxStaleness: "60s" })));
    const sequences = verifiers.map(() => [0]);
    const backwards = (): boolean => verifiers.some(({ feed }, i) => {
      const before = sequences[i]?.at(-1) ?? 0;
      sequences[i]?.push(feed.sequence);
      return feed.sequence < before;
    });
    const tokens = new Map<string, string>();
    const acknowledged: string[] = [];
    let isOver = false;
    const work = async (at: BrokerProcess, n: number): Promise<void> => {
      while (!isOver) {
        try {
          const { id } = await at.workload.tasks.open({ agent: "researcher" });
          if (n === 0 && tokens.size < 200) {
            await agent.claim(id, { socket: at.workloadSocket });
            const token = (await agent.jwt(["crm"], { socket: at.workloadSocket })).find(({ hint }) => hint === id)?.token;
            if (token !== undefined) tokens.set(id, token);
          }
          if ((await at.workload.tasks.close({ task: id })).state === "closed") acknowledged.push(id);
        } catch {
          await sleep(20); // it was killed
        }
      }
    };
    const working = [first, second].flatMap((broker) => [0, 1, 2].map((n) => work(broker, n)));
    let wentBack = false;
    const looking = (async () => {
      for (; !isOver; await sleep(5)) wentBack ||= backwards();
    })();
    for (let round = 0; round < 6; round++) {
      const had = acknowledged.length;
      await until("work goes on", () => acknowledged.length > had + 20);
      await sleep(Math.random() * 50); // any instant
      const victim = round % 2 === 0 ? first : second;
      await world.kill9(victim);
      const after = acknowledged.length;
      await until("the other goes on", () => acknowledged.length > after + 20);
      await victim.start();
    }
    isOver = true;
    await Promise.all([...working, looking]);
    expect(wentBack).toBe(false);
    const rows = await world.sql("select 1 from tasks where id = any ($1::uuid[]) and state = 'closed'", [acknowledged]);
    expect(rows).toHaveLength(acknowledged.length);
    const final = new Set(acknowledged);
    const dead = [...tokens].filter(([task]) => final.has(task)); // of the others nothing was issued, so nothing is revoked
    expect(dead.length).toBeGreaterThan(0);
    expect(await world.sql("select 1 from revocations where subject = any ($1)", [dead.map(([task]) => task)])).toHaveLength(dead.length);
    for (const verifier of verifiers) {
      await until("it has heard of all", () => verifier.feed.fresh && dead.every(([task]) => verifier.feed.epochOf(task) >= 2));
      for (const [, token] of dead) expect(verdictOf(verifier, token)).toBe("VERIFY_REVOKED");
    }
    for (const { workload } of world.brokers) await world.until("each is reached again", () => workload.trust.getInfo({}).then(() => true, () => false));
    await world.check();
  } finally {
    await world[Symbol.asyncDispose]();
  }
});
