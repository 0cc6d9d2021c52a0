// How do the files of one generation replace those of the one before?
// All at once: D/NAME is a link to ..data/NAME, and ..data a link to a folder that is filled first and never
// changed after; renaming one link swaps all, as Kubernetes does it. Owner and mode are set while nobody else
// gets into the folder, and all is on the disk before it is swapped in. A crash leaves the generation before or
// the one after, and what the next start sweeps. Everything is done below one descriptor of D, so that whoever
// may rename D or put links there turns no file of ours to another place.
// What the files hold is sidecar-keeper.ts's business.
import { randomBytes } from "node:crypto";
import * as fs from "node:fs";
import { BrevetError } from "../errors.ts";
import { closeFd, flockExclusive } from "../kernel.ts";

export type KeptFile = { readonly content: string | Buffer; readonly secret: boolean };
export type Access = { readonly uid: number | undefined; readonly gid: number | undefined; readonly secretMode: number };

const { O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_RDONLY, O_WRONLY } = fs.constants;
const current = "..data";
const next = "..data_next";
const readyFile = ".ready";
const renewMs = 5_000;
const generation = /^\.\.\d{17}-[0-9a-f]{8}$/;

export class Folder {
  readonly path: string;
  readonly #access: Access;
  readonly #fd: number;
  readonly #base: string;
  #held: ReadonlyMap<string, KeptFile> | undefined;

  /** Makes the folder if it is not there. Throws START_REFUSED if it cannot be used, or another sidecar keeps it. */
  constructor(path: string, access: Access) {
    this.path = path;
    this.#access = access;
    this.#fd = orRefuse(path, () => {
      fs.mkdirSync(path, { recursive: true, mode: 0o755 });
      return fs.openSync(path, O_RDONLY | O_DIRECTORY);
    });
    this.#base = `/proc/self/fd/${this.#fd}`;
    if (!flockExclusive(this.#fd)) {
      closeFd(this.#fd);
      throw new BrevetError("START_REFUSED", `${path}: another sidecar keeps this folder`);
    }
    orRefuse(path, () => {
      this.setReady(false);
      this.#sweep();
    });
  }

  /** Names of the files of the newest generation, also of one that an earlier sidecar left. */
  get names(): string[] {
    try {
      return fs.readdirSync(this.#at(current));
    } catch {
      return [];
    }
  }

  /** Makes these the files of the folder, and all others of ours gone. False if nothing differs. */
  write(files: ReadonlyMap<string, KeptFile>): boolean {
    if (this.#held && sameFiles(this.#held, files)) return false;
    orRefuse(this.path, () => {
      const name = `..${new Date().toISOString().replace(/\D/g, "")}-${randomBytes(4).toString("hex")}`;
      this.#fill(name, files);
      for (const file of files.keys()) this.#link(file);
      fs.rmSync(this.#at(next), { force: true });
      fs.symlinkSync(name, this.#at(next));
      fs.renameSync(this.#at(next), this.#at(current));
      fs.fsyncSync(this.#fd);
      this.#held = files;
      this.#sweep();
    });
    return true;
  }

  /** From one instant on none of the files is there. Needs no room on the disk. */
  clear(): void {
    this.#held = undefined;
    orRefuse(this.path, () => {
      this.setReady(false);
      fs.rmSync(this.#at(current), { force: true });
      fs.fsyncSync(this.#fd);
      this.#sweep();
    });
  }

  /** A mark that cannot be made says the truth: not ready. Its time is renewed: that of a sidecar that was killed grows old. */
  setReady(ready: boolean): void {
    const path = this.#at(readyFile);
    try {
      if (!ready) return fs.rmSync(path, { force: true });
      const fd = fs.openSync(path, O_WRONLY | O_CREAT | O_NOFOLLOW, 0o644);
      if (Date.now() - fs.fstatSync(fd).mtimeMs > renewMs) fs.futimesSync(fd, Date.now() / 1_000, Date.now() / 1_000);
      fs.closeSync(fd);
    } catch {
      // no room, or no right: what the files themselves need is told when they are written
    }
  }

  /** Leaves the files as they are. */
  close(): void {
    this.setReady(false);
    fs.closeSync(this.#fd);
  }

  #at(name: string): string {
    return `${this.#base}/${name}`;
  }

  #fill(name: string, files: ReadonlyMap<string, KeptFile>): void {
    fs.mkdirSync(this.#at(name), { mode: 0o700 });
    const folder = fs.openSync(this.#at(name), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    try {
      // somebody who may write in D could have put another in its place
      if (fs.fstatSync(folder).uid !== process.geteuid?.()) throw new BrevetError("START_REFUSED", `${this.path}: somebody else is changing it`);
      for (const [file, kept] of files) this.#fillOne(`/proc/self/fd/${folder}/${file}`, kept);
      fs.fchmodSync(folder, 0o755);
      fs.fsyncSync(folder);
    } finally {
      fs.closeSync(folder);
    }
  }

  #fillOne(path: string, { content, secret }: KeptFile): void {
    const { uid, gid, secretMode } = this.#access;
    const fd = fs.openSync(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    try {
      if (uid !== undefined || gid !== undefined) fs.fchownSync(fd, uid ?? fs.fstatSync(fd).uid, gid ?? fs.fstatSync(fd).gid);
      fs.fchmodSync(fd, secret ? secretMode : 0o644);
      fs.writeFileSync(fd, content);
      fs.fsyncSync(fd);
    } finally {
      fs.closeSync(fd);
    }
  }

  /** Before its file is there: it leads nowhere until the swap. */
  #link(file: string): void {
    const found = fs.lstatSync(this.#at(file), { throwIfNoEntry: false });
    if (found && this.#isOurs(file)) return;
    if (found) throw new BrevetError("START_REFUSED", `${this.path}/${file}: is there already and is not a sidecar's: remove it`);
    fs.symlinkSync(`${current}/${file}`, this.#at(file));
  }

  #isOurs(name: string): boolean {
    try {
      return fs.readlinkSync(this.#at(name)) === `${current}/${name}`;
    } catch {
      return false;
    }
  }

  /** Removes what no reader can get to any more. */
  #sweep(): void {
    let live = "";
    try {
      live = fs.readlinkSync(this.#at(current));
    } catch {
      // none yet, or none any more
    }
    for (const name of fs.readdirSync(this.#base)) {
      const dead = (generation.test(name) && name !== live) || name === next || (this.#isOurs(name) && !fs.existsSync(this.#at(name)));
      if (dead) fs.rmSync(this.#at(name), { recursive: true, force: true });
    }
  }
}

function sameFiles(a: ReadonlyMap<string, KeptFile>, b: ReadonlyMap<string, KeptFile>): boolean {
  return a.size === b.size && [...a].every(([name, { content }]) => {
    const other = b.get(name)?.content;
    return other !== undefined && Buffer.from(content).equals(Buffer.from(other));
  });
}

function orRefuse<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof BrevetError) throw error;
    const { code = "error", syscall = "" } = error as NodeJS.ErrnoException;
    throw new BrevetError("START_REFUSED", `${path}: cannot be written (${syscall} ${code})`, { cause: error });
  }
}
