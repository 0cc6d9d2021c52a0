// Is what a program passed to the SDK what its options may say?
// Programs come without types, too: a name that nobody knows would be a default instead of what was meant, and a
// misspelt authorizer no authorizer at all. All that is wrong is told at once, each by the option's name.
// Which options there are stands with each; what only the broker can judge (names, lengths), it judges.
import { BrevetError, invalid } from "../errors.ts";
import type { Violation } from "../errors.ts";
import { parseDuration } from "./duration.ts";
import type { Duration } from "./duration.ts";
import { parseTrustDomain } from "./id.ts";

/** What is wrong with a value; undefined: nothing. */
type Rule = (value: unknown) => string | undefined;
/** One for each option: none can be forgotten. */
export type Rules<Options> = { readonly [Name in keyof Options]-?: Rule };

/** Throws INVALID_FIELD. An option that is undefined was not given. */
export function checkOptions<Options extends object>(options: Options, rules: Rules<Options>, needed: readonly (keyof Options & string)[] = []): void {
  if (typeof options !== "object" || options === null) throw invalid([{ field: "options", description: "must be an object" }]);
  const missing = needed.filter((name) => options[name] === undefined).map((field): Violation => ({ field, description: "is missing" }));
  const wrong = Object.entries(options as Record<string, unknown>).flatMap(([field, value]): Violation[] => {
    if (value === undefined) return [];
    const rule = Object.hasOwn(rules, field) ? rules[field as keyof Options] : undefined;
    const description = rule === undefined ? unknownOption(field, Object.keys(rules)) : rule(value);
    return description === undefined ? [] : [{ field, description }];
  });
  if (missing.length + wrong.length > 0) throw invalid([...missing, ...wrong]);
}

function unknownOption(name: string, known: readonly string[]): string {
  const meant = known.find((option) => option.toLowerCase() === name.toLowerCase());
  return meant === undefined ? `is no option: there are ${known.join(", ")}` : `is no option; did you mean ${meant}?`;
}

// Rules

/** TypeScript says what it is, and another form is noticed at once. */
export const anything: Rule = () => undefined;
export const text: Rule = (value) => (typeof value === "string" ? undefined : "must be text");
export const filledText: Rule = (value) => (typeof value === "string" && value !== "" ? undefined : "must be text, and not empty");
export const aFunction: Rule = (value) => (typeof value === "function" ? undefined : "must be a function");

export function oneOf(...words: readonly string[]): Rule {
  return (value) => (typeof value === "string" && words.includes(value) ? undefined : `must be ${words.join(" or ")}`);
}

export function listOf(rule: Rule): Rule {
  return (value) => (Array.isArray(value) ? value.map(rule).find((wrong) => wrong !== undefined) : "must be a list");
}

/** One, or a list of them. */
export function someOf(rule: Rule): Rule {
  return (value) => (Array.isArray(value) ? listOf(rule)(value) : rule(value));
}

/** `gaps`: a key may be undefined. */
export function textMap({ gaps = false } = {}): Rule {
  return (value) => {
    if (typeof value !== "object" || value === null || Array.isArray(value)) return "must be an object of texts";
    const wrong = Object.entries(value).find(([, item]) => typeof item !== "string" && !(gaps && item === undefined));
    return wrong && `${wrong[0]} must be text${gaps ? ", or undefined to remove it" : ""}`;
  };
}

export const duration: Rule = (value) => whyRefused(() => parseDuration(value as Duration, ""));
/** What lasts for no time is never there. */
export const time: Rule = (value) => duration(value) ?? (parseDuration(value as Duration, "") > 0 ? undefined : "must be longer than 0s");
export const trustDomain: Rule = (value) => text(value) ?? whyRefused(() => parseTrustDomain(value as string));

function whyRefused(parse: () => unknown): string | undefined {
  try {
    parse();
    return undefined;
  } catch (error) {
    if (error instanceof BrevetError && error.violations[0] !== undefined) return error.violations[0].description;
    throw error;
  }
}
