// Which key seals the signing keys?
// 32 bytes in a file that only the broker can read. It is made once, for a database that has no
// authorities yet; with authorities and without the file the broker refuses to start, since a new key
// could open nothing. Sealing itself is ca/keys.ts's business.
import { closeSync, fsyncSync, linkSync, openSync, readFileSync, rmSync, statSync, writeSync } from "node:fs";
import type { Stats } from "node:fs";
import { randomBytes } from "node:crypto";
import { BrevetError } from "../errors.ts";

const bytes = 32;

export function loadKeyEncryptionKey(path: string, authoritiesExist: boolean): Buffer {
  if (!found(path)) {
    if (authoritiesExist) {
      throw unusable(`${path} is missing, but the database holds keys sealed with it: put it back; for a further broker on this database, copy the first one's there (mode 600)`);
    }
    make(path);
  }
  const file = found(path);
  if (file?.isFile() !== true) throw unusable(`${path} is no file: name one for the key alone`);
  if ((file.mode & 0o077) !== 0) throw unusable(`others may read ${path}: chmod 600 ${path}`);
  const key = Buffer.from(asked(path, () => readFileSync(path, "utf8")).trim(), "base64");
  if (key.length !== bytes) throw unusable(`${path} must hold ${bytes} bytes in base64`);
  return key;
}

/** Of a key that opened nothing: where it came from, and what to do. */
export function namingKeyFile(path: string, error: unknown): unknown {
  if (!(error instanceof BrevetError) || error.code !== "KEY_UNUSABLE") return error;
  return unusable(`${path} is not what sealed the keys in the database (${error.message}): put the right one there; brokers on one database share one, so copy the first one's (mode 600)`, error);
}

function unusable(why: string, cause?: unknown): BrevetError {
  return new BrevetError("KEY_UNUSABLE", `keyEncryptionKeyFile: ${why}`, { cause });
}

function found(path: string): Stats | undefined {
  return asked(path, () => statSync(path, { throwIfNoEntry: false }));
}

function asked<T>(path: string, look: () => T): T {
  try {
    return look();
  } catch (error) {
    throw unusable(`${path} can't be read: ${(error as Error).message}: the broker's own account must own it`, error);
  }
}

/** Under its name it is whole or not there. Dies before: a file of another name, in nobody's way. Of two brokers, one makes it. */
function make(path: string): void {
  try {
    makeWhole(path, `${path}.${process.pid}`);
  } catch (error) {
    throw new BrevetError("START_REFUSED",
      `keyEncryptionKeyFile: ${path} can't be made: ${(error as Error).message}: name a file in a directory that the broker's account may write to (BREVET_KEY_ENCRYPTION_KEY_FILE)`,
      { cause: error });
  }
}

function makeWhole(path: string, unfinished: string): void {
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
