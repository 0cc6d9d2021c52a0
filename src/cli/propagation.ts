// Did it work?
// How far a revocation has come, as a person reads it: what died, who has applied it, who has not and for
// how long that can matter, which lists carry it, and from when on nobody can accept it. On a terminal it is
// drawn anew in place; elsewhere each verifier and list is a line when its time comes, and the whole stands
// at the end. With -o json each state is a line.
// What is so is the broker's word; times are PostgreSQL's, and run here from when they were heard.
import type { Connection } from "../client/connect.ts";
import { BrevetError } from "../errors.ts";
import type { Propagation__Output } from "../generated/brevet/v1/Propagation.ts";
import type { VerifierProgress__Output } from "../generated/brevet/v1/VerifierProgress.ts";
import { fromTimestamp } from "../proto.ts";
import type { Timestamp } from "../proto.ts";
import { fields, painter, printNext, relative, safe, short, table, writeLine } from "./output.ts";
import type { Format } from "./output.ts";

const redrawMs = 500;
const mostShown = 20;

/** Follows it until nothing is waited for. Throws DEADLINE if a verifier has not applied it in time. */
export async function followPropagation(broker: Connection, subjects: readonly string[], { output, timeoutMs }: { output: Format; timeoutMs: number }): Promise<void> {
  const deadline = AbortSignal.timeout(timeoutMs);
  const screen = output === "table" ? new Screen(process.stdout.isTTY === true) : undefined;
  let last: Propagation__Output | undefined;
  try {
    for await (const state of broker.revocations.watchPropagation({ subjects: [...subjects] }, { signal: deadline })) {
      last = state;
      if (screen) screen.show(state);
      else await printNext(output, state, () => "");
    }
  } catch (error) {
    if (!deadline.aborted) throw error;
  } finally {
    screen?.close();
  }
  const behind = last?.verifiers.filter(({ applied }) => !applied) ?? [];
  if (last && behind.length === 0) return;
  const who = behind.slice(0, mostShown).map((verifier) => describe(verifier)).join(", ");
  throw new BrevetError("DEADLINE", last ? `verifiers: not applied within ${timeoutMs / 1_000} s by ${behind.length} of ${last.verifiers.length}: ${who}` : `broker: not a word within ${timeoutMs / 1_000} s`);
}

/** How far it is now; for a task that has ended. */
export async function propagationNow(broker: Connection, subject: string): Promise<Propagation__Output | undefined> {
  for await (const state of broker.revocations.watchPropagation({ subjects: [subject], once: true })) return state;
  return undefined;
}

/** `now`: PostgreSQL's time, to which what is left is counted. */
export function propagationText(state: Propagation__Output, now: Date = dateOf(state.at)): string {
  if (state.sequence === 0) return "nothing was issued that could have been revoked";
  const shown = [...state.verifiers].sort((a, b) => Number(a.applied) - Number(b.applied)).slice(0, mostShown);
  const left = state.verifiers.length - shown.length;
  const end = dateOf(state.nobodyAfter);
  return [
    fields([
      ["revoked", `${iso(state.committedAt)}, feed sequence ${state.sequence}`],
      ["SVIDs ended", `${state.x509Svids + state.jwtSvids} (${state.x509Svids} X.509, ${state.jwtSvids} JWT)`],
      ["streams ended", `${state.streams} (of this broker)`],
      ["verifiers", summary(state)],
      ["lists", state.lists.map((list) => `${short(list.authority, 12)} ${list.carries ? `number ${list.number} of ${iso(list.publishedAt)}` : `not yet (number ${list.number} without it)`}`).join(", ")],
      ["nobody accepts", end <= now ? "any more" : `after ${end.toISOString()} (${relative(end, now)})`],
    ]),
    table(shown, [
      ["verifier", ({ verifier }) => verifier?.name ?? ""],
      ["who", ({ verifier }) => verifier?.who ?? ""],
      ["pid", ({ verifier }) => String(verifier?.pid ?? "")],
      ["broker", ({ verifier }) => verifier?.broker ?? ""],
      ["applied", (progress) => appliedText(progress, now)],
    ], "") + (left > 0 ? `\nand ${left} more` : ""),
    table(state.residuals, [
      ["class", (residual) => residual.class],
      ["can accept", ({ until }) => (until ? `${relative(dateOf(until), now).replace("in ", "for ")}` : "no more")],
      ["why", (residual) => residual.why],
    ], ""),
  ].filter((part) => part !== "").join("\n\n");
}

function summary({ verifiers, silent }: Propagation__Output): string {
  const done = verifiers.filter(({ applied }) => applied);
  const slowest = Math.max(0, ...done.map(({ latencyUs }) => latencyUs));
  return `${done.length} of ${verifiers.length} have applied it${slowest > 0 ? `, the slowest after ${ms(slowest)}` : ""}${silent > 0 ? `; ${silent} more follow the feed here and say nothing` : ""}`;
}

function appliedText({ applied, latencyUs, refusesBy, verifier }: VerifierProgress__Output, now: Date): string {
  if (applied) return latencyUs > 0 ? `after ${ms(latencyUs)}` : "yes";
  const gone = verifier?.connected === false ? "gone; " : "";
  return `not yet: ${gone}refuses by itself ${relative(dateOf(refusesBy), now)}`;
}

function describe(progress: VerifierProgress__Output): string {
  const { verifier, refusesBy } = progress;
  return `${safe(verifier?.name ?? "")} (${safe(verifier?.who ?? "")}, pid ${verifier?.pid}, ${verifier?.connected ? "connected" : "gone"}; refuses by itself at ${iso(refusesBy)})`;
}

function ms(us: number): string {
  return `${(us / 1_000).toFixed(us < 10_000 ? 1 : 0)} ms`;
}

function dateOf(time: Timestamp | null): Date {
  return fromTimestamp(time) ?? new Date(0);
}

function iso(time: Timestamp | null): string {
  return dateOf(time).toISOString();
}

/** What is on the terminal now, or what was said so far. */
class Screen {
  readonly #isTerminal: boolean;
  readonly #said = new Set<string>();
  readonly #timer: NodeJS.Timeout | undefined;
  #lines = 0;
  #state: Propagation__Output | undefined;
  #heardAt = 0;

  constructor(isTerminal: boolean) {
    this.#isTerminal = isTerminal;
    if (isTerminal) this.#timer = setInterval(() => this.#draw(), redrawMs);
  }

  show(state: Propagation__Output): void {
    this.#state = state;
    this.#heardAt = performance.now();
    if (this.#isTerminal) this.#draw();
    else this.#tell(state);
  }

  close(): void {
    clearInterval(this.#timer);
    if (!this.#state) return;
    if (this.#isTerminal) this.#draw();
    else writeLine(`\n${propagationText(this.#state, this.#now())}`);
  }

  /** What was not so before, a line each. */
  #tell(state: Propagation__Output): void {
    const paint = painter();
    for (const [key, line] of newsOf(state)) {
      if (this.#said.has(key)) continue;
      this.#said.add(key);
      writeLine(`${paint("dim", iso(state.at))}  ${safe(line)}`);
    }
  }

  #draw(): void {
    if (!this.#state) return;
    const columns = process.stdout.columns || 80;
    const lines = propagationText(this.#state, this.#now()).split("\n").map((line) => cut(line, columns - 1));
    process.stdout.write(`${this.#lines > 0 ? `\u001b[${this.#lines}A\u001b[J` : ""}${lines.join("\n")}\n`);
    this.#lines = lines.length;
  }

  #now(): Date {
    return new Date(dateOf(this.#state?.at ?? null).getTime() + performance.now() - this.#heardAt);
  }
}

function* newsOf({ verifiers, lists }: Propagation__Output): Iterable<readonly [key: string, line: string]> {
  for (const { applied, latencyUs, verifier } of verifiers) {
    const how = applied ? `has applied it${latencyUs > 0 ? ` after ${ms(latencyUs)}` : ""}` : "has not applied it yet";
    yield [`${verifier?.id} ${verifier?.who} ${applied}`, `verifier ${verifier?.name} (${verifier?.who}, pid ${verifier?.pid}) ${how}`];
  }
  for (const { authority, carries, number } of lists) {
    if (carries) yield [`list ${authority}`, `list of authority ${short(authority, 12)}, number ${number}, carries it`];
  }
}

/** Its colours take no room. */
function cut(line: string, columns: number): string {
  // eslint-disable-next-line no-control-regex
  const visible = line.replace(/\u001b\[\d+m/g, "");
  return visible.length <= columns ? line : visible.slice(0, columns);
}
