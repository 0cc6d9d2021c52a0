// What does a person see of the demo?
// One line for each step that did what it says, with the time it took; a step that did not throws.
// Colours only on a terminal that wants them. A step ends when the demo is interrupted, and never
// waits for ever.
// What the steps are is demo.ts's business.
import { stripVTControlCharacters } from "node:util";

const coloured = process.stdout.isTTY && !process.env["NO_COLOR"] && process.env["TERM"] !== "dumb";
const styles = { bold: 1, dim: 2, red: 31, green: 32 } as const;
const patienceMs = 20_000;

function paint(style: keyof typeof styles, text: string): string {
  return coloured ? `\u001b[${styles[style]}m${text}\u001b[0m` : text;
}

/** What a step gives to the next ones, what it did, and, where that is not the whole step, how long it took. */
type Done<T> = readonly [result: T, what: string, ms?: number];

export async function step<T>(signal: AbortSignal, who: string, work: () => Promise<Done<T>>): Promise<T> {
  signal.throwIfAborted();
  const began = performance.now();
  const [result, what, ms = performance.now() - began] = await within(signal, who, work());
  say(`${paint("green", "✓")} ${paint("bold", who.padEnd(13))}${paint("dim", milliseconds(ms).padStart(8))}  ${what}`);
  return result;
}

async function within<T>(signal: AbortSignal, who: string, work: Promise<T>): Promise<T> {
  return await new Promise((resolve, reject) => {
    const interrupted = (): void => reject(signal.reason);
    const late = setTimeout(() => reject(new Error(`${who}: nothing happened for ${patienceMs / 1_000} s`)), patienceMs);
    signal.addEventListener("abort", interrupted);
    void work.then(resolve, reject).finally(() => {
      clearTimeout(late);
      signal.removeEventListener("abort", interrupted);
    });
  });
}

export function milliseconds(ms: number): string {
  return ms < 10 ? `${ms.toFixed(1)} ms` : ms < 1_000 ? `${Math.round(ms)} ms` : `${(ms / 1_000).toFixed(1)} s`;
}

export function say(text: string): void {
  process.stdout.write(`${coloured ? text : stripVTControlCharacters(text)}\n`);
}

export function title(text: string): void {
  say(`${text}\n`);
}

export function failed(error: unknown): void {
  process.stderr.write(`${paint("red", "✗")} ${error instanceof Error ? error.message : String(error)}\n`);
}

/** Rows of a table of PostgreSQL, under its name. */
export function table(name: string, rows: readonly Readonly<Record<string, string>>[]): void {
  const columns = Object.keys(rows[0] ?? {});
  const width = (column: string): number => Math.max(column.length, ...rows.map((row) => (row[column] ?? "").length));
  const line = (cell: (column: string) => string): string => columns.map((column) => cell(column).padEnd(width(column))).join("  ").trimEnd();
  say(`\n    ${paint("bold", name.padEnd(13))}${paint("dim", line((column) => column))}`);
  for (const row of rows) say(`    ${" ".repeat(13)}${line((column) => row[column] ?? "")}`);
}
