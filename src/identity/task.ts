// What is a task, and how does an SVID carry it?
// The writer and the reader of each encoding stand side by side: the JWT claim `brevet`
// and the non-critical X.509 extension. A name is short, lower case and safe in a SPIFFE path.
// X509-SVID (extra extensions are allowed), JWT-SVID section 3 (private claims).
// Which states may follow which is src/revoke's and src/claim's business.
import { createHash } from "node:crypto";
import { BrevetError } from "../errors.ts";
import { readDer, derInteger, derOctetString, derSequence, derUtf8 } from "./der.ts";

/** Terminal states never leave. Only `active` issues. */
export const taskStates = ["ready", "active", "closed", "aborted", "expired"] as const;
export type TaskState = (typeof taskStates)[number];
export const terminalStates: ReadonlySet<TaskState> = new Set(["closed", "aborted", "expired"]);

export const binds = ["claim", "ticket", "auto"] as const;
export type Bind = (typeof binds)[number];
export const scopes = ["process", "tree", "cgroup"] as const;
export type Scope = (typeof scopes)[number];

/** In characters, but for the number of keys. */
export const contextLimits = { keys: 64, key: 64, value: 1024 };
export const refLimits = { keys: 16, key: 64, value: 256 };

/** What an SVID says of its task. `context` is the context's digest, lower-case hex. */
export type TaskBinding = {
  readonly task: string;
  readonly epoch: number;
  readonly instance: string;
  readonly context: string;
  readonly onBehalfOf?: string;
};

/**
 * Made once for Brevet from a UUID, in arcs of 16 and 24 bits: 2.25.<uuid> would be one arc of 128, and
 * Go refuses a certificate with an arc of more than 31 bits anywhere in it.
 */
export const bindingOid = "1.2.840.113556.1.8000.2554.7579.18200.60355.19071.48673.11522939.9102305";

/**
 * SHA-256 in lower-case hex of the context as netstrings, `4:user5:alice`, keys in the order of their
 * UTF-8 bytes. PostgreSQL computes the same (src/record/functions/context_digest.sql).
 */
export function contextDigest(context: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(context).map(([key, value]) => ({ key: Buffer.from(key), value }));
  pairs.sort((a, b) => Buffer.compare(a.key, b.key));
  const text = pairs.map(({ key, value }) => `${key.length}:${key.toString()}${Buffer.byteLength(value)}:${value}`).join("");
  return createHash("sha256").update(text).digest("hex");
}

/** BrevetBinding ::= SEQUENCE { version INTEGER (1), task UTF8String, epoch INTEGER, instance UTF8String, context OCTET STRING } */
export function encodeBindingExtension(binding: TaskBinding): Buffer {
  return derSequence([
    derInteger(1),
    derUtf8(binding.task),
    derInteger(binding.epoch),
    derUtf8(binding.instance),
    derOctetString(Buffer.from(binding.context, "hex")),
  ]);
}

export function decodeBindingExtension(bytes: Buffer): TaskBinding {
  const reader = readDer(bytes).sequence();
  const version = reader.integer();
  if (version !== 1) throw new BrevetError("VERIFY_MALFORMED", `task binding: unknown version ${version}`);
  const binding = {
    task: reader.utf8(),
    epoch: reader.integer(),
    instance: reader.utf8(),
    context: reader.octetString().toString("hex"),
  };
  reader.end();
  return binding;
}

/** The claim `brevet` of a JWT-SVID. */
export function encodeBindingClaim(binding: TaskBinding): Record<string, unknown> {
  return {
    task: binding.task,
    epoch: binding.epoch,
    instance: binding.instance,
    context: binding.context,
    ...(binding.onBehalfOf ? { for: binding.onBehalfOf } : {}),
  };
}

export function decodeBindingClaim(claim: unknown): TaskBinding {
  if (typeof claim !== "object" || claim === null) throw malformed("not an object");
  const { task, epoch, instance, context } = claim as Record<string, unknown>;
  const onBehalfOf = (claim as Record<string, unknown>)["for"];
  if (typeof task !== "string" || typeof instance !== "string" || typeof context !== "string") {
    throw malformed("task, instance and context must be strings");
  }
  if (typeof epoch !== "number" || !Number.isSafeInteger(epoch) || epoch < 0) throw malformed("epoch");
  return { task, epoch, instance, context, ...(typeof onBehalfOf === "string" ? { onBehalfOf } : {}) };
}

function malformed(what: string): BrevetError {
  return new BrevetError("VERIFY_MALFORMED", `claim brevet: ${what}`);
}
