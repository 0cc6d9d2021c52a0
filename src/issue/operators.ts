// How does an operator get its certificate?
// It makes its key itself and sends the public half; what comes back is an SVID of
// `spiffe://<trust domain>/brevet/operator/<name>`, recorded before it is signed. It asks for the next one on its own
// connection, under the epoch of the certificate that it shows: a removed operator gets none.
// X509-SVID sections 3 and 4. Who may add operators is src/api/roles.ts's; their rows, src/record/operators.ts's.
import { createPublicKey } from "node:crypto";
import { issueX509, newSerial } from "../../ca/x509.ts";
import { BrevetError, invalid } from "../errors.ts";
import { publicJwk } from "../identity/bundle.ts";
import { formatOperatorId } from "../identity/id.ts";
import { recordOperatorSvid } from "../record/operators.ts";
import type { Store } from "../record/store.ts";
import type { Trust } from "./trust.ts";

export type OperatorCertificatesOptions = {
  readonly store: Store;
  readonly trustDomain: string;
  readonly publicUrl?: string | undefined;
  readonly trust: Pick<Trust, "signers">;
  /** A row was committed: the signature that follows is accounted for. */
  readonly onRecorded: () => void;
};

/** Leaf and signing CA, DER, concatenated. */
export type OperatorCertificate = { readonly spiffeId: string; readonly chain: Buffer; readonly expiresAt: Date };

const backdateMs = 60_000;
const none = Buffer.alloc(0);

export class OperatorCertificates {
  readonly #o: OperatorCertificatesOptions;

  constructor(options: OperatorCertificatesOptions) {
    this.#o = options;
  }

  /** @throws BrevetError DENIED_IDENTITY if it was removed, or its certificates until `epoch` are dead */
  async issue(request: { readonly name: string; readonly epoch: number; readonly publicKey: Buffer; readonly by: string }): Promise<OperatorCertificate> {
    const { store, trustDomain, publicUrl, trust, onRecorded } = this.#o;
    checkPublicKey(request.publicKey);
    const signer = trust.signers.x509;
    const serial = newSerial();
    const recorded = await recordOperatorSvid(store, { ...request, serial: serial.toString("hex") }, { id: signer.record.id, notAfter: signer.notAfter });
    if (!recorded) throw new BrevetError("DENIED_IDENTITY", `operator ${request.name}: removed, or its certificate is no longer good`);
    onRecorded();
    const { epoch, issuedAt, expiresAt } = recorded;
    const spiffeId = formatOperatorId(trustDomain, request.name);
    const { chain } = issueX509({
      signer, spiffeId, serial, publicUrl, notBefore: new Date(issuedAt.getTime() - backdateMs), notAfter: expiresAt,
      binding: { task: `brevet/operator/${request.name}`, epoch, instance: "", context: "" },
      keyPair: { spki: request.publicKey, pkcs8: none },
    });
    return { spiffeId, chain, expiresAt };
  }
}

/** SubjectPublicKeyInfo of a P-256 point that is on its curve, encoded in the one way. */
export function checkPublicKey(spki: Buffer): void {
  try {
    publicJwk(spki);
    if (createPublicKey({ key: spki, format: "der", type: "spki" }).export({ format: "der", type: "spki" }).equals(spki)) return;
  } catch {
    // said below
  }
  throw invalid([{ field: "public_key", description: "must be the SubjectPublicKeyInfo of a P-256 key, DER, its point uncompressed" }]);
}
