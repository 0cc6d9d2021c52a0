// How does a command reach a broker on another machine?
// By --server, or BREVET_SERVER, with an identity and something that says which broker to trust; without either it
// is refused with what to do, and nothing is sent. A fingerprint is for the first time: what it vouched for is
// saved beside the identity, and from then on kept fresh, as the certificate is.
// The files are client/identity.ts's, the first contact client/first-contact.ts's, sockets reach.ts's business.
import { BrevetError, asBrevetError } from "../errors.ts";
import type { BrokerOptions, Connection } from "../client/connect.ts";
import { pem } from "../identity/pem.ts";
import { readInput, usageError } from "./options.ts";
import type { Common } from "./options.ts";
import { safe } from "./output.ts";

type Where = Omit<Common, "output">;

/** Undefined: a broker of this machine is meant. */
export async function networkOptions(where: Where): Promise<BrokerOptions | undefined> {
  const fromEnvironment = process.env["BREVET_SERVER"];
  const server = where.server ?? (fromEnvironment ? fromEnvironment.split(",").map((one) => one.trim()) : undefined);
  if (server === undefined) return undefined;
  if (where.socket !== undefined || where.adminSocket !== undefined) {
    if (where.server !== undefined) throw usageError("give --server, or a socket of this machine, not both");
    return undefined;
  }
  const root = where.trustFingerprint === undefined ? undefined : await firstContact(server, where.trustFingerprint);
  if (where.cert !== undefined || where.key !== undefined) return { server, ...filesOf(where, root) };
  const { IdentityFolder, defaultFolder } = await import("../client/identity.ts");
  const identity = where.identity ?? defaultFolder();
  if (root) new IdentityFolder(identity).writeBundle([root]);
  return { server, identity, ...(where.trustBundle !== undefined && { trustBundle: where.trustBundle }) };
}

function filesOf({ cert, key, identity, trustBundle }: Where, root: Buffer | undefined): Pick<BrokerOptions, "identity" | "trustBundle"> {
  if (cert === undefined || key === undefined || identity !== undefined) throw usageError("give --cert and --key, or --identity");
  const trust = root ? pem("CERTIFICATE", root) : trustBundle;
  return {
    identity: { cert: readInput(cert).toString("latin1"), key: readInput(key).toString("latin1") },
    ...(trust !== undefined && { trustBundle: trust }),
  };
}

async function firstContact(servers: readonly string[], fingerprint: string): Promise<Buffer> {
  const { meet } = await import("../client/first-contact.ts");
  let failure: unknown;
  for (const server of servers) {
    try {
      return await meet(server, fingerprint);
    } catch (error) {
      if (!(error instanceof BrevetError) || error.code !== "BROKER_UNREACHABLE") throw error;
      failure = error;
    }
  }
  throw failure;
}

/** After the answer: what is past half of its life is renewed. A command that did its work does not fail for it. */
export async function keepIdentity(broker: Connection, { identity, trustBundle }: BrokerOptions): Promise<void> {
  if (typeof identity !== "string") return;
  const [{ IdentityFolder }, { upkeep }] = await Promise.all([import("../client/identity.ts"), import("../client/upkeep.ts")]);
  const folder = new IdentityFolder(identity, trustBundle);
  await upkeep(broker, folder).catch((error: unknown) => {
    const { expiresAt, renewAt } = folder.times;
    if (Date.now() < renewAt.getTime()) return;
    process.stderr.write(`brevet: the certificate could not be renewed and ends ${expiresAt.toISOString()}: ${safe(asBrevetError(error).message)}\n`);
  });
}
