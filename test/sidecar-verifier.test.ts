// Do services that read only files get bundle, lists and their own SVID, and hear of each change?
// A list is in the file right after its publication, and refuses with the software that reads it; what was
// taken away is gone before the hook runs; a reader meets whole generations only, also when the sidecar is
// killed in between; each way to fail has its own exit code. RFC 5280 section 6.3.
// What the agent's sidecar does is sidecar.test.ts's; recipes with servers are in test/interop.
import { randomBytes } from "node:crypto";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readlinkSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { Folder } from "../src/cli/sidecar-folder.ts";
import type { KeptFile } from "../src/cli/sidecar-folder.ts";
import { Hook } from "../src/cli/sidecar-hook.ts";
import { Keeper } from "../src/cli/sidecar-keeper.ts";
import { jwtFileName } from "../src/cli/sidecar-identity.ts";
import { readCrl } from "../src/identity/crl.ts";
import { ownUid } from "./support/agent.ts";
import { issueCrl, newAuthorities, openssl, pem } from "./support/authorities.ts";
import { typed } from "./support/command-line.ts";
import { freePort } from "./support/port.ts";
import { Sidecar, readGeneration } from "./support/sidecar.ts";
import { kill, start } from "./support/spawn.ts";
import { World, defaultCatalog } from "./support/world.ts";

const asRoot = ownUid === 0;
const withService = (audiences = "[crm]"): string => `${defaultCatalog}
services:
  - { name: crm, owner: crm@example.org, selectors: [{ uid: ${ownUid} }], audiences: ${audiences} }
`;

let world: World;
let folders: string;
beforeAll(async () => {
  folders = mkdtempSync(join(tmpdir(), "brevet-sidecar-"));
  world = await World.start();
});
afterAll(async () => {
  rmSync(folders, { recursive: true, force: true });
  await world.end();
});

const newFolder = (): string => join(folders, randomBytes(6).toString("hex"));
const lists = (text: string): ReturnType<typeof readCrl>[] =>
  (text.match(/(?<=-----BEGIN X509 CRL-----)[^-]+/g) ?? []).map((body) => readCrl(Buffer.from(body, "base64")));

describe("for a verifier", () => {
  test("both lists are there, and a revoked certificate is on one as soon as the broker has published it", async () => {
    const folder = newFolder();
    const told = join(folders, randomBytes(6).toString("hex"));
    const sidecar = await Sidecar.start(world, folder, ["--verifier", "--on-change", `cat "$BREVET_DIR/crl.pem" > ${told}.new && mv ${told}.new ${told}; echo $BREVET_EVENT >> ${told}.events`]);
    await world.until("the first generation", () => existsSync(join(folder, ".ready")));
    const { crls, x509 } = await world.admin.trust.getBundle({});
    expect(lists(sidecar.files.get("crl.pem") ?? "")).toHaveLength(crls.length);
    expect(crls.length).toBeGreaterThan(1); // root and signing authority
    expect(sidecar.files.get("bundle.pem")).toContain(x509.toString("base64").slice(0, 60));
    expect([...sidecar.files.keys()].sort()).toEqual(["bundle.pem", "crl.pem"]);

    const agent = await world.agent();
    const { id } = await world.open();
    const { endpoint } = await agent.claim(id);
    const [svid] = await agent.x509({ socket: endpoint });
    const chain = (svid?.chain ?? Buffer.alloc(0));
    const checked = (): string => openssl(["verify", "-x509_strict", "-crl_check_all", "-CAfile", "bundle", "-untrusted", "svid", "-CRLfile", "crls", "svid"], {
      bundle: sidecar.files.get("bundle.pem") ?? "", crls: sidecar.files.get("crl.pem") ?? "", svid: chainPem(chain),
    }).text;
    expect(checked()).toContain("svid: OK");
    await world.close(id);
    await world.until("the list in the file", () => lists(sidecar.files.get("crl.pem") ?? "").some((list) => list.has(svid?.serial ?? "")));
    expect(checked()).toContain("certificate revoked");
    await world.until("the hook", () => lists(readFileSync(told, "utf8")).some((list) => list.has(svid?.serial ?? "")));
    expect(new Set(readFileSync(`${told}.events`, "utf8").trim().split("\n"))).toEqual(new Set(["changed"]));
    sidecar.child.kill("SIGTERM");
    expect(await sidecar.exit()).toBe(0);
    expect(existsSync(join(folder, ".ready"))).toBe(false);
    expect(sidecar.files.size).toBe(2); // who restarts it has no gap
  });

  test.runIf(asRoot)("a service's own SVID is in the same generation, is renewed when it is revoked, and goes with its entry in the catalog", async () => {
    await using own = await World.start({ catalog: withService() });
    const folder = newFolder();
    const heard = join(folders, randomBytes(6).toString("hex"));
    const sidecar = await Sidecar.start(own, folder, ["--verifier", "--audience", "crm", "--group", "daemon", "--on-change", `echo "$BREVET_EVENT $(ls "$BREVET_DIR" | tr '\\n' ' ')" >> ${heard}`]);
    await own.until("ready", () => existsSync(join(folder, ".ready")));
    expect([...sidecar.files.keys()].sort()).toEqual(["bundle.pem", "crl.pem", "jwt-crm.token", "svid.pem", "svid_combined.pem", "svid_key.pem"]);
    expect(pairsUp(sidecar.files)).toBe(true);
    const modes = ["svid.pem", "svid_key.pem", "svid_combined.pem", "jwt-crm.token", "crl.pem"].map((name) => statSync(join(folder, name))).map(({ mode, gid }) => [mode & 0o777, gid]);
    expect(modes).toEqual([[0o644, 1], [0o640, 1], [0o640, 1], [0o640, 1], [0o644, 1]]);

    const before = sidecar.files.get("svid.pem");
    await own.revoke({ service: "crm" });
    await own.until("a new SVID", () => sidecar.files.get("svid.pem") !== before && sidecar.files.has("svid.pem"));
    expect(pairsUp(sidecar.files)).toBe(true);

    await own.apply(defaultCatalog);
    await own.until("the hook", () => existsSync(heard) && readFileSync(heard, "utf8").includes("revoked"));
    const revoked = readFileSync(heard, "utf8").split("\n").find((line) => line.startsWith("revoked"));
    expect(revoked?.trim()).toBe("revoked bundle.pem crl.pem");
    expect([...sidecar.files.keys()].sort()).toEqual(["bundle.pem", "crl.pem"]);

    // an audience that is not its own is refused for good
    await own.apply(withService("[search]"));
    const { code, stderr } = await own.broker.command("sidecar", "--verifier", "--dir", newFolder(), "--audience", "crm");
    expect([code, stderr]).toEqual([1, expect.stringContaining("[DENIED_AUDIENCE]")]);
  });

  test("a broker that comes back is followed again, and what it changed meanwhile is in the files", async () => {
    await using own = await World.start();
    const sidecar = await Sidecar.start(own, newFolder(), ["--verifier"]);
    const agent = await own.agent();
    const { id } = await own.open();
    await agent.claim(id);
    const [svid] = await agent.x509();
    await own.until("the first generation", () => sidecar.files.size === 2);
    await own.kill9();
    await agent.kill();
    expect(sidecar.files.size).toBe(2); // stock software refuses by itself once the lists are too old
    await own.broker.start();
    await own.until("the list with what died meanwhile", () => lists(sidecar.files.get("crl.pem") ?? "").some((list) => list.has(svid?.serial ?? "")));
  });

  test("a list that is larger than a message reaches the file whole", async () => {
    await using own = await World.start();
    const agent = await own.agent();
    const { id } = await own.open();
    await agent.claim(id);
    await agent.x509();
    await own.sql(`insert into svids (kind, serial, task, epoch, instance, authority, issued_at, expires_at)
      select 'x509', md5(n::text), s.task, s.epoch, s.instance, s.authority, s.issued_at, s.expires_at
      from svids s, generate_series(1, 30000) n where s.task = $1 and s.kind = 'x509'`, [id]);
    const sidecar = await Sidecar.start(own, newFolder(), ["--verifier"]);
    await own.until("the first generation", () => sidecar.files.size === 2);
    await own.close(id);
    const found = await own.until("the long list", () => sidecar.files.get("crl.pem") !== undefined && lists(sidecar.files.get("crl.pem") ?? "").find(({ size }) => size > 30_000));
    expect(found.tbs.length).toBeGreaterThan(1 << 20); // more than one piece of the stream
  });

  test("each way to fail has its exit code, and its words", async () => {
    const once = async (...args: string[]): Promise<[number | null, string]> => {
      const { code, stderr } = await world.broker.command("sidecar", "--verifier", "--once", ...args);
      return [code, stderr];
    };
    expect(await once("--dir", newFolder(), "--on-change", "true")).toEqual([0, "brevet: ready\n"]);
    expect(await once("--dir", newFolder(), "--on-change", "exit 7")).toEqual([5, expect.stringContaining("hook: changed: exit 7")]);
    const mistakes = [["--mode", "0644", "--mode 0644"], ["--owner", "nobody-of-that-name", "no such account"], ["--audience", "a".repeat(250), "cannot be a file's name"], ["--ready", "8641", "HOST:PORT"]] as const;
    for (const [flag, value, why] of mistakes) {
      expect(await typed("sidecar", "--verifier", "--once", "--dir", newFolder(), flag, value)).toMatchObject({ code: 2, stderr: expect.stringContaining(why) as string });
    }
    const file = join(folders, "a-file");
    writeFileSync(file, "");
    expect(await once("--dir", file)).toEqual([6, expect.stringContaining("cannot be written (mkdir EEXIST)")]);
    const foreign = newFolder();
    mkdirSync(foreign);
    writeFileSync(join(foreign, "crl.pem"), "mine");
    expect(await once("--dir", foreign)).toEqual([6, expect.stringContaining("is not a sidecar's")]);
    expect(await once("--dir", newFolder(), "--timeout", "1s", "--socket", "/nowhere/workload.sock")).toEqual([4, expect.stringContaining("[BROKER_UNREACHABLE]")]);
    const shared = newFolder();
    const first = await Sidecar.start(world, shared, ["--verifier"]);
    await world.until("the first generation", () => first.files.size === 2);
    expect(await once("--dir", shared)).toEqual([6, expect.stringContaining("another sidecar keeps this folder")]);
  });

  test("readiness is told over HTTP too", async () => {
    const port = await freePort();
    const sidecar = await Sidecar.start(world, newFolder(), ["--verifier", "--ready", `127.0.0.1:${port}`, "--on-change", `test -e ${folders}/may-succeed`]);
    const ask = async (): Promise<[number, string]> => {
      const answer = await fetch(`http://127.0.0.1:${port}/readyz`);
      return [answer.status, await answer.text()];
    };
    await world.until("the failing hook", async () => (await ask().catch(() => [0, ""]))[1] === "hook: exit 1\n");
    expect(existsSync(join(sidecar.folder, ".ready"))).toBe(false);
    writeFileSync(`${folders}/may-succeed`, "");
    await world.until("the hook's repeat", async () => (await ask())[0] === 200);
    await world.until("the mark", () => existsSync(join(sidecar.folder, ".ready")));
  });
});

function chainPem(chain: Buffer): string {
  const [leaf = "", ...rest] = [...splitAll(chain)].map((der) => pem("CERTIFICATE", der));
  return leaf + rest.join("");
}

function* splitAll(chain: Buffer): Generator<Buffer> {
  for (let at = 0; at < chain.length; ) {
    const length = 4 + chain.readUInt16BE(at + 2);
    yield chain.subarray(at, at + length);
    at += length;
  }
}

/** Key and certificate of one generation belong together. */
function pairsUp(files: ReadonlyMap<string, string>): boolean {
  const key = openssl(["pkey", "-in", "key", "-pubout"], { key: files.get("svid_key.pem") ?? "" }).text;
  const certificate = openssl(["x509", "-in", "svid", "-noout", "-pubkey"], { svid: files.get("svid.pem") ?? "" }).text;
  return key.startsWith("-----BEGIN PUBLIC KEY") && key === certificate;
}

const files = (n: number): ReadonlyMap<string, KeptFile> => new Map(["svid.pem", "svid_key.pem", "bundle.pem"].map((name) => [name, { content: `${n} ${"x".repeat(5_000)}`, secret: name === "svid_key.pem" }]));
const everyone = { uid: undefined, gid: undefined, secretMode: 0o600 };

/** Its name, undefined if there is none. */
function generationOf(folder: string): string | undefined {
  try {
    return readlinkSync(join(folder, "..data"));
  } catch {
    return undefined;
  }
}

describe("the folder", () => {
  const marks = (folder: string): string[] => [...new Set([...readGeneration(folder).values()].map((text) => text.split(" ")[0] ?? ""))];

  test("shows a reader one generation at a time, whatever changes", async () => {
    const path = newFolder();
    const folder = new Folder(path, everyone);
    let over = false;
    const mixed: string[][] = [];
    let reads = 0;
    const reader = (async () => {
      while (!over) {
        const found = marks(path);
        if (found.length > 1) mixed.push(found);
        reads++;
        await new Promise((resolve) => setImmediate(resolve));
      }
    })();
    const outsider = await start(process.execPath, ["-e", readerText, path], { stdio: ["ignore", "pipe", "inherit"] });
    const lines = createInterface(outsider.stdout as NodeJS.ReadableStream);
    let atWork = false;
    const busy = once(lines, "line").then(() => (atWork = true)); // it has read some
    for (let n = 0; n < 100 || !atWork || reads <= 10; n++) {
      folder.write(files(n));
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    over = true;
    await Promise.all([reader, busy]);
    const last = once(lines, "line");
    outsider.kill("SIGTERM");
    const [said] = (await last) as [string];
    const outside = JSON.parse(said) as { reads: number; mixed: number };
    folder.close();
    expect(mixed).toEqual([]);
    expect(reads).toBeGreaterThan(10);
    expect(outside).toEqual({ reads: expect.any(Number), mixed: 0 });
    expect(outside.reads).toBeGreaterThan(10);
  });

  test("is whole after a kill at any point, and swept by the next start", async () => {
    const path = newFolder();
    const module = fileURLToPath(new URL("../dist/src/cli/sidecar-folder.js", import.meta.url));
    const program = `import { Folder } from ${JSON.stringify(module)}; const folder = new Folder(${JSON.stringify(path)}, { secretMode: 0o600 });
      for (let n = 0; ; n++) { folder.write(new Map(["a", "b", "c"].map((name) => [name, { content: n + " " + "x".repeat(20000), secret: true }]))); if (n % 7 === 6) folder.clear(); }`;
    for (let round = 0; round < 8; round++) {
      const before = generationOf(path);
      const child = await start(process.execPath, ["--input-type=module", "-e", program]);
      await world.until("its work", () => generationOf(path) !== before);
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 40));
      await kill(child);
      const found = readGeneration(path);
      expect([0, 3]).toContain(found.size);
      expect(marks(path).length).toBeLessThanOrEqual(1);
      for (const text of found.values()) expect(text.length).toBeGreaterThan(20_000);
    }
    const folder = new Folder(path, everyone);
    const left = execFileSync("ls", ["-A", path], { encoding: "utf8" }).trim().split("\n").filter((name) => /^\.\.\d/.test(name));
    expect(left.length).toBeLessThanOrEqual(1);
    folder.clear();
    expect(execFileSync("ls", ["-A", path], { encoding: "utf8" })).toBe("");
    folder.close();
  });

  test("writes nothing when nothing differs, and never follows what others put into it", () => {
    const path = newFolder();
    const folder = new Folder(path, everyone);
    expect([folder.write(files(1)), folder.write(files(1)), folder.write(files(2))]).toEqual([true, false, true]);
    const target = newFolder();
    writeFileSync(target, "theirs");
    rmSync(join(path, "svid_key.pem"));
    symlinkSync(target, join(path, "svid_key.pem"));
    expect(() => folder.write(files(3))).toThrow("is not a sidecar's");
    expect(readFileSync(target, "utf8")).toBe("theirs");
    folder.close();
  });

  test("keeps the time of its mark new while it is ready; one that was left grows old", () => {
    const path = newFolder();
    const mark = join(path, ".ready");
    const age = (): number => Date.now() - statSync(mark).mtimeMs;
    const folder = new Folder(path, everyone);
    folder.setReady(true);
    utimesSync(mark, 1, 1);
    folder.setReady(true);
    expect(age()).toBeLessThan(60_000);
    folder.setReady(false);
    expect(existsSync(mark)).toBe(false);
    folder.close();
  });

  test("has a name for every audience, and never the same for two", () => {
    const audiences = ["crm", "https://api.example.org/v1", "../x", "a b", "a%20b", "A", "a'b*", ".", "é"];
    const names = audiences.map(jwtFileName);
    expect(new Set(names).size).toBe(audiences.length);
    expect(names.every((name) => /^jwt-[A-Za-z0-9%._-]+\.token$/.test(name))).toBe(true);
  });
});

const readerText = `
const { readFileSync, readdirSync, readlinkSync } = require("node:fs");
let reads = 0, mixed = 0;
process.on("SIGTERM", () => { console.log(JSON.stringify({ reads, mixed })); process.exit(0); });
(function again() {
  try {
    const link = process.argv[1] + "/..data", generation = readlinkSync(link), folder = process.argv[1] + "/" + generation;
    const found = new Set(readdirSync(folder).map((name) => readFileSync(folder + "/" + name, "utf8").split(" ")[0]));
    if (readlinkSync(link) === generation) {
      if (++reads === 20) console.log("at work");
      if (found.size !== 1) mixed++;
    }
  } catch (error) { if (error.code !== "ENOENT") throw error; }
  setImmediate(again);
})();
`;

describe("the keeper", () => {
  test("says when lists are too old or the broker is away, deletes nothing then, and takes no older list", async () => {
    vi.useFakeTimers();
    try {
      const { root, x509 } = newAuthorities();
      const list = (number: bigint, seconds: number): Promise<Buffer> =>
        issueCrl({ signer: x509, number, thisUpdate: new Date(), nextUpdate: new Date(Date.now() + seconds * 1000) });
      const path = newFolder();
      const folder = new Folder(path, everyone);
      const keeper = new Keeper({ folder, hook: new Hook(undefined, path, () => {}), log: () => {}, onWritten: () => {}, onFailed: (error) => { throw error; } });
      const bundle = (crl: Buffer): Parameters<Keeper["trust"]>[0] => ({ trustDomain: "example.org", spiffe: Buffer.alloc(0), jwks: Buffer.alloc(0), x509: root.certificate, crls: [crl], sequence: 1, federated: {} });
      expect(keeper.problems).toEqual(["files: none yet"]);
      keeper.identity(null);
      keeper.trust(bundle(await list(5n, 300)));
      keeper.brokerIsHere();
      expect(keeper.problems).toEqual([]);
      const older = await list(4n, 300);
      expect(() => keeper.trust(bundle(older))).toThrow("went back from 5 to 4");
      vi.advanceTimersByTime(25_000);
      keeper.brokerAnswers();
      vi.advanceTimersByTime(25_000);
      expect(keeper.problems).toEqual([]);
      vi.advanceTimersByTime(6_000); // nothing was said to be wrong: it only does not answer
      expect(keeper.problems).toEqual(["broker: not heard for 31 s"]);
      expect(existsSync(join(path, ".ready"))).toBe(false);
      keeper.brokerIsHere();
      vi.advanceTimersByTime(300_000);
      keeper.brokerAnswers();
      expect(keeper.problems).toEqual([expect.stringMatching(/^lists: past their nextUpdate, /)]);
      expect(existsSync(join(path, ".ready"))).toBe(false);
      expect([...readGeneration(path).keys()].sort()).toEqual(["bundle.pem", "crl.pem"]);
      keeper.trust(bundle(await list(6n, 300)));
      expect(keeper.problems).toEqual([]);
      keeper.close();
      folder.close();
    } finally {
      vi.useRealTimers();
    }
  });
});

describe("the hook", () => {
  test("has 30 s, then it is killed with all that it started, and run again", async () => {
    const pids = join(folders, randomBytes(6).toString("hex"));
    const said: string[] = [];
    const hook = new Hook(`if [ -e ${pids} ]; then exit 0; fi; sleep 600 & echo $$ $! > ${pids}.new; mv ${pids}.new ${pids}; wait`, folders, (text) => said.push(text));
    const turn = async (isSo: () => boolean): Promise<void> => {
      while (!isSo()) await new Promise((resolve) => setImmediate(resolve));
    };
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    try {
      hook.call("changed");
      await turn(() => existsSync(pids));
      vi.advanceTimersByTime(29_900);
      const started = readFileSync(pids, "utf8").trim().split(" ").map(Number);
      expect(started.map(isAlive)).toEqual([true, true]);
      vi.advanceTimersByTime(200);
      await turn(() => hook.failure === "not done within 30 s");
      await turn(() => !started.some(isAlive));
      expect(said).toEqual(["hook: changed: not done within 30 s"]);
    } finally {
      vi.useRealTimers();
    }
    await world.until("the next run", () => hook.failure === undefined);
    expect(await hook.finish()).toBeUndefined();
  });
});

function isAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return !stat.slice(stat.lastIndexOf(")") + 2).startsWith("Z");
  } catch {
    return false;
  }
}

describe.runIf(canMount())("a disk that is full", () => {
  test("keeps what there is and says so; room brings what is new; what ended is gone all the same", async () => {
    const disk = newFolder();
    mkdirSync(disk);
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=4m,mode=0755", "brevet-test", disk]);
    try {
      const [folder, filler] = [join(disk, "f"), join(disk, "filler")];
      const told = join(folders, randomBytes(6).toString("hex"));
      const agent = await world.agent();
      const { id } = await world.open();
      const sidecar = await Sidecar.start(world, folder, ["--task", id, "--pid", String(agent.pid), "--on-change", `echo "$BREVET_EVENT $(ls "$BREVET_DIR" | wc -l)" >> ${told}`]);
      const ready = (): boolean => existsSync(join(folder, ".ready"));
      await world.until("ready", ready);
      const fill = (): void => void execFileSync("sh", ["-c", `cat /dev/zero > ${filler} 2>/dev/null; test -s ${filler}`]);
      fill();
      const [before, runs] = [sidecar.files, readFileSync(told, "utf8")];
      await world.change(id, { step: "2" });
      await world.until("it says so", () => !ready() && sidecar.output.includes("ENOSPC"));
      expect(sidecar.files).toEqual(before);
      expect(readFileSync(told, "utf8")).toBe(runs); // nothing has changed
      rmSync(filler);
      await world.until("the new one", () => ready() && sidecar.files.get("svid.pem") !== before.get("svid.pem"));
      fill();
      await world.close(id);
      expect(await sidecar.exit()).toBe(3);
      expect(sidecar.files.size).toBe(0);
      expect(readFileSync(told, "utf8").trim().split("\n").at(-1)).toBe("revoked 0");
    } finally {
      execFileSync("umount", ["-l", disk]);
    }
  });
});

function canMount(): boolean {
  const at = mkdtempSync(join(tmpdir(), "brevet-mount-"));
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k", "brevet-test", at], { stdio: "ignore" });
    execFileSync("umount", ["-l", at], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  } finally {
    rmSync(at, { recursive: true, force: true });
  }
}
