// How do ASN.1 values become bytes, and bytes values again?
// One value has one encoding: the writer makes only DER, the reader refuses BER (indefinite or
// non-minimal lengths, padded integers, loose booleans and times), bytes left over, tag numbers
// above 30, and more bytes or depth than it was told to expect. It never loops over what it skips.
// ITU-T X.690 section 10 (DER).
// The insides of times and identifiers are left to der-content.ts; what values mean, to certificate.ts, crl.ts, task.ts.
import { BrevetError } from "../errors.ts";
import { decodeOid, decodeTime, encodeOid, encodeTime, utcTimeBytes } from "./der-content.ts";

export const derTag = {
  boolean: 0x01, integer: 0x02, bitString: 0x03, octetString: 0x04, null: 0x05, oid: 0x06, enumerated: 0x0a, utf8: 0x0c,
  utcTime: 0x17, generalizedTime: 0x18, sequence: 0x30, set: 0x31,
} as const;

// Writer

export function derElement(tag: number, parts: readonly Buffer[]): Buffer {
  let length = 0;
  for (const part of parts) length += part.length;
  const header = headerBytes(length);
  const out = Buffer.allocUnsafe(header + length);
  writeHeader(out, tag, length, header);
  let at = header;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** What stands before the content of an element that is put together elsewhere. */
export function derHeader(tag: number, length: number): Buffer {
  const out = Buffer.allocUnsafe(headerBytes(length));
  writeHeader(out, tag, length, out.length);
  return out;
}

function headerBytes(length: number): number {
  return length < 0x80 ? 2 : length < 0x100 ? 3 : length < 0x10000 ? 4 : length < 0x1000000 ? 5 : 6;
}

function writeHeader(out: Buffer, tag: number, length: number, header: number): void {
  out[0] = tag;
  if (header === 2) {
    out[1] = length;
  } else {
    out[1] = 0x80 | (header - 2);
    out.writeUIntBE(length, 2, header - 2);
  }
}

export const derSequence = (parts: readonly Buffer[]): Buffer => derElement(derTag.sequence, parts);
export const derSet = (parts: readonly Buffer[]): Buffer => derElement(derTag.set, [...parts].sort(Buffer.compare));
export const derOctetString = (bytes: Buffer): Buffer => derElement(derTag.octetString, [bytes]);
export const derUtf8 = (text: string): Buffer => derElement(derTag.utf8, [Buffer.from(text, "utf8")]);
export const derNull = (): Buffer => derElement(derTag.null, []);
export const derBoolean = (value: boolean): Buffer => derElement(derTag.boolean, [Buffer.of(value ? 0xff : 0)]);
export const derEnumerated = (value: number): Buffer => derElement(derTag.enumerated, [Buffer.of(value)]);
export const derBitString = (bytes: Buffer, unusedBits = 0): Buffer => derElement(derTag.bitString, [Buffer.of(unusedBits), bytes]);

/** Context tag `[n]`: constructed for explicit tags and implicit sequences, primitive for implicit strings. */
export const derContext = (n: number, content: Buffer, constructed = true): Buffer =>
  derElement((constructed ? 0xa0 : 0x80) | n, [content]);

/** No negative numbers: none of our structures has one. A Buffer is an unsigned big-endian number. */
export function derInteger(value: number | bigint | Buffer): Buffer {
  const bytes = Buffer.isBuffer(value) ? value : unsignedBytes(value);
  let start = 0;
  while (start < bytes.length - 1 && bytes[start] === 0) start++;
  const magnitude = bytes.subarray(start);
  const padded = magnitude.length === 0 || (magnitude[0] ?? 0) >= 0x80;
  return derElement(derTag.integer, padded ? [Buffer.of(0), magnitude] : [magnitude]);
}

function unsignedBytes(value: number | bigint): Buffer {
  if (value < 0 || (typeof value === "number" && !Number.isSafeInteger(value))) {
    throw new BrevetError("INTERNAL", "DER integer: not a whole number from 0");
  }
  const hex = value.toString(16);
  return Buffer.from(hex.length % 2 ? `0${hex}` : hex, "hex");
}

export const derOid = (dotted: string): Buffer => derElement(derTag.oid, [encodeOid(dotted)]);

/** Whole seconds, rounded down; UTCTime through 2049, GeneralizedTime from 2050. */
export function derTime(date: Date): Buffer {
  const content = encodeTime(date);
  return derElement(content.length === utcTimeBytes ? derTag.utcTime : derTag.generalizedTime, [content]);
}

// Reader

type ReadLimits = { readonly maxBytes?: number; readonly maxDepth?: number };

const utf8Decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** A reader before the one element that `bytes` must consist of. */
export function readDer(bytes: Buffer, { maxBytes = 64 * 1024, maxDepth = 16 }: ReadLimits = {}): DerReader {
  if (bytes.length > maxBytes) throw malformed(`${bytes.length} bytes, at most ${maxBytes} are read`);
  const end = elementEnd(bytes, 0, bytes.length);
  if (end !== bytes.length) throw malformed("bytes after the end");
  return new DerReader(bytes, 0, end, maxDepth);
}

/** The elements that stand one after another, such as the certificates of a chain. */
export function splitDer(bytes: Buffer, { maxBytes = 64 * 1024 }: ReadLimits = {}): Buffer[] {
  if (bytes.length > maxBytes) throw malformed(`${bytes.length} bytes, at most ${maxBytes} are read`);
  const elements: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = elementEnd(bytes, at, bytes.length);
    elements.push(bytes.subarray(at, end));
    at = end;
  }
  return elements;
}

export class DerReader {
  readonly #bytes: Buffer;
  readonly #end: number;
  readonly #depth: number;
  #at: number;

  constructor(bytes: Buffer, start: number, end: number, depth: number) {
    if (depth < 0) throw malformed("nested too deep");
    this.#bytes = bytes;
    this.#at = start;
    this.#end = end;
    this.#depth = depth;
  }

  get atEnd(): boolean {
    return this.#at === this.#end;
  }

  end(): void {
    if (!this.atEnd) throw malformed("more elements than expected");
  }

  /** The next element's tag, 0 at the end. */
  peekTag(): number {
    return this.atEnd ? 0 : (this.#bytes[this.#at] ?? 0);
  }

  /** The next element as it stands, header included. */
  raw(): Buffer {
    const start = this.#at;
    this.#at = elementEnd(this.#bytes, start, this.#end);
    return this.#bytes.subarray(start, this.#at);
  }

  sequence(): DerReader {
    return this.#constructed(derTag.sequence);
  }

  set(): DerReader {
    return this.#constructed(derTag.set);
  }

  /** Into constructed `[n]`. */
  context(n: number): DerReader {
    return this.#constructed(0xa0 | n);
  }

  /** The bytes of primitive `[n]`. */
  contextBytes(n: number): Buffer {
    return this.#primitive(0x80 | n);
  }

  /** An unsigned number without its sign byte. */
  integerBytes(): Buffer {
    return unsigned(this.#primitive(derTag.integer));
  }

  integer(): number {
    const bytes = this.integerBytes();
    const value = bytes.length <= 6 ? bytes.readUIntBE(0, bytes.length) : Number(BigInt(`0x${bytes.toString("hex")}`));
    if (!Number.isSafeInteger(value)) throw malformed("integer too large");
    return value;
  }

  enumerated(): number {
    const bytes = unsigned(this.#primitive(derTag.enumerated));
    if (bytes.length !== 1) throw malformed("enumerated too large");
    return bytes[0] ?? 0;
  }

  boolean(): boolean {
    const bytes = this.#primitive(derTag.boolean);
    if (bytes.length !== 1 || (bytes[0] !== 0 && bytes[0] !== 0xff)) throw malformed("boolean");
    return bytes[0] === 0xff;
  }

  null(): void {
    if (this.#primitive(derTag.null).length !== 0) throw malformed("null with content");
  }

  octetString(): Buffer {
    return this.#primitive(derTag.octetString);
  }

  bitString(): { readonly bytes: Buffer; readonly unusedBits: number } {
    const content = this.#primitive(derTag.bitString);
    const unusedBits = content[0] ?? 8;
    const bytes = content.subarray(1);
    const last = bytes.at(-1) ?? 0;
    if (unusedBits > 7 || (bytes.length === 0 && unusedBits > 0) || (last & ((1 << unusedBits) - 1)) !== 0) throw malformed("bit string");
    return { bytes, unusedBits };
  }

  utf8(): string {
    try {
      return utf8Decoder.decode(this.#primitive(derTag.utf8));
    } catch (cause) {
      throw cause instanceof BrevetError ? cause : malformed("text is not UTF-8");
    }
  }

  oid(): string {
    return decodeOid(this.#primitive(derTag.oid));
  }

  time(): Date {
    const utc = this.peekTag() === derTag.utcTime;
    return decodeTime(this.#primitive(utc ? derTag.utcTime : derTag.generalizedTime), utc);
  }

  #constructed(tag: number): DerReader {
    const start = this.#contentStart(tag);
    return new DerReader(this.#bytes, start, this.#at, this.#depth - 1);
  }

  #primitive(tag: number): Buffer {
    const start = this.#contentStart(tag);
    return this.#bytes.subarray(start, this.#at);
  }

  /** Steps over the next element, which must have this tag; where its content begins. */
  #contentStart(tag: number): number {
    const start = this.#at;
    const found = this.peekTag();
    if (found !== tag) throw malformed(`tag 0x${found.toString(16)} where 0x${tag.toString(16)} belongs`);
    this.#at = elementEnd(this.#bytes, start, this.#end);
    return start + headerLength(this.#bytes, start);
  }
}

function headerLength(bytes: Buffer, at: number): number {
  const first = bytes[at + 1] ?? 0;
  return first < 0x80 ? 2 : 2 + (first & 0x7f);
}

/** Where the element at `at` ends; refuses one that does not end by `limit`. */
function elementEnd(bytes: Buffer, at: number, limit: number): number {
  if (limit - at < 2) throw malformed("cut short");
  if (((bytes[at] ?? 0) & 0x1f) === 0x1f) throw malformed("tag number above 30");
  const first = bytes[at + 1] ?? 0;
  let length = first;
  let end = at + 2;
  if (first >= 0x80) {
    const count = first & 0x7f;
    if (count === 0 || count > 4) throw malformed("length: indefinite or too large");
    if (limit - end < count) throw malformed("cut short");
    length = bytes.readUIntBE(end, count);
    if (length < 0x80 || length < 2 ** (8 * (count - 1))) throw malformed("length: not the shortest form");
    end += count;
  }
  if (limit - end < length) throw malformed("cut short");
  return end + length;
}

function unsigned(bytes: Buffer): Buffer {
  const [first, second = 0] = bytes;
  if (first === undefined) throw malformed("empty integer");
  if (first >= 0x80) throw malformed("negative integer");
  if (first !== 0 || bytes.length === 1) return bytes;
  if (second < 0x80) throw malformed("integer: not the shortest form");
  return bytes.subarray(1);
}

function malformed(what: string): BrevetError {
  return new BrevetError("VERIFY_MALFORMED", `DER: ${what}`);
}
