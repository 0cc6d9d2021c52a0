// Which files make up an identity, and when are they made anew?
// A set of them is always of one moment: the X.509-SVID, its key and the JWT-SVIDs of one identity and epoch;
// what was fetched for an earlier one is dropped. Half a token's life before its end there is a new set.
// RFC 7468 (PEM), RFC 7292 (p12.ts).
// Putting files where others read them is sidecar-folder.ts's business; getting SVIDs, client/source.ts's.
import { X509Certificate, createPrivateKey } from "node:crypto";
import type { WorkloadSource, X509Identity } from "../client/source.ts";
import { BrevetError, asBrevetError, errorCodes, grpcStatus } from "../errors.ts";
import { readJwtSvid } from "../identity/svid.ts";
import { usageError } from "./options.ts";
import { pem } from "./svid.ts";
import type { KeptFile } from "./sidecar-folder.ts";

export type IdentityFiles = { readonly files: ReadonlyMap<string, KeptFile>; readonly spiffeId: string; readonly expiresAt: Date };
export type Wanted = { readonly audiences: readonly string[]; readonly p12Password: string | undefined };

type Heard = {
  files(files: IdentityFiles): void;
  withdrawn(why: BrevetError): void;
  /** What asking again cannot mend. */
  refused(error: BrevetError): void;
};

const retryMs = 1_000;
const longestName = 255;

/** Percent-encoded as in a URL, so that no audience can be another's file, or outside of the folder. */
export function jwtFileName(audience: string): string {
  const encoded = encodeURIComponent(audience).replace(/[!'()*~]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
  const name = `jwt-${encoded}.token`;
  if (audience === "" || name.length > longestName) throw usageError(`--audience ${audience}: cannot be a file's name (1 to ${longestName} characters as jwt-AUDIENCE.token)`);
  return name;
}

/** Tells of every new set until it is stopped, or of its end. `choose` says which SVID of the source is meant. */
export function followIdentity(source: WorkloadSource, choose: (svids: readonly X509Identity[]) => X509Identity | undefined, wanted: Wanted, heard: Heard): () => void {
  let round = 0;
  let timer: NodeJS.Timeout | undefined;
  const again = (ms: number): void => void (timer = setTimeout(() => void collect(), ms));
  const collect = async (): Promise<void> => {
    const mine = ++round;
    clearTimeout(timer);
    const svid = choose(source.svids);
    if (svid === undefined) return ended(new BrevetError("DENIED_TASK_ENDED", "the identity was withdrawn"));
    try {
      const tokens = await Promise.all(wanted.audiences.map(async (audience) => [audience, await source.jwt(audience, svid.hint)] as const));
      const files = await filesOf(svid, tokens, wanted.p12Password);
      if (mine !== round) return;
      heard.files({ files, spiffeId: svid.spiffeId, expiresAt: svid.expiresAt });
      const halves = tokens.map(([, token]) => (readJwtSvid(token).expiresAt.getTime() - Date.now()) / 2);
      if (halves.length > 0) again(Math.max(retryMs, Math.min(...halves)));
    } catch (thrown) {
      if (mine !== round) return;
      const error = asBrevetError(thrown);
      const transient = errorCodes[error.code].grpc === grpcStatus.UNAVAILABLE || error.code === "DEADLINE";
      if (transient) again(retryMs);
      else if (error.code !== "DENIED_TASK_ENDED") heard.refused(error); // its end is told by the source
    }
  };
  const update = (): void => void collect();
  const stop = (): void => {
    round++;
    clearTimeout(timer);
    source.off("update", update).off("end", ended);
  };
  const ended = (why: BrevetError): void => {
    stop();
    heard.withdrawn(why);
  };
  source.on("update", update).on("end", ended);
  update();
  return stop;
}

async function filesOf(svid: X509Identity, tokens: readonly (readonly [audience: string, token: string])[], p12Password: string | undefined): Promise<ReadonlyMap<string, KeptFile>> {
  const files = new Map<string, KeptFile>([
    ["svid.pem", { content: svid.cert, secret: false }],
    ["svid_key.pem", { content: svid.key, secret: true }],
    ["svid_combined.pem", { content: svid.cert + svid.key, secret: true }],
  ]);
  for (const [audience, token] of tokens) files.set(jwtFileName(audience), { content: `${token}\n`, secret: true });
  if (p12Password !== undefined) files.set("svid.p12", { content: await keyStore(svid, p12Password), secret: true });
  return files;
}

async function keyStore(svid: X509Identity, password: string): Promise<Buffer> {
  const { writeP12 } = await import("./p12.ts");
  const chain = svid.cert.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  return writeP12({
    name: svid.hint || svid.spiffeId, authorities: svid.bundle, chain: chain.map((text) => new X509Certificate(text).raw),
    key: createPrivateKey(svid.key).export({ format: "der", type: "pkcs8" }),
  }, password);
}

export function pemOf(label: string, ders: readonly Buffer[]): string {
  return ders.map((der) => `${pem(label, der)}\n`).join("");
}
