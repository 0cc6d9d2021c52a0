// What is the SHA-256 of the file that a caller runs?
// Always true: the bytes come from one open file, unchanged from before the first byte to after
// the last; they are read in a thread of their own, within a size and a time; the same file is
// hashed once; the files of one user are hashed one after another, so that a user delays
// nobody but itself.
// Which file it is, and whether the caller still runs it, is src/attest/caller.ts's business.
import { closeSync, fstatSync } from "node:fs";
import type { BigIntStats } from "node:fs";
import { Worker } from "node:worker_threads";

export type HashResult = { readonly sha256: string } | { readonly problem: string };

export type HashLimits = { readonly maxBytes?: number; readonly maxMs?: number };

const maxEntries = 1024;

export class HashCache {
  readonly #maxBytes: number;
  readonly #maxMs: number;
  /** By version of the file; the least recently used first. */
  readonly #known = new Map<string, string>();
  readonly #underWay = new Map<string, Promise<HashResult>>();
  readonly #lastOfUser = new Map<number, Promise<HashResult>>();

  constructor({ maxBytes = 512 * 1024 * 1024, maxMs = 10_000 }: HashLimits = {}) {
    this.#maxBytes = maxBytes;
    this.#maxMs = maxMs;
  }

  /** Takes over the descriptor and closes it. */
  async hash(fd: number, uid: number): Promise<HashResult> {
    const before = fstatSync(fd, { bigint: true });
    const version = versionOf(before);
    const known = this.#known.get(version);
    if (known !== undefined) {
      closeSync(fd);
      this.#remember(version, known);
      return { sha256: known };
    }
    if (before.size > this.#maxBytes) {
      closeSync(fd);
      return { problem: `the executable has ${before.size} bytes, more than the ${this.#maxBytes} that are hashed` };
    }
    const flight = `${uid} ${version}`; // per user: none waits in another's queue
    const same = this.#underWay.get(flight);
    if (same) {
      closeSync(fd);
      return same;
    }
    const result = this.#inTurn(uid, () => this.#hashVersion(fd, version));
    this.#underWay.set(flight, result);
    try {
      return await result;
    } finally {
      this.#underWay.delete(flight);
    }
  }

  async #hashVersion(fd: number, version: string): Promise<HashResult> {
    const result = await hashInThread(fd, this.#maxBytes, this.#maxMs, () => versionOf(fstatSync(fd, { bigint: true })) === version);
    if ("sha256" in result) this.#remember(version, result.sha256);
    return result;
  }

  #remember(version: string, sha256: string): void {
    this.#known.delete(version);
    this.#known.set(version, sha256);
    const [oldest] = this.#known.keys();
    if (this.#known.size > maxEntries && oldest !== undefined) this.#known.delete(oldest);
  }

  async #inTurn(uid: number, work: () => Promise<HashResult>): Promise<HashResult> {
    const before = this.#lastOfUser.get(uid);
    const mine = before === undefined ? work() : before.then(work, work);
    this.#lastOfUser.set(uid, mine);
    try {
      return await mine;
    } finally {
      if (this.#lastOfUser.get(uid) === mine) this.#lastOfUser.delete(uid);
    }
  }
}

/** The change time cannot be set by anybody, so a file that was written to has another version. */
function versionOf({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return `${dev} ${ino} ${size} ${mtimeNs} ${ctimeNs}`;
}

/** Runs in the thread. Text, because a thread starts from a file or a text and Node 20 starts none from TypeScript. */
const threadText = `
const { parentPort, workerData: { fd, maxBytes } } = require("node:worker_threads");
const { readSync } = require("node:fs");
const hash = require("node:crypto").createHash("sha256");
const chunk = Buffer.allocUnsafe(1 << 20);
let at = 0;
for (let n; at <= maxBytes && (n = readSync(fd, chunk, 0, chunk.length, at)) > 0; at += n) hash.update(chunk.subarray(0, n));
parentPort.postMessage(hash.digest("hex"));
`;

/** Closes the descriptor when the thread is gone, not before: the number may be another file's by then. */
function hashInThread(fd: number, maxBytes: number, maxMs: number, unchanged: () => boolean): Promise<HashResult> {
  return new Promise((resolve) => {
    const thread = new Worker(threadText, { eval: true, execArgv: [], workerData: { fd, maxBytes } });
    thread.unref();
    const timer = setTimeout(() => {
      resolve({ problem: `the executable was not hashed within ${maxMs} ms` });
      void thread.terminate();
    }, maxMs).unref();
    thread.once("message", (sha256: string) => {
      resolve(unchanged() ? { sha256 } : { problem: "the executable was written to while it was hashed" });
    });
    thread.once("error", () => resolve({ problem: "the executable could not be read" }));
    thread.once("exit", () => {
      clearTimeout(timer);
      closeSync(fd);
      resolve({ problem: "the executable could not be read" }); // no effect after an answer
    });
  });
}
