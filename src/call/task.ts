// How does an agent work under its task: hold it, show it, and hear that it is over?
// A task in hand is one claim, one source of SVIDs and one view of the feed. Whatever goes out by it rests on
// one epoch of it; who answers is judged by SPIFFE ID, never by host name, and by nobody's word but the
// authorizer's that was given. When the task is over, everything of it is.
// Holding SVIDs is src/client/source.ts's business; judging who answers, src/verify's.
import type { Dispatcher, RequestInfo, RequestInit, Response } from "undici";
import type * as https from "node:https";
import { invalid } from "../errors.ts";
import { WorkloadSource } from "../client/source.ts";
import type { SourceOptions } from "../client/source.ts";
import { aFunction, anything, checkOptions, filledText, text } from "../identity/options.ts";
import type { Rules } from "../identity/options.ts";
import type { Authorizer } from "../verify/authorize.ts";
import type { PeerOptions } from "../verify/tls.ts";
import { Verifier } from "../verify/verifier.ts";
import { TaskAgent } from "./agent.ts";
import { TaskDispatcher, taskFetch } from "./dispatcher.ts";
import { TaskEpochs } from "./epoch.ts";

export type AgentTaskOptions = SourceOptions & {
  /** The ID of a task to claim. Default: the one that this process holds already, as under `brevet run`. */
  readonly task?: string;
  /** The one-use secret, where the task's bind is `ticket`. */
  readonly ticket?: string;
  /** Who may answer what goes out, e.g. `serviceIs("crm")`. Without it nothing can be called. */
  readonly servers?: Authorizer;
};

const rules: Rules<AgentTaskOptions> = { address: anything, signal: anything, task: filledText, ticket: text, servers: aFunction };

/** The task that this process works under. Close it, or hold it with `using`; the broker ends the task when the process exits. */
export class AgentTask {
  /** Its SVIDs: `source.svid()`, `source.on("update")`. */
  readonly source: WorkloadSource;
  readonly #epochs: TaskEpochs;
  readonly #verifier: Verifier | undefined;
  readonly #peer: PeerOptions | undefined;
  #dispatcher: TaskDispatcher | undefined;
  #agent: TaskAgent | undefined;

  private constructor(source: WorkloadSource, hint: string | undefined, verifier: Verifier | undefined, servers: Authorizer | undefined) {
    this.source = source;
    this.#epochs = new TaskEpochs(source, hint);
    this.#verifier = verifier;
    const peer = { source, hint: this.#epochs.id };
    this.#peer = verifier && servers && { ...peer, verifier, authorize: servers };
  }

  /** Claims the task, or takes the one that is held; resolves when its SVIDs are there. Throws DENIED_…, NOT_FOUND. */
  static async open(options: AgentTaskOptions = {}): Promise<AgentTask> {
    checkOptions(options, rules);
    const { task, ticket, servers, ...reach } = options;
    const source = task === undefined
      ? await WorkloadSource.open(reach)
      : await WorkloadSource.claim({ ...reach, task, ...(ticket !== undefined && { ticket }) });
    const verifier = servers && new Verifier({ ...(options.address !== undefined && { address: options.address }), accept: ["agent", "service"] });
    try {
      await verifier?.ready(options.signal);
      return new AgentTask(source, task ?? process.env["BREVET_TASK_ID"], verifier, servers);
    } catch (error) {
      verifier?.close();
      source.close();
      throw error;
    }
  }

  get id(): string {
    return this.#epochs.id;
  }

  /** Of the SVIDs that are held now. */
  get epoch(): number {
    return this.#epochs.epoch;
  }

  /** Aborts when the task is over; the reason is a BrevetError. Pass it to whatever works for the task. */
  get signal(): AbortSignal {
    return this.#epochs.ended;
  }

  /** A JWT-SVID (JWS compact) for this audience, as `source.jwt` has it: right after a change of context it may be the old one. */
  async jwt(audience: string | readonly string[]): Promise<string> {
    this.signal.throwIfAborted();
    return await this.source.jwt(audience, this.id);
  }

  /**
   * `fetch` over mutual TLS. A request that a change of context cut is sent once more if that is harmless.
   * Rejects with the codes CONTEXT_CHANGED or DENIED_TASK_ENDED, VERIFY_… for whoever answered wrongly.
   */
  async fetch(input: RequestInfo, init?: RequestInit): Promise<Response> {
    this.signal.throwIfAborted();
    return await taskFetch(this.#out(), this.#epochs, input, init);
  }

  /** For undici's `request` and whatever takes a dispatcher; repeats as `fetch` does. */
  get dispatcher(): Dispatcher {
    return this.#out();
  }

  /** For `https.request` and whatever takes an agent. Repeats nothing. */
  get agent(): https.Agent {
    return (this.#agent ??= new TaskAgent(this.#callable(), this.#epochs));
  }

  /** Puts the task down here. It does not end it: its orchestrator does, or this process's exit. */
  close(): void {
    this.#epochs.close();
    this.source.close();
    this.#verifier?.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #out(): TaskDispatcher {
    return (this.#dispatcher ??= new TaskDispatcher(this.#callable(), this.#epochs));
  }

  #callable(): PeerOptions {
    if (this.#peer === undefined) throw invalid([{ field: "servers", description: 'say who may answer, e.g. servers: serviceIs("crm")' }]);
    return this.#peer;
  }
}
