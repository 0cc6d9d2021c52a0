// Which certificates of an authority are dead?
// A list is linear to build: entries come encoded, once each, and are joined. It is signed by the
// authority that it speaks of, under the very name that stands in the certificates.
// RFC 5280 sections 5.1-5.3: v2, authority key ID and number always, no empty list of entries, reason
// left out when unspecified, nextUpdate always.
// Which entries belong, and that numbers only grow, is left to src/revoke; reading, to identity/crl.ts.
import { BrevetError } from "../src/errors.ts";
import { oids } from "../src/identity/certificate.ts";
import { derBitString, derContext, derEnumerated, derInteger, derSequence, derTime } from "../src/identity/der.ts";
import type { Signer } from "./authority.ts";
import { authorityKeyId, ecdsaWithSha256, extension } from "./x509.ts";

export type CrlRequest = {
  readonly signer: Signer;
  readonly number: bigint;
  readonly thisUpdate: Date;
  readonly nextUpdate: Date;
  readonly entries: readonly Buffer[];
};

/** Reasons of RFC 5280 section 5.3.1 that Brevet gives. */
export const crlReason = { unspecified: 0, superseded: 4, cessationOfOperation: 5, privilegeWithdrawn: 9 } as const;
type CrlReason = (typeof crlReason)[keyof typeof crlReason];

const version2 = derInteger(1);
/** Made once each: a list repeats them by the thousand. */
const reasonExtensions = new Map<number, Buffer>(
  Object.values(crlReason).filter((reason) => reason !== 0).map((reason) => [reason, derSequence([extension(oids.crlReason, false, derEnumerated(reason))])]),
);

export function encodeCrlEntry(serial: Buffer, revokedAt: Date, reason: CrlReason = crlReason.unspecified): Buffer {
  const extensions = reasonExtensions.get(reason);
  return derSequence(extensions ? [derInteger(serial), derTime(revokedAt), extensions] : [derInteger(serial), derTime(revokedAt)]);
}

export function issueCrl({ signer, number, thisUpdate, nextUpdate, entries }: CrlRequest): Buffer {
  if (nextUpdate <= thisUpdate) throw new BrevetError("LINT_REFUSED", "not signed: CRL ends before it begins");
  const tbs = derSequence([
    version2,
    ecdsaWithSha256,
    signer.name,
    derTime(thisUpdate),
    derTime(nextUpdate),
    ...(entries.length === 0 ? [] : [derSequence(entries)]),
    derContext(0, derSequence([authorityKeyId(signer.keyId), extension(oids.crlNumber, false, derInteger(number))])),
  ]);
  return derSequence([tbs, ecdsaWithSha256, derBitString(signer.sign("crl", tbs))]);
}
