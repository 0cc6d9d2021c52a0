// What stands in the folder now, and may others rely on it?
// The folder holds what the broker last said, or nothing: what was taken away is gone before anybody is told,
// whatever else is under way. A list never goes back. It is ready when the files are in place, the hook has
// taken them, every list is within its time, and the broker answered within the last half minute.
// RFC 5280 section 5.1.2.5 (nextUpdate: stock software refuses by itself from then on).
// How files get there is sidecar-folder.ts's business; the hook's runs are sidecar-hook.ts's.
import type { BrokerOptions } from "../client/connect.ts";
import { BrevetError, asBrevetError } from "../errors.ts";
import type { Bundle__Output } from "../generated/brevet/v1/Bundle.ts";
import { readCrl } from "../identity/crl.ts";
import { splitDer } from "../identity/der.ts";
import type { Folder, KeptFile } from "./sidecar-folder.ts";
import type { Hook, HookEvent } from "./sidecar-hook.ts";
import { pemOf } from "./sidecar-identity.ts";
import type { IdentityFiles, Wanted } from "./sidecar-identity.ts";

export type KeeperOptions = {
  readonly folder: Folder;
  readonly hook: Hook;
  readonly log: (text: string) => void;
  /** The first files are in place. */
  readonly onWritten: () => void;
  /** They could not be put in place. Later failures are tried again. */
  readonly onFailed: (error: BrevetError) => void;
};

/** A broker of this machine by its workload socket, or another's. */
export type Reach = Omit<BrokerOptions, "address"> & { readonly address?: string };

/** What a way of keeping files has to work with. */
export type Kept = { readonly keeper: Keeper; readonly reach: Reach; readonly wanted: Wanted; readonly signal: AbortSignal };

type Trust = { readonly files: ReadonlyMap<string, KeptFile>; readonly nextUpdate: Date };

const patienceMs = 30_000;
const lookMs = 1_000;

export class Keeper {
  readonly #o: KeeperOptions;
  readonly #numbers = new Map<string, bigint>();
  readonly #timer: NodeJS.Timeout;
  #trust: Trust | undefined;
  /** null: there is none. Undefined: not known yet, and waited for. */
  #identity: IdentityFiles | null | undefined;
  #hasWritten = false;
  /** Of the write that has failed. */
  #due: HookEvent | undefined;
  #failure: string | undefined;
  #heardAt = performance.now();
  #wasAway = false;
  #wasReady = false;

  constructor(options: KeeperOptions) {
    this.#o = options;
    options.hook.onRun(() => this.#look());
    this.#timer = setInterval(() => this.#tick(), lookMs);
  }

  /** Throws VERIFY_MALFORMED, and keeps what it has, if a list cannot be read or is older than one it has had. */
  trust({ x509, crls }: Bundle__Output): void {
    const lists = crls.map(readCrl);
    const numbers = lists.map(({ authorityKeyId, number }) => [authorityKeyId.toString("hex"), number] as const);
    for (const [authority, number] of numbers) {
      const before = this.#numbers.get(authority) ?? number;
      if (number < before) throw new BrevetError("VERIFY_MALFORMED", `the list of authority ${authority} went back from ${before} to ${number}`);
    }
    for (const [authority, number] of numbers) this.#numbers.set(authority, number);
    this.#trust = {
      files: new Map([
        ["bundle.pem", { content: pemOf("CERTIFICATE", splitDer(x509)), secret: false }],
        ["crl.pem", { content: pemOf("X509 CRL", crls), secret: false }],
      ]),
      nextUpdate: new Date(Math.min(...lists.map(({ nextUpdate }) => nextUpdate.getTime()))),
    };
    this.#put("changed");
  }

  identity(files: IdentityFiles | null): void {
    if (files !== null && files.spiffeId !== this.#identity?.spiffeId) this.#o.log(`identity: ${files.spiffeId}`);
    this.#identity = files;
    this.#put("changed");
  }

  /** The identity is gone at once; bundle and lists stay if they are all that is left to keep. */
  withdraw(why: BrevetError, left: "trust" | "nothing"): void {
    const had = this.#o.folder.names.includes("svid_key.pem");
    this.#identity = left === "trust" ? null : undefined;
    if (had) this.#o.log(`withdrawn: ${why.message}`);
    if (left === "trust") return this.#put(had ? "revoked" : "changed");
    this.#o.folder.clear();
    if (had) this.#o.hook.callLast("revoked");
  }

  brokerIsHere(): void {
    if (this.#wasAway) this.#o.log("broker: is back");
    this.#wasAway = false;
    this.brokerAnswers();
  }

  brokerAnswers(): void {
    this.#heardAt = performance.now();
  }

  /** `why`: undefined if it ended the stream in good order. */
  brokerIsAway(why: BrevetError | undefined): void {
    if (why !== undefined && !this.#wasAway) this.#o.log(`broker: ${why.message}`);
    this.#wasAway = why !== undefined;
  }

  /** What keeps others from relying on the files, in words; none: ready. */
  get problems(): string[] {
    const now = Date.now();
    const { failure: hook } = this.#o.hook;
    const away = performance.now() - this.#heardAt;
    const expiresAt = this.#identity?.expiresAt.getTime() ?? Infinity;
    const nextUpdate = this.#trust?.nextUpdate.getTime() ?? Infinity;
    return [
      ...(this.#hasWritten ? [] : ["files: none yet"]),
      ...(this.#failure === undefined ? [] : [`files: ${this.#failure}`]),
      ...(hook === undefined ? [] : [`hook: ${hook}`]),
      ...(away > patienceMs ? [`broker: not heard for ${Math.round(away / 1000)} s`] : []),
      ...(nextUpdate <= now ? [`lists: past their nextUpdate, ${new Date(nextUpdate).toISOString()}`] : []),
      ...(expiresAt <= now ? [`identity: expired, ${new Date(expiresAt).toISOString()}`] : []),
    ];
  }

  close(): void {
    clearInterval(this.#timer);
    this.#o.hook.onRun(() => undefined);
  }

  #put(event: HookEvent): void {
    if (this.#trust === undefined || this.#identity === undefined) return;
    const due = this.#due === "revoked" ? "revoked" : event;
    try {
      const changed = this.#o.folder.write(new Map([...this.#trust.files, ...(this.#identity?.files ?? [])]));
      this.#failure = undefined;
      if (changed || this.#due !== undefined) this.#o.hook.call(due);
      this.#due = undefined;
    } catch (thrown) {
      const error = asBrevetError(thrown);
      if (due === "revoked") this.#o.folder.clear(); // no room to write what is left: then nothing stays
      if (!this.#hasWritten) return this.#o.onFailed(error);
      if (this.#failure === undefined) this.#o.log(error.message);
      this.#due = due;
      this.#failure = error.message;
    }
    if (this.#failure === undefined && !this.#hasWritten) {
      this.#hasWritten = true;
      this.#o.onWritten();
    }
    this.#look();
  }

  /** Once a second. */
  #tick(): void {
    if (this.#due === undefined) this.#look();
    else this.#put(this.#due);
  }

  #look(): void {
    const { problems } = this;
    const ready = problems.length === 0;
    this.#o.folder.setReady(ready);
    if (ready !== this.#wasReady) this.#o.log(ready ? "ready" : `not ready: ${problems.join("; ")}`);
    this.#wasReady = ready;
  }
}
