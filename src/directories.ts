// Where may a broker put its files?
// Into directories of its own account that nobody else may write to: they are made here, or refused with
// the key that names them and what to do. Others get through to the sockets, and no further.
// The files in them are made by their parts: kek.ts the key, embedded-place.ts PostgreSQL's, server.ts the sockets.
import { chmodSync, mkdirSync, statSync } from "node:fs";
import { dirname, relative } from "node:path";
import type { Config } from "./config.ts";
import { BrevetError } from "./errors.ts";
import { mustBeOwn } from "./record/embedded-place.ts";

/** @throws BrevetError START_REFUSED */
export function prepareDirectories({ dataDir, socketDir, keyEncryptionKeyFile }: Config, taskDir: string): void {
  const passable = new Set([dataDir, socketDir, taskDir]);
  for (const path of passable) named("dataDir", "BREVET_DATA_DIR", path, () => makeOwn(path, 0o711));
  // only when all are there: what is no place for files keeps its mode
  for (const path of passable) named("dataDir", "BREVET_DATA_DIR", path, () => chmodSync(path, 0o711));
  const keys = dirname(keyEncryptionKeyFile);
  if (!isWithin(dataDir, keys) || [...passable].some((path) => relative(path, keys) === "")) return;
  named("keyEncryptionKeyFile", "BREVET_KEY_ENCRYPTION_KEY_FILE", keys, () => {
    makeOwn(keys, 0o700);
    chmodSync(keys, 0o700);
  });
}

function makeOwn(path: string, mode: number): void {
  makeDirectory(path, mode);
  mustBeOwn(path);
}

/** One by one: `recursive` of Node does not end where a directory is there and can hold none, as in /proc. */
function makeDirectory(path: string, mode: number): void {
  if (isDirectory(path)) return;
  if (dirname(path) !== path) makeDirectory(dirname(path), mode);
  try {
    mkdirSync(path, { mode });
  } catch (error) {
    if (!isDirectory(path)) throw error; // another broker's start may have made it
  }
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

function isWithin(parent: string, path: string): boolean {
  return !/^\.\.(?:\/|$)/.test(relative(parent, path));
}

function named(key: string, variable: string, path: string, make: () => void): void {
  try {
    make();
  } catch (error) {
    throw new BrevetError("START_REFUSED",
      `${key}: ${path} can't be used: ${(error as Error).message}: name a directory that the broker's account may make, or alone may write to (${variable})`, { cause: error });
  }
}
