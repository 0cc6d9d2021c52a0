// How does an agent, or a service, hold its SVIDs?
// What it hands out is what the broker last said: an SVID that a message no longer holds, or that
// PermissionDenied took away, is gone at once, with every JWT-SVID fetched beside it. While the broker
// is away SVIDs stay until they expire.
// SPIFFE Workload API sections 4.2, 4.4, 5.2.1, 6.2.1 (client's part): full state, absence is redaction.
// Whether somebody else's SVID may be accepted is src/verify's business; opening tasks, tasks.ts's.
import { EventEmitter } from "node:events";
import { BrevetError, asBrevetError } from "../errors.ts";
import { splitDer } from "../identity/der.ts";
import { anything, checkOptions, filledText, text } from "../identity/options.ts";
import type { Rules } from "../identity/options.ts";
import { readJwtSvid, readX509Svid, splitChain } from "../identity/svid.ts";
import type { TaskBinding } from "../identity/task.ts";
import type { Task__Output } from "../generated/brevet/v1/Task.ts";
import type { X509SVID__Output } from "../generated/X509SVID.ts";
import { connect, follow } from "./connect.ts";
import type { Connection } from "./connect.ts";

/** An X.509-SVID with its key, as `node:tls` and other software want it. */
export type X509Identity = {
  readonly spiffeId: string;
  /** The task's ID, from Brevet; empty from other brokers. */
  readonly hint: string;
  /** The chain, leaf first, PEM. */
  readonly cert: string;
  /** PKCS#8, PEM, unencrypted. */
  readonly key: string;
  /** The CA certificates of its trust domain, DER. */
  readonly bundle: readonly Buffer[];
  readonly expiresAt: Date;
  readonly binding: TaskBinding | null;
};

export type SourceOptions = {
  /** `unix:///…`; default SPIFFE_ENDPOINT_SOCKET. */
  readonly address?: string;
  /** Gives up the opening. Default: after 60 s. */
  readonly signal?: AbortSignal;
};

export type ClaimOptions = SourceOptions & {
  /** The task's ID. */
  readonly task: string;
  /** The one-use secret, where the task's bind is `ticket`. */
  readonly ticket?: string;
};

const sourceRules: Rules<SourceOptions> = { address: anything, signal: anything };
const claimRules: Rules<ClaimOptions> = { ...sourceRules, task: filledText, ticket: text };

const mostAudiences = 64;

type Events = { update: []; end: [BrevetError] };
type CachedJwt = { readonly token: Promise<string>; until: number };

/**
 * The SVIDs of this process, kept fresh. `update`: they changed (rotation, a new context, another
 * task); `end`: all were withdrawn, with the broker's reason. Close it, or hold it with `using`.
 */
export class WorkloadSource extends EventEmitter<Events> {
  /** Of a claimed task: what the broker said of it. */
  readonly task: Readonly<Task__Output> | undefined;
  readonly #connection: Connection;
  readonly #closed = new AbortController();
  #identities: readonly X509Identity[] = [];
  #held = "";
  #jwts = new Map<string, CachedJwt>();

  readonly #claimedAt: string | undefined;
  #asking = false;

  /** `claimedAt`: the common socket where the task was claimed, which outlives the task's own. */
  private constructor(connection: Connection, task: Task__Output | undefined, claimedAt?: string) {
    super();
    this.#connection = connection;
    this.task = task;
    this.#claimedAt = claimedAt;
  }

  /**
   * Resolves with the first SVIDs; waits for a broker that is away until `signal` aborts.
   * Throws DENIED_… with `metadata.attempt`, for `brevet explain`.
   */
  static async open(options: SourceOptions = {}): Promise<WorkloadSource> {
    checkOptions(options, sourceRules);
    const source = new WorkloadSource(connect(options), undefined);
    return await source.#started(options.signal);
  }

  /**
   * Claims a task for this process and holds its SVIDs, from the task's own socket. Repeating it is
   * harmless. `signal` of the result aborts when the task ends. Throws NOT_FOUND, DENIED_….
   */
  static async claim(options: ClaimOptions): Promise<WorkloadSource> {
    checkOptions(options, claimRules, ["task"]);
    const connection = connect(options);
    try {
      const { task, endpoint } = await connection.agent.claim(
        { task: options.task, ticket: options.ticket ?? "", pid: 0 },
        { retry: true, timeoutMs: 30_000, ...(options.signal && { signal: options.signal }) });
      if (task === null) throw new BrevetError("INTERNAL", "the broker's answer holds no task");
      const source = new WorkloadSource(connect({ address: endpoint }), task, connection.address);
      return await source.#started(options.signal);
    } finally {
      connection.close();
    }
  }

  /** Aborts when nothing will be held any more: closed, or a claimed task's end. The reason is a BrevetError. */
  get signal(): AbortSignal {
    return this.#closed.signal;
  }

  /** The default X.509-SVID, or the one with this hint (task ID). Throws DENIED_TASK_ENDED when there is none. */
  svid(hint?: string): X509Identity {
    const now = Date.now();
    const found = this.#identities.find((svid) => hint === undefined || svid.hint === hint);
    if (found !== undefined && found.expiresAt.getTime() > now) return found;
    throw new BrevetError("DENIED_TASK_ENDED", `no X.509-SVID is held${hint === undefined ? "" : ` for ${hint}`}: withdrawn or expired`);
  }

  /** All X.509-SVIDs held, the default first. */
  get svids(): readonly X509Identity[] {
    return this.#identities;
  }

  /** CA certificates (DER) of the own trust domain. */
  get bundle(): readonly Buffer[] {
    return this.svid().bundle;
  }

  /** `key` and `cert` for `node:tls`; verifying the other side is the Verifier's part. */
  tlsOptions(hint?: string): { readonly key: string; readonly cert: string } {
    const { key, cert } = this.svid(hint);
    return { key, cert };
  }

  /**
   * A JWT-SVID (JWS compact) for these audiences; the same one until half of its life is over, or until the broker's stream
   * said that its epoch is. Right after a change of context, in the program that made it too, that may not have come yet: the
   * token is then the old one, which verifiers refuse, until `svid().binding` has the new epoch. Throws DENIED_AUDIENCE and others.
   */
  async jwt(audience: string | readonly string[], hint?: string): Promise<string> {
    const audiences = typeof audience === "string" ? [audience] : [...audience];
    const { spiffeId } = this.svid(hint);
    const key = JSON.stringify([spiffeId, audiences]);
    const jwts = this.#jwts;
    const cached = jwts.get(key);
    if (cached !== undefined && cached.until > performance.now()) return await cached.token;
    const fetched: CachedJwt = { token: this.#fetchJwt(spiffeId, audiences), until: Number.POSITIVE_INFINITY };
    if (jwts.size >= mostAudiences) jwts.clear();
    jwts.set(key, fetched);
    try {
      const token = await fetched.token;
      const left = readJwtSvid(token).expiresAt.getTime() - Date.now();
      fetched.until = performance.now() + left / 2;
      // An epoch that ended meanwhile took its tokens with it: this one came too late.
      return jwts === this.#jwts ? token : await this.jwt(audience, hint);
    } catch (error) {
      jwts.delete(key);
      throw error;
    }
  }

  close(): void {
    this.#end(new BrevetError("WRONG_STATE", "the source was closed"));
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async #fetchJwt(spiffeId: string, audience: string[]): Promise<string> {
    const { svids } = await this.#connection.workload.fetchJWTSVID({ audience, spiffeId }, { retry: true });
    const [first] = svids;
    if (first === undefined) throw new BrevetError("DENIED_IDENTITY", "the broker's answer holds no JWT-SVID");
    return first.svid;
  }

  /** Follows the stream from now on; resolves with its first message, rejects with its first refusal. */
  async #started(signal: AbortSignal = AbortSignal.timeout(60_000)): Promise<this> {
    const giveUp = (): void => this.close();
    signal.addEventListener("abort", giveUp, { once: true });
    if (signal.aborted) giveUp();
    try {
      await new Promise<void>((resolve, reject) => {
        this.#closed.signal.addEventListener("abort", () => reject(this.#closed.signal.reason), { once: true });
        void this.#follow(resolve, reject);
      });
      return this;
    } catch (error) {
      this.close();
      throw signal.aborted ? signal.reason : error;
    } finally {
      signal.removeEventListener("abort", giveUp);
    }
  }

  async #follow(first: () => void, refused: (error: BrevetError) => void): Promise<void> {
    await follow((signal) => this.#connection.workload.fetchX509SVID({}, { signal }), {
      message: ({ svids }) => {
        const identities = svids.map(readIdentity);
        if (identities.length === 0) throw new BrevetError("DENIED_IDENTITY", "the broker's message holds no SVID");
        this.#take(identities);
        first();
      },
      lost: (error) => {
        if (error?.code.startsWith("DENIED_")) {
          refused(error);
          this.#withdraw(error);
        } else {
          this.#dropExpired();
          void this.#askWhetherEnded();
        }
        return true;
      },
    }, this.#closed.signal).catch((error: unknown) => this.#end(asBrevetError(error)));
  }

  #take(identities: readonly X509Identity[]): void {
    const held = identities.map(({ spiffeId, binding }) => `${spiffeId}@${binding?.epoch ?? 0}`).join();
    if (held !== this.#held) this.#jwts = new Map();
    this.#held = held;
    this.#identities = identities;
    const now = Date.now();
    if (identities.some(({ expiresAt }) => expiresAt.getTime() > now)) soon(() => this.emit("update")); // else there is none to use
  }

  #withdraw(error: BrevetError): void {
    if (this.task !== undefined) return this.#end(error);
    const had = this.#identities.length > 0;
    this.#forget();
    if (had) soon(() => this.emit("end", error));
  }

  #forget(): void {
    this.#identities = [];
    this.#held = "";
    this.#jwts = new Map();
  }

  /** A task that ended while its broker was away has no socket to come back to: the common one knows. */
  async #askWhetherEnded(): Promise<void> {
    const { task } = this;
    if (task === undefined || this.#claimedAt === undefined || this.#asking) return;
    this.#asking = true;
    const common = connect({ address: this.#claimedAt });
    try {
      const { tasks } = await common.agent.status({}, { timeoutMs: 2_000, signal: this.#closed.signal });
      if (!tasks.some(({ id }) => id === task.id)) this.#end(new BrevetError("DENIED_TASK_ENDED", `task ${task.id} ended while the broker was away`));
    } catch {
      // still away: asked again with the next try
    } finally {
      common.close();
      this.#asking = false;
    }
  }

  /** A claimed task whose SVIDs all expired while its socket was gone has ended unheard. */
  #dropExpired(): void {
    const now = Date.now();
    const live = this.#identities.some(({ expiresAt }) => expiresAt.getTime() > now);
    if (this.task === undefined || this.#identities.length === 0 || live) return;
    this.#end(new BrevetError("DENIED_TASK_ENDED", `task ${this.task.id}: its SVIDs expired while the broker was away`));
  }

  #end(error: BrevetError): void {
    if (this.#closed.signal.aborted) return;
    this.#forget();
    this.#closed.abort(error);
    this.#connection.close();
    soon(() => this.emit("end", error));
  }
}

/** After what is under way: a listener that throws must not end the stream. */
const soon = (emit: () => void): void => queueMicrotask(emit);

/** Section 4.4: a message that lacks what is mandatory is discarded whole. */
function readIdentity(svid: X509SVID__Output): X509Identity {
  const chain = splitChain(svid.x509Svid);
  const { spiffeId, notAfter, binding } = readX509Svid(chain[0] as Buffer);
  if (spiffeId !== svid.spiffeId || svid.x509SvidKey.length === 0 || svid.bundle.length === 0) {
    throw new BrevetError("VERIFY_MALFORMED", `the broker's message about ${spiffeId} is not complete`);
  }
  return {
    spiffeId,
    hint: svid.hint,
    cert: chain.map((certificate) => pem("CERTIFICATE", certificate)).join(""),
    key: pem("PRIVATE KEY", svid.x509SvidKey),
    bundle: splitDer(svid.bundle),
    expiresAt: notAfter,
    binding,
  };
}

function pem(label: string, der: Buffer): string {
  const lines = der.toString("base64").replace(/.{64}(?=.)/g, "$&\n");
  return `-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`;
}
