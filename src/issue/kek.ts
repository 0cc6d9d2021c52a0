// Which key seals the signing keys?
// 32 bytes in a file that only the broker can read. It is made once, for a database that has no
// authorities yet; with authorities and without the file the broker refuses to start, since a new key
// could open nothing. Sealing itself is ca/keys.ts's business.
import { closeSync, fsyncSync, linkSync, openSync, readFileSync, rmSync, statSync, writeSync } from "node:fs";
import { randomBytes } from "node:crypto";
import { BrevetError } from "../errors.ts";

const bytes = 32;

export function loadKeyEncryptionKey(path: string, authoritiesExist: boolean): Buffer {
  if (!statSync(path, { throwIfNoEntry: false })) {
    if (authoritiesExist) {
      throw new BrevetError("KEY_UNUSABLE", `keyEncryptionKeyFile: ${path} is missing, but the database holds keys sealed with it: put it back`);
    }
    make(path);
  }
  const { mode } = statSync(path);
  if ((mode & 0o077) !== 0) throw new BrevetError("KEY_UNUSABLE", `keyEncryptionKeyFile: others may read ${path}: chmod 600 ${path}`);
  const key = Buffer.from(readFileSync(path, "utf8").trim(), "base64");
  if (key.length !== bytes) throw new BrevetError("KEY_UNUSABLE", `keyEncryptionKeyFile: ${path} must hold ${bytes} bytes in base64`);
  return key;
}

/** Under its name it is whole or not there. Dies before: a file of another name, in nobody's way. Of two brokers, one makes it. */
function make(path: string): void {
  const unfinished = `${path}.${process.pid}`;
  rmSync(unfinished, { force: true });
  const fd = openSync(unfinished, "wx", 0o600);
  try {
    writeSync(fd, `${randomBytes(bytes).toString("base64")}\n`);
    fsyncSync(fd);
    linkSync(unfinished, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  } finally {
    closeSync(fd);
    rmSync(unfinished, { force: true });
  }
}
