// Is this JWT-SVID good, as the broker itself sees it?
// The standard's checks against this trust domain's own keys, and the epoch against the broker's own
// feed: a token of an ended task, or of an older context, is refused here from the commit on.
// SPIFFE Workload API section 6.2.3; JWT-SVID section 4. The checks themselves are judge.ts's.
import { BrevetError } from "../errors.ts";
import type { Struct } from "../generated/google/protobuf/Struct.ts";
import type { Value } from "../generated/google/protobuf/Value.ts";
import type { ValidateJWTSVIDResponse } from "../generated/ValidateJWTSVIDResponse.ts";
import type { Json } from "../identity/json.ts";
import type { Judge } from "./judge.ts";

export type Validator = (token: string, audience: string) => ValidateJWTSVIDResponse;

/** @throws BrevetError INVALID_FIELD: the standard's reference answers InvalidArgument for a token that is not good */
export function validator(judge: Judge, epochOf: (subject: string) => number): Validator {
  return (token, audience) => {
    try {
      const svid = judge.genuineJwt(token, audience);
      if (svid.binding && svid.binding.epoch < epochOf(svid.binding.task)) {
        throw new BrevetError("VERIFY_REVOKED", "the token's task has ended, or its context has changed");
      }
      return { spiffeId: svid.spiffeId, claims: toStruct({ ...svid.claims, aud: [...svid.audience] }) };
    } catch (error) {
      if (!(error instanceof BrevetError) || !error.code.startsWith("VERIFY_")) throw error;
      throw new BrevetError("INVALID_FIELD", `svid: ${error.message}`, {
        cause: error, metadata: { verdict: error.code }, violations: [{ field: "svid", description: error.message }],
      });
    }
  };
}

/** google.protobuf.Struct. */
export function toStruct(object: Readonly<Record<string, unknown>>): Struct {
  return { fields: Object.fromEntries(Object.entries(object).map(([key, value]) => [key, toValue(value as Json | undefined)])) };
}

function toValue(value: Json | undefined): Value {
  if (value === null || value === undefined) return { nullValue: "NULL_VALUE" };
  if (typeof value === "number") return { numberValue: value };
  if (typeof value === "string") return { stringValue: value };
  if (typeof value === "boolean") return { boolValue: value };
  if (Array.isArray(value)) return { listValue: { values: value.map(toValue) } };
  return { structValue: toStruct(value as Record<string, unknown>) };
}
