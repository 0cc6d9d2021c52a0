// Which machine is this, over all its boots?
// The broker's data directory says so: a random name in it, made once. It is what tells a restart of this machine from
// the life of another on the same database. A directory that is lost is another machine; one that is copied would be
// the same machine twice, and must not be.
// Which boots it has been through is the record's (src/record/tasks.ts).
import { randomUUID } from "node:crypto";
import { linkSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { BrevetError } from "../errors.ts";

export function machineOf(dataDir: string): string {
  const path = join(dataDir, "machine");
  const unfinished = `${path}.${process.pid}`;
  writeFileSync(unfinished, `${randomUUID()}\n`, { mode: 0o644 });
  try {
    linkSync(unfinished, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  } finally {
    rmSync(unfinished, { force: true });
  }
  const name = readFileSync(path, "utf8").trim();
  if (/^[0-9a-f-]{36}$/.test(name)) return name;
  throw new BrevetError("START_REFUSED", `${path}: must hold a UUID: remove it, and tasks of earlier boots of this machine end by their time`);
}
