// Who is meant by a SPIFFE ID, and which IDs are Brevet's own?
// One byte-level parser reads every ID: nothing is decoded, folded or normalised, so two IDs that
// differ in a byte are two identities. What Brevet writes parses back to what it was made of.
// SPIFFE-ID sections 2.1-2.4; RFC 9562 section 5.7 for task IDs. Section 2.4 lets a reader fold the
// case of scheme and trust domain; upper case is refused here, as the common libraries do.
// Whether an ID may do anything is left to src/authorize; whether it is genuine, to src/verify.
import { randomBytes } from "node:crypto";
import { invalid } from "../errors.ts";

export type SpiffeId = { readonly trustDomain: string; readonly path: string };

export type BrevetId =
  | { readonly kind: "agent"; readonly trustDomain: string; readonly agent: string; readonly task?: string }
  | { readonly kind: "service"; readonly trustDomain: string; readonly service: string }
  | { readonly kind: "brevet"; readonly trustDomain: string; readonly path: string }
  | { readonly kind: "other"; readonly trustDomain: string; readonly path: string };

const scheme = "spiffe://";
const maxIdLength = 2048;
const maxTrustDomainLength = 255;
const taskIdPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const namePattern = /^[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?$/;

export function parseSpiffeId(text: string, field = "spiffe_id"): SpiffeId {
  if (text.length > maxIdLength) throw refused(field, `longer than ${maxIdLength} bytes`);
  if (!text.startsWith(scheme)) throw refused(field, `must begin with ${scheme}`);
  const slash = text.indexOf("/", scheme.length);
  const end = slash === -1 ? text.length : slash;
  const trustDomain = parseTrustDomain(text.slice(scheme.length, end), field);
  const path = text.slice(end);
  checkPath(path, field);
  return { trustDomain, path };
}

/** The name alone, without `spiffe://`. */
export function parseTrustDomain(text: string, field = "trust_domain"): string {
  if (text.length === 0) throw refused(field, "trust domain is missing");
  if (text.length > maxTrustDomainLength) throw refused(field, `trust domain is longer than ${maxTrustDomainLength} bytes`);
  for (let i = 0; i < text.length; i++) {
    if (!isTrustDomainByte(text.charCodeAt(i))) throw refused(field, "trust domain may hold only a-z, 0-9, dots, dashes and underscores");
  }
  return text;
}

/** Empty, or segments of `[A-Za-z0-9._-]` that each follow one slash; none is empty, `.` or `..`. */
function checkPath(path: string, field: string): void {
  if (path === "") return;
  for (const segment of path.slice(1).split("/")) {
    if (segment === "") throw refused(field, "path has an empty segment or ends with a slash");
    if (segment === "." || segment === "..") throw refused(field, "path has a segment of dots");
    for (let i = 0; i < segment.length; i++) {
      const byte = segment.charCodeAt(i);
      if (!isTrustDomainByte(byte) && !(byte >= 0x41 && byte <= 0x5a)) {
        throw refused(field, "path may hold only letters, digits, dots, dashes and underscores");
      }
    }
  }
}

function isTrustDomainByte(byte: number): boolean {
  const lower = byte >= 0x61 && byte <= 0x7a;
  const digit = byte >= 0x30 && byte <= 0x39;
  return lower || digit || byte === 0x2d || byte === 0x2e || byte === 0x5f;
}

export function formatAgentTaskId(trustDomain: string, agent: string, taskId: string): string {
  if (!isTaskId(taskId)) throw refused("task_id", "not a UUIDv7 in lower case");
  return `${formatAgentId(trustDomain, agent)}/task/${taskId}`;
}

export function formatAgentId(trustDomain: string, agent: string): string {
  return `${scheme}${parseTrustDomain(trustDomain)}/agent/${checkedName(agent, "agent")}`;
}

export function formatServiceId(trustDomain: string, service: string): string {
  return `${scheme}${parseTrustDomain(trustDomain)}/service/${checkedName(service, "service")}`;
}

/** What every broker of a trust domain is called on the network. */
export function formatBrokerId(trustDomain: string): string {
  return `${scheme}${parseTrustDomain(trustDomain)}/brevet/broker`;
}

export function formatOperatorId(trustDomain: string, operator: string): string {
  return `${scheme}${parseTrustDomain(trustDomain)}/brevet/operator/${checkedName(operator, "operator")}`;
}

/** The operator of such an ID's path; undefined for any other path. */
export function operatorOf(path: string): string | undefined {
  const [, brevet, operator, name, ...rest] = path.split("/");
  return brevet === "brevet" && operator === "operator" && name !== undefined && isName(name) && rest.length === 0 ? name : undefined;
}

/** Any SPIFFE ID, told apart by what Brevet means by its path. */
export function parseBrevetId(text: string, field = "spiffe_id"): BrevetId {
  const { trustDomain, path } = parseSpiffeId(text, field);
  const [, kind, name, word, task, ...rest] = path.split("/");
  if (kind === "brevet") return { kind, trustDomain, path };
  if (name !== undefined && isName(name) && rest.length === 0) {
    if (kind === "agent" && word === undefined) return { kind, trustDomain, agent: name };
    if (kind === "agent" && word === "task" && task !== undefined && isTaskId(task)) return { kind, trustDomain, agent: name, task };
    if (kind === "service" && word === undefined) return { kind, trustDomain, service: name };
  }
  return { kind: "other", trustDomain, path };
}

export function isTaskId(text: string): boolean {
  return taskIdPattern.test(text);
}

/** UUIDv7: sorts by the millisecond it was made in. `random` is for tests: ten bytes. */
export function newTaskId(nowMs: number, random: Buffer = randomBytes(10)): string {
  const bytes = Buffer.concat([Buffer.alloc(6), random], 16);
  bytes.writeUIntBE(Math.trunc(nowMs), 0, 6);
  bytes[6] = 0x70 | ((bytes[6] ?? 0) & 0x0f);
  bytes[8] = 0x80 | ((bytes[8] ?? 0) & 0x3f);
  return bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** Names of agents and services: safe as a path segment, a file name and a metric's value. */
export function isName(text: string): boolean {
  return namePattern.test(text) && !text.includes("..");
}

function checkedName(text: string, field: string): string {
  if (!isName(text)) throw refused(field, "1 to 64 of a-z, 0-9 and ._- inside, no two dots in a row");
  return text;
}

function refused(field: string, description: string): ReturnType<typeof invalid> {
  return invalid([{ field, description }]);
}
