// How does an answer reach a person, or a program?
// With json and yaml stdout holds one document (or JSON lines) and nothing else: the proto's field
// names, RFC 3339 times, absent messages left out. What others wrote (purposes, reasons, paths) never
// moves the cursor or turns the text around: control and bidi characters are shown as escapes.
// RFC 3339 (times), RFC 8259 section 7 (escapes).
// What the errors look like is failure.ts's business; what a table holds, each noun's.
import { hasHidden, unhidden } from "../identity/text.ts";
import type { Timestamp } from "../proto.ts";

export const formats = ["table", "json", "yaml"] as const;
export type Format = (typeof formats)[number];

function escaped(char: string): string {
  return Array.from({ length: char.length }, (_, i) => `\\u${char.charCodeAt(i).toString(16).padStart(4, "0")}`).join("");
}

/** Text from elsewhere, fit for a terminal: always one line. */
export function safe(text: string): string {
  return unhidden(text, escaped);
}

export function short(text: string, most: number): string {
  const chars = [...text];
  return chars.length <= most ? text : `${chars.slice(0, most - 1).join("")}…`;
}

// Colour

const styles = { bold: "1", dim: "2", red: "31", green: "32", yellow: "33" } as const;
export type Style = keyof typeof styles;

/** Colours for this stream, or text as it is: not a terminal, NO_COLOR, or a dumb one. */
export function painter(stream: { isTTY?: boolean } = process.stdout, env = process.env): (style: Style, text: string) => string {
  const coloured = stream.isTTY === true && !env["NO_COLOR"] && env["TERM"] !== "dumb";
  return (style, text) => (coloured ? `\u001b[${styles[style]}m${text}\u001b[0m` : text);
}

/** Columns and fields whose value is one of ours. */
const stated: ReadonlySet<string> = new Set(["state", "was", "outcome", "result", "verdict"]);
const stateStyles: Readonly<Record<string, Style>> = {
  active: "green", ready: "yellow", closed: "dim", aborted: "red", expired: "dim",
  granted: "green", denied: "red", accepted: "green", refused: "red", ok: "green", warn: "yellow", fail: "red",
};

// Time

const steps = [[86_400, "d"], [3_600, "h"], [60, "m"], [1, "s"]] as const;

/** `3m ago`, `in 2h`, `now`. */
export function relative(date: Date, now: Date = new Date()): string {
  const seconds = Math.round((date.getTime() - now.getTime()) / 1000);
  const [size, unit] = steps.find(([step]) => Math.abs(seconds) >= step) ?? [1, "s"];
  const amount = `${Math.floor(Math.abs(seconds) / size)}${unit}`;
  return seconds === 0 ? "now" : seconds < 0 ? `${amount} ago` : `in ${amount}`;
}

/** `2026-11-22T10:00:00Z (3m ago)`; empty for what never happened. */
export function when(time: Timestamp | null | undefined, now?: Date): string {
  if (!time) return "";
  const date = new Date(time.seconds * 1000);
  return `${date.toISOString().replace(".000Z", "Z")} (${relative(date, now)})`;
}

// Documents

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** A message as its JSON: Timestamps as RFC 3339, Structs as objects, bytes as base64, absent messages left out. */
export function plain(value: unknown): Json {
  if (value === null || value === undefined) return null;
  if (Buffer.isBuffer(value)) return value.toString("base64");
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object") return value as Json;
  const entries = Object.entries(value);
  if (isTimestamp(value)) return new Date(value.seconds * 1000 + Math.floor(value.nanos / 1e6)).toISOString();
  if (isStruct(value)) return structOf(value);
  return Object.fromEntries(entries.filter(([, v]) => v !== null && v !== undefined).map(([k, v]) => [k, plain(v)]));
}

function isTimestamp(value: object): value is Timestamp {
  const { seconds, nanos } = value as Partial<Timestamp>;
  return typeof seconds === "number" && typeof nanos === "number" && Object.keys(value).length === 2;
}

type Value = { readonly kind?: string | undefined; readonly [key: string]: unknown };
type Struct = { readonly fields: Readonly<Record<string, Value>> };

function isStruct(value: object): value is Struct {
  const { fields } = value as Partial<Struct>;
  return Object.keys(value).length === 1 && typeof fields === "object" && fields !== null && !Array.isArray(fields);
}

function structOf(struct: Struct): Json {
  return Object.fromEntries(Object.entries(struct.fields).map(([key, value]) => [key, valueOf(value)]));
}

/** google.protobuf.Value, whose one set member says its kind. */
function valueOf(value: Value): Json {
  if (value["listValue"]) return (value["listValue"] as { values?: readonly Value[] }).values?.map(valueOf) ?? [];
  if (value["structValue"]) return structOf(value["structValue"] as Struct);
  for (const kind of ["stringValue", "numberValue", "boolValue"]) {
    if (value[kind] !== undefined && value[kind] !== null) return value[kind] as Json;
  }
  return null;
}

export function jsonText(value: unknown, indent?: number): string {
  return unhidden(JSON.stringify(plain(value), undefined, indent), (char) => (char === "\n" ? char : escaped(char)));
}

export function writeLine(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Prints one answer in the format asked for; `table` is only made when it is wanted. */
export async function print(format: Format, value: unknown, table: () => string): Promise<void> {
  if (format === "json") return writeLine(jsonText(value, 2));
  if (format === "yaml") return void process.stdout.write(await yamlText(value));
  const text = table();
  if (text !== "") writeLine(text);
}

/** One of many answers: a JSON line, a YAML document, a line. */
export async function printNext(format: Format, value: unknown, line: () => string): Promise<void> {
  if (format === "json") return writeLine(jsonText(value));
  if (format === "yaml") return void process.stdout.write(`---\n${await yamlText(value)}`);
  writeLine(line());
}

/** Scalars with hidden characters are double-quoted, the only style that can escape them. */
export async function yamlText(value: unknown): Promise<string> {
  const { Document, Scalar, visit } = await import("yaml");
  const document = new Document(plain(value));
  visit(document, {
    Scalar(_key, node) {
      if (typeof node.value === "string" && hasHidden(node.value)) node.type = Scalar.QUOTE_DOUBLE;
    },
  });
  return unhidden(document.toString({ lineWidth: 0 }), (char) => (char === "\n" ? char : escaped(char)));
}

// Tables

export type Column<Row> = readonly [header: string, cell: (row: Row) => string];

/** Aligned columns under dim headers; a state is coloured. `none` is said where there is no row. */
export function table<Row>(rows: readonly Row[], columns: readonly Column<Row>[], none: string): string {
  if (rows.length === 0) return none;
  const paint = painter();
  const cells = rows.map((row) => columns.map(([, cell]) => safe(cell(row)) || "-"));
  const widths = columns.map(([header], i) => Math.max(header.length, ...cells.map((line) => width(line[i] ?? ""))));
  const pad = (text: string, i: number): string =>
    i === columns.length - 1 ? text : text + " ".repeat((widths[i] ?? 0) - width(text) + 2);
  const header = columns.map(([text], i) => paint("dim", pad(text.toUpperCase(), i))).join("").trimEnd();
  return [header, ...cells.map((line) => line.map((text, i) => paintState(paint, columns[i]?.[0] ?? "", pad(text, i))).join(""))].join("\n");
}

/** `name  value` lines; what is empty is left out. */
export function fields(pairs: readonly (readonly [name: string, value: string])[]): string {
  const shown = pairs.filter(([, value]) => value !== "");
  const widest = Math.max(0, ...shown.map(([name]) => name.length));
  const paint = painter();
  return shown
    .map(([name, value]) => `${paint("dim", name.padEnd(widest + 2))}${paintState(paint, name, safe(value))}`)
    .join("\n");
}

export function pairs(map: Readonly<Record<string, string>>): string {
  return Object.entries(map).map(([key, value]) => `${key}=${value}`).join(" ");
}

function paintState(paint: ReturnType<typeof painter>, name: string, shown: string): string {
  const state = shown.trimEnd();
  const style = stated.has(name) && Object.hasOwn(stateStyles, state) ? stateStyles[state] : undefined;
  return style ? paint(style, shown) : shown;
}

function width(text: string): number {
  return [...text].length;
}
