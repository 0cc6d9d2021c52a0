// Which task does a person mean?
// Whatever the log shows can be pasted: a task ID, a unique prefix, a SPIFFE ID, a serial, a jti and
// pid:N go to the broker as they are; of an SVID's file (PEM, DER or JWT) the task in it is read here.
// X509-SVID section 2 (the URI SAN), JWT-SVID section 3 (the claims). Nothing is verified: naming a
// task grants nothing.
// Finding the task is the broker's business.
import { X509Certificate } from "node:crypto";
import { existsSync } from "node:fs";
import { BrevetError } from "../errors.ts";
import { readInput } from "./options.ts";

const compactJwt = /^[\w-]+\.([\w-]+)\.[\w-]+$/;

/** What to send to the broker for the words of a person. */
export function taskRef(text: string): string {
  if (compactJwt.test(text)) return taskOfJwt(text, "the token");
  if (text === "-") return taskOfSvid(readInput("-"), "standard input");
  if (text.startsWith("spiffe://") || !(text.includes("/") || text.includes(".") || existsSync(text))) return text;
  return taskOfSvid(readInput(text), text);
}

function taskOfSvid(bytes: Buffer, name: string): string {
  const text = bytes.toString("latin1").trim();
  if (compactJwt.test(text)) return taskOfJwt(text, name);
  const id = spiffeIdOf(bytes);
  if (id === undefined) throw new BrevetError("INVALID_FIELD", `task: ${name} holds no SVID (PEM, DER or JWT)`);
  if (!id.includes("/task/")) throw new BrevetError("INVALID_FIELD", `task: the SVID in ${name} belongs to no task: ${id}`);
  return id;
}

function spiffeIdOf(bytes: Buffer): string | undefined {
  try {
    return /URI:"?(spiffe:\/\/[^\s,"]+)/.exec(new X509Certificate(bytes).subjectAltName ?? "")?.[1];
  } catch {
    return undefined; // neither PEM nor DER
  }
}

function taskOfJwt(token: string, name: string): string {
  const claims = claimsOf(token);
  const task = (claims["brevet"] as { task?: unknown } | undefined)?.task;
  if (typeof task === "string") return task;
  throw new BrevetError("INVALID_FIELD", `task: ${name} is a JWT without a task (claim brevet.task)`);
}

function claimsOf(token: string): Record<string, unknown> {
  try {
    const claims: unknown = JSON.parse(Buffer.from(compactJwt.exec(token)?.[1] ?? "", "base64url").toString("utf8"));
    return typeof claims === "object" && claims !== null ? (claims as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

/** Says in a NOT_FOUND which one was not found, and what to do if it is not the usual. */
export async function about<T>(field: string, given: string, answer: Promise<T>, remedy?: string): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    if (!(error instanceof BrevetError) || error.code !== "NOT_FOUND") throw error;
    const what = error.message.replace(/^name: /, `${field}: `);
    const message = what.includes(given) ? what : `${what} ${JSON.stringify(given)}`;
    throw new BrevetError("NOT_FOUND", message, { cause: error, metadata: { field, ...error.metadata, ...(remedy && { try: remedy }) } });
  }
}

/** To a process that the agent's selectors don't match, the task isn't there either. */
export function claimRemedy(pid: number): string {
  return `brevet task list; or, if the task is there: brevet explain --pid ${pid} (does the process match the agent's selectors?)`;
}
