// Does an agent get its identity as files, from a process beside it that is not it?
// Agent and sidecar are of different users and in different units, and share one folder. What the sidecar fetched
// is on record as fetched by it; its end ends nothing, the agent's ends the task, and then the files are gone
// before the hook runs. Nobody else becomes a sidecar: not by user, PID, task ID or by living beside the agent.
// The folder, the hook and the exit codes by themselves are sidecar-verifier.test.ts's.
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, chmodSync, utimesSync, writeFileSync } from "node:fs";
import { randomBytes } from "node:crypto";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readX509Svid } from "../src/identity/svid.ts";
import { agentUid, ownUid } from "./support/agent.ts";
import { fromPem, openssl } from "./support/authorities.ts";
import { Sidecar } from "./support/sidecar.ts";
import { Unit, canMakeUnits } from "./support/unit.ts";
import { World } from "./support/world.ts";

const asRoot = ownUid === 0;
const sidecarUid = asRoot ? 65_533 : ownUid;
const strangerUid = 65_532;
const catalog = `
agents:
  - name: researcher
    owner: lead@example.org
    selectors: [{ uid: ${agentUid} }]
    openers: [{ uid: ${ownUid} }]
    sidecars: [{ uid: ${sidecarUid} }]
    audiences: [crm]
    tasksPerInstance: 8
  - name: writer
    owner: lead@example.org
    selectors: [{ uid: ${agentUid} }]
    openers: [{ uid: ${ownUid} }]
    tasksPerInstance: 8
`;

/** Another user can run the command only where it may read it. */
const isReadable = ((): boolean => {
  for (let path = fileURLToPath(new URL("../dist", import.meta.url)); path !== "/"; path = dirname(path)) if ((statSync(path).mode & 0o005) !== 0o005) return false;
  return true;
})();
if (asRoot && !isReadable) process.stderr.write("SKIPPED: the sidecar runs as root, since other users cannot read this folder\n");
const as = asRoot && isReadable ? { uid: sidecarUid, gid: sidecarUid } : {};
const viaUid = asRoot && !isReadable ? 0 : sidecarUid;

let world: World;
let folders: string;
beforeAll(async () => {
  folders = mkdtempSync(join(tmpdir(), "brevet-sidecar-"));
  chmodSync(folders, 0o777);
  world = await World.start({ catalog, env: { BREVET_WAIT_FOR_TASK: "2s" } });
});
afterAll(async () => {
  rmSync(folders, { recursive: true, force: true });
  await world.end();
});

const newFolder = (): string => join(folders, randomBytes(6).toString("hex"));
const svidIn = (sidecar: Sidecar): ReturnType<typeof readX509Svid> | undefined => {
  const text = sidecar.files.get("svid.pem");
  return text === undefined ? undefined : readX509Svid(fromPem(text.slice(0, text.indexOf("-----END"))));
};
const code = async (answer: Promise<unknown>): Promise<string> => await answer.then(() => "OK", (error: { code: string }) => error.code);

describe("for an agent's process", () => {
  test("it keeps one set of files over changes of context, says who fetched, and leaves none at the end", async () => {
    const agent = await world.agent();
    const { id } = await world.open();
    const folder = newFolder();
    const log = `${folder}.log`;
    const sidecar = await Sidecar.start(world, folder, ["--task", id, "--pid", String(agent.pid), "--audience", "crm", "--on-change", `echo "$BREVET_EVENT $(ls "$BREVET_DIR" | wc -l)" >> ${log}`], as);
    await world.until("the files", () => existsSync(join(folder, ".ready")));
    expect([...sidecar.files.keys()].sort()).toEqual(["bundle.pem", "crl.pem", "jwt-crm.token", "svid.pem", "svid_combined.pem", "svid_key.pem"]);
    expect(svidIn(sidecar)?.binding).toMatchObject({ task: id, epoch: 1 });
    const claimed = (await world.get(id)).instance;
    expect(claimed).toMatchObject({ pid: agent.pid, uid: agentUid });
    // the agent itself still gets its own
    expect((await agent.x509())[0]?.serial).not.toBe(svidIn(sidecar)?.serial);

    const { svids } = await world.admin.log.listSvids({ task: id });
    const via = new Map(svids.map((svid) => [svid.serial || svid.jti, svid.via]));
    expect(via.get(svidIn(sidecar)?.serial ?? "")).toMatchObject({ pid: sidecar.child.pid, uid: viaUid });
    expect([...via.values()].filter((one) => one === null)).toHaveLength(1); // the agent's own
    const [attestation] = (await world.admin.log.listAttestations({})).attestations.filter(({ task }) => task === id);
    expect(attestation).toMatchObject({ pid: agent.pid, via: { pid: sidecar.child.pid, uid: viaUid } });

    for (let epoch = 2; epoch <= 4; epoch++) {
      await world.change(id, { step: String(epoch) });
      await world.until(`epoch ${epoch}`, () => svidIn(sidecar)?.binding?.epoch === epoch);
      const files = sidecar.files;
      const [key, certificate] = [
        openssl(["pkey", "-in", "key", "-pubout"], { key: files.get("svid_key.pem") ?? "" }).text,
        openssl(["x509", "-in", "svid", "-noout", "-pubkey"], { svid: files.get("svid.pem") ?? "" }).text,
      ];
      expect(key).toBe(certificate);
    }
    await world.close(id);
    expect(await sidecar.exit()).toBe(3);
    expect(sidecar.files.size).toBe(0);
    expect(existsSync(join(folder, "svid_key.pem"))).toBe(false);
    expect(readFileSync(log, "utf8").trim().split("\n").at(-1)).toBe("revoked 0");
    expect(sidecar.output).toContain("[DENIED_TASK_ENDED]");
  });

  test("its own end ends nothing, the next one goes on; the agent's end ends the task", async () => {
    const agent = await world.agent();
    const { id } = await world.open();
    const folder = newFolder();
    const args = ["--task", id, "--pid", String(agent.pid)];
    const first = await Sidecar.start(world, folder, args, as);
    const readyFile = join(folder, ".ready");
    await world.until("the first to be ready", () => existsSync(readyFile));
    first.child.kill("SIGKILL");
    await first.exit();
    expect((await world.get(id)).state).toBe("active");
    expect(first.files.has("svid_key.pem")).toBe(true);
    utimesSync(readyFile, 1, 1); // left by the killed one; the second makes its own
    const second = await Sidecar.start(world, folder, args, as);
    await world.until("the second to be ready", () => (statSync(readyFile, { throwIfNoEntry: false })?.mtimeMs ?? 0) > 1000);
    await agent.exit();
    expect(await second.exit()).toBe(3);
    expect(second.files.size).toBe(0);
    expect((await world.get(id)).state).toBe("aborted");
  });

  test("it finds out what happened while the broker was away", async () => {
    await using own = await World.start({ catalog });
    const agent = await own.agent();
    const [kept, lost] = [await own.open(), await own.open()];
    const start = async (id: string): Promise<Sidecar> => await Sidecar.start(own, newFolder(), ["--task", id, "--pid", String(agent.pid)], as);
    const [a, b] = [await start(kept.id), await start(lost.id)];
    await own.until("the files", () => svidIn(a) !== undefined && svidIn(b) !== undefined);
    await own.kill9();
    await own.sql("update tasks set expires_at = clock_timestamp() where id = $1", [lost.id]);
    await own.broker.start();
    expect(await b.exit()).toBe(3);
    expect(b.files.size).toBe(0);
    await own.change(kept.id, { step: "2" });
    await own.until("the new epoch", () => svidIn(a)?.binding?.epoch === 2); // still its sidecar
  });

  test("--once writes once, also a key store; auto waits for the task that will be opened", async () => {
    const password = join(folders, randomBytes(6).toString("hex"));
    writeFileSync(password, "a secret\n", { mode: 0o644 });
    const agent = await world.agent();
    const folder = newFolder();
    const sidecar = await Sidecar.start(world, folder, ["--pid", String(agent.pid), "--once", "--timeout", "60s", "--p12-password-file", password], as);
    const { id } = await world.open({ bind: "auto" });
    expect([await sidecar.exit(), sidecar.output]).toEqual([0, expect.stringContaining("identity: ")]);
    expect(svidIn(sidecar)?.binding?.task).toBe(id);
    expect((await world.get(id)).instance?.pid).toBe(agent.pid);
    const store = openssl(["pkcs12", "-in", "store", "-passin", "file:password", "-nokeys", "-clcerts"], { store: readFileSync(join(folder, "svid.p12")), password: "a secret\n" });
    expect(store.text).toContain("BEGIN CERTIFICATE");
    expect(statSync(join(folder, "svid.p12")).mode & 0o777).toBe(0o600);
  });

  test("a ticket is wanted once", async () => {
    const agent = await world.agent();
    const { id, ticket } = await world.open({ bind: "ticket" });
    const { stderr, code: refused } = await world.broker.command("sidecar", "--dir", newFolder(), "--task", id, "--pid", String(agent.pid));
    expect([refused, stderr]).toEqual([1, expect.stringContaining("[DENIED_TICKET]")]);
    const file = join(folders, randomBytes(6).toString("hex"));
    writeFileSync(file, ticket, { mode: 0o644 });
    const sidecar = await Sidecar.start(world, newFolder(), ["--task", id, "--ticket-file", file, "--pid", String(agent.pid), "--once"], as);
    expect([await sidecar.exit(), sidecar.output]).toEqual([0, expect.stringContaining("identity: ")]);
  });

  test("a ticket alone says which task, once; auto may be said", async () => {
    const [agent, other] = [await world.agent(), await world.agent()];
    const { id, ticket } = await world.open({ bind: "ticket" });
    const file = join(folders, randomBytes(6).toString("hex"));
    writeFileSync(file, `${ticket}\n`, { mode: 0o644 });
    const first = await Sidecar.start(world, newFolder(), ["--ticket-file", file, "--pid", String(agent.pid), "--once"], as);
    expect([await first.exit(), first.output]).toEqual([0, expect.stringContaining("identity: ")]);
    expect(svidIn(first)?.binding?.task).toBe(id);
    const again = await Sidecar.start(world, newFolder(), ["--ticket-file", file, "--pid", String(other.pid), "--once"], as);
    expect([await again.exit(), again.output]).toEqual([1, expect.stringContaining("[DENIED_TICKET]")]);
    const held = await Sidecar.start(world, newFolder(), ["auto", "--pid", String(agent.pid), "--once"], as);
    expect(await held.exit()).toBe(0);
    expect(svidIn(held)?.binding?.task).toBe(id);
  });
});

describe.runIf(asRoot)("nobody else becomes a sidecar", () => {
  const claim = async (by: Awaited<ReturnType<World["agent"]>>, request: object): Promise<string> =>
    await code(by.call("Claim", { sidecar: true, ...request }, { service: "agent" }));

  test("not another user, who learns the same of a process that is there and one that is not", async () => {
    const [agent, stranger] = [await world.agent(), await world.agent({ uid: strangerUid })];
    const { id } = await world.open();
    expect(await claim(stranger, { task: id, pid: agent.pid })).toBe("DENIED_ROLE");
    expect(await claim(stranger, { task: id, pid: 4_194_303 })).toBe("DENIED_ROLE");
    expect(await claim(stranger, { auto: true, pid: agent.pid })).toBe("DENIED_ROLE");
    expect(await claim(stranger, { task: id })).toBe("NOT_FOUND");
    expect((await world.get(id)).state).toBe("ready");
    const { endpoint } = await agent.claim(id);
    expect(await code(stranger.x509({ socket: endpoint }))).toBe("DENIED_TASK_ENDED");
    expect(await code(stranger.x509())).toBe("DENIED_NO_MATCH");
  });

  test("not one agent's sidecar for another's", async () => {
    const [agent, sidecar] = [await world.agent(), await world.agent({ uid: sidecarUid })];
    const { id } = await world.open({ agent: "writer" });
    expect(await claim(sidecar, { task: id, pid: agent.pid })).toBe("DENIED_ROLE");
    expect((await world.get(id)).state).toBe("ready");
  });

  test("not a sidecar that did not claim for this very process, nor a process of the same program beside it", async () => {
    const [agent, claimer, other] = [await world.agent(), await world.agent({ uid: sidecarUid }), await world.agent({ uid: sidecarUid })];
    const { id } = await world.open();
    const { endpoint } = await claimer.call<{ endpoint: string }>("Claim", { task: id, pid: agent.pid, sidecar: true }, { service: "agent" });
    expect((await claimer.x509({ socket: endpoint }))[0]?.binding?.task).toBe(id);
    expect((await claimer.jwt(["crm"]))[0]?.binding?.task).toBe(id);
    expect(await code(other.x509({ socket: endpoint }))).toBe("DENIED_TASK_ENDED");
    // and no longer when the catalog names it no more
    const stream = claimer.follow({ socket: endpoint });
    await stream.next();
    await world.apply(catalog.replace(`sidecars: [{ uid: ${sidecarUid} }]`, "sidecars: []"));
    expect((await stream.ended)?.code).toMatch(/^DENIED_/);
    expect(await code(claimer.x509({ socket: endpoint }))).toBe("DENIED_TASK_ENDED");
    await world.apply(catalog);
  });

  test("not the agent itself, for a task of one process", async () => {
    const agent = await world.agent();
    const { id } = await world.open();
    expect(await claim(agent, { task: id })).toBe("WRONG_STATE");
  });

  test.runIf(canMakeUnits)("with scope cgroup, nobody of the unit whom the catalog does not name, and no sidecar of another unit", async () => {
    await using unit = new Unit();
    await using elsewhere = new Unit();
    const [agent, stranger, beside, far] = [await world.agent(), await world.agent({ uid: strangerUid }), await world.agent({ uid: sidecarUid }), await world.agent({ uid: sidecarUid })];
    for (const one of [agent, stranger, beside]) unit.add(one.pid);
    elsewhere.add(far.pid);
    const { id } = await world.open({ scope: "cgroup" });
    await agent.claim(id);
    expect((await beside.x509())[0]?.binding?.task).toBe(id); // lives in it, and is named
    expect(await code(stranger.x509())).toBe("DENIED_NO_MATCH");
    expect([(await agent.status()).length, (await beside.status()).length, (await stranger.status()).length]).toEqual([1, 1, 0]);
    expect(await code(far.x509())).toBe("DENIED_NO_MATCH");
    await agent.exit();
    await world.until("the end: a sidecar keeps nothing alive", async () => (await world.get(id)).state === "aborted");
    await Promise.all([stranger.exit(), beside.exit(), far.exit()]);
  });
});

describe.runIf(canMakeUnits)("for a unit", () => {
  test("a sidecar in it may come before the agent, who ends the task; one in another unit claims by PID", async () => {
    await using unit = new Unit();
    await using other = new Unit("sidecar.service");
    const { id } = await world.open({ scope: "cgroup" });
    const folder = newFolder();
    const inside = await Sidecar.start(world, folder, ["--task", id], { through: [...unit.shell, ...setuid] });
    await world.until("the files, before there is an agent", () => svidIn(inside)?.binding?.task === id);
    const agent = await world.agent();
    unit.add(agent.pid);
    expect((await agent.x509())[0]?.binding?.task).toBe(id);
    const outside = await Sidecar.start(world, newFolder(), ["--task", id, "--pid", String(agent.pid)], { through: [...other.shell, ...setuid] });
    await world.until("the other's files", () => svidIn(outside)?.binding?.task === id);
    await world.until("the agent on record", async () => (await world.get(id)).instance?.pid === agent.pid);
    await agent.exit();
    expect(await Promise.all([inside.exit(), outside.exit()])).toEqual([3, 3]);
    expect([inside.files.size, outside.files.size]).toEqual([0, 0]);
    expect((await world.get(id)).endReason).toBe("nothing of the agent is left in its unit, container or pod");
  });

  test("--once beside an agent that is not there yet: as an init container does", async () => {
    await using unit = new Unit(`docker-${randomBytes(32).toString("hex")}.scope`);
    const { id } = await world.open({ scope: "cgroup", bind: "auto" });
    const init = await Sidecar.start(world, newFolder(), ["--once"], { through: [...unit.shell, ...setuid] });
    expect([await init.exit(), init.output]).toEqual([0, expect.stringContaining(`task/${id}`)]);
  });
});

/** Into the unit as root, then as the sidecar's user. */
const setuid = isReadable && asRoot ? ["setpriv", `--reuid=${sidecarUid}`, `--regid=${sidecarUid}`, "--clear-groups"] : [];
