// May this request pass? Envoy's ext_authz asks for each one: envoy.service.auth.v3.Authorization.
// Judged is whatever SVID was shown, the X.509 peer's certificate, the bearer token, or both, as it stands
// at this instant, so an open connection is no way around a revocation. The answer is always a verdict:
// a request passes only with the caller's task and agent written over whatever it said of itself; a
// refused one learns a code and nothing else. What the filter's configuration says wrong refuses all.
// The rules of verification are judge.ts's; that the peer has its certificate's key, Envoy has proved.
import type { AttributeContext__Output } from "../generated/envoy/service/auth/v3/AttributeContext.ts";
import type { AuthorizationHandlers } from "../generated/envoy/service/auth/v3/Authorization.ts";
import type { CheckRequest__Output } from "../generated/envoy/service/auth/v3/CheckRequest.ts";
import type { CheckResponse } from "../generated/envoy/service/auth/v3/CheckResponse.ts";
import type { HeaderValueOption } from "../generated/envoy/config/core/v3/HeaderValueOption.ts";
import { BrevetError, asBrevetError, errorCodes } from "../errors.ts";
import type { ErrorCode } from "../errors.ts";
import type { Log, Metrics } from "../telemetry.ts";
import { agentIs } from "../verify/authorize.ts";
import type { Authorizer } from "../verify/authorize.ts";
import type { Accepted, Refused, Verdict } from "../verify/verdict.ts";
import type { Judge } from "./judge.ts";
import type { ApiServer } from "./server.ts";

type CheckParts = { readonly judge: Judge; readonly log: Log; readonly metrics: Metrics };
type Shown = { readonly certificate: string; readonly principal: string; readonly token: string | undefined };

/** What the filter's `context_extensions` ask for. */
type Wanted = { readonly audience: string | undefined; readonly authorize?: Authorizer };

const ours = "brevet-";
const knownExtensions: ReadonlySet<string> = new Set(["brevet-audience", "brevet-agents"]);
const mostRemembered = 100;
const ok = 0;

export function checkHandlers(server: ApiServer, { judge, log, metrics }: CheckParts): AuthorizationHandlers {
  const said = new Set<string>();
  const note = (verdict: Verdict): void => {
    metrics.checks.inc({ verdict: verdict.accepted ? "accepted" : verdict.reason });
    if (verdict.accepted || verdict.reason !== "CONFIG_INVALID" || said.has(verdict.message) || said.size > mostRemembered) return;
    said.add(verdict.message);
    log("check.misconfigured", { code: verdict.reason, message: verdict.message }, "warn");
  };
  return {
    Check: server.unary("Authorization.Check", async ({ attributes }: CheckRequest__Output): Promise<CheckResponse> => {
      const verdict = await decide(attributes, judge);
      note(verdict);
      return verdict.accepted ? passed(verdict, headersOf(attributes)) : denied(verdict.reason);
    }, "checks"),
  };
}

/** Everything that is shown must be good, and all of it one task's. */
async function decide(attributes: AttributeContext__Output | null, judge: Judge): Promise<Verdict> {
  try {
    const { audience, authorize } = readExtensions(attributes?.contextExtensions ?? {});
    const shown = readShown(attributes, audience !== undefined);
    const byToken = shown.token === undefined || audience === undefined ? undefined
      : await judge.jwt(shown.token, audience, { accept: ["agent"], ...(authorize && { authorize }) });
    if (byToken && (!byToken.accepted || shown.certificate === "")) return byToken;
    // with a token the peer may be a proxy that passes it on
    const byPeer = await judge.x509(readLeaf(shown.certificate), byToken ? { accept: ["agent", "service"] } : { accept: ["agent"], ...(authorize && { authorize }) });
    if (!byPeer.accepted) return byPeer;
    if (shown.principal !== "" && shown.principal !== byPeer.spiffeId) throw new BrevetError("VERIFY_MALFORMED", "the peer's principal is not its certificate's SPIFFE ID");
    if (byToken && byPeer.agent !== null && byPeer.task !== byToken.task) {
      throw new BrevetError("VERIFY_NOT_AUTHORIZED", "the token is another task's than the certificate of the connection");
    }
    return byToken ?? byPeer;
  } catch (error) {
    const { code: reason, message } = asBrevetError(error);
    return { accepted: false, reason, message } satisfies Refused;
  }
}

/** A misspelt rule must not be a rule less. */
function readExtensions(extensions: Readonly<Record<string, string>>): Wanted {
  const unknown = Object.keys(extensions).filter((name) => name.startsWith(ours) && !knownExtensions.has(name));
  if (unknown.length > 0) throw misconfigured(`context_extensions: ${unknown.join(", ")}: there is only ${[...knownExtensions].join(", ")}`);
  const { "brevet-audience": audience, "brevet-agents": list } = extensions;
  if (audience === "") throw misconfigured("context_extensions: brevet-audience: is empty");
  if (list === undefined) return { audience };
  const agents = list.split(",").map((name) => name.trim());
  if (agents.includes("")) throw misconfigured("context_extensions: brevet-agents: must be names, separated by commas");
  return { audience, authorize: agentIs(...agents) };
}

/** Without an audience of its own, a service has no use for tokens: a bearer token is then not for us. */
function readShown(attributes: AttributeContext__Output | null, wantsToken: boolean): Shown {
  const { certificate = "", principal = "" } = attributes?.source ?? {};
  const [, token] = /^bearer +([^ ]+)$/i.exec(headersOf(attributes)["authorization"] ?? "") ?? [];
  const shown = { certificate, principal, token: wantsToken ? token : undefined };
  if (shown.token !== undefined || certificate !== "") return shown;
  if (principal !== "") throw misconfigured("the peer's certificate is missing: include_peer_certificate must be true in the filter");
  throw new BrevetError("VERIFY_MALFORMED", "no SVID was shown");
}

function headersOf(attributes: AttributeContext__Output | null): Readonly<Record<string, string>> {
  return attributes?.request?.http?.headers ?? {};
}

/** One certificate: PEM, percent-encoded. */
function readLeaf(encoded: string): Buffer {
  const pem = /^-----BEGIN CERTIFICATE-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END CERTIFICATE-----\r?\n?$/.exec(decoded(encoded));
  if (!pem?.[1]) throw new BrevetError("VERIFY_MALFORMED", "the peer's certificate is not one certificate in PEM");
  return Buffer.from(pem[1], "base64");
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch (cause) {
    throw new BrevetError("VERIFY_MALFORMED", "the peer's certificate is not percent-encoded", { cause });
  }
}

function misconfigured(message: string): BrevetError {
  return new BrevetError("CONFIG_INVALID", message);
}

/** Servers that take `_` for `-` would believe the one that the client wrote. */
function passed({ task, agent }: Accepted, headers: Readonly<Record<string, string>>): CheckResponse {
  const told: Record<string, string> = { "x-brevet-task": task, "x-brevet-agent": agent ?? "" };
  const claimed = Object.keys(headers).filter((name) => name.replaceAll("_", "-").startsWith(`x-${ours}`) && !Object.hasOwn(told, name));
  return { status: { code: ok }, okResponse: { headers: Object.entries(told).map(([key, value]) => set(key, value)), headersToRemove: claimed } };
}

function denied(reason: ErrorCode): CheckResponse {
  const { grpc, http } = errorCodes[reason];
  const [code, status] = http === 401 ? (["Unauthorized", 401] as const) : http === 403 ? (["Forbidden", 403] as const) : (["ServiceUnavailable", 503] as const);
  const headers = [set("content-type", "application/problem+json"), ...(status === 401 ? [set("www-authenticate", "Bearer")] : [])];
  return { status: { code: grpc }, deniedResponse: { status: { code }, headers, body: JSON.stringify({ type: `urn:brevet:error:${reason}`, status }) } };
}

function set(key: string, value: string): HeaderValueOption {
  return { header: { key, value }, appendAction: "OVERWRITE_IF_EXISTS_OR_ADD" };
}
