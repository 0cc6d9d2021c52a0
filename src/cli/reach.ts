// Which broker does a command ask, and by which way?
// One on another machine, where --server or BREVET_SERVER names it (network.ts). Else one of this machine:
// the admin socket where it may be connected to, else the workload socket: an opener needs no other
// command than an administrator. What only administrators may do asks the admin socket alone. When
// nobody answers, the error names each socket tried and the command that starts a broker there.
// SPIFFE Workload Endpoint section 4 (SPIFFE_ENDPOINT_SOCKET).
// Calls and their errors are client/connect.ts's; where the sockets lie is config.ts's.
import { connect as dial } from "node:net";
import { BrevetError } from "../errors.ts";
import type { BrokerOptions, Connection } from "../client/connect.ts";
import { keepIdentity, networkOptions } from "./network.ts";
import type { Common } from "./options.ts";

export type Sockets = { readonly workload: string; readonly admin: string };
type Where = Omit<Common, "output">;

/** Both sockets as paths: flag, then SPIFFE_ENDPOINT_SOCKET (workload), then the data directory's. */
export async function sockets(where: Where): Promise<Sockets> {
  const { loadConfig, socketPaths } = await import("../config.ts");
  const own = socketPaths(loadConfig());
  const endpoint = process.env["SPIFFE_ENDPOINT_SOCKET"];
  return {
    workload: where.socket ?? (endpoint ? pathOf(endpoint) : own.workload),
    admin: where.adminSocket ?? own.admin,
  };
}

function pathOf(address: string): string {
  const path = /^unix:(?:\/\/)?(\/(?!\/)[^?#]*)$/.exec(address)?.[1];
  if (path !== undefined) return path;
  throw new BrevetError("CONFIG_INVALID", `SPIFFE_ENDPOINT_SOCKET: "${address}" is not a unix socket's address (unix:///…)`);
}

/** How a client of HTTP/2 begins: the preface and no settings of its own. */
const hello = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/**
 * `open`, or why not: ENOENT, ECONNREFUSED, EACCES, …
 * A broker answers with its settings; to whom the admin socket is not for, it closes without a word.
 */
export async function probe(path: string): Promise<string> {
  return await new Promise((resolve) => {
    const socket = dial({ path, timeout: 5_000 });
    socket.write(hello);
    const done = (answer: string) => (): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.once("data", done("open")).once("timeout", done("ETIMEDOUT")).once("end", done("EACCES"));
    socket.once("error", (error: NodeJS.ErrnoException) => done(error.code === "ECONNRESET" ? "EACCES" : (error.code ?? "error"))());
  });
}

/** What only a process of the broker's own machine can ask: its kernel vouches for it. */
export async function asProcess<T>(where: Where, ask: (broker: Connection) => Promise<T>): Promise<T> {
  return await talk({ address: await workloadAddress(where) }, ask);
}

/** How a verifier reaches the broker: as any process, or over the network. */
export async function callerOptions(where: Where): Promise<BrokerOptions> {
  return (await networkOptions(where)) ?? { address: await workloadAddress(where) };
}

/** `unix:///…` of a workload socket that answers. */
async function workloadAddress(where: Where): Promise<string> {
  const { workload } = await sockets(where);
  const answer = await probe(workload);
  if (answer !== "open") throw unreachable([[workload, answer]]);
  return `unix://${workload}`;
}

/** Asks as any process may. */
export async function asCaller<T>(where: Where, ask: (broker: Connection) => Promise<T>): Promise<T> {
  return await talk(await callerOptions(where), ask);
}

/** Asks as an administrator, or over the network in whatever role. */
export async function asAdmin<T>(where: Where, ask: (broker: Connection) => Promise<T>): Promise<T> {
  const remote = await networkOptions(where);
  return remote ? await talk(remote, ask) : await asAdministrator(where, ask);
}

/** Asks what only the admin socket answers. */
export async function asAdministrator<T>(where: Where, ask: (broker: Connection) => Promise<T>): Promise<T> {
  const { admin } = await sockets(where);
  const answer = await probe(admin);
  if (answer !== "open") throw unreachable([[admin, answer]]);
  return await talk({ address: `unix://${admin}` }, ask);
}

/** Asks as an administrator, or as an opener, or over the network. */
export async function asOpener<T>(where: Where, ask: (broker: Connection) => Promise<T>): Promise<T> {
  const remote = await networkOptions(where);
  return remote ? await talk(remote, ask) : await asOpenerHere(where, ask);
}

/** The same of this machine's broker, whatever BREVET_SERVER says: what is opened so is claimed here. */
export async function asOpenerHere<T>(where: Where, ask: (broker: Connection) => Promise<T>): Promise<T> {
  const { workload, admin } = await sockets(where);
  const adminAnswer = await probe(admin);
  if (adminAnswer === "open") return await talk({ address: `unix://${admin}` }, ask);
  const answer = await probe(workload);
  if (answer === "open") return await talk({ address: `unix://${workload}` }, ask);
  throw unreachable([[admin, adminAnswer], [workload, answer]]);
}

async function talk<T>(options: BrokerOptions, ask: (broker: Connection) => Promise<T>): Promise<T> {
  const { connect } = await import("../client/connect.ts");
  const broker = connect(options);
  try {
    const answer = await ask(broker);
    if (options.server !== undefined) await keepIdentity(broker, options);
    return answer;
  } finally {
    broker.close();
  }
}

const meaning: Readonly<Record<string, string>> = {
  ENOENT: "no such socket", ECONNREFUSED: "nobody listens", EACCES: "no permission", ENOTSOCK: "not a socket",
  ETIMEDOUT: "no answer", ENOTDIR: "no such socket",
};

function unreachable(tried: readonly (readonly [path: string, answer: string])[]): BrevetError {
  const list = tried.map(([path, answer]) => `${path} (${meaning[answer] ?? answer})`).join(" and ");
  if (tried.every(([, answer]) => answer === "EACCES")) {
    return new BrevetError("DENIED_ROLE", `broker: only administrators may ask this: tried ${list}`);
  }
  const dataDir = process.env["BREVET_DATA_DIR"];
  const start = `${dataDir ? `BREVET_DATA_DIR=${dataDir} ` : ""}brevet broker`;
  return new BrevetError("BROKER_UNREACHABLE", `broker: not running: tried ${list}`, {
    metadata: { try: dataDir ? start : `${start} (or set BREVET_DATA_DIR to the running broker's data directory)` },
  });
}
