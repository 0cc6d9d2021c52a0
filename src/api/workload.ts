// What does the SPIFFE Workload API answer?
// To the letter of the standard: each message is the full state, the first is sent as soon as there is
// one, later ones when something changed. An SVID whose task is over is gone from the stream in the
// same turn in which its end was committed; when none is left, the stream ends with PermissionDenied.
// SPIFFE Workload API sections 4-6 and 8; WIT (section 7) is Unimplemented.
// Who holds what is src/claim's business, what is issued src/issue's, verification src/verify's.
import type { ServerWritableStream } from "@grpc/grpc-js";
import type { LiveCatalog } from "../authorize/catalog.ts";
import type { Claims, Holding } from "../claim/claim.ts";
import type { Bindings, Bound } from "../claim/bindings.ts";
import { BrevetError } from "../errors.ts";
import { parseBrevetId, parseSpiffeId } from "../identity/id.ts";
import type { SpiffeWorkloadAPIHandlers } from "../generated/SpiffeWorkloadAPI.ts";
import type { X509SVIDResponse } from "../generated/X509SVIDResponse.ts";
import type { Holder, Issuer, X509Svid } from "../issue/issue.ts";
import type { Trust } from "../issue/trust.ts";
import type { Crls } from "../revoke/crl.ts";
import { Fields } from "./fields.ts";
import type { ApiServer, Call } from "./server.ts";
import type { Validator } from "./validate.ts";

export type WorkloadParts = {
  readonly trustDomain: string;
  readonly claims: Claims;
  readonly bindings: Bindings;
  readonly catalog: LiveCatalog;
  readonly issuer: Issuer;
  readonly trust: Trust;
  readonly crls: Crls;
  readonly validate: Validator;
  /** Calls back when SVIDs of services were revoked, or the catalog changed. */
  readonly onServicesChanged: (callback: () => void) => () => void;
};

const mostAudiences = 4;
const mostAudienceLength = 256;
const mostCrlBytes = 64 * 1024;
const mostUnread = 16;
const paceMs = 100;
const retryMs = 1000;
const crlPaceMs = 60_000;

export function workloadHandlers(server: ApiServer, parts: WorkloadParts): SpiffeWorkloadAPIHandlers {
  const { claims, issuer, trust } = parts;
  const unimplemented = (): never => {
    throw new BrevetError("UNIMPLEMENTED", "the WIT-SVID profile is not implemented");
  };
  return {
    FetchX509SVID: server.stream("FetchX509SVID", async (_request: object, call, stream) => {
      const holding = await claims.hold(call.connection.caller, call.connection.endpointTask, call);
      await new X509Stream(parts, call, holding, stream as ServerWritableStream<unknown, X509SVIDResponse>).run();
    }),

    FetchX509Bundles: server.stream("FetchX509Bundles", async (_request: object, call, stream) => {
      await followBundle(parts, call, true, () => stream.write({
        crl: smallCrls(parts.crls),
        bundles: { [`spiffe://${parts.trustDomain}`]: trust.published.x509 },
      }));
    }),

    FetchJWTSVID: server.unary("FetchJWTSVID", async (request: { audience: string[]; spiffeId: string }, call) => {
      checkAudiences(request.audience);
      const wanted = request.spiffeId === "" ? null : parseSpiffeId(request.spiffeId, "spiffe_id") && request.spiffeId;
      const holding = await claims.hold(call.connection.caller, call.connection.endpointTask, call);
      const holders = holdersOf(parts, call, holding).filter((holder) => wanted === null || isOf(wanted, holder, parts.trustDomain));
      if (holders.length === 0) throw new BrevetError("DENIED_IDENTITY", "spiffe_id: the caller does not hold this identity");
      for (const holder of holders) {
        const subject = holder.kind === "task" ? { agent: holder.agent } : { service: holder.service };
        const forbidden = parts.catalog.forbiddenAudiences(subject, request.audience);
        if (forbidden.length > 0) {
          throw new BrevetError("DENIED_AUDIENCE", `audience: ${forbidden.join(", ")}: not among the audiences of its catalog entry`);
        }
      }
      const svids = await Promise.all(holders.map((holder) => issuer.jwt(holder, request.audience)));
      return { svids: svids.map((svid) => ({ spiffeId: svid.spiffeId, svid: svid.token, hint: svid.hint })) };
    }),

    FetchJWTBundles: server.stream("FetchJWTBundles", async (_request: object, call, stream) => {
      await followBundle(parts, call, false, () => stream.write({ bundles: { [`spiffe://${parts.trustDomain}`]: trust.published.jwks } }));
    }),

    ValidateJWTSVID: server.unary("ValidateJWTSVID", (request: { audience: string; svid: string }) => {
      const fields = new Fields();
      fields.text("audience", request.audience, mostAudienceLength, true);
      if (request.svid === "") fields.wrong("svid", "is required");
      fields.check();
      return parts.validate(request.svid, request.audience);
    }),

    FetchWITSVID: server.stream("FetchWITSVID", async () => unimplemented()),
    FetchWITBundles: server.stream("FetchWITBundles", async () => unimplemented()),
  };
}

function checkAudiences(audiences: readonly string[]): void {
  const fields = new Fields();
  if (audiences.length === 0) fields.wrong("audience", "at least one is required");
  if (audiences.length > mostAudiences) fields.wrong("audience", `at most ${mostAudiences}`);
  else for (const [i, audience] of audiences.entries()) fields.text(`audience[${i}]`, audience, mostAudienceLength, true);
  fields.check();
}

function isOf(spiffeId: string, holder: Holder, trustDomain: string): boolean {
  const id = parseBrevetId(spiffeId);
  if (id.trustDomain !== trustDomain) return false;
  if (holder.kind === "task") return id.kind === "agent" && id.agent === holder.agent && (id.task ?? holder.task) === holder.task;
  return id.kind === "service" && id.service === holder.service;
}

function holdersOf(parts: WorkloadParts, call: Call, holding: Holding): Holder[] {
  const { caller } = call.connection;
  if (holding.kind === "tasks") {
    return boundNow(parts, call, holding).map((bound) => holderOf(holding, bound));
  }
  const process = `uid ${caller.uid} pid ${caller.pid} start ${caller.startTime}`;
  const still = new Set(parts.catalog.matchingServices(caller.facts));
  return holding.services.filter((service) => still.has(service))
    .map((service) => ({ kind: "service", service, process, isSame: () => caller.isSame() }));
}

function holderOf(holding: Holding & { kind: "tasks" }, bound: Bound): Holder {
  return { kind: "task", task: bound.task, agent: bound.agent, instance: bound.instance.id, isSame: () => holding.found.isSame() };
}

/** What the instance holds now of what this caller may see: tasks come and go, and the catalog changes, while a stream is open. */
function boundNow({ catalog }: WorkloadParts, { connection: { caller, endpointTask } }: Call, holding: Holding & { kind: "tasks" }): Bound[] {
  const { instance, own } = holding.found;
  return instance.bound.filter((bound) => (endpointTask === null || bound.task === endpointTask)
    && (own ? catalog.isAgent(bound.agent, caller.facts) : bound.scope === "tree"));
}

function smallCrls(crls: Crls): Buffer[] {
  const lists = crls.published.map((crl) => crl.der);
  return lists.reduce((sum, der) => sum + der.length, 0) <= mostCrlBytes ? lists : [];
}

/** Sends now and after each change of the bundle; for a new CRL alone at most once a minute, jittered. */
async function followBundle(parts: WorkloadParts, call: Call, withCrl: boolean, send: () => void): Promise<void> {
  let crlTimer: NodeJS.Timeout | undefined;
  const offTrust = parts.trust.onChange(send);
  const offCrl = withCrl ? parts.crls.onChange(() => {
    crlTimer ??= setTimeout(() => {
      crlTimer = undefined;
      send();
    }, crlPaceMs * (1 + Math.random()));
    crlTimer.unref();
  }) : () => undefined;
  try {
    send();
    await new Promise<void>((_, reject) => call.signal.addEventListener("abort", () => reject(call.signal.reason as Error), { once: true }));
  } finally {
    offTrust();
    offCrl();
    clearTimeout(crlTimer);
  }
}

/** One FetchX509SVID stream: everything its caller holds, and again whenever that changes. */
class X509Stream {
  readonly #parts: WorkloadParts;
  readonly #call: Call;
  readonly #holding: Holding;
  readonly #stream: ServerWritableStream<unknown, X509SVIDResponse>;
  #sent: X509Svid[] = [];
  #sentAt = -Infinity;
  #crlDue = 0;
  #over = false;
  #dirty = false;
  #timer: NodeJS.Timeout | undefined;
  #resume: () => void = () => undefined;
  #fail: (error: unknown) => void = () => undefined;

  constructor(parts: WorkloadParts, call: Call, holding: Holding, stream: ServerWritableStream<unknown, X509SVIDResponse>) {
    this.#parts = parts;
    this.#call = call;
    this.#holding = holding;
    this.#stream = stream;
  }

  async run(): Promise<void> {
    const { trust, crls, bindings, onServicesChanged } = this.#parts;
    const failed = new Promise<never>((_, reject) => (this.#fail = reject));
    const aborted = (): void => this.#fail(this.#call.signal.reason);
    const holding = this.#holding;
    const off = [
      trust.onChange(() => {
        this.#sent = [];
        this.#wake();
      }),
      crls.onChange(() => (this.#crlDue ||= performance.now() + crlPaceMs * (1 + Math.random()))),
      ...(holding.kind === "tasks" ? [bindings.watch(holding.found.instance, (task) => this.#changed(task))] : []),
      onServicesChanged(() => (holding.kind === "tasks" ? this.#dropLost() : this.#wake())),
    ];
    this.#call.signal.addEventListener("abort", aborted, { once: true });
    try {
      if (this.#call.signal.aborted) throw this.#call.signal.reason;
      await Promise.race([this.#keepFresh(), failed]);
    } finally {
      this.#over = true;
      clearTimeout(this.#timer);
      for (const stop of off) stop();
      this.#call.signal.removeEventListener("abort", aborted);
    }
  }

  async #keepFresh(): Promise<void> {
    while (!this.#over) {
      this.#dirty = false;
      const restMs = await this.#refresh();
      await this.#rest(restMs);
      const early = this.#sentAt + paceMs - performance.now();
      if (early > 0) await this.#rest(early, false);
    }
  }

  /** Until the time is over or, if `wakeable`, something changed. Never resumes once the stream is over. */
  #rest(ms: number, wakeable = true): Promise<void> {
    return new Promise((resolve) => {
      if (this.#over) return;
      if (wakeable && this.#dirty) {
        resolve();
        return;
      }
      clearTimeout(this.#timer);
      this.#timer = setTimeout(resolve, Math.min(ms, 2_147_000_000));
      this.#timer.unref();
      this.#resume = wakeable ? resolve : () => undefined;
    });
  }

  #wake(): void {
    this.#dirty = true;
    this.#resume();
  }

  /** Sends what changed; answers how long it may rest, in milliseconds. */
  async #refresh(): Promise<number> {
    const holders = holdersOf(this.#parts, this.#call, this.#holding);
    const fetched = await Promise.allSettled(holders.map((holder) => this.#parts.issuer.x509(holder)));
    const svids: X509Svid[] = [];
    let failure: unknown;
    fetched.forEach((result, i) => {
      const before = this.#sent.find((svid) => svid.hint === hintOf(holders[i]));
      if (result.status === "fulfilled") svids.push(result.value);
      else if (!isDenial(result.reason)) {
        failure = result.reason;
        if (before && holders[i] && this.#holds(before)) svids.push(before);
      }
    });
    // some tasks may have ended while the SVIDs were being made
    if (this.#over) return 0;
    const good = svids.filter((svid) => this.#holds(svid));
    if (good.length === 0) throw failure ?? denial(fetched) ?? ended();
    const crlNews = this.#crlDue > 0 && performance.now() >= this.#crlDue;
    if (crlNews || good.length !== this.#sent.length || good.some((svid, i) => svid !== this.#sent[i])) this.#send(good);
    if (failure) return retryMs;
    const renew = Math.min(...good.map((svid) => svid.renewAt)) - performance.now();
    const untilCrl = this.#crlDue > 0 ? this.#crlDue - performance.now() : Infinity;
    return Math.max(1, Math.min(renew, untilCrl));
  }

  #lookAgain(): void {
    if (this.#dropLost()) this.#wake();
  }

  /** A task's own endpoint has nothing to do with the others of its process. */
  #changed(task: string): void {
    const { endpointTask } = this.#call.connection;
    if (endpointTask === null || endpointTask === task) this.#lookAgain();
  }

  /** In the same turn as the change: what is no longer held leaves the stream at once. False if that was all. */
  #dropLost(): boolean {
    const left = this.#sent.filter((svid) => this.#holds(svid));
    if (this.#sent.length > 0 && left.length === 0) {
      this.#fail(ended());
      return false;
    }
    if (left.length < this.#sent.length) this.#send(left);
    return true;
  }

  #holds(svid: X509Svid): boolean {
    if (this.#holding.kind === "services") return true;
    return boundNow(this.#parts, this.#call, this.#holding).some((bound) => bound.task === svid.hint);
  }

  #send(svids: X509Svid[]): void {
    // whoever does not read is not written to for ever
    if (this.#stream.writableLength > mostUnread) {
      this.#fail(new BrevetError("RATE_LIMITED", "the stream's messages are not read"));
      return;
    }
    const bundle = this.#parts.trust.published.x509;
    this.#sent = svids;
    this.#sentAt = performance.now();
    this.#crlDue = 0;
    this.#stream.write({
      svids: svids.map((svid) => ({ spiffeId: svid.spiffeId, x509Svid: svid.chain, x509SvidKey: svid.key, bundle, hint: svid.hint })),
      crl: smallCrls(this.#parts.crls),
    });
  }
}

function hintOf(holder: Holder | undefined): string {
  return holder?.kind === "task" ? holder.task : (holder?.service ?? "");
}

function isDenial(error: unknown): boolean {
  return error instanceof BrevetError && error.code.startsWith("DENIED_");
}

function denial(results: readonly PromiseSettledResult<X509Svid>[]): unknown {
  return results.find((result) => result.status === "rejected")?.reason;
}

function ended(): BrevetError {
  return new BrevetError("DENIED_TASK_ENDED", "the caller holds no task any more");
}
