// Is this machine fit for the broker, and is the broker well?
// Each check says ok, warn or fail, what it saw, and what to do about it; any fail makes exit 1.
// Nothing is changed. What can only be asked of a running broker is left out when none answers.
// proc(5), unix(7), pid_namespaces(7). What the broker itself measures, GetInfo says.
import { constants, accessSync, readFileSync, readlinkSync, statSync, statfsSync } from "node:fs";
import { release } from "node:os";
import { dirname } from "node:path";
import type { Command } from "commander";
import type { Connection } from "../client/connect.ts";
import { asBrevetError } from "../errors.ts";
import type { Info__Output } from "../generated/brevet/v1/Info.ts";
import { networkOptions } from "./network.ts";
import { answering } from "./options.ts";
import type { Common } from "./options.ts";
import { painter, print, safe, table } from "./output.ts";
import { asCaller, asProcess, probe, sockets } from "./reach.ts";

type Check = { readonly check: string; readonly result: "ok" | "warn" | "fail"; readonly found: string; readonly remedy: string };

export function addDoctor(program: Command): void {
  answering(program, "doctor", {
    summary: "Check sockets, kernel, pid namespace, hidepid, clock, disk and limits",
    more: "Of a broker on another machine: whether it answers you, is well, and has the right time.",
    example: "brevet doctor",
  })
    .action(async (options: Common) => {
      const remote = await networkOptions(options);
      const checks = remote ? await checksThere(options) : await checksHere(options);
      await print(options.output, { checks }, () => doctorText(checks));
      if (checks.some((check) => check.result === "fail")) process.exitCode = 1;
    });
}

async function checksHere(options: Common): Promise<Check[]> {
  const { loadConfig } = await import("../config.ts");
  const { dataDir } = loadConfig();
  const info = await brokerInfo(asProcess(options, ask));
  return [
    ...(await socketChecks(options)), ...brokerChecks(info), kernelCheck(), pidNamespaceCheck(info), hidepidCheck(),
    ...clockCheck(info), diskCheck(dataDir), limitsCheck(info),
  ];
}

async function checksThere(options: Common): Promise<Check[]> {
  const info = await brokerInfo(asCaller(options, ask));
  return [...brokerChecks(info), ...clockCheck(info)];
}

function doctorText(checks: readonly Check[]): string {
  const paint = painter();
  const rows = table(checks, [["check", (c) => c.check], ["result", (c) => c.result], ["found", (c) => c.found]], "nothing was checked");
  const remedies = checks.filter((c) => c.result !== "ok" && c.remedy !== "").map((c) => `${paint("bold", safe(c.check))}: ${safe(c.remedy)}`);
  return [rows, ...(remedies.length > 0 ? ["", ...remedies] : [])].join("\n");
}

const ok = (check: string, found: string): Check => ({ check, result: "ok", found, remedy: "" });
const warn = (check: string, found: string, remedy: string): Check => ({ check, result: "warn", found, remedy });
const fail = (check: string, found: string, remedy: string): Check => ({ check, result: "fail", found, remedy });

type Asked = { readonly info?: Info__Output; readonly error?: string };

const ask = (broker: Connection): Promise<Info__Output> => broker.trust.getInfo({}, { timeoutMs: 5_000 });

async function brokerInfo(asked: Promise<Info__Output>): Promise<Asked> {
  try {
    return { info: await asked };
  } catch (error) {
    return { error: asBrevetError(error).message };
  }
}

async function socketChecks(options: Common): Promise<Check[]> {
  const paths = await sockets(options);
  const start = "start the broker: brevet broker; or set BREVET_DATA_DIR to the running broker's data directory";
  const workload = await probe(paths.workload);
  const admin = await probe(paths.admin);
  return [
    workload === "open" ? ok("workload socket", paths.workload) : fail("workload socket", `${paths.workload}: ${workload}`, start),
    admin === "open" ? adminModeCheck(paths.admin)
      : admin === "EACCES" ? ok("admin socket", `${paths.admin}: not for this user`)
        : fail("admin socket", `${paths.admin}: ${admin}`, start),
  ];
}

function adminModeCheck(path: string): Check {
  const mode = statSync(path).mode & 0o777;
  if ((mode & 0o007) === 0) return ok("admin socket", path);
  return warn("admin socket", `${path}: mode ${mode.toString(8)}`, `chmod o= ${path}`);
}

function brokerChecks({ info, error }: Asked): Check[] {
  if (info === undefined) return [fail("broker", error ?? "no answer", "see the broker's log")];
  const parts = info.parts.map((part) =>
    part.ready ? ok(`broker's ${part.name}`, part.detail || "ready") : fail(`broker's ${part.name}`, part.detail || "not ready", "see the broker's log"));
  const about = `${info.version}, pid ${info.pid}, trust domain ${info.trustDomain}, PostgreSQL ${info.postgresVersion}`;
  return [info.ready ? ok("broker", about) : fail("broker", `not ready: ${about}`, "see the parts below that are not ready"), ...parts];
}

function kernelCheck(): Check {
  const [major = 0, minor = 0] = release().split(".").map(Number);
  const version = major * 1000 + minor;
  if (process.platform !== "linux" || version < 5_003) {
    return fail("kernel", `${process.platform} ${release()}`, "run the broker on Linux 5.3 or newer (pidfd_open)");
  }
  if (version >= 6_005) return ok("kernel", release());
  return warn("kernel", release(), "Linux 6.5 has SO_PEERPIDFD; before it a caller is held by its /proc folder and start time");
}

/** The broker must see every caller's PID: its own namespace has to be an ancestor of theirs, best the host's. */
function pidNamespaceCheck({ info }: Asked): Check {
  const mine = readText("/proc/self/status").match(/^NSpid:\t(.*)$/m)?.[1]?.split("\t").length ?? 1;
  const theirs = info === undefined ? undefined : link(`/proc/${info.pid}/ns/pid`);
  const own = link("/proc/self/ns/pid");
  if (theirs !== undefined && theirs !== own) {
    return fail("pid namespace", `the broker is in ${theirs}, this command in ${own}`, "run the broker in the host's pid namespace (containers: --pid=host)");
  }
  if (mine > 1) return warn("pid namespace", `nested ${mine - 1} deep`, "callers outside of this namespace can't be attested: use the host's");
  return ok("pid namespace", own ?? "shared with the broker");
}

function hidepidCheck(): Check {
  const line = readText("/proc/self/mounts").split("\n").find((mount) => mount.split(" ")[1] === "/proc") ?? "";
  const hidden = /\bhidepid=([^,\s]+)/.exec(line)?.[1] ?? "0";
  if (hidden === "0" || hidden === "off") return ok("hidepid", "off");
  return warn("hidepid", `/proc has hidepid=${hidden}`, "let the broker see other users' processes: root, or its group in the mount's gid= option");
}

function clockCheck({ info }: Asked): Check[] {
  if (info === undefined) return [];
  const found = `${Math.abs(info.clockDifferenceMs)} ms ${info.clockDifferenceMs < 0 ? "behind" : "ahead of"} PostgreSQL`;
  const difference = Math.abs(info.clockDifferenceMs);
  const remedy = "set both machines' clocks by NTP: above 5 s nothing is issued";
  return [difference > 5_000 ? fail("clock", found, remedy) : difference > 1_000 ? warn("clock", found, remedy) : ok("clock", found)];
}

function diskCheck(dataDir: string): Check {
  const place = nearest(dataDir);
  const { bavail, bsize } = statfsSync(place, { bigint: true });
  const free = Number((bavail * bsize) / 1_048_576n);
  const found = `${free} MiB free at ${place}`;
  const remedy = "make room: the database stops when the disk is full, and with it issuance";
  return free < 100 ? fail("disk", found, remedy) : free < 1_024 ? warn("disk", found, remedy) : ok("disk", found);
}

function nearest(path: string): string {
  try {
    accessSync(path, constants.F_OK);
    return path;
  } catch {
    return path === dirname(path) ? path : nearest(dirname(path));
  }
}

function limitsCheck({ info }: Asked): Check {
  const of = info === undefined ? "self" : String(info.pid);
  const text = readText(`/proc/${of}/limits`) || readText("/proc/self/limits");
  const soft = /^Max open files\s+(\S+)/m.exec(text)?.[1] ?? "unknown";
  const files = soft === "unlimited" ? Infinity : Number(soft);
  if (Number.isNaN(files) || files >= 4_096) return ok("limits", `open files: ${soft}`);
  return warn("limits", `open files: ${soft}`, "raise it: a connection, a stream and a bound process take one each (systemd: LimitNOFILE=65536)");
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function link(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined; // another user's process, or gone
  }
}
