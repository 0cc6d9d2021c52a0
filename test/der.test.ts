// Is the DER writer's output what others read, and does the reader refuse whatever is not DER?
// Round trips for every type; one table of wrong bytes by rule; any bytes end in a value or a refusal.
// ITU-T X.690; the encodings of ECDSA signatures in the Wycheproof vectors.
// What certificates and lists may hold is left to x509-svid.test.ts and crl.test.ts.
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  derBitString, derBoolean, derContext, derElement, derEnumerated, derInteger, derNull, derOctetString, derOid, derSequence, derSet,
  derTime, derUtf8, readDer, splitDer,
} from "../src/identity/der.ts";
import type { DerReader } from "../src/identity/der.ts";
import { openssl } from "./support/authorities.ts";

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(" ", ""), "hex");
const bytesOf = (max: number): fc.Arbitrary<Buffer> => fc.uint8Array({ maxLength: max }).map((bytes) => Buffer.from(bytes));

describe("what is written reads back", () => {
  test("numbers", () => {
    fc.assert(fc.property(fc.maxSafeNat(), (value) => {
      expect(readDer(derInteger(value)).integer()).toBe(value);
    }));
    fc.assert(fc.property(fc.bigInt({ min: 0n, max: 2n ** 160n - 1n }), (value) => {
      expect(BigInt(`0x${readDer(derInteger(value)).integerBytes().toString("hex")}`)).toBe(value);
    }));
    expect(derInteger(hex("00 00 80"))).toEqual(hex("02 02 00 80"));
    expect(derInteger(Buffer.alloc(0))).toEqual(hex("02 01 00"));
    expect(() => derInteger(-1)).toThrow("whole number");
    expect(() => derInteger(0.5)).toThrow("whole number");
  });

  test("bytes of every length around the length forms", () => {
    for (const length of [0, 1, 127, 128, 255, 256, 65_535, 65_536]) {
      const bytes = Buffer.alloc(length, 7);
      expect(readDer(derOctetString(bytes), { maxBytes: 100_000 }).octetString()).toEqual(bytes);
    }
    const large = derOctetString(Buffer.alloc(0x1000000));
    expect(large.subarray(0, 6)).toEqual(hex("04 84 01 00 00 00"));
  });

  test("text, bits, booleans, enumerations, null", () => {
    fc.assert(fc.property(fc.string({ unit: "grapheme" }), (text) => {
      expect(readDer(derUtf8(text)).utf8()).toBe(text);
    }));
    fc.assert(fc.property(bytesOf(40), (bytes) => {
      expect(readDer(derBitString(bytes)).bitString()).toEqual({ bytes, unusedBits: 0 });
    }));
    expect(readDer(derUtf8("\ufeffx")).utf8()).toBe("\ufeffx");
    expect([true, false].map((value) => readDer(derBoolean(value)).boolean())).toEqual([true, false]);
    expect(readDer(derEnumerated(5)).enumerated()).toBe(5);
    expect(readDer(derNull()).null()).toBeUndefined();
  });

  test("object identifiers", () => {
    const arcs = fc.array(fc.bigInt({ min: 0n, max: 2n ** 128n }), { maxLength: 2 });
    const heads = fc.oneof(fc.tuple(fc.constantFrom(0n, 1n), fc.bigInt({ min: 0n, max: 39n })), fc.tuple(fc.constant(2n), fc.bigInt({ min: 0n, max: 2n ** 128n })));
    fc.assert(fc.property(heads, arcs, (head, rest) => {
      const dotted = [...head, ...rest].join(".");
      expect(readDer(derOid(dotted)).oid()).toBe(dotted);
    }), { numRuns: 500 });
    expect(derOid("1.2.840.10045.4.3.2")).toEqual(hex("06 08 2a 86 48 ce 3d 04 03 02"));
  });

  test("times, by the second, on both sides of 2050", () => {
    const times = fc.date({ min: new Date("1950-01-01T00:00:00Z"), max: new Date("9999-12-31T23:59:59Z"), noInvalidDate: true });
    fc.assert(fc.property(times, (date) => {
      expect(readDer(derTime(date)).time().getTime()).toBe(Math.floor(date.getTime() / 1000) * 1000);
    }), { numRuns: 1_000 });
    expect(derTime(new Date("2049-12-31T23:59:59.999Z")).subarray(2).toString()).toBe("491231235959Z");
    expect(derTime(new Date("2050-01-01T00:00:00Z")).subarray(2).toString()).toBe("20500101000000Z");
    expect(readDer(derTime(new Date("1950-01-01T00:00:00Z"))).time().toISOString()).toBe("1950-01-01T00:00:00.000Z");
  });

  test("structures, as OpenSSL sees them", () => {
    const der = derSequence([
      derInteger(300), derContext(1, derUtf8("é")), derContext(6, Buffer.from("uri"), false), derSet([derBoolean(true), derInteger(1)]),
    ]);
    const reader = readDer(der).sequence();
    expect(reader.integer()).toBe(300);
    expect(reader.context(1).utf8()).toBe("é");
    expect(reader.contextBytes(6).toString()).toBe("uri");
    const set = reader.set();
    expect(set.boolean()).toBe(true);
    expect(set.raw()).toEqual(derInteger(1));
    expect([set.atEnd, set.peekTag(), reader.atEnd]).toEqual([true, 0, true]);
    const { text } = openssl(["asn1parse", "-inform", "der", "-in", "x"], { x: der });
    expect(text.match(/prim: +\w+|cons: +[\w[\] ]+?(?= *$)/gm)).toEqual([
      "cons: SEQUENCE", "prim: INTEGER", "cons: cont [ 1 ]", "prim: UTF8STRING", "prim: cont", "cons: SET", "prim: BOOLEAN", "prim: INTEGER",
    ]);
  });

  test("elements one after another are split", () => {
    fc.assert(fc.property(fc.array(bytesOf(300), { maxLength: 5 }), (parts) => {
      const elements = parts.map(derOctetString);
      expect(splitDer(Buffer.concat(elements))).toEqual(elements);
    }));
    expect(() => splitDer(hex("04 00 04"))).toThrow("cut short");
    expect(() => splitDer(Buffer.alloc(65), { maxBytes: 64 })).toThrow("at most 64");
  });
});

describe("what is not DER is refused", () => {
  const read: Readonly<Record<string, (reader: DerReader) => unknown>> = {
    integer: (reader) => reader.integer(),
    boolean: (reader) => reader.boolean(),
    bitString: (reader) => reader.bitString(),
    octetString: (reader) => reader.octetString(),
    null: (reader) => reader.null(),
    oid: (reader) => reader.oid(),
    enumerated: (reader) => reader.enumerated(),
    utf8: (reader) => reader.utf8(),
    time: (reader) => reader.time(),
    sequence: (reader) => reader.sequence().end(),
    context: (reader) => reader.context(0),
  };
  test.each([
    ["nothing", "octetString", "", "cut short"],
    ["a tag alone", "octetString", "04", "cut short"],
    ["content cut short", "octetString", "04 02 00", "cut short"],
    ["a length cut short", "octetString", "04 82 01", "cut short"],
    ["bytes after the end", "octetString", "04 00 00", "bytes after the end"],
    ["an indefinite length", "sequence", "30 80 00 00", "indefinite"],
    ["a length of five bytes", "octetString", "04 85 00 00 00 00 00", "indefinite or too large"],
    ["a long form for a short length", "octetString", "04 81 01 00", "not the shortest"],
    ["a length with a leading zero", "octetString", `04 82 00 80 ${"00".repeat(128)}`, "not the shortest"],
    ["a tag of two bytes", "octetString", "1f 20 00", "above 30"],
    ["another type", "integer", "04 01 00", "tag 0x4 where 0x2 belongs"],
    ["a constructed string", "octetString", "24 04 04 02 01 02", "tag 0x24"],
    ["a primitive sequence", "sequence", "10 00", "tag 0x10"],
    ["a primitive context tag", "context", "80 00", "tag 0x80"],
    ["more elements than expected", "sequence", "30 02 05 00", "more elements"],
    ["an element beyond its parent", "sequence", "30 02 04 05", "more elements"],
    ["an empty integer", "integer", "02 00", "empty integer"],
    ["a negative integer", "integer", "02 01 80", "negative"],
    ["a padded integer", "integer", "02 02 00 7f", "not the shortest"],
    ["an integer beyond 2^53", "integer", "02 07 20 00 00 00 00 00 00", "too large"],
    ["a boolean of 1", "boolean", "01 01 01", "boolean"],
    ["a boolean of two bytes", "boolean", "01 02 ff ff", "boolean"],
    ["bits without their count", "bitString", "03 00", "bit string"],
    ["eight unused bits", "bitString", "03 02 08 00", "bit string"],
    ["unused bits that are set", "bitString", "03 02 01 01", "bit string"],
    ["unused bits of nothing", "bitString", "03 01 01", "bit string"],
    ["null with content", "null", "05 01 00", "null"],
    ["an empty identifier", "oid", "06 00", "object identifier"],
    ["an identifier cut short", "oid", "06 02 2a 86", "object identifier"],
    ["a padded identifier", "oid", "06 03 2a 80 01", "not the shortest"],
    ["a giant identifier", "oid", `06 41 ${"81".repeat(64)} 01`, "object identifier"],
    ["a large enumeration", "enumerated", "0a 02 01 00", "enumerated"],
    ["overlong UTF-8", "utf8", "0c 02 c0 80", "UTF-8"],
    ["a UTF-8 surrogate", "utf8", "0c 03 ed a0 80", "UTF-8"],
    ["a time without seconds", "time", derElement(0x17, [Buffer.from("2601010000Z")]).toString("hex"), "time"],
    ["a time with fractions", "time", derElement(0x18, [Buffer.from("20510101000000.5Z")]).toString("hex"), "time"],
    ["a local time", "time", derElement(0x17, [Buffer.from("260101000000+0100")]).toString("hex"), "time"],
    ["30 February", "time", derElement(0x17, [Buffer.from("260230000000Z")]).toString("hex"), "no such date"],
    ["month 13", "time", derElement(0x17, [Buffer.from("261301000000Z")]).toString("hex"), "no such date"],
    ["hour 24", "time", derElement(0x17, [Buffer.from("260101240000Z")]).toString("hex"), "no such date"],
    ["second 60", "time", derElement(0x17, [Buffer.from("260101000060Z")]).toString("hex"), "no such date"],
    ["the long form before 2050", "time", derElement(0x18, [Buffer.from("20491231235959Z")]).toString("hex"), "UTCTime"],
  ])("%s", (_rule, type, bytes, why) => {
    expect(() => read[type]?.(readDer(hex(bytes)))).toThrow(why);
  });

  test("what is too large or too deep", () => {
    expect(() => readDer(derOctetString(Buffer.alloc(100)), { maxBytes: 64 })).toThrow("at most 64");
    let nested = derNull();
    for (let depth = 0; depth < 20; depth++) nested = derSequence([nested]);
    let reader = readDer(nested);
    expect(() => {
      for (let depth = 0; depth < 20; depth++) reader = reader.sequence();
    }).toThrow("too deep");
  });

  test("any bytes end in a value or a refusal, and a value's bytes are the only ones for it", () => {
    const tags = fc.constantFrom(0x01, 0x02, 0x03, 0x05, 0x06, 0x0c, 0x17, 0x18);
    fc.assert(fc.property(tags, bytesOf(20), (tag, content) => {
      const element = derElement(tag, [content]);
      try {
        return writtenAgain(tag, readDer(element)).equals(element);
      } catch (error) {
        if ((error as { code?: string }).code !== "VERIFY_MALFORMED") throw error;
        return true;
      }
    }), { numRuns: 5_000 });
  });
});

function writtenAgain(tag: number, reader: DerReader): Buffer {
  if (tag === 0x01) return derBoolean(reader.boolean());
  if (tag === 0x02) return derInteger(reader.integerBytes());
  if (tag === 0x05) return reader.null() ?? derNull();
  if (tag === 0x06) return derOid(reader.oid());
  if (tag === 0x0c) return derUtf8(reader.utf8());
  if (tag === 0x17 || tag === 0x18) return derTime(reader.time());
  const { bytes, unusedBits } = reader.bitString();
  return derBitString(bytes, unusedBits);
}

describe("the encodings of ECDSA signatures in the Wycheproof vectors", () => {
  const misencoded = new Set(["BerEncodedSignature", "InvalidEncoding", "InvalidTypesInSignature", "MissingZero"]);
  const vectors = readFileSync(new URL("./fixtures/wycheproof/ecdsa-p256-der.jsonl", import.meta.url), "utf8")
    .trimEnd().split("\n").map((line) => JSON.parse(line) as { sig?: string; valid?: boolean; flags?: string[] });
  const isDer = (signature: Buffer): boolean => {
    try {
      const pair = readDer(signature).sequence();
      pair.integerBytes();
      pair.integerBytes();
      pair.end();
      return true;
    } catch {
      return false;
    }
  };

  test("valid ones are read, misencoded ones refused", () => {
    let judged = 0;
    for (const { sig, valid, flags } of vectors) {
      if (sig === undefined || flags === undefined) continue;
      const mustRefuse = flags.some((flag) => misencoded.has(flag));
      if (!valid && !mustRefuse) continue;
      expect([sig, isDer(hex(sig))]).toEqual([sig, valid]);
      judged++;
    }
    expect(judged).toBeGreaterThan(300);
  });
});
