// Is this request well formed?
// Every rule of a request is checked before anything is done, and all violations are answered at once,
// each under the field's name in the proto. Text is Unicode that can be seen (src/identity/text.ts); sizes are in
// characters as the proto says.
// What a well-formed request may do is judged elsewhere.
import { BrevetError, invalid } from "../errors.ts";
import type { Violation } from "../errors.ts";
import { hasHidden, isBlank } from "../identity/text.ts";
import { fromTimestamp } from "../proto.ts";

const shortestPrefix = 8;
const latestSeconds = 62_135_596_800; // as far from 1970 as the year 1

export class Fields {
  readonly #violations: Violation[] = [];

  get areGood(): boolean {
    return this.#violations.length === 0;
  }

  /** Refuses if anything was wrong. */
  check(): void {
    if (this.#violations.length > 0) throw invalid(this.#violations);
  }

  wrong(field: string, description: string): void {
    this.#violations.push({ field, description });
  }

  /** What its own reader finds wrong with a field, beside the rest. */
  read(reader: () => unknown): void {
    try {
      reader();
    } catch (error) {
      if (!(error instanceof BrevetError)) throw error;
      this.#violations.push(...error.violations);
    }
  }

  text(field: string, value: string, most: number, required = false): string {
    if (required && isBlank(value)) this.wrong(field, "is required");
    else if ([...value].length > most) this.wrong(field, `at most ${most} characters`);
    else if (hasHidden(value)) this.wrong(field, "must not contain control, invisible or direction-changing characters");
    return value;
  }

  /** Whatever may name a task; which one it is, access.ts finds out. */
  task(field: string, value: string): string {
    const whole = value.startsWith("spiffe://") || /^pid:[1-9][0-9]{0,9}$/.test(value);
    if (value === "") this.wrong(field, "is required");
    else if (value.length > 2048) this.wrong(field, "is too long");
    else if (!/^[!-~]+$/.test(value)) this.wrong(field, "may hold only printable ASCII characters, and no space");
    else if (!whole && value.length < shortestPrefix) this.wrong(field, `is not a task ID; a prefix needs at least ${shortestPrefix} characters`);
    return value;
  }

  map(field: string, value: Readonly<Record<string, string>>, limits: { keys: number; key: number; value: number }): Record<string, string> {
    const entries = Object.entries(value);
    if (entries.length > limits.keys) this.wrong(field, `at most ${limits.keys} keys`);
    for (const [key, text] of entries) {
      if (key === "" || [...key].length > limits.key || !/^[A-Za-z0-9][A-Za-z0-9._@/-]*$/.test(key) || key === "__proto__") {
        this.wrong(`${field}[${JSON.stringify(key.slice(0, 80))}]`, `a key is 1 to ${limits.key} of A-Z, a-z, 0-9 and . _ @ / -`);
        continue;
      }
      this.text(`${field}[${JSON.stringify(key)}]`, text, limits.value);
    }
    return Object.fromEntries(entries);
  }

  /** Of a oneof, exactly one member: a decoder would take one of several, and not the one that was meant. */
  single<K extends string>(oneof: string, request: Readonly<Partial<Record<K, unknown>>>, members: readonly K[]): void {
    const given = members.filter((member) => request[member] !== undefined);
    if (given.length !== 1) this.wrong(oneof, `exactly one of ${members.join(", ")} is required`);
  }

  /** A moment that PostgreSQL can hold; null: not given. */
  time(field: string, value: { seconds?: unknown; nanos?: unknown } | null | undefined): Date | null {
    const { seconds, nanos } = { seconds: Number(value?.seconds ?? 0), nanos: Number(value?.nanos ?? 0) };
    if (Math.abs(seconds) > latestSeconds || nanos < 0 || nanos > 999_999_999) {
      this.wrong(field, "is not a time between the years 1 and 9999");
      return null;
    }
    return fromTimestamp(value) ?? null;
  }

  /** Of a list whose token is the last row's number; null: from its beginning. */
  pageToken(value: string): number | null {
    if (!/^[0-9]{0,15}$/.test(value)) this.wrong("page_token", "is not one that was given out");
    return value === "" ? null : Number(value);
  }

  oneOf<T extends string, F = T>(field: string, value: string, allowed: readonly T[], fallback: F): T | F {
    if (value === "") return fallback;
    const found = allowed.find((candidate) => candidate === value);
    if (found === undefined) this.wrong(field, `must be one of ${allowed.join(", ")}`);
    return found ?? fallback;
  }

  integer(field: string, value: number, least: number, most: number, fallback: number): number {
    if (value === 0) return fallback;
    if (!Number.isSafeInteger(value) || value < least || value > most) this.wrong(field, `must be between ${least} and ${most}`);
    return value;
  }
}
