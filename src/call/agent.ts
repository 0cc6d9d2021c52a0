// How do an agent's requests go out by node:https and the libraries on top of it?
// Connections belong to one epoch and are destroyed with it; a request that was cut emits the reason
// as its error, whoever hung up first. Nothing is sent twice: here a request is its caller's to repeat.
// Which epoch is current is epoch.ts's business; the mutual TLS, src/verify/tls.ts's.
import * as https from "node:https";
import type { ClientRequest } from "node:http";
import type { TLSSocket } from "node:tls";
import { MtlsAgent } from "../verify/tls.ts";
import type { PeerOptions } from "../verify/tls.ts";
import { reasonOf } from "./epoch.ts";
import type { TaskEpochs } from "./epoch.ts";

type AddRequest = (this: https.Agent, request: ClientRequest, ...rest: unknown[]) => void;

/** `https.request(url, { agent: task.agent })`. */
export class TaskAgent extends MtlsAgent {
  readonly #epochs: TaskEpochs;

  constructor(peer: PeerOptions, epochs: TaskEpochs) {
    super(peer);
    this.#epochs = epochs;
    epochs.ended.addEventListener("abort", () => this.destroy(), { once: true });
  }

  override createConnection(options: { host: string; port: number }): TLSSocket {
    const epoch = this.#epochs.current;
    epoch.throwIfAborted();
    const socket = super.createConnection(options);
    const cut = (): void => void socket.destroy(epoch.reason as Error);
    epoch.addEventListener("abort", cut, { once: true });
    socket.once("close", () => epoch.removeEventListener("abort", cut));
    return socket;
  }

  /** Node's own step between agent and request; every agent of its kind overrides it. */
  addRequest(request: ClientRequest, ...rest: unknown[]): void {
    const epoch = this.#epochs.current;
    const emit = request.emit.bind(request) as (event: string | symbol, ...values: unknown[]) => boolean;
    request.emit = (event: string | symbol, ...values: unknown[]): boolean => {
      if (event !== "error") return emit(event, ...values);
      void reasonOf(values[0], epoch).then((reason) => emit("error", reason));
      return true;
    };
    const { addRequest } = https.Agent.prototype as unknown as { addRequest: AddRequest };
    addRequest.call(this, request, ...rest);
  }
}
