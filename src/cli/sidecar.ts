// How does software that only reads files get SVIDs, bundle and lists, and lose them?
// A folder is kept at what the broker last said, and other software told of each change. The sidecar ends when
// it is stopped, or when what it keeps has ended; the files of an end are gone before anybody hears of it.
// How it ended is said by the exit code alone, a different one for each thing that somebody has to do about it.
// What is kept for an agent is sidecar-agent.ts's business, for a verifier sidecar-verifier.ts's; the folder, sidecar-folder.ts's.
import { resolve } from "node:path";
import { Argument, Option } from "commander";
import type { Command } from "commander";
import { groupId, userId } from "../attest/names.ts";
import { BrevetError, asBrevetError, errorCodes, grpcStatus } from "../errors.ts";
import { failureText } from "./failure.ts";
import { networkOptions } from "./network.ts";
import { collect, command, duration, pid, readInput, usageError } from "./options.ts";
import type { Common } from "./options.ts";
import { safe } from "./output.ts";
import { sockets } from "./reach.ts";
import type { Target } from "./sidecar-agent.ts";
import type { Access } from "./sidecar-folder.ts";
import { jwtFileName } from "./sidecar-identity.ts";
import type { Wanted } from "./sidecar-identity.ts";
import type { Kept, Reach } from "./sidecar-keeper.ts";
import { hostAndPort } from "./sidecar-ready.ts";
import { taskRef } from "./target.ts";
import { readTicket } from "./task.ts";

type Flags = Common & {
  dir: string; task?: string; ticketFile?: string; pid?: number; verifier?: true; owner?: string; group?: string; mode?: number; audience?: readonly string[]; p12PasswordFile?: string;
  onChange?: string; once?: true; timeout: number; ready?: string;
};

const exitCodes = { done: 0, refused: 1, mistyped: 2, ended: 3, unreachable: 4, hook: 5, files: 6 } as const;

export function addSidecar(program: Command): void {
  command(program, "sidecar", {
    summary: "Keep bundle, lists and SVIDs as files, and tell other software of each change",
    more: "For an agent, it claims its task: for the process --pid, or where the task has scope cgroup, for the systemd unit, container or pod "
      + "that it lives in. It is never the agent: the agent's exit ends the task, the sidecar's does not. The catalog must let it (`sidecars`), "
      + "or it is root, or matches the agent itself. For a verifier (--verifier) the broker may be on another machine (--server).\n\nThe files of DIR: bundle.pem, crl.pem (the lists of all authorities), and with an identity svid.pem, svid_key.pem, svid_combined.pem, "
      + "jwt-AUDIENCE.token (percent-encoded), svid.p12. All are links to one generation and change together; to read several as one, read "
      + "the link DIR/..data first and the files in the folder that it names. DIR/.ready is there while they may be relied on.\n\n"
      + "The hook is run by /bin/sh -c with BREVET_EVENT (changed, or revoked: the identity's files are gone already) and BREVET_DIR; it has "
      + "30 seconds, and is repeated until it succeeds.\n\n"
      + "Exit codes: 0 done, or stopped by a signal; 1 refused; 2 mistyped; 3 the task has ended, its files are gone; 4 the broker was not "
      + "reached in time (--once); 5 the hook failed (--once); 6 DIR or --ready cannot be used.",
    example: "brevet sidecar --pid 4711 --dir /run/agent/brevet --audience crm"
  })
    .addArgument(new Argument("[which]", "auto: the task that the agent holds, or the next one with bind auto; that is also the default").choices(["auto"]))
    .requiredOption("--dir <dir>", "folder to keep the files in; made if it is not there")
    .option("--task <task>", "the agent's task (default: the one that it holds, or the next one with bind auto)")
    .option("--ticket-file <file>", "the task's ticket; enough without --task, once (-: standard input)")
    .option("--pid <pid>", "the agent's process", pid)
    .option("--verifier", "for no agent: keep bundle and lists, and this process's own SVID if it is a service of the catalog")
    .option("--owner <user>", "of the files: a name or a number")
    .option("--group <group>", "of the files: a name or a number")
    .addOption(new Option("--mode <mode>", "of the files with secrets, at most 0640 (default: 0600, with --group 0640); the others have 0644").argParser(secretMode))
    .option("--audience <name>", "also keep a JWT-SVID for this audience (repeatable)", collect)
    .option("--p12-password-file <file>", "also keep svid.p12, with the password in this file")
    .option("--on-change <command>", "run this after each change")
    .option("--once", "end when the files are there and the hook has run once")
    .addOption(new Option("--timeout <duration>", "with --once: how long to wait for the broker").argParser(duration).default(60, "60s"))
    .option("--ready <host:port>", "answer readiness probes over HTTP: 200, or 503 with what is wrong")
    .action(async (which: "auto" | undefined, flags: Flags) => {
      const wanted = wantedOf(flags);
      const target = targetOf(which === "auto", flags);
      const ready = flags.ready === undefined ? undefined : hostAndPort(flags.ready);
      const access = accessOf(flags);
      try {
        process.exitCode = await sidecar(flags, { wanted, target, access, ready });
      } catch (error) {
        process.stderr.write(`${failureText(error)}\n`);
        process.exitCode = exitCodeOf(asBrevetError(error));
      }
    });
}

function log(text: string): void {
  process.stderr.write(`brevet: ${safe(text)}\n`);
}

type Asked = {
  readonly wanted: Wanted;
  /** Undefined: for a verifier. */
  readonly target: Target | undefined;
  readonly access: Access;
  readonly ready: ReturnType<typeof hostAndPort> | undefined;
};

async function sidecar(flags: Flags, { wanted, target, access, ready }: Asked): Promise<number> {
  const [{ Folder }, { Hook }, { Keeper: KeeperOf }, { serveReadiness }, { keepForVerifier }, { keepForAgent }] = await Promise.all([
    import("./sidecar-folder.ts"), import("./sidecar-hook.ts"), import("./sidecar-keeper.ts"), import("./sidecar-ready.ts"),
    import("./sidecar-verifier.ts"), import("./sidecar-agent.ts"),
  ]);
  const end = new AbortController();
  const stopped = (): void => end.abort("stopped");
  for (const name of ["SIGTERM", "SIGINT"] as const) process.once(name, stopped);
  const folder = new Folder(resolve(flags.dir), access);
  const hook = new Hook(flags.onChange, folder.path, log);
  let isDone = false;
  const keeper = new KeeperOf({
    folder, hook, log,
    onWritten: () => {
      isDone = flags.once === true;
      if (isDone) end.abort("done");
    },
    onFailed: (error) => end.abort(error),
  });
  const late = flags.once ? setTimeout(() => end.abort(new BrevetError("BROKER_UNREACHABLE", `sidecar: not all was there within ${flags.timeout} s: ${keeper.problems.join("; ")}`)), flags.timeout * 1000) : undefined;
  let closeReady: (() => void) | undefined;
  try {
    closeReady = ready && await serveReadiness(ready, () => keeper.problems);
    const kept: Kept = { keeper, reach: await reachOf(flags), wanted, signal: end.signal };
    await (target === undefined ? keepForVerifier(kept) : keepForAgent(kept, target));
    const hookFailure = await hook.finish();
    return isDone && hookFailure !== undefined ? exitCodes.hook : exitCodes.done;
  } finally {
    clearTimeout(late);
    closeReady?.();
    keeper.close();
    await hook.finish();
    folder.close();
  }
}

function exitCodeOf({ code }: BrevetError): number {
  if (code === "INVALID_FIELD") return exitCodes.mistyped;
  if (code === "START_REFUSED") return exitCodes.files;
  if (code === "DENIED_TASK_ENDED") return exitCodes.ended;
  return errorCodes[code].grpc === grpcStatus.UNAVAILABLE || code === "DEADLINE" ? exitCodes.unreachable : exitCodes.refused;
}

// What was typed

function targetOf(auto: boolean, { verifier, task, ticketFile, pid: process, server }: Flags): Target | undefined {
  if (verifier && (auto || task !== undefined || ticketFile !== undefined || process !== undefined)) throw usageError("--verifier is for no agent: it goes without auto, --task, --ticket-file and --pid");
  if (auto && (task !== undefined || ticketFile !== undefined)) throw usageError("auto goes without --task and --ticket-file");
  if (!verifier && server !== undefined) throw usageError("--server goes with --verifier: for an agent the kernel must vouch; run it on the broker's own machine");
  return verifier ? undefined : { task: task === undefined || task === "auto" ? "" : taskRef(task), ticket: ticketFile === undefined ? "" : readTicket(ticketFile), pid: process ?? 0 };
}

/** For an agent only the broker of this machine will do. */
async function reachOf(flags: Flags): Promise<Reach> {
  const { address: _, ...remote } = (flags.verifier && !wantsOwn(flags) && (await networkOptions(flags))) || {};
  return remote.server === undefined ? { address: `unix://${(await sockets(flags)).workload}` } : remote;
}

function wantsOwn({ audience = [], p12PasswordFile }: Flags): boolean {
  return audience.length > 0 || p12PasswordFile !== undefined;
}

function wantedOf(flags: Flags): Wanted {
  const { audience = [], p12PasswordFile, server } = flags;
  if (server !== undefined && wantsOwn(flags)) throw usageError("--audience and --p12-password-file want a broker of this machine: another's does not know this process");
  for (const name of audience) jwtFileName(name);
  const p12Password = p12PasswordFile === undefined ? undefined : readInput(p12PasswordFile).toString("utf8").replace(/\r?\n$/, "");
  if (p12Password === "") throw usageError(`${p12PasswordFile}: holds no password`);
  return { audiences: [...new Set(audience)], p12Password };
}

function accessOf({ owner, group, mode }: Flags): Access {
  const number = (flag: string, name: string | undefined, find: (name: string) => number | undefined): number | undefined => {
    if (name === undefined) return undefined;
    const found = /^\d{1,10}$/.test(name) ? Number(name) : find(name);
    if (found === undefined) throw usageError(`${flag} ${name}: no such account on this machine`);
    return found;
  };
  return { uid: number("--owner", owner, userId), gid: number("--group", group, groupId), secretMode: mode ?? (group === undefined ? 0o600 : 0o640) };
}

function secretMode(text: string): number {
  const mode = /^0?[0-7]{3}$/.test(text) ? Number.parseInt(text, 8) : Number.NaN;
  if (!((mode & ~0o640) === 0 && (mode & 0o400) !== 0)) throw usageError(`--mode ${text}: give 0400, 0440, 0600 or 0640`);
  return mode;
}
