// What does the SPIFFE Workload API answer?
// To the letter of the standard: each message is the full state, the first is sent as soon as there is
// one, later ones when something changed; when no SVID is left, the stream ends with PermissionDenied.
// SPIFFE Workload API sections 4-6 and 8; WIT (section 7) is Unimplemented.
// What a caller holds, and when that changes, is held.ts's business; verification src/verify's.
import type { ServerWritableStream } from "@grpc/grpc-js";
import type { Claims, Holding } from "../claim/claim.ts";
import type { LiveCatalog } from "../authorize/catalog.ts";
import { BrevetError } from "../errors.ts";
import { parseSpiffeId } from "../identity/id.ts";
import type { SpiffeWorkloadAPIHandlers } from "../generated/SpiffeWorkloadAPI.ts";
import type { X509SVIDResponse } from "../generated/X509SVIDResponse.ts";
import type { Holder, X509Svid } from "../issue/issue.ts";
import type { Trust } from "../issue/trust.ts";
import type { Crls } from "../revoke/crl.ts";
import { Fields } from "./fields.ts";
import { HeldX509, holdersOf, isOf } from "./held.ts";
import type { HeldParts } from "./held.ts";
import type { Call } from "./call.ts";
import type { ApiServer } from "./server.ts";
import { newest } from "./unread.ts";
import type { Validator } from "./validate.ts";

export type WorkloadParts = HeldParts & {
  readonly trustDomain: string;
  readonly claims: Claims;
  readonly trust: Trust;
  readonly crls: Crls;
  readonly validate: Validator;
};

const mostAudiences = 4;
const mostAudienceLength = 256;
const mostCrlBytes = 64 * 1024;
/** SVIDs that were made are handed over, also where a reader takes them one turn later. */
const mostUnderWay = 4;
const crlPaceMs = 60_000;

export function workloadHandlers(server: ApiServer, parts: WorkloadParts): SpiffeWorkloadAPIHandlers {
  const { claims, issuer, trust } = parts;
  const unimplemented = (): never => {
    throw new BrevetError("UNIMPLEMENTED", "the WIT-SVID profile is not implemented");
  };
  return {
    FetchX509SVID: server.stream("FetchX509SVID", async (_request: object, call, stream) => {
      const holding = await claims.hold(call.connection.caller, call.connection.endpointTask, call);
      await followX509(parts, call, holding, stream as ServerWritableStream<unknown, X509SVIDResponse>);
    }),

    FetchX509Bundles: server.stream("FetchX509Bundles", async (_request: object, call, stream) => {
      await followBundle(parts, call, true, newest(stream, () => ({
        crl: smallCrls(parts.crls),
        bundles: { ...trust.federated.x509, [`spiffe://${parts.trustDomain}`]: trust.published.x509 },
      })));
    }),

    FetchJWTSVID: server.unary("FetchJWTSVID", async (request: { audience: string[]; spiffeId: string }, call) => {
      checkJwtRequest(request);
      const wanted = request.spiffeId === "" ? null : request.spiffeId;
      const holding = await claims.hold(call.connection.caller, call.connection.endpointTask, call);
      const holders = holdersOf(parts, call, holding).filter((holder) => wanted === null || isOf(wanted, holder, parts.trustDomain));
      if (holders.length === 0) throw new BrevetError("DENIED_IDENTITY", "spiffe_id: the caller does not hold this identity");
      const subjects = holders.map((holder) => subjectOf(parts.catalog, holder, request.audience));
      const svids = await Promise.all(holders.map((holder, i) => issuer.jwt(holder, request.audience, subjects[i])));
      return { svids: svids.map((svid) => ({ spiffeId: svid.spiffeId, svid: svid.token, hint: svid.hint })) };
    }),

    FetchJWTBundles: server.stream("FetchJWTBundles", async (_request: object, call, stream) => {
      await followBundle(parts, call, false, newest(stream, () => ({
        bundles: { ...trust.federated.jwt, [`spiffe://${parts.trustDomain}`]: trust.published.jwks },
      })));
    }),

    ValidateJWTSVID: server.unary("ValidateJWTSVID", (request: { audience: string; svid: string }) => parts.validate(request)),

    FetchWITSVID: server.stream("FetchWITSVID", async () => unimplemented()),
    FetchWITBundles: server.stream("FetchWITBundles", async () => unimplemented()),
  };
}

/** Whom the token names. Refuses audiences that are not the holder's, and those that can't share a token. */
function subjectOf(catalog: LiveCatalog, holder: Holder, audiences: readonly string[]): "task" | "agent" {
  const forbidden = catalog.forbiddenAudiences(holder.kind === "task" ? { agent: holder.agent } : { service: holder.service }, audiences);
  if (forbidden.length > 0) throw new BrevetError("DENIED_AUDIENCE", `audience: ${forbidden.join(", ")}: not among the audiences of its catalog entry`);
  if (holder.kind === "service") return "task";
  const [subject = "task", ...others] = catalog.subjectsFor(holder.agent, audiences);
  if (others.length > 0) throw new BrevetError("DENIED_AUDIENCE", "audience: some see the task as the subject and some the agent: ask for a token each");
  return subject;
}

function checkJwtRequest({ audience: audiences, spiffeId }: { readonly audience: readonly string[]; readonly spiffeId: string }): void {
  const fields = new Fields();
  if (audiences.length === 0) fields.wrong("audience", "at least one is required");
  if (audiences.length > mostAudiences) fields.wrong("audience", `at most ${mostAudiences}`);
  else for (const [i, audience] of audiences.entries()) fields.text(`audience[${i}]`, audience, mostAudienceLength, true);
  if (spiffeId !== "") fields.read(() => parseSpiffeId(spiffeId, "spiffe_id"));
  fields.check();
}

function smallCrls(crls: Crls): Buffer[] {
  const lists = crls.published.map((crl) => crl.der);
  return lists.reduce((sum, der) => sum + der.length, 0) <= mostCrlBytes ? lists : [];
}

/** Sends now and after each change of the bundle; for a new CRL alone at most once a minute, jittered. */
async function followBundle(parts: WorkloadParts, call: Call, withCrl: boolean, send: () => void): Promise<void> {
  let crlTimer: NodeJS.Timeout | undefined;
  const offTrust = parts.trust.onChange(send);
  const offCrl = withCrl ? parts.crls.onChange(() => {
    crlTimer ??= setTimeout(() => {
      crlTimer = undefined;
      send();
    }, crlPaceMs * (1 + Math.random()));
    crlTimer.unref();
  }) : () => undefined;
  try {
    send();
    await new Promise<void>((_, reject) => call.signal.addEventListener("abort", () => reject(call.signal.reason as Error), { once: true }));
  } finally {
    offTrust();
    offCrl();
    clearTimeout(crlTimer);
  }
}

/** Everything that the caller holds, again whenever that changes; for a new CRL alone at most once a minute, jittered. */
async function followX509(parts: WorkloadParts, call: Call, holding: Holding, stream: ServerWritableStream<unknown, X509SVIDResponse>): Promise<void> {
  let crlTimer: NodeJS.Timeout | undefined;
  let svids: readonly X509Svid[] = [];
  const send = newest(stream, () => {
    const bundle = parts.trust.published.x509;
    return {
      svids: svids.map((svid) => ({ spiffeId: svid.spiffeId, x509Svid: svid.chain, x509SvidKey: svid.key, bundle, hint: svid.hint })),
      crl: smallCrls(parts.crls),
      federatedBundles: parts.trust.federated.x509,
    };
  }, mostUnderWay);
  const held = new HeldX509(parts, call, holding, (now) => {
    clearTimeout(crlTimer);
    crlTimer = undefined;
    svids = now;
    send();
  });
  const offTrust = parts.trust.onChange(() => held.again());
  const offCrl = parts.crls.onChange(() => {
    crlTimer ??= setTimeout(() => held.again(), crlPaceMs * (1 + Math.random()));
    crlTimer.unref();
  });
  try {
    await held.run();
  } finally {
    offTrust();
    offCrl();
    clearTimeout(crlTimer);
  }
}
