// How does a status list token come to be?
// It is signed by the authority of the JWT-SVIDs that it speaks of, but can't be taken for one: another type, no
// SPIFFE ID, no audience. What is signed obeys the rules: a list's own address as its subject, an end, whole seconds.
// OAuth Token Status List (draft-ietf-oauth-status-list-20) section 5.1; RFC 7515 section 7.1.
// Which bits are set is src/revoke's business.
import { BrevetError } from "../src/errors.ts";
import { encodeStatusBits } from "../src/identity/status.ts";
import type { Signer } from "./authority.ts";

export type StatusListRequest = {
  readonly signer: Signer;
  readonly uri: string;
  readonly issuedAt: Date;
  readonly lifeSeconds: number;
  /** After which it should be fetched again. */
  readonly ttlSeconds: number;
  readonly bits: Buffer;
};

export function issueStatusList({ signer, uri, issuedAt, lifeSeconds, ttlSeconds, bits }: StatusListRequest): string {
  const iat = Math.floor(issuedAt.getTime() / 1000);
  if (ttlSeconds <= 0 || lifeSeconds < ttlSeconds) throw new BrevetError("LINT_REFUSED", "not signed: a status list ends before it should be fetched again");
  const header = { alg: signer.jwtAlgorithm, kid: signer.record.id, typ: "statuslist+jwt" };
  const claims = { sub: uri, iat, exp: iat + lifeSeconds, ttl: ttlSeconds, status_list: encodeStatusBits(bits) };
  const input = [header, claims].map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".");
  return `${input}.${signer.sign("status", Buffer.from(input, "latin1")).toString("base64url")}`;
}
