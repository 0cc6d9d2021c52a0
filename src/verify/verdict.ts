// What does a verifier answer?
// Either a caller, with all that its SVID proves, or a refusal with one reason of the closed list:
// never both, never neither. Who the caller is comes from the SPIFFE ID, and the task binding in the
// SVID must say the same.
// How the SVID was proved genuine is x509.ts's and jwt.ts's business; what is known of its task's epoch,
// verifier.ts's, and where the broker judges by its own view, src/api/judge.ts's.
import { BrevetError, asBrevetError } from "../errors.ts";
import type { ErrorCode } from "../errors.ts";
import { isTaskId, parseBrevetId, parseSpiffeId } from "../identity/id.ts";
import type { TaskBinding } from "../identity/task.ts";
import type { Authorizer } from "./authorize.ts";

export type Accepted = {
  readonly accepted: true;
  readonly spiffeId: string;
  /** The agent's name in the catalog; null for a service, and for whoever is of another trust domain. */
  readonly agent: string | null;
  /** The service's name in the catalog; null for an agent, and for whoever is of another trust domain. */
  readonly service: string | null;
  /** The task's ID; of a service `service/<name>`; empty for whoever is of another trust domain. */
  readonly task: string;
  /** The SVID's: the task's at least, as far as the feed knows. */
  readonly epoch: number;
  /** The attested process, tree or cgroup that holds the task. */
  readonly instance: string;
  /** Digest of the task's context, lower-case hex SHA-256. */
  readonly context: string;
  /** JWT-SVIDs: for whom the token is. */
  readonly audience?: readonly string[];
  /** The person the task is for, if its orchestrator named one. JWT-SVIDs only. */
  readonly onBehalfOf?: string;
  readonly expiresAt: Date;
};

export type Refused = {
  readonly accepted: false;
  readonly reason: ErrorCode;
  /** For the service's log; may name IDs, never holds the SVID. */
  readonly message: string;
  /** What the SVID claims, once its signature was good. */
  readonly spiffeId?: string;
  readonly task?: string;
};

export type Verdict = Accepted | Refused;
export type Kind = "agent" | "service";

/** A genuine SVID of either kind. */
export type Genuine = {
  readonly spiffeId: string;
  readonly binding: TaskBinding | null;
  readonly expiresAt: Date;
  readonly audience?: readonly string[];
};

export type Rules = {
  readonly accept: readonly Kind[];
  readonly authorize?: Authorizer | undefined;
  /** Throws if the task's epoch is above the SVID's, or that can't be known. */
  readonly mustBeAlive: (caller: Accepted) => void;
  /** Other trust domains, of whose callers `authorize` alone decides: there is no task to go by. */
  readonly foreign?: readonly string[];
};

/** Whatever goes wrong in it, the answer is a refusal. */
export function judge(verify: () => Genuine, { accept, authorize, mustBeAlive, foreign = [] }: Rules): Verdict {
  let svid: Genuine | undefined;
  try {
    svid = verify();
    const isForeign = foreign.includes(parseSpiffeId(svid.spiffeId).trustDomain);
    const caller = isForeign ? identifyForeign(svid) : identify(svid, accept);
    if (isForeign && authorize === undefined) throw new BrevetError("VERIFY_NOT_AUTHORIZED", "a caller of another trust domain needs an authorizer that names it");
    mustBeAlive(caller);
    const answer = authorize?.(caller) ?? true;
    if (answer !== true) throw new BrevetError("VERIFY_NOT_AUTHORIZED", answer);
    return caller;
  } catch (error) {
    const { code: reason, message } = asBrevetError(error);
    const task = svid?.binding?.task;
    return { accepted: false, reason, message, ...(svid && { spiffeId: svid.spiffeId }), ...(task && { task }) };
  }
}

/** Throws VERIFY_NOT_AN_AGENT for who is not wanted here, VERIFY_MALFORMED where ID and binding differ. */
export function identify(svid: Genuine, accept: readonly Kind[]): Accepted {
  const id = parseBrevetId(svid.spiffeId);
  if (id.kind !== "agent" && id.kind !== "service") throw unwanted(svid.spiffeId, accept);
  if (!accept.includes(id.kind)) throw unwanted(svid.spiffeId, accept);
  const { binding } = svid;
  if (binding === null) throw new BrevetError("VERIFY_MALFORMED", `${svid.spiffeId}: the SVID carries no task binding`);
  const named = id.kind === "service" ? `service/${id.service}` : id.task;
  // Only a token for an audience that wants exact matches leaves the task to its claim.
  const inClaimOnly = named === undefined && svid.audience !== undefined && isTaskId(binding.task);
  if (named !== binding.task && !inClaimOnly) {
    throw new BrevetError("VERIFY_MALFORMED", `${svid.spiffeId}: the SVID's task binding names another task`);
  }
  return {
    accepted: true,
    spiffeId: svid.spiffeId,
    agent: id.kind === "agent" ? id.agent : null,
    service: id.kind === "service" ? id.service : null,
    task: binding.task,
    epoch: binding.epoch,
    instance: binding.instance,
    context: binding.context,
    ...(svid.audience && { audience: svid.audience }),
    ...(binding.onBehalfOf !== undefined && { onBehalfOf: binding.onBehalfOf }),
    expiresAt: svid.expiresAt,
  };
}

/** What another domain's ID and claims mean, we do not know: nothing but the ID is told. */
function identifyForeign({ spiffeId, audience, expiresAt }: Genuine): Accepted {
  return {
    accepted: true, spiffeId, agent: null, service: null, task: "", epoch: 0, instance: "", context: "", ...(audience && { audience }), expiresAt,
  };
}

function unwanted(spiffeId: string, accept: readonly Kind[]): BrevetError {
  return new BrevetError("VERIFY_NOT_AN_AGENT", `${spiffeId}: accepted here is only: ${accept.join(", ")}`);
}
