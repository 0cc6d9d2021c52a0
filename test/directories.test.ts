// Is a place where a broker can't keep its files refused by the key that names it, and left as it is?
// Real directories of every wrong kind; one real broker, for what once never came back.
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { loadConfig, socketPaths } from "../src/config.ts";
import { prepareDirectories } from "../src/directories.ts";
import { BrokerProcess } from "./support/broker.ts";

const asRoot = process.geteuid?.() === 0;
const nobody = 65_534;
let folder: string;
let d: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "brevet-directories-"));
  d = join(folder, "d");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const modeOf = (path: string): number => statSync(path).mode & 0o7777;
function prepare(dataDir: string, more: Readonly<Record<string, string>> = {}): void {
  const config = loadConfig({ env: { HOME: folder, BREVET_DATA_DIR: dataDir, ...more } });
  prepareDirectories(config, socketPaths(config).taskDir);
}
const refusal = (key: string, path: string, what: RegExp): unknown => expect.objectContaining({
  code: "START_REFUSED", message: expect.stringMatching(new RegExp(`^${key}: ${path} can't be used: .*${what.source}.*BREVET_`)) as string,
});

test("it is made with what leads to it, passable for others and not readable; the keys' is the broker's alone", () => {
  prepare(join(d, "e"));
  expect([join(d, "e"), join(d, "e", "t"), join(d, "e", "keys")].map(modeOf)).toEqual([0o711, 0o711, 0o700]);
  chmodSync(join(d, "e"), 0o755);
  prepare(join(d, "e"));
  expect(modeOf(join(d, "e"))).toBe(0o711);
});

test("no place for a directory", () => {
  writeFileSync(join(folder, "file"), "");
  symlinkSync(join(folder, "nowhere"), join(folder, "dangling"));
  for (const [path, what] of [[join(folder, "file"), /EEXIST/], [join(folder, "file", "d"), /ENOTDIR|EEXIST/], ["/dev/null", /EEXIST/], [join(folder, "dangling"), /EEXIST|ENOENT/]] as const) {
    expect(() => prepare(path), path).toThrow(refusal("dataDir", path, what));
  }
});

test("where nothing can be made it is refused at once, and what is there keeps its mode", () => {
  const before = modeOf("/proc");
  for (const path of ["/proc/x", "/proc/x/y"]) expect(() => prepare(path), path).toThrow(refusal("dataDir", path, /ENOENT/));
  expect(() => prepare("/proc")).toThrow(expect.objectContaining({ code: "START_REFUSED" }));
  expect(modeOf("/proc")).toBe(before);
});

test("what everybody may write to is refused, not repaired", () => {
  mkdirSync(d);
  for (const mode of [0o777, 0o1777]) {
    chmodSync(d, mode);
    expect(() => prepare(d)).toThrow(refusal("dataDir", d, /writable for everyone/));
    expect(modeOf(d)).toBe(mode);
  }
});

test.runIf(asRoot)("what is another account's, or out of reach", () => {
  mkdirSync(d);
  chownSync(d, nobody, nobody);
  expect(() => prepare(d)).toThrow(refusal("dataDir", d, /belongs to uid 65534/));
  process.seteuid?.(nobody);
  try {
    const path = "/root/of-another/brevet";
    expect(() => prepare(path)).toThrow(refusal("dataDir", path, /EACCES/));
  } finally {
    process.seteuid?.(0);
  }
});

test("a key that lies in the data directory itself leaves the sockets within reach", () => {
  for (const dataDir of [d, `${d}/`]) {
    prepare(dataDir, { BREVET_KEY_ENCRYPTION_KEY_FILE: join(d, "kek") });
    expect(modeOf(d)).toBe(0o711);
  }
  prepare(d, { BREVET_KEY_ENCRYPTION_KEY_FILE: join(d, "secret", "kek") });
  expect(modeOf(join(d, "secret"))).toBe(0o700);
  prepare(d, { BREVET_KEY_ENCRYPTION_KEY_FILE: `${d}2/kek` });
  expect(existsSync(`${d}2`)).toBe(false);
});

test("a broker says so and ends", async () => {
  const broker = new BrokerProcess("/proc/x", {});
  await expect(broker.start()).rejects.toThrow(/dataDir: \/proc\/x can't be used.*BREVET_DATA_DIR.*\[START_REFUSED\]/s);
  broker.hangUp();
});
