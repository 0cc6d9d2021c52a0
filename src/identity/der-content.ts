// What do the bytes inside a DER time or object identifier say?
// One time and one identifier have one form each; what has another is refused. Answers that every
// certificate repeats are kept, in bounded number.
// ITU-T X.690 sections 8.19 and 11.7-11.8; RFC 5280 section 4.1.2.5 (which of the two times, and when).
// The tag and length around them are left to der.ts.
import { BrevetError } from "../errors.ts";

const maxOidBytes = 64;
const maxKnown = 256;
const encodedOids = new Map<string, Buffer>();
const decodedOids = new Map<string, string>();

export function encodeOid(dotted: string): Buffer {
  const known = encodedOids.get(dotted);
  if (known) return known;
  const [first = 0n, second = 0n, ...rest] = dotted.split(".").map(BigInt);
  const bytes = Buffer.from([first * 40n + second, ...rest].flatMap(septets));
  if (encodedOids.size < maxKnown) encodedOids.set(dotted, bytes);
  return bytes;
}

/** Base 128, all but the last with the high bit set. */
function septets(arc: bigint): number[] {
  const bytes = [Number(arc & 0x7fn)];
  for (let left = arc >> 7n; left > 0n; left >>= 7n) bytes.unshift(Number(left & 0x7fn) | 0x80);
  return bytes;
}

export function decodeOid(bytes: Buffer): string {
  if (bytes.length > maxOidBytes) throw malformed("object identifier");
  const key = bytes.toString("latin1");
  const known = decodedOids.get(key);
  if (known !== undefined) return known;
  const [head = 0n, ...rest] = readArcs(bytes);
  const first = head < 40n ? 0n : head < 80n ? 1n : 2n;
  const dotted = [first, head - 40n * first, ...rest].join(".");
  if (decodedOids.size < maxKnown) decodedOids.set(key, dotted);
  return dotted;
}

function readArcs(bytes: Buffer): bigint[] {
  if ((bytes.at(-1) ?? 0x80) >= 0x80) throw malformed("object identifier");
  const arcs: bigint[] = [];
  let arc = 0n;
  let inside = false;
  for (const byte of bytes) {
    if (!inside && byte === 0x80) throw malformed("object identifier: not the shortest form");
    arc = (arc << 7n) | BigInt(byte & 0x7f);
    inside = byte >= 0x80;
    if (inside) continue;
    arcs.push(arc);
    arc = 0n;
  }
  return arcs;
}

/** The content of a UTCTime, which has two digits for the year; that of a GeneralizedTime is two longer. */
export const utcTimeBytes = 13;

export function encodeTime(date: Date): Buffer {
  const year = date.getUTCFullYear();
  const utc = year < 2050;
  const out = Buffer.allocUnsafe(utc ? utcTimeBytes : utcTimeBytes + 2);
  let at = 0;
  const put = (value: number): void => {
    out[at++] = 0x30 + Math.floor(value / 10);
    out[at++] = 0x30 + (value % 10);
  };
  if (!utc) put(Math.floor(year / 100));
  put(year % 100);
  put(date.getUTCMonth() + 1);
  put(date.getUTCDate());
  put(date.getUTCHours());
  put(date.getUTCMinutes());
  put(date.getUTCSeconds());
  out[at] = 0x5a;
  return out;
}

/** Two-digit years below 50 are of this century. */
export function decodeTime(bytes: Buffer, utc: boolean): Date {
  const text = bytes.toString("latin1");
  if (!(utc ? /^\d{12}Z$/ : /^\d{14}Z$/).test(text)) throw malformed("time");
  const digits = utc ? (text < "5" ? `20${text}` : `19${text}`) : text;
  const part = (at: number): number => Number(digits.slice(at, at + 2));
  const [year, month, day, hour, minute, second] = [Number(digits.slice(0, 4)), part(4), part(6), part(8), part(10), part(12)];
  if (!utc && year < 2050) throw malformed("time: UTCTime is used through 2049");
  const date = new Date(Date.UTC(year, month - 1, day, hour, minute, second));
  // Date rolls 31 June over into July, so what was no date shows by the day that it became.
  const same = date.getUTCMonth() === month - 1 && date.getUTCDate() === day && hour < 24 && minute < 60 && second < 60;
  if (!same) throw malformed("time: no such date");
  return date;
}

function malformed(what: string): BrevetError {
  return new BrevetError("VERIFY_MALFORMED", `DER: ${what}`);
}
