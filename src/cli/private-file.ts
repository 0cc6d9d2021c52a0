// How does a secret get into a file that nobody else reads?
// The file has mode 0600 before the secret is in it, also if it was there with another mode and with
// more in it. That it can be written is known before the secret is asked for.
// Which secrets are written is task.ts's (tickets) and svid.ts's (keys, key stores) business.
import { closeSync, constants, fchmodSync, fstatSync, ftruncateSync, openSync, writeSync } from "node:fs";
import { usageError } from "./options.ts";

/** Opens it, made or kept; what it holds stays until fillPrivate. No link is followed, no other user's file is used. */
export function openPrivate(file: string): number {
  let fd: number;
  try {
    fd = openSync(file, constants.O_WRONLY | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  } catch (error) {
    throw usageError(`${file}: cannot be written (${(error as NodeJS.ErrnoException).code ?? "error"})`);
  }
  const found = fstatSync(fd);
  if (found.isFile() && found.uid === process.geteuid?.()) {
    fchmodSync(fd, 0o600);
    return fd;
  }
  closeSync(fd);
  throw usageError(`${file}: cannot be written (it must be a plain file of this user)`);
}

export function fillPrivate(fd: number, content: string | Buffer): void {
  ftruncateSync(fd);
  writeSync(fd, Buffer.from(content));
}

/** The file's name, for the list of what was written. */
export function writePrivate(file: string, content: string | Buffer): string {
  const fd = openPrivate(file);
  try {
    fillPrivate(fd, content);
    return file;
  } finally {
    closeSync(fd);
  }
}
