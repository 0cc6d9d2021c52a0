// Who comes in over the network, and may it stay?
// Its certificate, verified in the handshake, is verified again by bundle, time and feed, and gives it a role: an
// operator's by its row, a service's by the catalog, another SVID's by the configuration; agents and strangers
// have none. It is registered first and judged after, so no revocation falls between, and cut in the turn in
// which its certificate's end is committed or heard of, when it expires, or when its trust domain is trusted no more.
// X509-SVID section 5. Listening is network.ts's business; what a role may call, roles.ts's.
import type { DetailedPeerCertificate, TLSSocket } from "node:tls";
import type { LiveCatalog } from "../authorize/catalog.ts";
import type { Config } from "../config.ts";
import { BrevetError } from "../errors.ts";
import { readCertificate } from "../identity/certificate.ts";
import { splitDer } from "../identity/der.ts";
import { operatorOf, parseBrevetId, parseSpiffeId } from "../identity/id.ts";
import { readX509Svid } from "../identity/svid.ts";
import type { X509Svid } from "../identity/svid.ts";
import type { Trust } from "../issue/trust.ts";
import { getOperator } from "../record/operators.ts";
import type { FeedRow } from "../record/revocations.ts";
import type { Store } from "../record/store.ts";
import { readSigningCertificate, verifyX509 } from "../verify/x509.ts";
import type { SigningCertificate } from "../verify/x509.ts";
import type { Peer } from "./connection.ts";

export type PeersOptions = {
  readonly store: Store;
  readonly trustDomain: string;
  readonly trust: Trust;
  readonly catalog: LiveCatalog;
  readonly roles: Config["roles"];
  /** The epoch below which SVIDs of a subject are dead. */
  readonly epochOf: (subject: string) => number;
  /** Calls back with each revocation, whoever committed it. */
  readonly onRevoked: (callback: (rows: readonly FeedRow[]) => void) => () => void;
};

/** `foreign`: the chain of an SVID of another trust domain. */
type Live = { readonly socket: TLSSocket; readonly subject: string; readonly epoch: number; readonly foreign?: readonly Buffer[] | undefined };
type Judged = { readonly svid: X509Svid; readonly subject: string; readonly epoch: number; readonly foreign?: readonly Buffer[] };

const longestTimer = 2 ** 31 - 1;

export class Peers {
  readonly #o: PeersOptions;
  readonly #bySubject = new Map<string, Set<Live>>();
  readonly #off: () => void;
  #anchors: { readonly of: Buffer; readonly certificates: readonly SigningCertificate[] } | undefined;

  constructor(options: PeersOptions) {
    this.#o = options;
    const off = [
      options.onRevoked((rows) => {
        for (const row of rows) this.#cutBelow(row);
      }),
      options.trust.onChange(() => this.#cutUntrusted()),
    ];
    this.#off = () => {
      for (const stop of off) stop();
    };
  }

  /** CA certificates that a handshake may lead to, DER. */
  get authorities(): readonly Buffer[] {
    const { published, federated } = this.#o.trust;
    return [...published.bundle.x509, ...Object.values(federated.x509).flatMap((ders) => splitDer(ders))];
  }

  /**
   * Who this is; from then on the socket is cut as soon as it must not stay.
   * @throws BrevetError VERIFY_…, DENIED_ROLE
   */
  async admit(socket: TLSSocket): Promise<Peer> {
    const judged = this.#judge(socket);
    this.#watch(socket, judged);
    const peer = await this.#roleOf(judged);
    const dead = this.#o.epochOf(judged.subject);
    if (dead > judged.epoch) throw new BrevetError("VERIFY_REVOKED", `${judged.svid.spiffeId}: the certificate was ended`);
    return peer;
  }

  close(): void {
    this.#off();
  }

  #judge(socket: TLSSocket): Judged {
    const { trustDomain } = this.#o;
    if (!socket.authorized || socket.isSessionReused()) throw new BrevetError("VERIFY_SIGNATURE", "no certificate was verified in this handshake");
    const sent = chainOf(socket);
    const [leaf = Buffer.alloc(0)] = sent;
    if (parseSpiffeId(readX509Svid(leaf).spiffeId).trustDomain !== trustDomain) return this.#judgeForeign(sent);
    const svid = verifyX509(Buffer.concat([leaf, ...this.#ownIssuer(leaf)]), (name) => (name === trustDomain ? this.#own() : undefined), Date.now());
    const subject = parseSpiffeId(svid.spiffeId).path.slice(1);
    if (svid.binding?.task !== subject) throw new BrevetError("DENIED_ROLE", `${svid.spiffeId} has no role here: agents hold tasks, not roles`);
    return { svid, subject, epoch: svid.binding.epoch };
  }

  /** By its own trust domain's bundle alone. No feed speaks of it: it is good until it expires, or its bundle goes. */
  #judgeForeign(chain: readonly Buffer[]): Judged {
    const { trustDomain, trust } = this.#o;
    const bundleOf = (name: string): readonly SigningCertificate[] | undefined => {
      const ders = name === trustDomain ? undefined : trust.federated.x509[`spiffe://${name}`];
      return ders && splitDer(ders).map(readSigningCertificate);
    };
    const svid = verifyX509(Buffer.concat(chain), bundleOf, Date.now());
    return { svid, subject: svid.spiffeId, epoch: 0, foreign: chain };
  }

  /** Of our own trust domain's SVIDs we know who signs them: what else was sent with them means nothing. */
  #ownIssuer(leaf: Buffer): Buffer[] {
    const { issuer } = readCertificate(leaf);
    const signer = this.#o.trust.published.crlSigners.find(({ record, name }) => record.use === "x509" && name.equals(issuer));
    return signer ? [signer.certificate] : [];
  }

  #own(): readonly SigningCertificate[] {
    const { bundle, x509 } = this.#o.trust.published;
    if (this.#anchors?.of !== x509) this.#anchors = { of: x509, certificates: bundle.x509.map(readSigningCertificate) };
    return this.#anchors.certificates;
  }

  async #roleOf({ svid: { spiffeId }, epoch, foreign }: Judged): Promise<Peer> {
    const { store, catalog, roles } = this.#o;
    const given = roles.find((entry) => covers(entry.spiffeId, spiffeId));
    if (foreign) {
      if (!given) throw new BrevetError("DENIED_ROLE", `${spiffeId} has no role here`);
      return { spiffeId, role: given.role, agents: given.agents, operator: null, epoch };
    }
    const id = parseBrevetId(spiffeId);
    const operator = id.kind === "brevet" ? operatorOf(id.path) : undefined;
    if (operator !== undefined) {
      const row = await getOperator(store, operator);
      if (!row || row.removedAt !== null || row.epoch !== epoch) throw new BrevetError("VERIFY_REVOKED", `${spiffeId}: removed, or the certificate was ended`);
      return { spiffeId, role: row.role, agents: row.agents, operator, epoch };
    }
    if (given && id.kind !== "brevet") return { spiffeId, role: given.role, agents: given.agents, operator: null, epoch };
    if (id.kind === "service" && catalog.services.some(({ definition }) => definition.name === id.service)) {
      return { spiffeId, role: "service", agents: [], operator: null, epoch };
    }
    throw new BrevetError("DENIED_ROLE", `${spiffeId} has no role here`);
  }

  #watch(socket: TLSSocket, { svid, subject, epoch, foreign }: Judged): void {
    const live = { socket, subject, epoch, foreign };
    const peers = this.#bySubject.get(subject) ?? new Set();
    this.#bySubject.set(subject, peers.add(live));
    const expiry = setTimeout(() => socket.destroy(), Math.min(svid.notAfter.getTime() - Date.now(), longestTimer));
    expiry.unref();
    socket.once("close", () => {
      clearTimeout(expiry);
      peers.delete(live);
      if (peers.size === 0 && this.#bySubject.get(subject) === peers) this.#bySubject.delete(subject);
    });
  }

  /** A bundle has changed: whom it does not vouch for any more does not stay. */
  #cutUntrusted(): void {
    for (const peers of this.#bySubject.values()) {
      for (const { socket, foreign } of peers) {
        try {
          if (foreign) this.#judgeForeign(foreign);
        } catch {
          socket.destroy();
        }
      }
    }
  }

  #cutBelow({ subject, epoch }: FeedRow): void {
    for (const live of this.#bySubject.get(subject) ?? []) if (live.epoch < epoch) live.socket.destroy();
  }
}

/** As it was sent, leaf first. */
function chainOf(socket: TLSSocket): Buffer[] {
  const chain: Buffer[] = [];
  for (let next: DetailedPeerCertificate | undefined = socket.getPeerCertificate(true); next?.raw; next = next.issuerCertificate) {
    if (chain.some((der) => der.equals(next.raw))) break;
    chain.push(next.raw);
  }
  return chain;
}

/** `spiffe://example.org/ns/x/*` covers what is below it, and not itself. */
function covers(pattern: string, spiffeId: string): boolean {
  return pattern.endsWith("/*") ? spiffeId.startsWith(pattern.slice(0, -1)) : spiffeId === pattern;
}
