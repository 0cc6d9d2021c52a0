// How does a JWT-SVID come to be?
// What is signed has been decoded again and found to obey the rules: three headers, one SPIFFE ID of
// the authority's trust domain, at least one audience, whole seconds, an end before the authority's.
// JWT-SVID sections 2 and 3; RFC 7515 section 7.1; RFC 7518 sections 3.3 (RS256) and 3.4 (ES256 is 64 raw bytes).
// Who may have one, for whom and for how long, is left to src/issue; which key signs, to authority.ts.
import { BrevetError } from "../src/errors.ts";
import { parseBrevetId, parseSpiffeId } from "../src/identity/id.ts";
import { encodeBindingClaim } from "../src/identity/task.ts";
import type { TaskBinding } from "../src/identity/task.ts";
import type { Signer } from "./authority.ts";

export type JwtRequest = {
  readonly signer: Signer;
  readonly subject: string;
  readonly audience: readonly string[];
  readonly jti: string;
  readonly issuedAt: Date;
  readonly expiresAt: Date;
  readonly binding: TaskBinding | null;
  readonly issuer?: string;
  /** The claim `status`, as identity/status.ts makes it. */
  readonly status?: Readonly<Record<string, unknown>> | undefined;
};

const maxAudiences = 4;
const maxAudienceLength = 256;

export function issueJwt(request: JwtRequest): string {
  const { signer, issuer, binding } = request;
  const claims = {
    ...(issuer === undefined ? {} : { iss: issuer }),
    sub: request.subject,
    aud: request.audience,
    exp: seconds(request.expiresAt),
    iat: seconds(request.issuedAt),
    jti: request.jti,
    ...(request.status === undefined ? {} : { status: request.status }),
    ...(binding === null ? {} : { brevet: encodeBindingClaim(binding) }),
  };
  const payload = encoded(claims);
  lintClaims(payload, signer);
  lintSubject(request);
  const signingInput = `${headerOf(signer)}.${payload}`;
  return `${signingInput}.${signer.sign("jwt", Buffer.from(signingInput, "latin1")).toString("base64url")}`;
}

function encoded(value: object): string {
  return Buffer.from(JSON.stringify(value), "utf8").toString("base64url");
}

/** Whole: some verifiers refuse fractions and exponents. */
function seconds(date: Date): number {
  return Math.floor(date.getTime() / 1000);
}

const headers = new WeakMap<Signer, string>();

/** The same for all that a key signs, so it is read back once. */
function headerOf(signer: Signer): string {
  const known = headers.get(signer);
  if (known !== undefined) return known;
  const header = encoded({ alg: signer.jwtAlgorithm, kid: signer.record.id, typ: "JWT" });
  const { alg, kid, typ, ...others } = decoded(header);
  if (alg !== signer.jwtAlgorithm || kid !== signer.record.id || typ !== "JWT" || Object.keys(others).length > 0) refuse("header is not alg, kid and typ");
  headers.set(signer, header);
  return header;
}

function lintClaims(payload: string, signer: Signer): void {
  const { sub, aud, exp, iat, jti } = decoded(payload);
  if (trustDomainOf(sub) !== signer.record.trustDomain) refuse("sub is not an ID below the authority's trust domain");
  if (!Array.isArray(aud) || aud.length === 0 || aud.length > maxAudiences) refuse(`aud must name 1 to ${maxAudiences} audiences`);
  if (!aud.every((name) => typeof name === "string" && name.length > 0 && name.length <= maxAudienceLength)) refuse("an audience is empty or too long");
  if (!isSeconds(exp) || !isSeconds(iat) || exp <= iat) refuse("exp and iat must be whole seconds, exp the later");
  if (exp * 1000 > signer.notAfter.getTime()) refuse("outlives its authority");
  if (typeof jti !== "string" || jti === "") refuse("jti is missing");
}

/** What the ID says of the task, the claim says too. An agent's own ID says nothing of it. */
function lintSubject({ subject, binding }: JwtRequest): void {
  const id = parseBrevetId(subject);
  const named = id.kind === "agent" ? id.task : id.kind === "service" ? `service/${id.service}` : undefined;
  if (named !== undefined && binding !== null && named !== binding.task) refuse("sub names another task than its claim");
}

function decoded(part: string): Record<string, unknown> {
  return JSON.parse(Buffer.from(part, "base64url").toString("utf8")) as Record<string, unknown>;
}

function trustDomainOf(sub: unknown): string | null {
  if (typeof sub !== "string") return null;
  try {
    const { trustDomain, path } = parseSpiffeId(sub);
    return path === "" ? null : trustDomain;
  } catch {
    return null;
  }
}

function isSeconds(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) > 0;
}

function refuse(why: string): never {
  throw new BrevetError("LINT_REFUSED", `not signed: JWT-SVID ${why}`);
}
