// What is a signing authority, and what may it sign?
// A key signs only for the trust domain, use, state and ID it was sealed for: SVIDs while active,
// CRLs ever after, nothing of another use. A signing CA never outlives its root. Names are unique to
// each authority, so a CRL speaks of one issuer. Signatures are counted by kind, to be held against rows.
// X509-SVID sections 3.2 and 4; RFC 5280 section 5.1.2.3 (the CRL's issuer); RFC 7638 (key IDs of JWT keys).
// When authorities come and go is left to rotation.ts; where they are kept, to src/record.
import { createECDH, createHash, createSign, sign } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { BrevetError } from "../src/errors.ts";
import { publicJwk } from "../src/identity/bundle.ts";
import type { TrustBundle } from "../src/identity/bundle.ts";
import { oids, readCertificate } from "../src/identity/certificate.ts";
import { crlUrl } from "../src/identity/crl.ts";
import { newKeyPairDer, publicHalf, resealKey, sealNewKey, unsealKey } from "./keys.ts";
import type { KeyPairDer } from "./keys.ts";
import { algorithmOf, distinguishedName, issueCaCertificate, keyIdOf } from "./x509.ts";
import type { RotationAction } from "./rotation.ts";
export { planRotation } from "./rotation.ts";

export type AuthorityUse = "root" | "x509" | "jwt";
export type AuthorityState = "prepared" | "active" | "retired";

export type AuthorityRecord = {
  /** Hex of the subject key ID; of a JWT authority its `kid`. */
  readonly id: string;
  readonly trustDomain: string;
  readonly use: AuthorityUse;
  readonly state: AuthorityState;
  /** The root that signed it; null for roots and JWT keys. */
  readonly parent: string | null;
  /** DER; null for JWT keys. */
  readonly certificate: Buffer | null;
  /** SubjectPublicKeyInfo. */
  readonly publicKey: Buffer;
  readonly sealedKey: Buffer;
  readonly notBefore: Date;
  readonly notAfter: Date;
};

export type SignatureKind = "x509" | "jwt" | "crl" | "ca" | "status";

/** An authority that is open. Only x509.ts, jwt.ts, crl.ts and status-list.ts call `sign`, each after its linter. */
export type Signer = {
  readonly record: AuthorityRecord;
  /** Subject of its certificate, as encoded; empty for JWT keys. */
  readonly name: Buffer;
  readonly keyId: Buffer;
  /** DER; empty for JWT keys. */
  readonly certificate: Buffer;
  readonly notAfter: Date;
  /** AlgorithmIdentifier of its signatures on certificates and lists. */
  readonly algorithm: Buffer;
  readonly jwtAlgorithm: "ES256" | "RS256";
  /** With P-256: DER for certificates and CRLs, 64 raw bytes for JWTs and status lists. With RSA: PKCS #1 version 1.5. */
  sign(kind: SignatureKind, bytes: Buffer): Buffer;
  /** For what is too long to be hashed in one turn: certificates' kind of signature. */
  signInParts(kind: SignatureKind): { update(part: Buffer): void; sign(): Buffer };
};

type AuthorityRequest = {
  readonly use: AuthorityUse;
  readonly trustDomain: string;
  readonly kek: Buffer;
  readonly now: Date;
  readonly lifetimeSeconds: number;
  /** The active root, for a signing CA. */
  readonly parent?: { readonly record: AuthorityRecord; readonly signer: Signer };
  /** Where lists are published, if anywhere. */
  readonly publicUrl?: string | undefined;
  /** Default: a new one of P-256. */
  readonly keyPair?: KeyPairDer | undefined;
};

const backdateMs = 60_000;
/** What a key of each use may sign, by state. */
const permitted: Readonly<Record<AuthorityUse, Readonly<Record<AuthorityState, readonly SignatureKind[]>>>> = {
  root: { prepared: ["crl"], active: ["crl", "ca"], retired: ["crl"] },
  x509: { prepared: ["crl"], active: ["crl", "x509"], retired: ["crl"] },
  jwt: { prepared: [], active: ["jwt", "status"], retired: [] },
};
const nextState: Readonly<Record<AuthorityState, AuthorityState | null>> = { prepared: "active", active: "retired", retired: null };
const made: Record<SignatureKind, number> = { x509: 0, jwt: 0, crl: 0, ca: 0, status: 0 };

/** Signatures of a kind since this process began. */
export function signaturesMade(kind: SignatureKind): number {
  return made[kind];
}

export function createAuthority(request: AuthorityRequest, state: AuthorityState = "prepared"): AuthorityRecord {
  const { use, trustDomain, kek, lifetimeSeconds } = request;
  const root = use === "x509" ? (request.parent ?? missingRoot()).signer : null;
  const start = wholeSeconds(request.now.getTime());
  const end = Math.min(start + lifetimeSeconds * 1000, root?.notAfter.getTime() ?? Infinity);
  const [notBefore, notAfter] = [new Date(start - backdateMs), new Date(end)];
  const { pkcs8, spki } = request.keyPair ?? newKeyPairDer(createECDH("prime256v1"));
  const { sealed, key } = sealNewKey(kek, { pkcs8, spki }, (publicKey) => sealedFor({ trustDomain, id: idOf(use, publicKey), use, state }));
  const id = idOf(use, spki);
  const common = { id, trustDomain, use, state, publicKey: spki, sealedKey: sealed, notBefore, notAfter };
  if (use === "jwt") return { ...common, parent: null, certificate: null };
  const subject = nameOf(trustDomain, use, id);
  const certificate = issueCaCertificate({
    trustDomain,
    subject,
    publicKey: spki,
    notBefore,
    notAfter,
    pathLength: root ? 0 : 1,
    issuer: root ?? { name: subject, keyId: keyIdOf(spki), algorithm: algorithmOf(spki) },
    listUrl: root === null || request.publicUrl === undefined ? null : crlUrl(request.publicUrl, root.record.id),
    sign: (tbs) => (root ? root.sign("ca", tbs) : signCounted("ca", key, tbs)),
  });
  return { ...common, parent: root?.record.id ?? null, certificate };
}

/** The same authority one step further: prepared, active, retired. */
export function moveAuthority(record: AuthorityRecord, state: AuthorityState, kek: Buffer): AuthorityRecord {
  if (nextState[record.state] !== state) {
    throw new BrevetError("WRONG_STATE", `authority ${record.id} is ${record.state}: it can't become ${state}`);
  }
  const moved = { ...record, state };
  return { ...moved, sealedKey: resealKey(kek, record.sealedKey, sealedFor(record), sealedFor(moved)) };
}

/** Refuses a record whose parts do not belong together, so a row put in by another hand signs nothing. */
export function openAuthority(record: AuthorityRecord, kek: Buffer): Signer {
  const key = unsealKey(kek, record.sealedKey, sealedFor(record));
  if (!publicHalf(key).equals(record.publicKey) || idOf(record.use, record.publicKey) !== record.id) throw mismatched(record);
  const fields = record.certificate === null ? null : readCertificate(record.certificate);
  if ((fields === null) !== (record.use === "jwt") || (fields && !fields.publicKey.equals(record.publicKey))) throw mismatched(record);
  const permit = (kind: SignatureKind): void => {
    if (!permitted[record.use][record.state].includes(kind)) throw new BrevetError("KEY_UNUSABLE", `authority ${record.id} (${record.use}, ${record.state}) signs no ${kind}`);
  };
  return {
    record,
    name: fields?.subject ?? Buffer.alloc(0),
    keyId: keyIdOf(record.publicKey),
    certificate: record.certificate ?? Buffer.alloc(0),
    notAfter: fields?.notAfter ?? record.notAfter,
    algorithm: algorithmOf(record.publicKey),
    jwtAlgorithm: key.asymmetricKeyType === "rsa" ? "RS256" : "ES256",
    sign(kind, bytes) {
      permit(kind);
      return signCounted(kind, key, bytes);
    },
    signInParts(kind) {
      permit(kind);
      const signing = createSign("sha256");
      return {
        update: (part) => void signing.update(part),
        sign: () => {
          made[kind]++;
          return signing.sign({ key, dsaEncoding: "der" });
        },
      };
    },
  };
}

/** The records as the plan leaves them; what it dropped is no longer among them. `keyPairs`: of those that it creates, in turn. */
export function carryOut(
  plan: readonly RotationAction[],
  records: readonly AuthorityRecord[],
  { trustDomain, kek, now, publicUrl, keyPairs = [] }: Pick<AuthorityRequest, "trustDomain" | "kek" | "now" | "publicUrl"> & { readonly keyPairs?: readonly KeyPairDer[] },
): AuthorityRecord[] {
  let result = [...records];
  const left = [...keyPairs];
  for (const action of plan) {
    if (action.do === "create") {
      const { use, state, lifetimeSeconds } = action;
      const root = use === "x509" ? result.find((record) => record.use === "root" && record.state === "active") : undefined;
      const parent = root && { record: root, signer: openAuthority(root, kek) };
      result.push(createAuthority({ use, trustDomain, kek, now, lifetimeSeconds, publicUrl, keyPair: left.shift(), ...(parent && { parent }) }, state));
    } else if (action.do === "drop") {
      result = result.filter((record) => record.id !== action.id);
    } else {
      const state = action.do === "activate" ? "active" : "retired";
      result = result.map((record) => (record.id === action.id ? moveAuthority(record, state, kek) : record));
    }
  }
  return result;
}

/** What the world needs to verify: every root and JWT key, in whatever state. Signing CAs travel in the chains. */
export function bundleOf(records: readonly AuthorityRecord[], about: Pick<TrustBundle, "trustDomain" | "sequence" | "refreshHintSeconds">): TrustBundle {
  return {
    ...about,
    x509: records.flatMap((record) => (record.use === "root" && record.certificate ? [record.certificate] : [])),
    jwt: records.flatMap((record) => (record.use === "jwt" ? [{ kid: record.id, publicKey: publicJwk(record.publicKey) }] : [])),
  };
}

function signCounted(kind: SignatureKind, key: KeyObject, bytes: Buffer): Buffer {
  const signature = sign("sha256", bytes, { key, dsaEncoding: kind === "jwt" || kind === "status" ? "ieee-p1363" : "der" });
  made[kind]++;
  return signature;
}

/** The AAD of the sealed key. No part can hold the separator. */
function sealedFor(authority: Pick<AuthorityRecord, "trustDomain" | "id" | "use" | "state">): string {
  return [authority.trustDomain, authority.id, authority.use, authority.state].join("|");
}

function idOf(use: AuthorityUse, spki: Buffer): string {
  return use === "jwt" ? thumbprint(spki).subarray(0, 16).toString("base64url") : keyIdOf(spki).toString("hex");
}

/** RFC 7638: SHA-256 of the required JWK members in alphabetical order. */
function thumbprint(spki: Buffer): Buffer {
  const members = Object.entries(publicJwk(spki)).sort(([a], [b]) => (a < b ? -1 : 1));
  return createHash("sha256").update(JSON.stringify(Object.fromEntries(members))).digest();
}

/** Each part of a name may have 64 characters; the key's ID makes it unique, whatever is cut off. */
function nameOf(trustDomain: string, use: AuthorityUse, id: string): Buffer {
  const what = use === "root" ? "root" : "signing";
  return distinguishedName([[oids.organization, trustDomain.slice(0, 64)], [oids.commonName, `Brevet ${what} ${id.slice(0, 16)}`]]);
}

function wholeSeconds(ms: number): number {
  return Math.floor(ms / 1000) * 1000;
}

function missingRoot(): never {
  throw new BrevetError("KEY_UNUSABLE", "a signing CA needs a root that is open");
}

function mismatched(record: AuthorityRecord): BrevetError {
  return new BrevetError("KEY_UNUSABLE", `authority ${record.id}: key, certificate and ID do not belong together`);
}
