// How does a person, or a script, open a task, follow it and end it?
// Each command is one call: the broker decides, also who may see what. A ticket is printed once and
// only where it was asked for, or written to a file that nobody else may read.
// Which words name a task is target.ts's business; claiming for a command that is started, run.ts's.
import { closeSync } from "node:fs";
import { Option } from "commander";
import type { Command } from "commander";
import type { Connection } from "../client/connect.ts";
import type { ChangeContextsResponse__Output } from "../generated/brevet/v1/ChangeContextsResponse.ts";
import type { OpenTaskRequest } from "../generated/brevet/v1/OpenTaskRequest.ts";
import { BrevetError } from "../errors.ts";
import type { Propagation__Output } from "../generated/brevet/v1/Propagation.ts";
import type { Task__Output } from "../generated/brevet/v1/Task.ts";
import { binds, scopes, taskStates } from "../identity/task.ts";
import { answering, duration, group, pair, pairsOf, pid, readInput, usageError, wholeNumber, collect } from "./options.ts";
import type { Common } from "./options.ts";
import { fields, pairs, painter, print, printNext, safe, short, table, when } from "./output.ts";
import { more, pageToken, upToLimit } from "./pages.ts";
import type { Paged } from "./pages.ts";
import { propagationNow, propagationText } from "./propagation.ts";
import { fillPrivate, openPrivate } from "./private-file.ts";
import { asOpener, asProcess } from "./reach.ts";
import { about, claimRemedy, taskRef } from "./target.ts";

export type OpenFlags = {
  readonly agent: string;
  readonly ttl?: number;
  readonly purpose?: string;
  readonly context?: Readonly<Record<string, string>>;
  readonly for?: string;
  readonly ref?: Readonly<Record<string, string>>;
  readonly bind?: string;
  readonly scope?: string;
};

/** What a task may be opened with; `brevet run --agent` takes the same. */
export function openFlags(command: Command): Command {
  return command
    .option("--ttl <duration>", "when it expires, whatever happens (default: 15m)", duration)
    .option("--purpose <text>", "what it is for")
    .option("--context <key=value>", "a fact whose change must end authority: user, repository@commit, model (repeatable)", pair)
    .option("--for <person>", "on whose behalf: recorded and in the SVIDs, never an authority")
    .option("--ref <key=value>", "a search key: workflow run, issue, trace (repeatable)", pair)
    .addOption(new Option("--bind <how>", "how it is claimed (default: claim)").choices(binds))
    .addOption(new Option("--scope <what>", "what it is bound to: the process, it and its descendants, or its systemd unit, container or pod").choices(scopes));
}

export function openRequest(flags: OpenFlags): OpenTaskRequest {
  return {
    agent: flags.agent,
    ttlSeconds: flags.ttl ?? 0,
    purpose: flags.purpose ?? "",
    context: { ...flags.context },
    onBehalfOf: flags.for ?? "",
    refs: { ...flags.ref },
    bind: flags.bind ?? "",
    scope: flags.scope ?? "",
  };
}

export function addTask(program: Command): void {
  const task = group(program, "task", {
    summary: "Open, claim, follow and end tasks",
    more: "TASK is a task ID or what names one: a unique prefix, a SPIFFE ID, a serial, a jti, pid:N, or an SVID's file.",
    example: "brevet task list",
  });
  addOpen(task);
  addClaim(task);
  addLooking(task);
  addChanging(task);
}

function addOpen(task: Command): void {
  openFlags(answering(task, "open", {
    summary: "Open a task for an agent",
    example: "brevet task open --agent researcher --ttl 15m --context user=alice --ref issue=42",
  }).requiredOption("--agent <name>", "the agent, as the catalog names it"))
    .option("--ticket-file <file>", "with --bind ticket: write the ticket there (mode 0600) instead of printing it")
    .action(async (options: Common & OpenFlags & { ticketFile?: string }) => {
      if (options.ticketFile !== undefined && options.bind !== "ticket") throw usageError("--ticket-file goes with --bind ticket");
      await withTicketFile(options.ticketFile, async (keepTicket) => {
        const opened = await asOpener(options, (broker) => about("agent", options.agent, broker.tasks.open(openRequest(options))));
        const shown = keepTicket(opened);
        await print(options.output, shown, () => taskText(shown));
      });
    });

  answering(task, "ticket", {
    summary: "Make a new ticket for a task that is still to be claimed; the one before is void",
    example: "brevet task ticket 0190c2a4 --ticket-file ticket",
  })
    .argument("<task>", "the task")
    .option("--ticket-file <file>", "write the ticket there (mode 0600) instead of printing it")
    .action(async (ref: string, options: Common & { ticketFile?: string }) => {
      await withTicketFile(options.ticketFile, async (keepTicket) => {
        const answer = await asOpener(options, (broker) => about("task", ref, broker.tasks.issueTicket({ task: taskRef(ref) })));
        const shown = keepTicket(answer);
        await print(options.output, shown, () => taskText(shown));
      });
    });
}

/** The file is there before the ticket is: what can't be written is said before anything is opened. */
async function withTicketFile(file: string | undefined, use: (keep: (task: Task__Output) => Task__Output) => Promise<void>): Promise<void> {
  if (file === undefined) return await use((opened) => opened);
  const fd = openPrivate(file);
  try {
    await use((opened) => {
      fillPrivate(fd, `${opened.ticket}\n`);
      return { ...opened, ticket: "" };
    });
  } finally {
    closeSync(fd);
  }
}

export function readTicket(file: string): string {
  return readInput(file).toString("latin1").trim();
}

function addClaim(task: Command): void {
  answering(task, "claim", {
    summary: "Bind a task to the calling process (this command's parent)",
    more: "The process must match the agent's selectors. Its exit ends the task.",
    here: true,
    example: "brevet task claim 0190c2a4-77aa-7c3e-9d5e-52f0a1b2c3d4",
  })
    .argument("<task>", "the task")
    .option("--ticket-file <file>", "the ticket, where the task wants one (-: standard input)")
    .option("--pid <pid>", "another process: of the same user, or any for root (default: this command's parent)", pid)
    .action(async (ref: string, options: Common & { ticketFile?: string; pid?: number }) => {
      const ticket = options.ticketFile === undefined ? "" : readTicket(options.ticketFile);
      const request = { task: taskRef(ref), ticket, pid: options.pid ?? process.ppid };
      const answer = await asProcess(options, (broker) => about("task", ref, broker.agent.claim(request), claimRemedy(request.pid)));
      await print(options.output, answer, () => {
        const { id, instance, expiresAt } = answer.task ?? { id: ref, instance: null, expiresAt: null };
        return [
          fields([["task", id], ["bound to", instance ? `pid ${instance.pid} ${instance.path}` : ""], ["expires", when(expiresAt)],
            ["endpoint", answer.endpoint]]),
          "", "Any SPIFFE client gets this task's SVIDs with:", `  export SPIFFE_ENDPOINT_SOCKET=${safe(answer.endpoint)}`,
        ].join("\n");
      });
    });
}

type ListFlags = Common & { agent?: string; state?: string; ref?: Record<string, string> } & Paged;

function addLooking(task: Command): void {
  answering(task, "list", { summary: "List tasks, newest first", example: "brevet task list --state active --ref issue=42" })
    .option("--agent <name>", "only of this agent")
    .addOption(new Option("--state <state>", "only in this state").choices(taskStates))
    .option("--ref <key=value>", "only with this search key (repeatable: all must match)", pair)
    .option("--limit <n>", "at most so many", wholeNumber(1, 1_000_000), 100)
    .addOption(pageToken())
    .action(async (options: ListFlags) => {
      const found = await asOpener(options, (broker) => listTasks(broker, options));
      await print(options.output, found, () => taskTable(found.tasks) + more(found.nextPageToken));
    });

  answering(task, "show", { summary: "Show all that is known of a task", example: "brevet task show pid:4711" })
    .argument("<task>", "the task")
    .action(async (ref: string, options: Common) => {
      await asOpener(options, async (broker) => {
        const found = await about("task", ref, broker.tasks.get({ task: taskRef(ref) }));
        const propagation = found.endedAt ? await propagationIfAllowed(broker, found.id) : undefined;
        await print(options.output, { ...found, ...(propagation && { propagation }) }, () => taskText(found) + (propagation ? `\n\n${propagationText(propagation)}` : ""));
      });
    });

  answering(task, "watch", { summary: "Follow a task until it has ended", example: "brevet task watch 0190c2a4" })
    .argument("<task>", "the task")
    .action(async (ref: string, options: Common) => {
      await asOpener(options, async (broker) => {
        const changes = broker.tasks.watch({ task: taskRef(ref) });
        for (let next = await about("task", ref, changes.next()); !next.done; next = await changes.next()) {
          const now = next.value;
          await printNext(options.output, now, () => changeLine(now));
        }
      });
    });
}

/** How far its end has come: administrators see that. */
async function propagationIfAllowed(broker: Connection, task: string): Promise<Propagation__Output | undefined> {
  try {
    return await propagationNow(broker, task);
  } catch (error) {
    if (error instanceof BrevetError && ["UNIMPLEMENTED", "NOT_FOUND", "DENIED_ROLE"].includes(error.code)) return undefined;
    throw error;
  }
}

async function listTasks(broker: Connection, flags: ListFlags): Promise<{ tasks: Task__Output[]; nextPageToken: string }> {
  const { rows, nextPageToken } = await upToLimit<Task__Output>(flags, async (page) => {
    const found = await broker.tasks.list({ agent: flags.agent ?? "", state: flags.state ?? "", refs: { ...flags.ref }, ...page });
    return [found.tasks, found.nextPageToken];
  });
  return { tasks: rows, nextPageToken };
}

/** An agent may have tens of thousands of tasks. */
const manyMs = 60_000;

type ContextFlags = Common & { agent?: string; ref?: Readonly<Record<string, string>>; remove?: readonly string[]; dryRun?: true };

function addChanging(task: Command): void {
  answering(task, "context", {
    summary: "Change facts that the authority rests on",
    more: "If any value differs, every SVID issued before is dead and the open streams get new ones. A value that is already so changes nothing. "
      + "With --agent: in all its live tasks, or in those with these refs.",
    example: "brevet task context 0190c2a4 repository=shop@9f86d08",
  })
    .argument("[task]", "the task (without --agent)")
    .argument("[key=value...]", "facts to set")
    .option("--agent <name>", "all live tasks of this agent, instead of one task")
    .option("--ref <key=value>", "with --agent: only tasks with this search key (repeatable)", pair)
    .option("--remove <key>", "a fact to remove (repeatable)", collect)
    .option("--dry-run", "show the task as it would be")
    .action(async (first: string | undefined, rest: readonly string[], flags: ContextFlags) => {
      const { agent, ref = {}, remove = [], dryRun = false } = flags;
      const all = agent !== undefined;
      if (!all && first === undefined) throw usageError("name the task, or all of an agent's with --agent");
      if (!all && flags.ref !== undefined) throw usageError("--ref goes with --agent");
      const given = all && first !== undefined ? [first, ...rest] : rest;
      if (given.length + remove.length === 0) throw usageError("give the facts to change as key=value, or --remove key");
      const set = pairsOf(given);
      const both = remove.find((key) => Object.hasOwn(set, key));
      if (both !== undefined) throw usageError(`${both}: give it a value, or --remove it`);
      const change = { set, remove: [...remove], dryRun };
      const unchanged = dryRun ? "\nnothing was changed (--dry-run)" : "";
      if (!all) {
        const task = first ?? "";
        const changed = await asOpener(flags, (broker) => about("task", task, broker.tasks.changeContext({ task: taskRef(task), ...change })));
        return await print(flags.output, changed, () => taskText(changed) + unchanged);
      }
      const answer = await asOpener(flags, (broker) => about("agent", agent, broker.tasks.changeContexts({ agent, refs: { ...ref }, ...change }, { timeoutMs: manyMs })));
      await print(flags.output, answer, () => changedText(answer) + unchanged);
    });

  const differs = "close: the work is done. abort: it failed, with a reason. revoke: a person stops it from outside (also a whole agent or "
    + "service), as an administrator. After each of them every SVID of the task is dead.";
  answering(task, "close", { summary: "End a task as done", more: differs, example: "brevet task close 0190c2a4" })
    .argument("<task>", "the task")
    .action(async (ref: string, options: Common) => {
      const ended = await asOpener(options, (broker) => about("task", ref, broker.tasks.close({ task: taskRef(ref) })));
      await print(options.output, ended, () => taskText(ended));
    });

  answering(task, "abort", {
    summary: "End a task as failed", more: differs, example: 'brevet task abort 0190c2a4 --reason "the model looped"',
  })
    .argument("<task>", "the task")
    .requiredOption("--reason <text>", "why, for the record")
    .action(async (ref: string, options: Common & { reason: string }) => {
      const request = { task: taskRef(ref), reason: options.reason };
      const ended = await asOpener(options, (broker) => about("task", ref, broker.tasks.abort(request)));
      await print(options.output, ended, () => taskText(ended));
    });
}

// Text

function taskTable(tasks: readonly Task__Output[]): string {
  return table(tasks, [
    ["task", (t) => t.id],
    ["agent", (t) => t.agent],
    ["state", (t) => t.state],
    ["epoch", (t) => String(t.epoch)],
    ["opened", (t) => when(t.openedAt)],
    ["expires", (t) => (t.endedAt ? "" : when(t.expiresAt))],
    ["pid", (t) => (t.instance ? String(t.instance.pid) : "")],
    ["purpose", (t) => short(t.purpose, 40)],
  ], "no tasks");
}

function taskText(t: Task__Output): string {
  const instance = t.instance ? `${t.instance.cgroup === "" ? "" : `${t.instance.cgroup}, first `}pid ${t.instance.pid}, uid ${t.instance.uid}, gid ${t.instance.gid} ${t.instance.path}` : "";
  return fields([
    ["task", t.id], ["agent", t.agent], ["owner", t.owner], ["state", t.state], ["epoch", String(t.epoch)],
    ["SPIFFE ID", t.spiffeId], ["purpose", t.purpose], ["on behalf of", t.onBehalfOf],
    ["context", pairs(t.context)], ["refs", pairs(t.refs)], ["bind", t.bind], ["scope", t.scope],
    ["opened", when(t.openedAt)], ["opened by", t.openedBy], ["expires", when(t.expiresAt)],
    ["claimed", when(t.claimedAt)], ["bound to", instance], ["endpoint", t.endpoint],
    ["ended", when(t.endedAt)], ["ended by", t.endedBy], ["reason", t.endReason],
    ["ticket", t.ticket], ["ticket until", when(t.ticketExpiresAt)],
  ]);
}

function changedText({ changed, unchanged, dryRun }: ChangeContextsResponse__Output): string {
  const tasks = changed.length === 1 ? "1 task" : `${changed.length} tasks`;
  const already = unchanged > 0 ? `, ${unchanged} already so` : "";
  return [...changed, `${tasks} ${dryRun ? "would be " : ""}changed${already}`].join("\n");
}

function changeLine(t: Task__Output): string {
  const paint = painter();
  const facts = Object.keys(t.context).length === 0 ? "" : `  ${pairs(t.context)}`;
  const bound = t.instance ? `  pid ${t.instance.pid}` : "";
  const why = t.endReason === "" ? "" : `  ${t.endReason}`;
  return `${paint("dim", new Date().toISOString())}  ${safe(`${t.state}  epoch ${t.epoch}${bound}${facts}${why}`)}`;
}
