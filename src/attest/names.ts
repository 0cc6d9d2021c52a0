// What are a uid and a gid called on this machine, and whose number is a name?
// Always true: the first line with that number decides, as in getpwuid(3); a changed file is
// read again; no process is started and no directory service is asked, so accounts of LDAP
// and the like have no name here (select them by number).
// passwd(5), group(5).
import { readFileSync, statSync } from "node:fs";

export function userName(uid: number): string | undefined {
  return users.name(uid);
}

export function groupName(gid: number): string | undefined {
  return groups.name(gid);
}

/** The first account of this name. */
export function userId(name: string): number | undefined {
  return users.id(name);
}

export function groupId(name: string): number | undefined {
  return groups.id(name);
}

class AccountFile {
  readonly #path: string;
  #version = "";
  #names = new Map<number, string>();

  constructor(path: string) {
    this.#path = path;
  }

  name(id: number): string | undefined {
    return this.#read().get(id);
  }

  id(name: string): number | undefined {
    for (const [id, other] of this.#read()) if (other === name) return id;
    return undefined;
  }

  #read(): ReadonlyMap<number, string> {
    try {
      const { ino, mtimeNs, size } = statSync(this.#path, { bigint: true });
      const version = `${ino} ${mtimeNs} ${size}`;
      if (version !== this.#version) {
        this.#names = parse(readFileSync(this.#path, "utf8"));
        this.#version = version;
      }
      return this.#names;
    } catch {
      return new Map(); // no such file: numbers still work
    }
  }
}

function parse(text: string): Map<number, string> {
  const names = new Map<number, string>();
  for (const line of text.split("\n")) {
    const [name, , id] = line.split(":");
    if (name && id && /^\d+$/.test(id) && !names.has(Number(id))) names.set(Number(id), name);
  }
  return names;
}

const users = new AccountFile("/etc/passwd");
const groups = new AccountFile("/etc/group");
