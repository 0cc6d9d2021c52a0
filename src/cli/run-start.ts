// How does a command start, and yet not begin?
// It is stopped before its first instruction, as the program that it is: what is measured is the command itself, and
// what it does comes after what it waits for. Its environment, arguments and open files are as if it had been started
// plainly. That it can't be started is known before anything is asked of the broker.
// Where no process may be followed (ptrace(2): Yama, seccomp), or it would lose what the file grants (setuid,
// capabilities), the command is stopped once it is there: a busy machine may let it take its first steps.
// What it waits for is run.ts's business; following it, kernel.ts's.
import { spawn } from "node:child_process";
import type { ChildProcess, StdioOptions } from "node:child_process";
import { accessSync, closeSync, constants, existsSync, openSync, readSync, realpathSync, statSync, writeSync } from "node:fs";
import type { Socket } from "node:net";
import { join } from "node:path";
import { BrevetError } from "../errors.ts";
import { followChild, hasFileCapabilities, nodeSocketFd, stopAtExec } from "../kernel.ts";

const shell = "/bin/sh";

type Environment = Readonly<Record<string, string | undefined>>;

export type Startable = { readonly file: string } | { readonly exitCode: 126 | 127; readonly error: BrevetError };

/** The program that a command names, as execvp(3) finds it; or why there is none, with a shell's exit code. */
export function findProgram(name: string, env: Environment = process.env): Startable {
  const places = name.includes("/") ? [""] : (env["PATH"] ?? "/bin:/usr/bin").split(":").map((folder) => folder || ".");
  let refused = "ENOENT";
  for (const place of name === "" ? [] : places) {
    const file = join(place, name);
    try {
      accessSync(file, constants.X_OK);
      if (statSync(file).isFile()) return startable(name, file);
      refused = "EACCES";
    } catch (error) {
      const { code = "" } = error as NodeJS.ErrnoException;
      // a folder of PATH that may not be looked into holds nothing, as shells have it
      const isHidden = code === "EACCES" && place !== "" && !existsSync(file);
      if (code !== "ENOENT" && code !== "ENOTDIR" && !isHidden) refused = code;
    }
  }
  return { exitCode: refused === "ENOENT" ? 127 : 126, error: cannotStart(name, refused) };
}

/** A script is started by its interpreter: one that is not there is the script's fault, as execve(2) has it. */
function startable(name: string, file: string): Startable {
  const interpreter = /^#![ \t]*([^\s\0]+)/.exec(beginningOf(file))?.[1];
  if (interpreter === undefined || existsSync(interpreter)) return { file };
  return { exitCode: 127, error: cannotStart(name, `its interpreter ${interpreter}: ENOENT`) };
}

function beginningOf(file: string): string {
  try {
    const fd = openSync(file, "r");
    try {
      const bytes = Buffer.alloc(256);
      return bytes.toString("latin1", 0, readSync(fd, bytes));
    } finally {
      closeSync(fd);
    }
  } catch {
    return ""; // it may be executed and yet not read
  }
}

export function cannotStart(name: string, code: string): BrevetError {
  return new BrevetError("INVALID_FIELD", `command: ${name}: ${code}`, {
    violations: [{ field: "command", description: `${name}: ${code}` }],
    metadata: { try: "a command that is in PATH, or the path of a program that may be executed" },
  });
}

type Started = {
  readonly child: ChildProcess;
  /** False: it ended, or was never there. */
  readonly isStopped: boolean;
};

export function startStopped(argv: readonly string[], file: string, env: Environment): Started {
  return (mayFollow(argv[0] ?? "", file, env) ? startFollowed(argv, env) : undefined) ?? startAndStop(argv, env);
}

/** The gate is a shell, which keeps variables only if their names are a shell's; bash keeps them all. */
function mayFollow(name: string, file: string, env: Environment): boolean {
  const grants = (statSync(file).mode & 0o6000) !== 0 || hasFileCapabilities(file);
  if (grants || name.startsWith("-")) return false;
  return Object.keys(env).every((variable) => /^[A-Za-z_]\w*$/.test(variable)) || (existsSync(shell) && realpathSync(shell).endsWith("/bash"));
}

/** What shells put into an environment that did not have it. */
const shellVariables = ["PWD", "OLDPWD", "SHLVL", "_"];

/** All in one turn of the loop: Node must not see how the process stops on its way. */
function startFollowed(argv: readonly string[], env: Environment): Started | undefined {
  const added = shellVariables.filter((name) => env[name] === undefined);
  const gate = `read -r brevet_gate <&3 || exit; exec 3<&-; unset brevet_gate ${added.join(" ")}; exec "$0" "$@"`;
  const child = start(shell, ["-c", gate, ...argv], env, ["inherit", "inherit", "inherit", "pipe"]);
  if (child.pid === undefined) return undefined;
  const opener = child.stdio[3] as Socket;
  try {
    if (!followChild(child.pid)) {
      child.kill("SIGKILL");
      return undefined;
    }
    writeSync(nodeSocketFd(opener), "\n");
    return { child, isStopped: stopAtExec(child.pid) };
  } finally {
    opener.destroy();
  }
}

function startAndStop([file = "", ...args]: readonly string[], env: Environment): Started {
  const child = start(file, args, env, "inherit");
  return { child, isStopped: child.kill("SIGSTOP") };
}

function start(file: string, args: readonly string[], env: Environment, stdio: StdioOptions): ChildProcess {
  return spawn(file, args, { stdio, env }).on("error", () => {}); // told by its exit, or by having no pid
}
