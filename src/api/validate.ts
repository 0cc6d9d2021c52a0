// Is this JWT-SVID good, as the broker itself sees it?
// The standard's checks against this trust domain's own keys, and the epoch against the broker's own
// feed: a token of an ended task, or of an older context, is refused here from the commit on, and every
// token by a broker that has lost its database.
// SPIFFE Workload API section 6.2.3; JWT-SVID section 4. The checks themselves are judge.ts's.
import { BrevetError } from "../errors.ts";
import type { Struct } from "../generated/google/protobuf/Struct.ts";
import type { Value } from "../generated/google/protobuf/Value.ts";
import type { ValidateJWTSVIDResponse } from "../generated/ValidateJWTSVIDResponse.ts";
import type { Json } from "../identity/json.ts";
import { readJwtSvid } from "../identity/svid.ts";
import { Fields } from "./fields.ts";
import type { Judge } from "./judge.ts";

type Request = { readonly audience: string; readonly svid: string };
export type Validator = (request: Request) => Promise<ValidateJWTSVIDResponse>;

const longestAudience = 256;

/** @throws BrevetError INVALID_FIELD: the standard's reference answers InvalidArgument for a token that is not good; VERIFY_STALE */
export function validator(judge: Judge): Validator {
  return async (request) => {
    checkForm(request);
    try {
      const svid = await judge.liveJwt(request.svid, request.audience);
      return { spiffeId: svid.spiffeId, claims: toStruct({ ...svid.claims, aud: [...svid.audience] }) };
    } catch (error) {
      throw inField(error);
    }
  };
}

function checkForm({ audience, svid }: Request): void {
  const fields = new Fields();
  fields.text("audience", audience, longestAudience, true);
  if (svid === "") fields.wrong("svid", "is required");
  else if (!fields.areGood) {
    fields.read(() => {
      try {
        readJwtSvid(svid);
      } catch (error) {
        throw inField(error);
      }
    });
  }
  fields.check();
}

/** What is wrong with the token is wrong with the field. That the broker can't know is not the token's fault. */
function inField(error: unknown): unknown {
  if (!(error instanceof BrevetError) || !error.code.startsWith("VERIFY_") || error.code === "VERIFY_STALE") return error;
  return new BrevetError("INVALID_FIELD", `svid: ${error.message}`, {
    cause: error, metadata: { verdict: error.code }, violations: [{ field: "svid", description: error.message }],
  });
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
