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

/** What is known of a process, also of one that is not served. */
export type Known = Pick<Caller, "pid" | "uid" | "gid" | "facts">;

export class Connection {
  readonly role: Role;
  readonly peer: Peer | null;
  /** The task whose own endpoint this is; null on the common sockets and the network. */
  readonly endpointTask: string | null;
  /** What every call is answered with; null: it is served. */
  readonly refusal: BrevetError | null;
  /** The process, if it is one of this machine. */
  readonly process: Known | null;
  readonly #caller: Caller | null;

  private constructor(role: Role, caller: Caller | null, peer: Peer | null, endpointTask: string | null, refused: { readonly why: BrevetError; readonly process: Known | null } | null = null) {
    this.role = role;
    this.refusal = refused?.why ?? null;
    this.process = refused?.process ?? caller;
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

  /** Who has no business here, or can't be attested: it is told why, and served nothing. */
  static ofRefused(why: BrevetError, process: Known | null = null): Connection {
    return new Connection(process ? "process" : "service", null, null, null, { why, process });
  }

  /** The process. Of somebody on the network there is none: then nothing that asks for one is for them. */
  get caller(): Caller {
    if (!this.#caller) throw new BrevetError("DENIED_UNATTESTED", "this is only for processes of the broker's own machine");
    return this.#caller;
  }

  /** Whom limits are counted for: one user, or one SPIFFE ID. */
  get share(): string {
    return this.process ? `uid ${this.process.uid}` : (this.peer?.spiffeId ?? "nobody");
  }

  /** How the log names it. */
  get actor(): string {
    if (!this.process) return this.peer?.spiffeId ?? "nobody";
    const { uid, facts } = this.process;
    return facts.user === undefined ? `uid:${uid}` : `uid:${uid} (${facts.user})`;
  }
}
