// How does a person, or a script, get SVIDs, and see which were issued?
// SVIDs are fetched from the workload socket with the rights of this process, as any SPIFFE client
// would. A private key goes to a file of mode 0600, or to a pipe, never to a terminal; a key store's
// password comes from a file or goes into one.
// Workload API sections 5.2.1 and 6.2.1.
// Who gets which SVID is the broker's business; the key store's bytes, p12.ts's.
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { Option } from "commander";
import type { Command } from "commander";
import { BrevetError, asBrevetError } from "../errors.ts";
import type { SvidRecord__Output } from "../generated/brevet/v1/SvidRecord.ts";
import type { X509SVID__Output } from "../generated/X509SVID.ts";
import type { X509SVIDResponse__Output } from "../generated/X509SVIDResponse.ts";
import { answering, collect, duration, group, readInput, usageError, wholeNumber } from "./options.ts";
import type { Common } from "./options.ts";
import { print, safe, table, when } from "./output.ts";
import { more, pageToken, upToLimit } from "./pages.ts";
import type { Paged } from "./pages.ts";
import { writePrivate } from "./private-file.ts";
import { asAdmin, asProcess } from "./reach.ts";
import { about, taskRef } from "./target.ts";

const waitNoticeMs = 2000;

export function addSvid(program: Command): void {
  const svid = group(program, "svid", { summary: "Fetch SVIDs, and list those issued", example: "brevet svid list --live" });
  addX509(svid);
  addJwt(svid);
  addList(svid);
}

type X509Flags = Common & { format: "pem" | "p12"; out?: string; passwordFile?: string; timeout: number };

function addX509(svid: Command): void {
  answering(svid, "x509", {
    summary: "Fetch the X.509-SVIDs of this process",
    more: "Into a folder: svid.pem, key.pem and bundle.pem of the first SVID, svid.1.pem … of the others, or svid.p12. Into a file: chain and key "
      + "together, or the key store. Without --out to stdout; on a terminal the private key is left out, and a key store refused.",
    here: true,
    example: "brevet svid x509 --out /run/agent/svid/",
  })
    .addOption(new Option("--format <format>", "what to write").choices(["pem", "p12"]).default("pem"))
    .option("--out <path>", "a folder (ends in /, or is one) or a file to write, mode 0600")
    .option("--password-file <file>", "p12: its password (default with --out: one is made and written beside it, as FILE.password)")
    .addOption(new Option("--timeout <duration>", "how long to wait for the first SVID").argParser(duration).default(40, "40s"))
    .action(async (flags: X509Flags) => {
      if (flags.passwordFile !== undefined && flags.format !== "p12") throw usageError("--password-file goes with --format p12");
      if (flags.format === "p12" && flags.out === undefined) checkPiped(flags);
      const answer = await patiently(asProcess(flags, async (broker) => {
        const signal = AbortSignal.timeout(flags.timeout * 1000);
        for await (const message of broker.workload.fetchX509SVID({}, { signal })) return message;
        throw new BrevetError("NOT_READY", "svid: the broker ended the stream before the first SVID");
      }), flags.timeout);
      if (flags.out !== undefined) return await writeX509(flags, flags.out, answer);
      await (flags.format === "p12" ? pipeKeyStore(flags, answer) : printX509(flags, answer));
    });
}

/** A key store on stdout is bytes and nothing beside: no terminal, no document, and no place for a password that would be made. */
function checkPiped({ output, passwordFile }: X509Flags): void {
  if (process.stdout.isTTY) throw usageError("--format p12 is not for a terminal: send it to a file or a pipe, or give --out");
  if (output !== "table") throw usageError("-o goes with --out for --format p12");
  if (passwordFile === undefined) throw usageError("--format p12 needs --password-file, or --out, beside which a password is written");
}

/** Who waits for a task should know that they do, and what they waited for in vain. */
async function patiently<T>(answer: Promise<T>, seconds: number): Promise<T> {
  const notice = setTimeout(() => process.stderr.write("brevet: waiting for a task of this process; `brevet explain --last` says more once it is refused\n"), waitNoticeMs);
  try {
    return await answer;
  } catch (error) {
    if (!(error instanceof DOMException) && asBrevetError(error).code !== "DEADLINE") throw error;
    throw new BrevetError("DEADLINE", `svid: none within ${seconds} s: no task was waiting for this process`, {
      cause: error, metadata: { try: `brevet explain --pid ${process.ppid}; or open a task: brevet task open --agent NAME` },
    });
  } finally {
    clearTimeout(notice);
  }
}

async function printX509(flags: X509Flags, answer: X509SVIDResponse__Output): Promise<void> {
  const { splitDer } = await import("../identity/der.ts");
  const hidden = process.stdout.isTTY === true;
  await print(flags.output, answer, () => answer.svids.map((svid) =>
    [`# ${safe(svid.spiffeId)}`, ...splitDer(svid.x509Svid).map((der) => pem("CERTIFICATE", der)),
      ...(hidden ? [] : [pem("PRIVATE KEY", svid.x509SvidKey)])].join("\n")).join("\n"));
  if (hidden && flags.output === "table") process.stderr.write("private keys are not shown on a terminal: --out DIR/ writes them\n");
}

async function writeX509(flags: X509Flags, out: string, answer: X509SVIDResponse__Output): Promise<void> {
  const folder = out.endsWith("/") || (existsSync(out) && statSync(out).isDirectory());
  if (folder) mkdirSync(out, { recursive: true, mode: 0o700 });
  else tellOfOthers(answer);
  const written: { spiffeId: string; hint: string; files: string[] }[] = [];
  for (const [i, svid] of (folder ? answer.svids : answer.svids.slice(0, 1)).entries()) {
    const at = (name: string, ending: string): string => (folder ? join(out, i === 0 ? `${name}.${ending}` : `${name}.${i}.${ending}`) : out);
    const files = flags.format === "p12" ? await writeKeyStore(flags, at("svid", "p12"), svid) : await writePem(at, folder, svid);
    written.push({ spiffeId: svid.spiffeId, hint: svid.hint, files });
  }
  await print(flags.output, { svids: written }, () => written.map((w) => `${safe(w.spiffeId)}\n${w.files.map((f) => `  ${safe(f)}`).join("\n")}`).join("\n"));
}

async function writePem(at: (name: string, ending: string) => string, folder: boolean, svid: X509SVID__Output): Promise<string[]> {
  const { splitDer } = await import("../identity/der.ts");
  const certificates = (der: Buffer): string => splitDer(der).map((one) => `${pem("CERTIFICATE", one)}\n`).join("");
  const key = `${pem("PRIVATE KEY", svid.x509SvidKey)}\n`;
  if (!folder) return [writePrivate(at("svid", "pem"), certificates(svid.x509Svid) + key)];
  return [
    writePrivate(at("svid", "pem"), certificates(svid.x509Svid)),
    writePrivate(at("key", "pem"), key),
    writePrivate(at("bundle", "pem"), certificates(svid.bundle)),
  ];
}

async function writeKeyStore(flags: X509Flags, file: string, svid: X509SVID__Output): Promise<string[]> {
  const given = givenPassword(flags);
  const password = given ?? randomBytes(24).toString("base64url");
  const passwordFile = given === undefined ? [writePrivate(`${file}.password`, `${password}\n`)] : [];
  return [writePrivate(file, await keyStore(svid, password)), ...passwordFile];
}

async function pipeKeyStore(flags: X509Flags, answer: X509SVIDResponse__Output): Promise<void> {
  const [svid] = answer.svids;
  if (svid === undefined) return;
  tellOfOthers(answer);
  process.stdout.write(await keyStore(svid, givenPassword(flags) ?? ""));
}

function tellOfOthers({ svids }: X509SVIDResponse__Output): void {
  if (svids.length > 1) process.stderr.write(`brevet: ${svids.length} SVIDs, the first is written: give a folder for all\n`);
}

function givenPassword({ passwordFile }: X509Flags): string | undefined {
  const given = passwordFile === undefined ? undefined : readInput(passwordFile).toString("utf8").replace(/\r?\n$/, "");
  if (given === "") throw usageError(`${passwordFile}: holds no password`);
  return given;
}

async function keyStore(svid: X509SVID__Output, password: string): Promise<Buffer> {
  const [{ writeP12 }, { splitDer }] = await Promise.all([import("./p12.ts"), import("../identity/der.ts")]);
  return writeP12({ name: svid.hint || svid.spiffeId, key: svid.x509SvidKey, chain: splitDer(svid.x509Svid), authorities: splitDer(svid.bundle) }, password);
}

export function pem(label: string, der: Buffer): string {
  return `-----BEGIN ${label}-----\n${der.toString("base64").replace(/.{64}(?=.)/g, "$&\n")}\n-----END ${label}-----`;
}

function addJwt(svid: Command): void {
  answering(svid, "jwt", { summary: "Fetch JWT-SVIDs of this process, one for each of its tasks", here: true, example: "brevet svid jwt --audience crm" })
    .requiredOption("--audience <name>", "who is to accept it (repeatable)", collect)
    .option("--spiffe-id <id>", "only the one of this identity")
    .addOption(new Option("--timeout <duration>", "how long to wait").argParser(duration).default(40, "40s"))
    .action(async (flags: Common & { audience: readonly string[]; spiffeId?: string; timeout: number }) => {
      const request = { audience: [...flags.audience], spiffeId: flags.spiffeId ?? "" };
      const answer = await patiently(asProcess(flags, (broker) => broker.workload.fetchJWTSVID(request, { timeoutMs: flags.timeout * 1000 })), flags.timeout);
      await print(flags.output, answer, () => answer.svids.map((one) => safe(one.svid)).join("\n"));
    });
}

type ListFlags = Common & Paged & { task?: string; live?: true };

function addList(svid: Command): void {
  answering(svid, "list", { summary: "List the SVIDs that were issued, newest first", example: "brevet svid list --task 0190c2a4 --live" })
    .option("--task <task>", "only of this task")
    .option("--live", "only those neither expired nor revoked")
    .option("--limit <n>", "at most so many", wholeNumber(1, 10_000_000), 100)
    .addOption(pageToken())
    .action(async (flags: ListFlags) => {
      const task = flags.task === undefined ? "" : taskRef(flags.task);
      const { rows: svids, nextPageToken } = await asAdmin(flags, (broker) => upToLimit<SvidRecord__Output>(flags, async (page) => {
        const found = await about("task", flags.task ?? "", broker.log.listSvids({ task, live: flags.live ?? false, ...page }));
        return [found.svids, found.nextPageToken];
      }));
      await print(flags.output, { svids, nextPageToken }, () => svidTable(svids) + more(nextPageToken));
    });
}

function svidTable(svids: readonly SvidRecord__Output[]): string {
  return table(svids, [
    ["kind", (s) => s.kind],
    ["serial or jti", (s) => s.serial || s.jti],
    ["task", (s) => s.task],
    ["epoch", (s) => String(s.epoch)],
    ["issued", (s) => when(s.issuedAt)],
    ["expires", (s) => when(s.expiresAt)],
    ["revoked", (s) => (s.revoked ? "yes" : "no")],
    ["audiences", (s) => s.audiences.join(" ")],
    ["via", (s) => (s.via ? `pid ${s.via.pid} uid ${s.via.uid}` : "")],
  ], "no SVIDs");
}
