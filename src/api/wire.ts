// Are these bytes the message that the proto file describes?
// What a handler is given was sent as its proto says, field by field: right wire type, number within
// its range, valid UTF-8, no map key that means something to JavaScript. A decoder alone would take
// one field for another, or guess. Every violation is named, and the decoder never sees such bytes.
// A field that brevet.v1 does not have is refused: whoever sent it asked for something that would not
// be done. In the Workload API and in Envoy's it is ignored, as clients of tomorrow expect.
// Whether a well-formed value makes sense is judged by each handler, with fields.ts.
import type { ServiceDefinition } from "@grpc/grpc-js";
import { invalid } from "../errors.ts";
import type { BrevetError, Violation } from "../errors.ts";
import { packageDefinition } from "../proto.ts";

/** What a handler's wrapper finds in place of a request that was not one. */
export class Malformed {
  readonly error: BrevetError;

  constructor(violations: readonly Violation[]) {
    this.error = invalid(violations);
  }
}

/** The same service; requests that are not what the proto says become Malformed. */
export function strict<D extends ServiceDefinition>(service: D): D {
  return Object.fromEntries(Object.entries(service).map(([name, method]) => {
    const { requestType } = method as unknown as { requestType: { type: object } };
    const shape = shapeOf(requestType.type as Descriptor, [], method.path.slice(1, method.path.lastIndexOf(".") + 1));
    const { requestDeserialize } = method;
    const ignoreUnknown = !method.path.startsWith("/brevet.");
    return [name, { ...method, requestDeserialize: (bytes: Buffer): unknown => {
      const violations: Violation[] = [];
      walk(bytes, shape, "", ignoreUnknown, violations);
      return violations.length > 0 ? new Malformed(violations) : requestDeserialize(bytes);
    } }];
  })) as D;
}

/** For services whose proto is not ours: what can't be decoded becomes Malformed. */
export function readable<D extends ServiceDefinition>(service: D): D {
  return Object.fromEntries(Object.entries(service).map(([name, method]) => {
    const { requestDeserialize } = method;
    return [name, { ...method, requestDeserialize: (bytes: Buffer): unknown => {
      try {
        return requestDeserialize(bytes);
      } catch {
        return new Malformed([{ field: "message", description: "is not what the proto says" }]);
      }
    } }];
  })) as D;
}

type Descriptor = { readonly field: readonly FieldDescriptor[]; readonly nestedType: readonly (Descriptor & { readonly name: string })[]; readonly options: { readonly mapEntry?: boolean } | null };
type FieldDescriptor = { readonly name: string; readonly number: number; readonly label: string; readonly type: string; readonly typeName: string };

type Kind = "string" | "bytes" | "message" | "bool" | "int32" | "uint32" | "int64";
type Field = { readonly name: string; readonly kind: Kind; readonly repeated: boolean; readonly shape: Shape | null };
type Shape = { readonly map: boolean; readonly fields: ReadonlyMap<number, Field> };

const kinds: Readonly<Record<string, Kind>> = {
  TYPE_STRING: "string", TYPE_BYTES: "bytes", TYPE_MESSAGE: "message", TYPE_BOOL: "bool", TYPE_INT32: "int32", TYPE_UINT32: "uint32", TYPE_INT64: "int64",
};
const ranges: Readonly<Partial<Record<Kind, readonly [bigint, bigint]>>> = {
  bool: [0n, 1n], int32: [-(2n ** 31n), 2n ** 31n - 1n], uint32: [0n, 2n ** 32n - 1n],
  int64: [BigInt(Number.MIN_SAFE_INTEGER), BigInt(Number.MAX_SAFE_INTEGER)],
};
const mostViolations = 32;
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** `around`: the messages that it is nested in, the innermost first; `home`: its package, with a dot. */
function shapeOf(type: Descriptor, around: readonly Descriptor[], home: string): Shape {
  const scopes = [type, ...around];
  const fields = type.field.map((field): [number, Field] => {
    const kind = kinds[field.type];
    if (kind === undefined) throw new TypeError(`proto: ${field.name}: a request can't hold ${field.type} yet`);
    const name = field.name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    const shape = kind === "message" ? shapeOfNamed(field.typeName, scopes, home) : null;
    return [field.number, { name, kind, repeated: field.label === "LABEL_REPEATED", shape }];
  });
  return { map: type.options?.mapEntry ?? false, fields: new Map(fields) };
}

/** A name counts from the innermost scope outwards: messages around it, then its package, then those that hold that. */
function shapeOfNamed(name: string, scopes: readonly Descriptor[], home: string): Shape {
  const nested = scopes.flatMap((scope) => scope.nestedType).find((found) => found.name === name);
  if (nested) return shapeOf(nested, scopes, home);
  for (let prefix = home; ; prefix = prefix.replace(/[^.]*\.$/, "")) {
    const found = packageDefinition[prefix + name]?.type;
    if (found) return shapeOf(found as Descriptor, [], (prefix + name).replace(/[^.]*$/, ""));
    if (prefix === "") throw new TypeError(`proto: ${name} is not defined`);
  }
}

/** Reports what is wrong; stops where the bytes can't be followed any further. */
function walk(bytes: Buffer, shape: Shape, prefix: string, ignoreUnknown: boolean, violations: Violation[]): void {
  const wrong = (field: string, description: string): void => {
    if (violations.length < mostViolations) violations.push({ field: prefix + field, description });
  };
  const counts = new Map<number, number>();
  let at = 0;
  while (at < bytes.length) {
    const tag = varint(bytes, at);
    const number = tag === undefined ? 0 : Number(tag.value >> 3n);
    if (tag === undefined || number === 0 || number > 0x1fff_ffff) return wrong("message", "is not a protobuf message");
    const wire = Number(tag.value & 7n);
    const field = shape.fields.get(number);
    const value = payload(bytes, tag.end, wire);
    if (value === undefined) return wrong(field?.name ?? "message", "is cut short or of no wire type that is in use");
    at = value.end;
    if (field === undefined) {
      if (!ignoreUnknown) wrong(`field ${number}`, "is not known here");
      continue;
    }
    const { name, kind } = field;
    const index = counts.get(number) ?? 0;
    counts.set(number, index + 1);
    if (wire !== wireTypeOf(kind)) wrong(name, `has the wrong type: ${kind} is expected`);
    else if (kind === "string" && !isText(value.bytes)) wrong(name, "is not valid UTF-8");
    else if (field.shape?.map) walkEntry(value.bytes, field.shape, `${prefix}${name}`, ignoreUnknown, violations);
    else if (field.shape) walk(value.bytes, field.shape, `${prefix}${name}${field.repeated ? `[${index}]` : ""}.`, ignoreUnknown, violations);
    else if (!isWithin(value.number, kind)) wrong(name, `is out of range for ${kind}`);
  }
}

/** One pair of a map: reported under the map's own name. */
function walkEntry(bytes: Buffer, shape: Shape, map: string, ignoreUnknown: boolean, violations: Violation[]): void {
  const inside: Violation[] = [];
  walk(bytes, shape, `${map}.`, ignoreUnknown, inside);
  for (const { field, description } of inside) violations.push({ field: map, description: `${field.slice(map.length + 1)} ${description}` });
  if (inside.length === 0 && keyOf(bytes) === "__proto__") violations.push({ field: `${map}["__proto__"]`, description: "can't be a key" });
}

function keyOf(bytes: Buffer): string {
  let key = "";
  for (let at = 0; at < bytes.length;) {
    const tag = varint(bytes, at);
    const value = tag && payload(bytes, tag.end, Number(tag.value & 7n));
    if (!tag || !value) return key;
    if (tag.value >> 3n === 1n) key = value.bytes.toString("utf8");
    at = value.end;
  }
  return key;
}

function wireTypeOf(kind: Kind): number {
  return kind === "string" || kind === "bytes" || kind === "message" ? 2 : 0;
}

function isWithin(value: bigint, kind: Kind): boolean {
  const range = ranges[kind];
  if (range === undefined) return true;
  const signed = kind === "int32" || kind === "int64" ? BigInt.asIntN(64, value) : value;
  return signed >= range[0] && signed <= range[1];
}

function isText(bytes: Buffer): boolean {
  try {
    utf8.decode(bytes);
    return true;
  } catch {
    return false;
  }
}

type Payload = { readonly end: number; readonly bytes: Buffer; readonly number: bigint };

const none = Buffer.alloc(0);

function payload(bytes: Buffer, at: number, wire: number): Payload | undefined {
  if (wire === 0) {
    const number = varint(bytes, at);
    return number && { end: number.end, bytes: none, number: number.value };
  }
  if (wire === 2) {
    const length = varint(bytes, at);
    if (!length || length.value > BigInt(bytes.length - length.end)) return undefined;
    const end = length.end + Number(length.value);
    return { end, bytes: bytes.subarray(length.end, end), number: 0n };
  }
  const size = wire === 1 ? 8 : wire === 5 ? 4 : Infinity;
  return at + size > bytes.length ? undefined : { end: at + size, bytes: none, number: 0n };
}

function varint(bytes: Buffer, at: number): { readonly value: bigint; readonly end: number } | undefined {
  let value = 0n;
  for (let i = 0; i < 10; i++) {
    const byte = bytes[at + i];
    if (byte === undefined) return undefined;
    value |= BigInt(byte & 0x7f) << BigInt(7 * i);
    if (byte < 0x80) return value < 2n ** 64n ? { value, end: at + i + 1 } : undefined;
  }
  return undefined;
}
