// How does a test tell an agent's process what to do, and hear what came of it?
// Always true: each agent is a real process without code of ours (agent.mjs); whatever SVID or secret
// it was given is also told to `saw`, so that the world can be held against it; a refusal is thrown as
// the error the broker meant, with the gRPC status that stood on the wire.
// Starting brokers and judging what was seen is world.ts's business.
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import type { Duplex } from "node:stream";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { Metadata } from "@grpc/grpc-js";
import { decodeError } from "../../src/client/status.ts";
import type { BrevetError } from "../../src/errors.ts";
import { readJwtSvid, readX509Svid, splitChain } from "../../src/identity/svid.ts";
import type { JwtSvid, X509Svid } from "../../src/identity/svid.ts";

/** The user that agents run as: another than the broker's where that can be. */
export const agentUid = process.getuid?.() === 0 ? 65_534 : (process.getuid?.() ?? 0);
export const ownUid = process.getuid?.() ?? 0;

export type Refusal = BrevetError & { readonly status: number };
export type HeldX509 = X509Svid & { readonly hint: string; readonly chain: Buffer; readonly key: Buffer; readonly bundle: Buffer };
export type HeldJwt = JwtSvid & { readonly hint: string; readonly token: string };
export type Sight = { readonly x509: HeldX509 } | { readonly jwt: HeldJwt };

export type Call = {
  readonly service?: "workload" | "tasks" | "agent";
  /** `unix:///…`; default: the world's workload socket. */
  readonly socket?: string;
  /** Another name, another connection. */
  readonly connection?: string;
  /** The value of `workload.spiffe.io`; "": none. */
  readonly header?: string;
};

export type WireRefusal = { readonly code: number; readonly message: string; readonly bytes?: string };
type Line = {
  readonly pid?: number; readonly id?: number; readonly answer?: unknown; readonly stream?: number;
  readonly message?: unknown; readonly refused?: WireRefusal; readonly ended?: true;
};
type WireX509 = { readonly svids: { readonly x509Svid: string; readonly x509SvidKey: string; readonly bundle: string; readonly hint: string }[]; readonly crl: string[] };
type WireJwt = { readonly svids: { readonly svid: string; readonly hint: string }[] };
type WireTask = { readonly id: string; readonly state: string; readonly epoch: number; readonly endpoint: string };

/** What an open stream has brought so far. */
export class Stream<T> {
  readonly messages: T[] = [];
  /** Resolves with the refusal that ended it, or undefined when it ended properly. */
  readonly ended: Promise<Refusal | undefined>;
  readonly cancel: () => void;
  isOver = false;
  #taken = 0;
  #end: (refusal: Refusal | undefined) => void = () => {};
  #wake: () => void = () => {};

  constructor(cancel: () => void) {
    this.cancel = cancel;
    this.ended = new Promise((resolve) => (this.#end = resolve));
  }

  /** The first message not taken yet; throws the refusal if the stream ends instead. */
  async next(): Promise<T> {
    while (this.#taken >= this.messages.length) {
      if (this.isOver) throw (await this.ended) ?? new Error("the stream ended");
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    return this.messages[this.#taken++] as T;
  }

  push(message: T): void {
    this.messages.push(message);
    this.#wake();
  }

  finish(refusal: Refusal | undefined): void {
    this.isOver = true;
    this.#end(refusal);
    this.#wake();
  }
}

export class Agent {
  readonly pid: number;
  /** The process that was spawned: the agent itself, or the first of its family. */
  readonly child: ChildProcess;
  readonly #line: Duplex;
  readonly #socket: () => string;
  readonly #saw: (sight: Sight) => void;
  readonly #answers = new Map<number, (line: Line) => void>();
  readonly #streams = new Map<number, (line: Line) => void>();
  #orders = 0;

  private constructor(pid: number, child: ChildProcess, line: Duplex, socket: () => string, saw: (sight: Sight) => void) {
    this.pid = pid;
    this.child = child;
    this.#line = line;
    this.#socket = socket;
    this.#saw = saw;
  }

  /** A chain of processes, each the parent of the next. */
  static async family(size: number, socket: () => string, saw: (sight: Sight) => void, uid = agentUid): Promise<Agent[]> {
    const program = fileURLToPath(new URL("agent.mjs", import.meta.url));
    const drop = uid === ownUid ? -1 : uid;
    const pipes = Array.from({ length: size }, () => "pipe" as const);
    const child = spawn(process.execPath, [program, "0", String(size - 1), String(drop)], { stdio: ["ignore", "inherit", "inherit", ...pipes] });
    await once(child, "spawn");
    return await Promise.all(child.stdio.slice(3).map(async (pipe) => await Agent.#met(child, pipe as Duplex, socket, saw)));
  }

  static async #met(child: ChildProcess, line: Duplex, socket: () => string, saw: (sight: Sight) => void): Promise<Agent> {
    const reader = createInterface({ input: line });
    line.on("error", () => {});
    const [hello] = (await Promise.race([once(reader, "line"), once(reader, "close").then(() => [undefined])])) as [string | undefined];
    if (hello === undefined) throw new Error("an agent ended before it said hello");
    const agent = new Agent((JSON.parse(hello) as { pid: number }).pid, child, line, socket, saw);
    reader.on("line", (text) => agent.#heard(JSON.parse(text) as Line));
    reader.on("close", () => agent.#gone());
    return agent;
  }

  async claim(task: string, { ticket = "", pid = 0, ...how }: Call & { ticket?: string; pid?: number } = {}): Promise<{ task: WireTask; endpoint: string }> {
    return await this.call("Claim", { task, ticket, pid }, { service: "agent", ...how });
  }

  async status(how: Call = {}): Promise<WireTask[]> {
    return (await this.call<{ tasks: WireTask[] }>("Status", {}, { service: "agent", ...how })).tasks;
  }

  /** The X.509-SVIDs of the stream's first message. */
  async x509(how: Call = {}): Promise<HeldX509[]> {
    const stream = this.follow(how);
    try {
      return await stream.next();
    } finally {
      stream.cancel();
    }
  }

  async jwt(audience: readonly string[], { spiffeId = "", ...how }: Call & { spiffeId?: string } = {}): Promise<HeldJwt[]> {
    const { svids } = await this.call<WireJwt>("FetchJWTSVID", { audience, spiffeId }, how);
    return svids.map(({ svid, hint }) => {
      const jwt = { ...readJwtSvid(svid), hint, token: svid };
      this.#saw({ jwt });
      return jwt;
    });
  }

  /** Holds a stream of X.509-SVIDs; each message is all that is held. */
  follow(how: Call = {}): Stream<HeldX509[]> {
    return this.stream("FetchX509SVID", {}, how, (message) => (message as WireX509).svids.map((svid) => {
      const chain = Buffer.from(svid.x509Svid, "base64");
      const [leaf = chain] = splitChain(chain);
      const x509 = { ...readX509Svid(leaf), hint: svid.hint, chain, key: Buffer.from(svid.x509SvidKey, "base64"), bundle: Buffer.from(svid.bundle, "base64") };
      this.#saw({ x509 });
      return x509;
    }));
  }

  /** Mutual TLS as a program without code of ours does it: says hello, and hears what comes. */
  connect(port: number, svid: HeldX509, expected: string): Stream<string> & { write(text: string): void } {
    const authorities = splitChain(svid.bundle).map((der) => pem("CERTIFICATE", der));
    const certificates = splitChain(svid.chain).map((der) => pem("CERTIFICATE", der)).join("");
    const id = this.#order("connect", { port, certificates, key: pem("PRIVATE KEY", svid.key), authorities, expected });
    const stream = this.#streamOf(id, (message) => message as string);
    return Object.assign(stream, { write: (text: string): void => void this.#order("write", { stream: id, text }) });
  }

  async call<T>(method: string, request: object, how: Call = {}): Promise<T> {
    const line = await new Promise<Line>((resolve) => this.#answers.set(this.#order("call", { ...how, method, request }), resolve));
    if (line.refused) throw refusalOf(line.refused);
    return line.answer as T;
  }

  stream<T>(method: string, request: object, how: Call, read: (message: unknown) => T): Stream<T> {
    return this.#streamOf(this.#order("stream", { ...how, method, request }), read);
  }

  #streamOf<T>(id: number, read: (message: unknown) => T): Stream<T> {
    const stream = new Stream<T>(() => void this.#order("cancel", { stream: id }));
    this.#streams.set(id, (line) => {
      if (line.message !== undefined) stream.push(read(line.message));
      if (line.refused) stream.finish(refusalOf(line.refused));
      if (line.ended) stream.finish(undefined);
    });
    return stream;
  }

  /** Resolves when the process is gone. */
  async exit(code = 0): Promise<void> {
    this.#order("exit", { code });
    await this.#closed();
  }

  /** Ends it as nothing can refuse. */
  async kill(): Promise<void> {
    if (this.#line.closed) return;
    process.kill(this.pid, "SIGKILL");
    await this.#closed();
  }

  /** Its end of the line is closed by the kernel, whatever it had still to say. */
  async #closed(): Promise<void> {
    if (!this.#line.closed) await new Promise((resolve) => this.#line.once("close", resolve));
  }

  #order(op: string, order: object): number {
    const id = ++this.#orders;
    this.#line.write(`${JSON.stringify({ service: "workload", socket: this.#socket(), ...order, op, id })}\n`);
    return id;
  }

  #heard(line: Line): void {
    if (line.id !== undefined) {
      this.#answers.get(line.id)?.(line);
      this.#answers.delete(line.id);
    }
    if (line.stream !== undefined) this.#streams.get(line.stream)?.(line);
  }

  #gone(): void {
    const refused = { code: 14, message: "the agent's process is gone" };
    for (const answer of this.#answers.values()) answer({ refused });
    for (const stream of this.#streams.values()) stream({ refused });
  }
}

export function pem(label: string, der: Buffer): string {
  return `-----BEGIN ${label}-----\n${der.toString("base64")}\n-----END ${label}-----\n`;
}

/** As the broker meant it. */
export function refusalOf({ code, message, bytes }: WireRefusal): Refusal {
  const metadata = new Metadata();
  if (bytes !== undefined) metadata.set("grpc-status-details-bin", Buffer.from(bytes, "base64"));
  const wire = Object.assign(new Error(message), { code, details: message, metadata });
  return Object.assign(decodeError(wire, "the agent's socket"), { status: code });
}
