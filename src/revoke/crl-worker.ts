// Where are the entries of lists kept, and joined?
// In a thread of its own, encoded once each, one after the other for each authority: a list of hundreds of
// thousands is a copy of memory, and holds up nobody. A certificate stands once, under what killed it first.
// It knows no key: what it makes is signed by who asked for it. It holds nothing that PostgreSQL does not.
// Encoding is ca/crl.ts's; which revocations are known and when a list is due, crl.ts's.
import { parentPort } from "node:worker_threads";
import { crlReason, encodeCrlEntry, prepareCrl } from "../../ca/crl.ts";
import { backdateMs } from "./crl-thread.ts";
import type { Ask, Entered, Made } from "./crl-thread.ts";

class Entries {
  #bytes = Buffer.allocUnsafe(64 * 1024);
  #used = 0;
  /** By place in the list: where the entry ends, the row of its certificate, when that expires. */
  #ends: number[] = [];
  #rows: number[] = [];
  #expires: number[] = [];
  readonly #known = new Set<number>();

  get size(): number {
    return this.#ends.length;
  }

  get bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#used);
  }

  /** False if the certificate is there already. */
  add(row: number, expires: number, entry: () => Buffer): boolean {
    if (this.#known.has(row)) return false;
    this.#known.add(row);
    const bytes = entry();
    if (this.#used + bytes.length > this.#bytes.length) {
      const larger = Buffer.allocUnsafe(this.#bytes.length * 2);
      this.#bytes.copy(larger, 0, 0, this.#used);
      this.#bytes = larger;
    }
    this.#bytes.set(bytes, this.#used);
    this.#used += bytes.length;
    this.#ends.push(this.#used);
    this.#rows.push(row);
    this.#expires.push(expires);
    return true;
  }

  /** Closes the gaps of those that expired before `since`, in seconds. */
  drop(since: number): void {
    const [ends, rows, expires] = [this.#ends, this.#rows, this.#expires];
    if (!expires.some((at) => at < since)) return;
    [this.#ends, this.#rows, this.#expires, this.#used] = [[], [], [], 0];
    let start = 0;
    for (const [i, end] of ends.entries()) {
      const [row = 0, at = 0] = [rows[i], expires[i]];
      if (at < since) {
        this.#known.delete(row);
      } else {
        this.#bytes.copyWithin(this.#used, start, end);
        this.#used += end - start;
        this.#ends.push(this.#used);
        this.#rows.push(row);
        this.#expires.push(at);
      }
      start = end;
    }
  }
}

const authorities = new Map<string, Entries>();

function entriesOf(authority: string): Entries {
  let entries = authorities.get(authority);
  if (!entries) authorities.set(authority, (entries = new Entries()));
  return entries;
}

function enter(lines: readonly string[]): Entered {
  const grown = new Set<string>();
  for (const line of lines) {
    const [row, serial = "", at, expires, ended, authority = ""] = line.split(" ");
    const reason = ended === "1" ? crlReason.cessationOfOperation : crlReason.superseded;
    const entry = (): Buffer => encodeCrlEntry(Buffer.from(serial, "hex"), new Date(Number(at) * 1000 - backdateMs), reason);
    if (entriesOf(authority).add(Number(row), Number(expires), entry)) grown.add(authority);
  }
  return { grown: [...grown] };
}

function make({ authority, since, name, keyId, algorithm, ...times }: Ask & { do: "make" }): Made {
  const entries = entriesOf(authority);
  entries.drop(since);
  const issuer = { name: Buffer.from(name), keyId: Buffer.from(keyId), algorithm: Buffer.from(algorithm) };
  return { list: prepareCrl({ ...times, issuer, entries: entries.bytes }), entries: entries.size };
}

parentPort?.on("message", (ask: Ask) => {
  if (ask.do === "enter") {
    parentPort?.postMessage(enter(ask.lines));
  } else {
    const made = make(ask);
    parentPort?.postMessage(made, [made.list.bytes.buffer as ArrayBuffer]);
  }
});
