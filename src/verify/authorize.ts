// May this caller do this here?
// An authorizer sees only callers that were accepted, and says true or why not. Authorizers
// are plain functions and compose to one; without one, any agent with a live task may come in.
// Whether a caller is genuine and its task alive is verifier.ts's business.
import type { Accepted } from "./verdict.ts";

/** True, or what the caller lacks (shown to it: no secrets). */
export type Authorizer = (caller: Accepted) => true | string;

export function anyAgent(): Authorizer {
  return ({ agent }) => agent !== null || "an agent is expected";
}

/** One of these agents, whatever its task. */
export function agentIs(...names: readonly string[]): Authorizer {
  return ({ agent }) => (agent !== null && names.includes(agent)) || `agent ${names.join(" or ")} is expected`;
}

/** This task and no other. */
export function taskIs(id: string): Authorizer {
  return ({ task }) => task === id || `task ${id} is expected`;
}

export function serviceIs(...names: readonly string[]): Authorizer {
  return ({ service }) => (service !== null && names.includes(service)) || `service ${names.join(" or ")} is expected`;
}

/** On behalf of one of these people, as the orchestrator said when it opened the task. JWT-SVIDs only. */
export function onBehalfOf(...people: readonly string[]): Authorizer {
  return (caller) => people.includes(caller.onBehalfOf ?? "") || "another person's task is expected";
}

/** Every one must agree; the first that does not says why. */
export function allOf(...authorizers: readonly Authorizer[]): Authorizer {
  return (caller) => authorizers.map((authorize) => authorize(caller)).find((answer) => answer !== true) ?? true;
}

/** One must agree; when none does, all of them say why. */
export function oneOf(...authorizers: readonly Authorizer[]): Authorizer {
  return (caller) => {
    const answers = authorizers.map((authorize) => authorize(caller));
    return answers.includes(true) || answers.join("; ");
  };
}
