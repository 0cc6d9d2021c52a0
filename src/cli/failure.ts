// What does a person see when it did not work?
// On stderr, and only there: what happened with the field or object, each violation on a line of its
// own, what to do next, and the code. Exit 2 for what was typed wrong, whoever saw it, 1 for what failed or was refused.
// Which codes there are is errors.ts's business; what caused them never reaches the terminal.
import { CommanderError } from "commander";
import { asBrevetError } from "../errors.ts";
import type { BrevetError, ErrorCode } from "../errors.ts";
import { painter, safe } from "./output.ts";

const byField: Readonly<Record<string, string>> = {
  task: "brevet task list",
  agent: "brevet agent list",
  name: "brevet agent list",
  attempt: "brevet attestation list --denied",
};

/** Requests' fields that another word stands for on the command line; `name` is the argument of its noun. */
const flags: Readonly<Record<string, string>> = {
  ttl_seconds: "--ttl", on_behalf_of: "--for", purpose: "--purpose", context: "--context", refs: "--ref", bind: "--bind",
  scope: "--scope", reason: "--reason", ticket: "--ticket-file", pid: "--pid", page_size: "--limit", page_token: "--page-token", all: "--confirm",
  spiffe_id: "--spiffe-id", audience: "--audience", set: "key=value", remove: "--remove", service: "--service", since: "--since", role: "--role", agents: "--agent",
};

const remedies: Partial<Record<ErrorCode, (error: BrevetError, command: string) => string | undefined>> = {
  INVALID_FIELD: (_error, command) => `${command} --help`,
  NOT_FOUND: (error) => byField[error.metadata["field"] ?? ""],
  AGENT_DISABLED: (error) => `brevet agent enable ${error.metadata["agent"] ?? "AGENT"}`,
  WRONG_STATE: (error) => `brevet task show ${error.metadata["task"] ?? "TASK"}`,
  CATALOG_INVALID: () => "the same again, once the files are right: docs/reference.md has every key",
  CATALOG_ORPHANS_TASKS: () => "end these tasks first: brevet task close ID, or brevet revoke --task ID --reason R",
  DENIED_ROLE: () => "run it on the broker's machine as its owner or as a user in admin.uids, or as an operator of another role (docs/network.md)",
  DENIED_TICKET: () => "brevet task ticket ID",
  DATABASE_UNAVAILABLE: () => "brevet doctor",
  NOT_READY: () => "brevet doctor",
  CLOCK_SKEW: () => "brevet doctor",
  CONFIG_INVALID: (error) => (error.violations.length > 0 ? "docs/configuration.md has every key" : undefined),
  SHUTTING_DOWN: () => "again in a moment",
  DEADLINE: () => "brevet doctor",
  VERIFY_NOT_READY: () => "brevet doctor",
  VERIFY_STALE: () => "brevet doctor",
  BROKER_UNREACHABLE: () => "start it: brevet broker",
  OUTCOME_UNKNOWN: () => "the same command again: repeats are safe",
  RATE_LIMITED: () => "again in a second",
  INTERNAL: () => "brevet doctor, and the broker's log",
};

function remedy(error: BrevetError, command: string): string | undefined {
  const given = error.metadata["try"];
  if (given !== undefined) return given;
  const attempt = error.metadata["attempt"];
  if (attempt !== undefined && error.code.startsWith("DENIED_")) return `brevet explain ${attempt}`;
  return remedies[error.code]?.(error, command);
}

/** What stands above a list of violations. */
function heading({ code, violations }: BrevetError): string {
  if (code === "CATALOG_INVALID") return `catalog: ${violations.length} problems, nothing was applied`;
  if (code === "CONFIG_INVALID") return `configuration: ${violations.length} problems`;
  return `${violations.length} fields are not right`;
}

function field(name: string, command: string): string {
  const flag = name === "name" ? `<${command.split(" ")[1] ?? name}>` : flags[name.replace(/[.[].*$/, "")];
  return flag === undefined ? name : `${name} (${flag})`;
}

/** Lines for stderr, without a last newline. */
export function failureText(thrown: unknown, command = "brevet"): string {
  const paint = painter(process.stderr);
  const line = (message: string, code: string): string => `${paint("red", "brevet:")} ${safe(message)} ${paint("dim", `[${code}]`)}`;
  const hint = (text: string): string => `  ${paint("dim", "try:")} ${safe(text)}`;
  if (thrown instanceof CommanderError) {
    const [message = "", ...more] = thrown.message.replace(/^error: /, "").split("\n");
    const meant = more.map((text) => ` ${text}`).join("");
    return `${line(message + meant, "USAGE")}\n${hint(`${command} --help`)}`;
  }
  const error = asBrevetError(thrown);
  const lines = error.violations.length > 1
    ? [line(heading(error), error.code),
       ...error.violations.map((v) => `  ${safe(`${field(v.field, command)}: ${v.description}`)}`)]
    : error.violations.map((v) => line(`${field(v.field, command)}: ${v.description}`, error.code));
  if (lines.length === 0) lines.push(line(error.message, error.code));
  const next = remedy(error, command);
  return [...lines, ...(next === undefined ? [] : [hint(next)])].join("\n");
}

export function exitCode(thrown: unknown): number {
  if (thrown instanceof CommanderError) return thrown.exitCode === 0 ? 0 : 2;
  return asBrevetError(thrown).code === "INVALID_FIELD" ? 2 : 1;
}
