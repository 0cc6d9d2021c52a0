// What does a JSON text from outside say, with no room for two readings?
// A key stands once in its object, text is UTF-8 without lone surrogates, numbers are finite, and
// objects have no prototype, so no key can reach one. Depth is bounded here, size by the caller.
// RFC 8259; RFC 7515 section 4 and SPIFFE bundles section 5.1.1 (a repeated name must not pass).
// What the members mean is left to svid.ts and bundle.ts.
import { BrevetError } from "../errors.ts";

export type Json = null | boolean | number | string | readonly Json[] | JsonObject;
export type JsonObject = { readonly [key: string]: Json };

const maxDepth = 16;
const space = /[ \t\n\r]*/y;
/** From quote to quote; JSON.parse then judges what stands between. */
const stringToken = /"(?:[^"\\]|\\.)*"/y;
const otherToken = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null/y;
const loneSurrogate = /\p{Surrogate}/u;
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function parseJson(bytes: Buffer): Json {
  const reader = new JsonReader(textOf(bytes));
  const value = reader.value(0);
  reader.end();
  return value;
}

export function parseJsonObject(bytes: Buffer): JsonObject {
  const value = parseJson(bytes);
  if (!isJsonObject(value)) throw malformed("not an object");
  return value;
}

export function isJsonObject(value: Json | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function textOf(bytes: Buffer): string {
  try {
    return decoder.decode(bytes);
  } catch {
    throw malformed("not UTF-8");
  }
}

class JsonReader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  end(): void {
    this.#take(space);
    if (this.#at !== this.#text.length) throw malformed("text after the end");
  }

  value(depth: number): Json {
    if (depth > maxDepth) throw malformed("nested too deep");
    this.#take(space);
    const next = this.#text[this.#at];
    if (next === "{") return this.#object(depth);
    if (next === "[") return this.#array(depth);
    if (next === '"') return this.#string();
    const token = this.#take(otherToken);
    if (token === "") throw malformed("unexpected character");
    const value = JSON.parse(token) as null | boolean | number;
    if (typeof value === "number" && !Number.isFinite(value)) throw malformed("number too large");
    return value;
  }

  #object(depth: number): JsonObject {
    const members = Object.create(null) as Record<string, Json>;
    this.#at++;
    if (this.#skip("}")) return members;
    do {
      this.#take(space);
      const key = this.#string();
      if (key in members) throw malformed("a key stands twice");
      if (!this.#skip(":")) throw malformed("colon expected");
      members[key] = this.value(depth + 1);
    } while (this.#skip(","));
    if (!this.#skip("}")) throw malformed("comma or brace expected");
    return members;
  }

  #array(depth: number): Json[] {
    const items: Json[] = [];
    this.#at++;
    if (this.#skip("]")) return items;
    do items.push(this.value(depth + 1));
    while (this.#skip(","));
    if (!this.#skip("]")) throw malformed("comma or bracket expected");
    return items;
  }

  #string(): string {
    const token = this.#take(stringToken);
    if (token === "") throw malformed("string expected");
    const text = parsedString(token);
    if (loneSurrogate.test(text)) throw malformed("lone surrogate");
    return text;
  }

  #skip(character: string): boolean {
    this.#take(space);
    if (this.#text[this.#at] !== character) return false;
    this.#at++;
    return true;
  }

  #take(token: RegExp): string {
    token.lastIndex = this.#at;
    const found = token.exec(this.#text)?.[0] ?? "";
    this.#at += found.length;
    return found;
  }
}

function parsedString(token: string): string {
  try {
    return JSON.parse(token) as string;
  } catch {
    throw malformed("string with a control character or an unknown escape");
  }
}

function malformed(what: string): BrevetError {
  return new BrevetError("VERIFY_MALFORMED", `JSON: ${what}`);
}
