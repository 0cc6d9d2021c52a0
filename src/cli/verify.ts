// May this SVID be accepted now?
// The same verifier as in a service: bundle and feed, from the workload socket, without any rights. The
// verdict and its reason; exit 1 when it is refused. Followed, each change of the verdict is a line
// with its time, the first verdict at once.
// How it is judged is src/verify's business. That a caller holds the key of a certificate, TLS proves.
import { existsSync } from "node:fs";
import type { Command } from "commander";
import type { Verdict } from "../verify/verdict.ts";
import type { Verifier } from "../verify/verifier.ts";
import { answering, collect, duration, group, readInput, usageError } from "./options.ts";
import type { Common } from "./options.ts";
import { fields, jsonText, painter, print, printNext, safe, writeLine, relative } from "./output.ts";
import { callerOptions } from "./reach.ts";

type Flags = Common & { watch?: true; maxStaleness?: number };

const accept = ["agent", "service"] as const;
const readyMs = 10_000;
/** Node's timers know no longer delay. */
const longestTimer = 2 ** 31 - 1;

export function addVerify(program: Command): void {
  const verify = group(program, "verify", { summary: "Verify an SVID as a service would", example: "brevet verify jwt token --audience crm" });

  following(answering(verify, "jwt", { summary: "Verify a JWT-SVID", example: "brevet verify jwt token --audience crm --watch" }))
    .argument("<token>", "the token, a file that holds it, or - for standard input")
    .requiredOption("--audience <name>", "what the service is called in JWT-SVIDs (repeatable: any of them)", collect)
    .action(async (given: string, flags: Flags & { audience: readonly string[] }) => {
      const token = given === "-" || existsSync(given) ? readInput(given).toString("latin1").trim() : given;
      await judged(flags, (verifier) => verifier.jwt(token, { audience: flags.audience, accept }));
    });

  following(answering(verify, "x509", { summary: "Verify an X.509-SVID", example: "brevet verify x509 svid.pem" }))
    .argument("<file>", "the chain, leaf first, PEM or DER; - for standard input")
    .action(async (file: string, flags: Flags) => {
      const chain = chainOf(readInput(file), file);
      await judged(flags, (verifier) => verifier.x509(chain, { accept }));
    });
}

function following(made: Command): Command {
  return made
    .option("--watch", "follow the feed, print each change of the verdict")
    .option("--max-staleness <duration>", "how old the view of revocations may be (default: 10s)", duration);
}

/** The certificates of a PEM file, whatever else it holds; or DER as it is. */
function chainOf(bytes: Buffer, name: string): Buffer {
  const blocks = bytes.toString("latin1").matchAll(/-----BEGIN CERTIFICATE-----([\sA-Za-z0-9+/=]+)-----END CERTIFICATE-----/g);
  const certificates = [...blocks].map(([, base64 = ""]) => Buffer.from(base64, "base64"));
  if (certificates.length > 0) return Buffer.concat(certificates);
  if (bytes[0] === 0x30) return bytes;
  throw usageError(`${name}: holds no certificate, neither PEM nor DER`);
}

async function judged(flags: Flags, judge: (verifier: Verifier) => Verdict): Promise<void> {
  const broker = await callerOptions(flags);
  const { Verifier } = await import("../verify/verifier.ts");
  using verifier = new Verifier({ ...broker, name: "brevet verify", ...(flags.maxStaleness !== undefined && { maxStaleness: flags.maxStaleness }) });
  await verifier.ready(AbortSignal.timeout(readyMs)).catch(() => {}); // the verdict says then that it is not ready
  if (flags.watch) return await watch(flags, verifier, () => judge(verifier));
  const verdict = judge(verifier);
  if (!verdict.accepted) process.exitCode = 1;
  const answer = { ...verdict, ...(verdict.accepted && { expiresAt: verdict.expiresAt.toISOString() }) };
  await print(flags.output, answer, () => verdictText(verdict));
}

/** Judges again whenever the feed or the bundle says something new, and when the SVID ends by itself. */
async function watch(flags: Flags, verifier: Verifier, judge: () => Verdict): Promise<void> {
  let shown = "";
  let expiry: NodeJS.Timeout | undefined;
  const look = (): void => {
    const verdict = judge();
    const now = unixNanoseconds();
    const reason = reasonOf(verdict);
    clearTimeout(expiry);
    if (verdict.accepted) expiry = setTimeout(look, Math.min(Math.max(verdict.expiresAt.getTime() - verifier.feed.now(), 50), longestTimer));
    if (reason === shown) return;
    shown = reason;
    changed(flags, verdict, now);
  };
  for (const event of ["revoked", "fresh", "stale"] as const) verifier.feed.on(event, look);
  verifier.bundles.on("update", look);
  look();
  await new Promise(() => {}); // until a signal ends this command
}

function reasonOf(verdict: Verdict): string {
  return verdict.accepted ? "accepted" : verdict.reason;
}

function changed(flags: Flags, verdict: Verdict, t: bigint): void {
  const reason = reasonOf(verdict);
  // The nanoseconds are above 2^53: as a literal they stay exact.
  if (flags.output === "json") return writeLine(`{"t":${t},"accepted":${verdict.accepted},"reason":${jsonText(reason)}}`);
  const at = new Date(Number(t / 1_000_000n)).toISOString();
  const text = verdict.accepted ? painter()("green", "accepted") : `${painter()("red", "refused")}  ${reason}  ${safe(verdict.message)}`;
  void printNext(flags.output, { t: at, accepted: verdict.accepted, reason }, () => `${painter()("dim", at)}  ${text}`);
}

/** Microseconds are what the clock gives. */
function unixNanoseconds(): bigint {
  return BigInt(Math.round((performance.timeOrigin + performance.now()) * 1_000)) * 1_000n;
}

function verdictText(verdict: Verdict): string {
  if (!verdict.accepted) {
    return fields([["verdict", "refused"], ["reason", verdict.reason], ["because", verdict.message], ["SPIFFE ID", verdict.spiffeId ?? ""], ["task", verdict.task ?? ""]]);
  }
  return fields([
    ["verdict", "accepted"], ["SPIFFE ID", verdict.spiffeId], ["agent", verdict.agent ?? ""], ["service", verdict.service ?? ""],
    ["task", verdict.task], ["epoch", String(verdict.epoch)], ["instance", verdict.instance], ["audience", verdict.audience?.join(" ") ?? ""],
    ["on behalf of", verdict.onBehalfOf ?? ""], ["expires", `${verdict.expiresAt.toISOString()} (${relative(verdict.expiresAt)})`],
  ]);
}
