// May this request come in, and what is it told if not?
// A request proves who it is by a JWT-SVID as bearer token or, without one, by the X.509-SVID of its
// connection; a token that is there and bad is never made good by the connection. Each request is judged
// anew, on an old connection too. Which rule refused is for the service's log; the caller hears only
// 401, 403, or 503 while nothing can be judged.
// RFC 6750 sections 2.1 and 3 (Bearer), RFC 9457 (problem details), RFC 9110 section 15.5.2.
// Fitting this into a framework is middleware.ts's business; the verdict, verifier.ts's.
import type { Duplex } from "node:stream";
import { errorCodes } from "../errors.ts";
import { anything, checkOptions } from "../identity/options.ts";
import type { Rules } from "../identity/options.ts";
import { callerAt } from "./tls.ts";
import { audienceRule, checkRules } from "./verifier.ts";
import type { CheckOptions, Verifier } from "./verifier.ts";
import type { Refused, Verdict } from "./verdict.ts";

export type AuthenticateOptions = CheckOptions & {
  readonly verifier: Verifier;
  /** Our own names, one of which a JWT-SVID must be for. Default: the verifier's. */
  readonly audience?: string | readonly string[];
};

/** What a request shows: the header `Authorization` and the connection that it came by. */
export type Presented = { readonly authorization?: string | undefined; readonly socket?: Duplex | undefined };

const bearer = /^Bearer +([\w.~+/-]+=*) *$/i;

export const authenticateRules: Rules<AuthenticateOptions> = { ...checkRules, verifier: anything, audience: audienceRule };

/** Who sends this request, or why it must not come in. Throws only INVALID_FIELD, where options are wrong. */
export function authenticate(presented: Presented, options: AuthenticateOptions): Verdict {
  checkOptions(options, authenticateRules, ["verifier"]);
  return judged(presented, options);
}

/** With options that have been looked at. */
export function judged({ authorization, socket }: Presented, { verifier, accept, authorize, audience }: AuthenticateOptions): Verdict {
  if (authorization !== undefined && /^bearer\b/i.test(authorization)) {
    const token = bearer.exec(authorization)?.[1];
    if (token === undefined) return { accepted: false, reason: "VERIFY_MALFORMED", message: "the header Authorization holds no token" };
    return verifier.jwt(token, { accept, authorize, audience });
  }
  const peer = callerAt(socket);
  if (peer !== undefined) return verifier.again(peer, { accept, authorize });
  return { accepted: false, reason: "VERIFY_NO_SVID", message: "neither a bearer token nor an mTLS connection" };
}

/** An answer to a caller that is refused, for any framework. */
export type Refusal = { readonly status: number; readonly headers: Readonly<Record<string, string>>; readonly body: string };

const titles: Readonly<Record<number, string>> = { 401: "Unauthorized", 403: "Forbidden", 503: "Service Unavailable" };

/** Says no more than the status: the reason may name tasks and agents. */
export function refusalOf({ reason }: Refused): Refusal {
  const wanted: number = errorCodes[reason].http;
  const status = wanted in titles ? wanted : 401;
  return {
    status,
    headers: { "content-type": "application/problem+json", "cache-control": "no-store", ...challenge(status, reason) },
    body: JSON.stringify({ type: "about:blank", title: titles[status], status }),
  };
}

function challenge(status: number, reason: Refused["reason"]): Readonly<Record<string, string>> {
  if (status === 503) return { "retry-after": "1" };
  if (reason === "VERIFY_NO_SVID") return { "www-authenticate": "Bearer" };
  return { "www-authenticate": `Bearer error="${status === 403 ? "insufficient_scope" : "invalid_token"}"` };
}
