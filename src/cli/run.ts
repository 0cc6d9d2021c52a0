// How does a command run under a task, without knowing anything of it?
// The command is stopped before its first instruction, claimed for, and let go; it sees its own task's endpoint,
// which is not there before. Its success closes the task, its failure aborts it, and when the task ends
// the whole tree of processes ends too. `brevet run` is never the agent: it claims for it, and exits with
// the command's code (128 + signal). A refused claim ends the command and is no success, whatever the command did.
// Starting it is run-start.ts's business; the tree, process-tree.ts's; following the task, run-watch.ts's.
import type { ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import { constants } from "node:os";
import { Option } from "commander";
import type { Command } from "commander";
import type { Connection } from "../client/connect.ts";
import { BrevetError, asBrevetError, wrongState } from "../errors.ts";
import type { ClaimResponse__Output } from "../generated/brevet/v1/ClaimResponse.ts";
import type { Task__Output } from "../generated/brevet/v1/Task.ts";
import { terminalStates } from "../identity/task.ts";
import type { TaskState } from "../identity/task.ts";
import { failureText } from "./failure.ts";
import { command, durationOrNone, usageError } from "./options.ts";
import type { Common } from "./options.ts";
import { safe } from "./output.ts";
import { collectOrphans, endTree, signalOne } from "./process-tree.ts";
import { asOpenerHere, asProcess } from "./reach.ts";
import { about, claimRemedy, taskRef } from "./target.ts";
import { openFlags, openRequest, readTicket } from "./task.ts";
import type { OpenFlags } from "./task.ts";

type Flags = Common & Partial<OpenFlags> & { task?: string; ticketFile?: string; grace: number };

/** What only whoever opens the task can say. */
const onlyOpening = ["ttl", "purpose", "context", "for", "ref", "bind"] as const;

export function addRun(program: Command): void {
  openFlags(command(program, "run", {
    summary: "Run a command under a task: it ends with the task, and the task with it",
    more: "The command gets SPIFFE_ENDPOINT_SOCKET (its task's own socket) and BREVET_TASK_ID. Ends with 0: the task is closed, else aborted. "
      + "The task ends: SIGTERM to all its processes, the grace period, SIGKILL. Exits with the command's code. "
      + "Scope is the tree, unless --scope or whoever opened the task says otherwise. The command does nothing before its task is bound to it; only "
      + "where it may not be traced (setuid programs; kernels and containers that forbid ptrace) it may take its first steps.",
    here: true,
    example: "brevet run --agent researcher --context user=alice -- ./agent --verbose",
  })
    .option("--task <task>", "a task that is open already")
    .option("--agent <name>", "open a task for this agent"))
    .option("--ticket-file <file>", "with --task: its ticket (-: standard input)")
    .addOption(new Option("--grace <duration>", "between SIGTERM and SIGKILL").argParser(durationOrNone).default(10, "10s"))
    .argument("<command...>", "after --: the command and its arguments")
    .passThroughOptions()
    .action(async (argv: readonly string[], flags: Flags) => {
      if ((flags.task === undefined) === (flags.agent === undefined)) throw usageError("give --task or --agent");
      const astray = flags.task === undefined ? [] : onlyOpening.filter((name) => flags[name] !== undefined);
      if (astray.length > 0) throw usageError(`${astray.map((name) => `--${name}`).join(", ")}: with --agent only; the task is open already`);
      if (flags.agent !== undefined && flags.ticketFile !== undefined) throw usageError("--ticket-file goes with --task: a task that is opened here has its ticket here");
      const ticket = flags.ticketFile === undefined ? "" : readTicket(flags.ticketFile);
      const open = flags.agent === undefined ? undefined : { ...flags, agent: flags.agent, scope: flags.scope ?? "tree" };
      process.exitCode = await asProcess(flags, (caller) => asOpenerHere(flags, (opener) => run({ argv, flags, open, ticket, caller, opener })));
    });
}

type Run = {
  readonly argv: readonly string[];
  readonly flags: Flags;
  /** Undefined: the task is there. */
  readonly open: OpenFlags | undefined;
  readonly ticket: string;
  readonly caller: Connection;
  readonly opener: Connection;
};

type Target = Pick<Task__Output, "id" | "ticket" | "endpoint">;

async function run(options: Run): Promise<number> {
  const [{ collectChild, setChildSubreaper }, { cannotStart, findProgram, startStopped }, { taskEnd }] =
    await Promise.all([import("../kernel.ts"), import("./run-start.ts"), import("./run-watch.ts")]);
  const [name = ""] = options.argv;
  const program = findProgram(name);
  if ("error" in program) return said(program.error, program.exitCode);
  setChildSubreaper();
  using signals = new Signals();
  const task = await findOrOpen(options);
  const endpoint = task.endpoint || (await endpointOf(task.id));
  const notStarted = async ({ code, signal, failure }: Exit): Promise<number> => {
    await end(options, task.id, { code, signal, failure: failure ?? "cannot be started" });
    return signal === null ? said(cannotStart(name, failure ?? "cannot be executed"), failure === "ENOENT" ? 127 : (code ?? 126)) : codeOf({ code, signal });
  };
  let started: ReturnType<typeof startStopped>;
  try {
    started = startStopped(options.argv, program.file, { ...process.env, SPIFFE_ENDPOINT_SOCKET: endpoint, BREVET_TASK_ID: task.id });
  } catch (error) {
    return await notStarted({ code: null, signal: null, failure: (error as NodeJS.ErrnoException).code ?? "cannot be started" });
  }
  const { child, isStopped } = started;
  const ended = exitOf(child);
  if (!isStopped) return await notStarted(await ended);
  signals.goTo(child);
  const refusal = await bind(options, task, endpoint, child.pid ?? 0).catch((error: unknown) => asBrevetError(error));
  if (refusal === undefined) return await together(options, { task, child, ended, taskEnd, collect: () => collectOrphans(child.pid ?? 0, collectChild) });
  child.kill("SIGKILL");
  await end(options, task.id, { ...(await ended), failure: "claim refused" });
  throw refusal;
}

function said(error: BrevetError, code: number): number {
  process.stderr.write(`${failureText(error, "brevet run")}\n`);
  return code;
}

type Bound = {
  readonly task: Target;
  readonly child: ChildProcess;
  readonly ended: Promise<Exit>;
  readonly taskEnd: typeof import("./run-watch.ts").taskEnd;
  readonly collect: () => void;
};

/** The task ends, or the command does: the other follows, and then all that the command left behind. */
async function together(options: Run, { task, child, ended, taskEnd, collect }: Bound): Promise<number> {
  const watching = new AbortController();
  const graceMs = options.flags.grace * 1000;
  const claim = { task: task.id, ticket: options.ticket || task.ticket, pid: child.pid ?? 0, supervised: true };
  const taskEnded = taskEnd(options, claim, watching.signal).then(async (why) => {
    if (why === undefined) return;
    process.stderr.write(`brevet: task ${task.id} ${safe(why)}: ending the command\n`);
    await endTree(process.pid, graceMs);
  });
  process.on("SIGCHLD", collect);
  const exit = await ended;
  const told = end(options, task.id, exit);
  watching.abort();
  await Promise.all([told, taskEnded]);
  await endTree(process.pid, graceMs);
  process.off("SIGCHLD", collect);
  collect();
  return codeOf(exit);
}

function codeOf({ code, signal }: Exit): number {
  return signal === null ? (code ?? 1) : 128 + constants.signals[signal];
}

async function findOrOpen({ flags, open, opener }: Run): Promise<Target> {
  if (open !== undefined) {
    const opened = await about("agent", open.agent, opener.tasks.open(openRequest(open)));
    process.stderr.write(`brevet: task ${opened.id} opened for ${safe(opened.agent)}\n`);
    return opened;
  }
  const ref = taskRef(flags.task ?? "");
  try {
    const found = await opener.tasks.get({ task: ref });
    if (terminalStates.has(found.state as TaskState)) throw wrongState(found.id, found.state, "no command can run under it");
    return found;
  } catch (error) {
    const id = /[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.exec(ref)?.[0];
    if (asBrevetError(error).code !== "NOT_FOUND" || id === undefined) throw error;
    return { id, ticket: "", endpoint: "" }; // it may be claimed without the right to see it
  }
}

async function endpointOf(task: string): Promise<string> {
  const { loadConfig, socketPaths, taskEndpointPath } = await import("../config.ts");
  return `unix://${taskEndpointPath(socketPaths(loadConfig()).taskDir, task)}`;
}

type Exit = { readonly code: number | null; readonly signal: NodeJS.Signals | null; readonly failure?: string };

function exitOf(child: ChildProcess): Promise<Exit> {
  return new Promise((resolve) => {
    child.once("error", (error: NodeJS.ErrnoException) =>
      resolve({ code: null, signal: null, failure: error.code ?? "cannot be started" }));
    child.once("exit", (code, signal) => resolve({ code, signal }));
  });
}

async function bind(options: Run, task: Target, endpoint: string, pid: number): Promise<undefined> {
  const request = { task: task.id, ticket: options.ticket || task.ticket, pid, supervised: true };
  const claim = async (scope: string): Promise<ClaimResponse__Output> =>
    await about("task", task.id, options.caller.agent.claim({ ...request, scope }), claimRemedy(pid));
  const { scope } = options.flags;
  const claimed = await claim(scope ?? "tree").catch(async (error: unknown) => {
    if (scope !== undefined || asBrevetError(error).metadata["scope"] === undefined) throw error;
    return await claim(""); // its opener chose another, and nobody here insists
  });
  if (claimed.endpoint !== endpoint) {
    throw new BrevetError("CONFIG_INVALID", `endpoint: the broker has ${claimed.endpoint}, the command was given ${endpoint}`, {
      metadata: { try: "set BREVET_DATA_DIR to the broker's data directory" },
    });
  }
  signalOne(pid, "SIGCONT");
}

/** Tells the broker, if it lets us: a task of others ends with its instance anyway, and may have ended already. */
async function end({ opener, open, caller }: Run, task: string, { code, signal, failure }: Exit): Promise<void> {
  if (failure !== undefined && open === undefined) return; // nothing ran: the task may be claimed again
  const reason = failure ?? (signal === null ? `exit ${code ?? 1}` : `killed by ${signal}`);
  const success = failure === undefined && code === 0;
  if (failure === undefined) {
    const finished = await caller.agent.finish({ task, success, reason }).then(() => true, () => false);
    if (finished) return;
  }
  try {
    await (success ? opener.tasks.close({ task }, { retry: true }) : opener.tasks.abort({ task, reason }, { retry: true }));
  } catch (error) {
    const { code: refused } = asBrevetError(error);
    const notOurs = refused === "NOT_FOUND" || refused.startsWith("DENIED_");
    if (!notOurs && refused !== "WRONG_STATE") process.stderr.write(`${failureText(error)}\n`);
  }
}

const forwardedSignals = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH"] as const;
const fromTerminal: ReadonlySet<NodeJS.Signals> = new Set(["SIGINT", "SIGQUIT", "SIGWINCH"]);

/** The signals that this process gets are the command's; those from before it is there wait for it. */
class Signals implements Disposable {
  readonly #early: NodeJS.Signals[] = [];
  #child: ChildProcess | undefined;

  constructor() {
    for (const signal of forwardedSignals) process.on(signal, this.#forward);
  }

  goTo(child: ChildProcess): void {
    this.#child = child;
    for (const signal of this.#early) child.kill(signal);
  }

  [Symbol.dispose](): void {
    for (const signal of forwardedSignals) process.off(signal, this.#forward);
  }

  /** What a terminal sends reaches its whole foreground group, the command too: once is enough. */
  readonly #forward = (signal: NodeJS.Signals): void => {
    if (this.#child === undefined) this.#early.push(signal);
    else if (!(fromTerminal.has(signal) && inForeground())) this.#child.kill(signal);
  };
}

/** proc(5): after the name come state, parent, group, session, terminal, and the terminal's foreground group. */
function inForeground(): boolean {
  const text = readFileSync("/proc/self/stat", "latin1");
  const [, , group, , terminal, foreground] = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return terminal !== "0" && group === foreground;
}
