// Who is at the other end of this connection?
// Either a process of this machine, for which the kernel vouches, or whoever a certificate names that was
// verified in the handshake. What it is does not change while the connection lives: a certificate that dies cuts
// it (peers.ts), a process that changes is no longer the caller (src/attest).
import type { Caller } from "../attest/caller.ts";
import { BrevetError } from "../errors.ts";
import type { NetworkRole, Role } from "./roles.ts";

/** Somebody who came over the network. */
export type Peer = {
  readonly spiffeId: string;
  readonly role: NetworkRole;
  /** Whose tasks it may handle, if it is an orchestrator. */
  readonly agents: readonly string[];
  /** The operator whose certificate it is; null for SVIDs. */
  readonly operator: string | null;
  readonly epoch: number;
};

export class Connection {
  readonly role: Role;
  readonly peer: Peer | null;
  /** The task whose own endpoint this is; null on the common sockets and the network. */
  readonly endpointTask: string | null;
  /** What every call is answered with; null: it is served. */
  readonly refusal: BrevetError | null;
  readonly #caller: Caller | null;

  private constructor(role: Role, caller: Caller | null, peer: Peer | null, endpointTask: string | null, refusal: BrevetError | null = null) {
    this.role = role;
    this.refusal = refusal;
    this.#caller = caller;
    this.peer = peer;
    this.endpointTask = endpointTask;
  }

  static ofProcess(caller: Caller, role: "administrator" | "process", endpointTask: string | null): Connection {
    return new Connection(role, caller, null, endpointTask);
  }

  static ofPeer(peer: Peer): Connection {
    return new Connection(peer.role, null, peer, null);
  }

  /** Genuine, but with no business here: it is told why, and served nothing. */
  static ofRefused(refusal: BrevetError): Connection {
    return new Connection("service", null, null, null, refusal);
  }

  /** The process. Of somebody on the network there is none: then nothing that asks for one is for them. */
  get caller(): Caller {
    if (!this.#caller) throw new BrevetError("DENIED_UNATTESTED", "this is only for processes of the broker's own machine");
    return this.#caller;
  }

  get process(): Caller | null {
    return this.#caller;
  }

  /** Whom limits are counted for: one user, or one SPIFFE ID. */
  get share(): string {
    return this.#caller ? `uid ${this.#caller.uid}` : (this.peer?.spiffeId ?? "nobody");
  }

  /** How the log names it. */
  get actor(): string {
    if (!this.#caller) return this.peer?.spiffeId ?? "nobody";
    const { uid, facts } = this.#caller;
    return facts.user === undefined ? `uid:${uid}` : `uid:${uid} (${facts.user})`;
  }
}
