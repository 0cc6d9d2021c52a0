// What may be written after `brevet`, and how is it read?
// Every command has a summary, exactly one example and the same words for the same option; a value
// that can't be read, is empty or would silently replace another is refused before anything is asked of
// the broker, with the option's name.
// What the values mean is the broker's business.
import { readFileSync } from "node:fs";
import { CommanderError, InvalidArgumentError, Option } from "commander";
import type { Command } from "commander";
import { parseDuration } from "../identity/duration.ts";
import { formats } from "./output.ts";
import type { Format } from "./output.ts";

/** The options that every command has. */
export type Common = {
  readonly output: Format;
  readonly socket?: string;
  readonly adminSocket?: string;
  readonly server?: readonly string[];
  readonly identity?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly trustBundle?: string;
  readonly trustFingerprint?: string;
};

/** `here`: it asks for a process of the broker's own machine, or that machine's administrator; no broker elsewhere can be named. */
export type Description = { readonly summary: string; readonly more?: string; readonly example: string; readonly here?: true };

/** A command that holds others: `brevet task`. */
export function group(parent: Command, name: string, about: Description): Command {
  return described(parent.command(name), about).helpCommand(false);
}

/** A command that does something, and where its broker is. */
export function command(parent: Command, usage: string, about: Description): Command {
  const made = described(parent.command(usage), about)
    .addOption(common("--socket <path>", "workload socket (default: SPIFFE_ENDPOINT_SOCKET, else the data directory's)"))
    .addOption(common("--admin-socket <path>", "admin socket (default: the data directory's)"));
  if (about.here) return made.addOption(new Option("--server <host:port>").hideHelp().argParser(refuseServer));
  return made
    .addOption(common("--server <host:port>", "a broker on another machine, by mutual TLS (repeatable; default: BREVET_SERVER)").argParser(collect))
    .addOption(common("--identity <folder>", "who you are there (default: brevet/identity in XDG_CONFIG_HOME)"))
    .addOption(common("--cert <file>", "instead of --identity: certificates, PEM, with --key and --trust-bundle").hideHelp())
    .addOption(common("--key <file>", "the key of --cert, PEM").hideHelp())
    .addOption(common("--trust-bundle <file>", "CA certificates that the broker's own must lead to, PEM").hideHelp())
    .addOption(common("--trust-fingerprint <hex>", "the first time: what `brevet bundle show` prints on the broker's machine").hideHelp());
}

/** Known, so that whoever types it hears why, and not only that there is no such option. */
function refuseServer(): never {
  throw usageError("--server is not for this command: the kernel must vouch for who asks; run it on the broker's own machine");
}

/** The same, with an answer to print. */
export function answering(parent: Command, usage: string, about: Description): Command {
  return command(parent, usage, about).addOption(common("-o, --output <format>", "how to print").choices(formats).default("table"));
}

const common = (flags: string, description: string): Option => new Option(flags, description).helpGroup("Common options:");

export function described(made: Command, { summary, more, example }: Description): Command {
  return made
    .summary(summary)
    .description(more === undefined ? `${summary}.` : `${summary}.\n\n${more}`)
    .addHelpText("after", `\nExample:\n  $ ${example}`);
}

/** A mistake in what was typed: exit 2. */
export function usageError(message: string): CommanderError {
  return new CommanderError(2, "brevet.usage", message);
}

/** What stands twice, or is empty, was meant otherwise: often a variable of a script that is not set. */
export function refuseDoubtful(command: Command): void {
  for (const option of command.options.filter(({ required }) => required)) {
    const isRepeatable = option.parseArg === collect || option.parseArg === pair;
    let isGiven = false;
    command.on(`option:${option.name()}`, (value: string) => {
      const wrong = (what: string): never => command.error(`error: option '${option.flags}' ${what}`, { exitCode: 2, code: "brevet.usage" });
      if (value === "") wrong("must not be empty");
      if (isGiven && !isRepeatable) wrong("was given twice");
      isGiven = true;
    });
  }
}

// Values

/** `90s`, `15m`, `1h30m`, in seconds. Zero is none: on the wire it would mean the default. */
export function duration(text: string): number {
  const seconds = durationOrNone(text);
  if (seconds === 0) throw new InvalidArgumentError("Give a duration above zero, such as 90s, 15m or 1h30m.");
  return seconds;
}

export function durationOrNone(text: string): number {
  try {
    return parseDuration(text, "duration") / 1000;
  } catch {
    throw new InvalidArgumentError("Give a duration such as 90s, 15m or 1h30m.");
  }
}

/** `10m` (ago), an RFC 3339 time, or a day of UTC from its beginning. */
export function since(text: string): Date {
  const date = /^\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d|$)/.test(text) ? new Date(text) : new Date(NaN);
  if (!Number.isNaN(date.getTime())) return date;
  try {
    return new Date(Date.now() - parseDuration(text, "since"));
  } catch {
    throw new InvalidArgumentError("Give a duration such as 10m, or a time such as 2026-11-22T10:00:00Z or 2026-11-22.");
  }
}

export function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = /^\d{1,15}$/.test(text) ? Number(text) : NaN;
    if (!(value >= least && value <= most)) throw new InvalidArgumentError(`Give a whole number from ${least} to ${most}.`);
    return value;
  };
}

export const pid = wholeNumber(1, 2 ** 22);

/** Collects `k=v`; the value may hold `=` and be empty. */
export function pair(text: string, before: Readonly<Record<string, string>> = {}): Record<string, string> {
  const at = text.indexOf("=");
  if (at < 1) throw new InvalidArgumentError("Give it as key=value.");
  const key = text.slice(0, at);
  if (Object.hasOwn(before, key)) throw new InvalidArgumentError(`The key "${key}" was given before.`);
  return Object.fromEntries([...Object.entries(before), [key, text.slice(at + 1)]]);
}

/** Several `k=v` arguments at once. */
export function pairsOf(texts: readonly string[]): Record<string, string> {
  return texts.reduce<Record<string, string>>((before, text) => {
    try {
      return pair(text, before);
    } catch (error) {
      if (!(error instanceof InvalidArgumentError)) throw error;
      throw usageError(`argument '${text}' is invalid. ${error.message}`);
    }
  }, {});
}

/** Adds to a repeated option. */
export function collect(text: string, before: readonly string[] = []): readonly string[] {
  return [...before, text];
}

/** Bytes of a file, or of standard input for `-`. */
export function readInput(name: string): Buffer {
  try {
    return readFileSync(name === "-" ? 0 : name);
  } catch (error) {
    const { code = "error" } = error as NodeJS.ErrnoException;
    throw usageError(`${name === "-" ? "standard input" : name}: cannot be read (${code})`);
  }
}
