// What does a YAML file say, and where does it say it?
// Every value has a line and a column. Size, depth and the number of problems are bounded, keys are
// words that stand once, and there are no aliases: a short file can't grow into a large value.
// YAML 1.2, core schema. Nothing that is read here throws or ends the process.
// What the values must be is left to src/identity/schema.ts and to the files that use it.
import { Composer, isAlias, isMap, isScalar, isSeq, Lexer, LineCounter, Parser } from "yaml";
import type { CST, Document, ParsedNode } from "yaml";

export type SourceFile = { readonly name: string; readonly text: string };
export type Place = { readonly line: number; readonly column: number };
export type Problem = Place & { readonly file: string; readonly message: string };
export type Path = readonly PropertyKey[];

export type YamlFile = {
  /** Plain objects without a prototype, arrays and scalars; undefined where the syntax is broken. */
  readonly value: unknown;
  readonly problems: Problem[];
  /** Where the value at the path stands, or its key; of what isn't there, the nearest thing around it. */
  readonly place: (path: Path, part?: "key" | "value") => Place;
};

export const maxFileBytes = 256 * 1024;
/** Deeper text would be composed by recursion: far enough down, it ends the process. */
const maxDepth = 32;

export function readYaml(file: SourceFile): YamlFile {
  if (Buffer.byteLength(file.text) > maxFileBytes) {
    return refusedWhole(file, `is larger than ${maxFileBytes / 1024} KiB`);
  }
  const lines = new LineCounter();
  const tokens = tokenize(file.text, lines);
  if (!Array.isArray(tokens)) return refusedWhole(file, `is nested deeper than ${maxDepth} levels`, placeOf(lines, tokens.tooDeepAt));
  const documents = compose(tokens, lines, file.text.length);
  const problems = documents
    .flatMap((document) => [...document.errors, ...document.warnings])
    .map((error) => ({ file: file.name, ...placeOf(lines, error.pos[0]), message: printable(error.message) }));
  const [document, second] = documents;
  if (second) problems.push({ file: file.name, ...placeOf(lines, second.range[0]), message: "a second document: write one file for each" });
  if (!document || problems.length > 0) return { value: undefined, problems, place: () => ({ line: 1, column: 1 }) };
  return readDocument(file, document, lines);
}

function refusedWhole(file: SourceFile, message: string, place: Place = { line: 1, column: 1 }): YamlFile {
  return { value: undefined, problems: [{ file: file.name, ...place, message }], place: () => place };
}

function tokenize(text: string, lines: LineCounter): CST.Token[] | { readonly tooDeepAt: number } {
  const parser = new Parser(lines.addNewLine);
  const tokens: CST.Token[] = [];
  lines.addNewLine(0);
  for (const lexeme of new Lexer().lex(text)) {
    tokens.push(...parser.next(lexeme));
    if (parser.stack.length > maxDepth) return { tooDeepAt: parser.offset };
  }
  tokens.push(...parser.end());
  return tokens;
}

/** `uniqueKeys` is off because the library's check is quadratic; the walk below does it. */
function compose(tokens: readonly CST.Token[], lineCounter: LineCounter, end: number): Document.Parsed[] {
  const composer = new Composer({
    lineCounter, version: "1.2", schema: "core", resolveKnownTags: false, merge: false,
    strict: true, uniqueKeys: false, prettyErrors: false, logLevel: "silent",
  });
  return [...composer.compose(tokens, true, end)];
}

type Places = Map<PropertyKey, { readonly key: number; readonly value: number }>;

/** From the library's tree to plain values, remembering where each stood. */
function readDocument(file: SourceFile, document: Document.Parsed, lines: LineCounter): YamlFile {
  const problems: Problem[] = [];
  const placesOf = new Map<object, Places>();
  const refuse = (offset: number, message: string): void => {
    problems.push({ file: file.name, ...placeOf(lines, offset), message });
  };

  function plain(node: ParsedNode | null): unknown {
    if (isMap(node)) return plainMap(node.items as { key: ParsedNode; value: ParsedNode | null }[]);
    if (isSeq(node)) return plainList(node.items as ParsedNode[]);
    if (isAlias(node)) refuse(node.range[0], "aliases are not taken: write the value out");
    return isScalar(node) ? node.value : null;
  }

  function plainMap(items: readonly { readonly key: ParsedNode; readonly value: ParsedNode | null }[]): unknown {
    const map = Object.create(null) as Record<string, unknown>;
    const places: Places = new Map();
    placesOf.set(map, places);
    for (const { key, value } of items) {
      const offset = key.range[0];
      if (!isScalar(key) || typeof key.value !== "string") refuse(offset, "a key must be a word");
      else if (places.has(key.value)) refuse(offset, `${quoted(key.value)} stands twice`);
      else {
        places.set(key.value, { key: offset, value: value?.range[0] ?? offset });
        map[key.value] = plain(value);
      }
    }
    return map;
  }

  function plainList(items: readonly ParsedNode[]): unknown {
    const list: unknown[] = [];
    const places: Places = new Map();
    placesOf.set(list, places);
    for (const item of items) {
      places.set(list.length, { key: item.range[0], value: item.range[0] });
      list.push(plain(item));
    }
    return list;
  }

  const value = plain(document.contents);
  const start = document.contents?.range[0] ?? 0;

  function place(path: Path, part: "key" | "value" = "value"): Place {
    let offset = start;
    let here: unknown = value;
    for (const [index, step] of path.entries()) {
      const found = typeof here === "object" && here !== null ? placesOf.get(here)?.get(step) : undefined;
      if (!found) break;
      offset = part === "key" && index === path.length - 1 ? found.key : found.value;
      here = (here as Record<PropertyKey, unknown>)[step];
    }
    return placeOf(lines, offset);
  }

  return { value, problems, place };
}

function placeOf(lines: LineCounter, offset: number): Place {
  const { line, col } = lines.linePos(offset);
  return { line: Math.max(line, 1), column: Math.max(col, 1) };
}

/** Text from outside as it may stand in a message: one line, nothing invisible, not long. */
export function printable(text: string, max = 200): string {
  const shown = text.length > max ? `${text.slice(0, max)}…` : text;
  return shown.replace(/[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]/gu, (c) => `\\u{${(c.codePointAt(0) ?? 0).toString(16)}}`);
}

export function quoted(text: string): string {
  return `\`${printable(text, 40)}\``;
}
