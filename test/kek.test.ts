// Which key seals the signing keys, and what does a crash while it is made leave?
import { mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { loadKeyEncryptionKey } from "../src/issue/kek.ts";

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "brevet-kek-"));
  path = join(folder, "kek");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

test("it is made once, for its owner alone, and nothing lies beside it", () => {
  const key = loadKeyEncryptionKey(path, false);
  expect(key).toHaveLength(32);
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(readdirSync(folder)).toEqual(["kek"]);
  expect(loadKeyEncryptionKey(path, true)).toEqual(key);
});

test("what a crash left under another name is in nobody's way, even of a process with the same PID", () => {
  writeFileSync(`${path}.${process.pid}`, "", { mode: 0o600 });
  expect(loadKeyEncryptionKey(path, false)).toHaveLength(32);
  expect(readdirSync(folder)).toEqual(["kek"]);
});

test("with authorities and without the file nothing is made", () => {
  expect(() => loadKeyEncryptionKey(path, true)).toThrow(expect.objectContaining({ code: "KEY_UNUSABLE" }));
  expect(readdirSync(folder)).toEqual([]);
});

test.each([["empty", "", 0o600], ["short", "AAAA", 0o600], ["readable by others", Buffer.alloc(32).toString("base64"), 0o644]])("a file that is %s is refused and left as it is", (_what, text, mode) => {
  writeFileSync(path, text, { mode });
  expect(() => loadKeyEncryptionKey(path, false)).toThrow(expect.objectContaining({ code: "KEY_UNUSABLE" }));
  expect(readFileSync(path, "utf8")).toBe(text);
});

test("what can't be a key's file is refused by its key and path, with what to do; a directory's mode is not what is wrong with it", () => {
  const refused = (code: string, what: string): unknown => expect.objectContaining({ code, message: expect.stringMatching(new RegExp(`^keyEncryptionKeyFile: ${what}`)) as string });
  expect(() => loadKeyEncryptionKey(folder, false)).toThrow(refused("KEY_UNUSABLE", `${folder} is no file: name one`));
  for (const nowhere of ["/proc/kek", join(folder, "none", "kek")]) {
    expect(() => loadKeyEncryptionKey(nowhere, false)).toThrow(refused("START_REFUSED", `${nowhere} can't be made: ENOENT.*BREVET_KEY_ENCRYPTION_KEY_FILE`));
  }
  expect(() => loadKeyEncryptionKey(path, true)).toThrow(refused("KEY_UNUSABLE", `${path} is missing.*put it back; for a further broker.*copy the first one's`));
});
