// How far has what was revoked come, and who verifies at all?
// A stream that begins with how it is now, goes on at each change, and ends when nothing is waited for any
// more. Verifiers of other brokers are read from the database twice a second, only while somebody looks.
// What is known is src/revoke/propagation.ts's and verifiers.ts's, what it means residual.ts's.
import { setTimeout as sleep } from "node:timers/promises";
import { isName, isTaskId } from "../identity/id.ts";
import type { ListVerifiersResponse } from "../generated/brevet/v1/ListVerifiersResponse.ts";
import type { Propagation as Message } from "../generated/brevet/v1/Propagation.ts";
import type { RevocationsHandlers } from "../generated/brevet/v1/Revocations.ts";
import type { VerifierRecord } from "../generated/brevet/v1/VerifierRecord.ts";
import type { WatchPropagationRequest__Output } from "../generated/brevet/v1/WatchPropagationRequest.ts";
import { toTimestamp } from "../proto.ts";
import type { Feed } from "../revoke/feed.ts";
import type { Propagation } from "../revoke/propagation.ts";
import { nobodyAfter, refusesBy, residuals } from "../revoke/residual.ts";
import type { VerifierState, Verifiers } from "../revoke/verifiers.ts";
import { Fields } from "./fields.ts";
import type { ApiServer } from "./server.ts";
import { taken } from "./unread.ts";

export type PropagationParts = { readonly feed: Feed; readonly verifiers: Verifiers; readonly propagation: Propagation };

const mostSubjects = 50_000;
const lookMs = 50;
const elsewhereMs = 500;

export function propagationHandlers(server: ApiServer, p: PropagationParts): Pick<RevocationsHandlers, "WatchPropagation" | "ListVerifiers"> {
  return {
    ListVerifiers: server.unary("Revocations.ListVerifiers", async (): Promise<ListVerifiersResponse> => ({
      verifiers: [...p.verifiers.here, ...(await p.verifiers.elsewhere())].sort((a, b) => a.joinedAt - b.joinedAt).map(recordOf),
      sequence: p.feed.sequence, silent: p.verifiers.silent,
    })),

    WatchPropagation: server.stream("Revocations.WatchPropagation", async (request: WatchPropagationRequest__Output, call, stream) => {
      const subjects = checked(request.subjects);
      const view = await View.of(p, subjects);
      for (let shown = ""; !call.signal.aborted; await sleep(lookMs, undefined, { signal: call.signal })) {
        await view.look();
        if (view.state === shown) continue;
        shown = view.state;
        const message = view.message();
        await taken(stream, message, call.signal);
        if (request.once || message.settled) return;
      }
    }),
  };
}

function checked(subjects: readonly string[]): readonly string[] {
  const fields = new Fields();
  if (subjects.length < 1 || subjects.length > mostSubjects) fields.wrong("subjects", `1 to ${mostSubjects} are required`);
  else {
    for (const [i, subject] of subjects.entries()) {
      const isService = subject.startsWith("service/") && isName(subject.slice("service/".length));
      if (!isService && !isTaskId(subject)) fields.wrong(`subjects[${i}]`, "is neither a task ID nor service/<name>");
    }
  }
  fields.check();
  return [...new Set(subjects)];
}

type Revocation = Awaited<ReturnType<Propagation["revocationOf"]>>;

/** One revocation, or several taken together, as they stand now. */
class View {
  readonly #p: PropagationParts;
  readonly #subjects: readonly string[];
  readonly #revoked: Revocation;
  /** Of those that had it as their last, or were seen to apply it: at most how long after the commit. Later words say nothing of it. */
  readonly #latencies = new Map<string, number>();
  #waitedFor = new Set<string>();
  #verifiers: readonly VerifierState[] = [];
  #elsewhere: readonly VerifierState[] = [];
  #elsewhereAt = Number.NEGATIVE_INFINITY;

  private constructor(parts: PropagationParts, subjects: readonly string[], revoked: Revocation) {
    this.#p = parts;
    this.#subjects = subjects;
    this.#revoked = revoked;
  }

  static async of(parts: PropagationParts, subjects: readonly string[]): Promise<View> {
    return new View(parts, subjects, await parts.propagation.revocationOf(subjects));
  }

  async look(): Promise<void> {
    if (performance.now() - this.#elsewhereAt > elsewhereMs) {
      this.#elsewhere = await this.#p.verifiers.elsewhere();
      this.#elsewhereAt = performance.now();
    }
    // one that moved here is not there any more
    const here = this.#p.verifiers.here;
    const own = new Set(here.map(keyOf));
    const now = this.#p.feed.clock.now();
    this.#verifiers = [...here, ...this.#elsewhere.filter((verifier) => !own.has(keyOf(verifier)))]
      .filter((verifier) => this.#hasApplied(verifier) || this.#mayAccept(verifier, now));
    for (const verifier of this.#verifiers) this.#measure(verifier);
    this.#waitedFor = new Set(this.#verifiers.filter((verifier) => !this.#hasApplied(verifier)).map(keyOf));
  }

  #measure(verifier: VerifierState): void {
    const { applied, appliedAt, joinedAt } = verifier;
    const { sequence, committedAt } = this.#revoked;
    const key = keyOf(verifier);
    if (!this.#hasApplied(verifier) || appliedAt === null || joinedAt > committedAt || this.#latencies.has(key)) return;
    if (applied === sequence || this.#waitedFor.has(key)) this.#latencies.set(key, Math.max(0, appliedAt - committedAt));
  }

  /** Differs whenever there is something to show. */
  get state(): string {
    const { propagation } = this.#p;
    return JSON.stringify([
      this.#verifiers.map((verifier) => [verifier.id, this.#hasApplied(verifier), verifier.leftAt === null]),
      propagation.listsOf(this.#revoked, this.#revoked.authorities).map(({ carries, number }) => [carries, number]),
      propagation.streamsOf(this.#subjects), this.#p.verifiers.silent,
    ]);
  }

  message(): Message {
    const { feed, propagation, verifiers: { silent } } = this.#p;
    const revoked = this.#revoked;
    const now = feed.clock.now();
    const lists = propagation.listsOf(revoked, revoked.authorities);
    const left = revoked.sequence === 0 ? [] : residuals(revoked, now, this.#verifiers, lists);
    return {
      at: stamp(now), sequence: revoked.sequence, committedAt: revoked.sequence === 0 ? null : stamp(revoked.committedAt),
      x509Svids: this.#died("x509"), jwtSvids: this.#died("jwt"), streams: propagation.streamsOf(this.#subjects), silent,
      verifiers: this.#verifiers.map((verifier) => this.#progressOf(verifier)),
      lists: lists.map(({ authority, carries, number, at, nextUpdate }) => ({
        authority, carries, number, publishedAt: toTimestamp(at), nextUpdate: toTimestamp(nextUpdate),
      })),
      residuals: left.map((residual) => ({ class: residual.class, until: residual.until === undefined ? null : stamp(residual.until), why: residual.why })),
      nobodyAfter: revoked.sequence === 0 ? null : stamp(nobodyAfter(revoked, left)),
      settled: this.#verifiers.every((verifier) => this.#hasApplied(verifier)) && lists.every(({ carries }) => carries),
    };
  }

  #progressOf(verifier: VerifierState): NonNullable<Message["verifiers"]>[number] {
    const applied = this.#hasApplied(verifier);
    return {
      verifier: recordOf(verifier), applied, latencyUs: Math.round((this.#latencies.get(keyOf(verifier)) ?? 0) * 1_000),
      refusesBy: applied ? null : stamp(refusesBy(verifier, this.#revoked)),
    };
  }

  #hasApplied({ applied }: VerifierState): boolean {
    return applied >= this.#revoked.sequence;
  }

  #mayAccept(verifier: VerifierState, now: number): boolean {
    return refusesBy(verifier, this.#revoked) > now;
  }

  #died(kind: "x509" | "jwt"): number {
    return this.#revoked.svids.filter((died) => died.kind === kind).reduce((sum, { count }) => sum + count, 0);
  }
}

function keyOf({ id, who }: VerifierState): string {
  return `${id} ${who}`;
}

function recordOf(verifier: VerifierState): VerifierRecord {
  const { id, name, who, pid, broker, maxStalenessMs, applied, appliedAt, leftAt, heardUntil } = verifier;
  return {
    id, name, who, pid, broker, maxStalenessMs, applied, appliedAt: appliedAt === null ? null : stamp(appliedAt), connected: leftAt === null, heardUntil: stamp(heardUntil),
  };
}

function stamp(unixMs: number): { seconds: number; nanos: number } {
  return toTimestamp(new Date(unixMs));
}
