// How does a person stop what must not go on?
// One command names one target and a reason, and shows what died. A repeat finds nothing left to end
// and is a success. Ending everything asks for the trust domain's name first.
// What ending means is src/revoke's business; how far it has come, propagation.ts shows.
import { createInterface } from "node:readline/promises";
import type { Command } from "commander";
import type { Connection } from "../client/connect.ts";
import type { EndedTask__Output } from "../generated/brevet/v1/EndedTask.ts";
import type { RevokeRequest } from "../generated/brevet/v1/RevokeRequest.ts";
import type { RevokeResponse__Output } from "../generated/brevet/v1/RevokeResponse.ts";
import { BrevetError } from "../errors.ts";
import { answering, duration, usageError } from "./options.ts";
import type { Common } from "./options.ts";
import { painter, print, printNext, safe, table } from "./output.ts";
import { followPropagation } from "./propagation.ts";
import { asAdmin } from "./reach.ts";
import { about, taskRef } from "./target.ts";

type Flags = Common & {
  task?: string; agent?: string; service?: string; all?: true; confirm?: string; reason: string; dryRun?: true; wait?: true; timeout?: number;
};

const defaultSeconds = 30;

export function addRevoke(program: Command): void {
  answering(program, "revoke", {
    summary: "Stop a task, an agent's tasks, a service's SVIDs or everything, from outside",
    more: "close: the work is done, said by who opened the task. abort: it failed, said by the same. revoke: a person stops it, as an "
      + "administrator; tasks end aborted. After each of them every SVID of the task is dead. New tasks may be opened unless the agent is disabled.",
    example: 'brevet revoke --task 0190c2a4 --reason "wrong repository"',
  })
    .option("--task <task>", "one task: its ID, a unique prefix, SPIFFE ID, serial, jti, pid:N or an SVID's file")
    .option("--agent <name>", "all tasks of the agent")
    .option("--service <name>", "all SVIDs of the service until now")
    .option("--all", "everything; asks for the trust domain's name")
    .option("--confirm <name>", "the trust domain's name, instead of being asked for it")
    .requiredOption("--reason <text>", "why, for the record")
    .option("--dry-run", "show what would die")
    .option("--wait", "follow it until every live verifier has applied it; exit 1 if one has not in time")
    .option("--timeout <duration>", "with --wait: for how long (default: 30s)", duration)
    .action(async (flags: Flags) => {
      const target = await targetOf(flags);
      const request = { ...target.request, reason: flags.reason, dryRun: flags.dryRun ?? false };
      if (!flags.wait && flags.timeout !== undefined) throw usageError("--timeout goes with --wait");
      if (flags.wait && flags.dryRun) throw usageError("--wait has nothing to wait for with --dry-run");
      await asAdmin(flags, async (broker) => {
        const answer = await about(target.field, target.given, broker.revocations.revoke(request));
        if (!flags.wait) return await print(flags.output, answer, () => revokedText(answer));
        await printNext(flags.output, answer, () => `${revokedText(answer)}\n`);
        const subjects = await subjectsOf(broker, target.request, answer);
        if (subjects.length > 0) await followPropagation(broker, subjects, { output: flags.output, timeoutMs: (flags.timeout ?? defaultSeconds) * 1_000 });
      });
    });
}

/** What ended by this call; of a single task, also what had ended before. */
async function subjectsOf(broker: Connection, { task }: RevokeRequest, answer: RevokeResponse__Output): Promise<string[]> {
  if (task !== undefined && answer.tasks.length === 0) return [(await broker.tasks.get({ task })).id];
  return [...answer.tasks.map(({ id }) => id), ...answer.services.map((name) => `service/${name}`)];
}

type Target = { readonly field: string; readonly given: string; readonly request: RevokeRequest };

async function targetOf(flags: Flags): Promise<Target> {
  const named = (["task", "agent", "service", "all"] as const).filter((name) => flags[name] !== undefined);
  if (named.length !== 1) throw usageError("give one of --task, --agent, --service and --all");
  if (flags.confirm !== undefined && !flags.all) throw usageError("--confirm goes with --all");
  if (flags.task !== undefined) return { field: "task", given: flags.task, request: { task: taskRef(flags.task) } };
  if (flags.agent !== undefined) return { field: "agent", given: flags.agent, request: { agent: flags.agent } };
  if (flags.service !== undefined) return { field: "service", given: flags.service, request: { service: flags.service } };
  const all = flags.confirm ?? (await askForTrustDomain());
  return { field: "all", given: all, request: { all } };
}

async function askForTrustDomain(): Promise<string> {
  const ask = createInterface({ input: process.stdin, output: process.stderr });
  const closed = new Promise<undefined>((resolve) => ask.once("close", () => resolve(undefined)));
  const answer = await Promise.race([ask.question("This ends every task. Type the trust domain's name to go on: "), closed]);
  ask.close();
  if (answer === undefined || !process.stdin.isTTY) process.stderr.write("\n"); // nobody's Enter has ended the line
  const name = answer?.trim() ?? "";
  if (name === "") throw new BrevetError("INVALID_FIELD", "all: not confirmed, nothing was revoked", { metadata: { try: "--confirm NAME" } });
  return name;
}

export function endedTable(tasks: readonly EndedTask__Output[], none: string): string {
  return table(tasks, [
    ["task", (t) => t.id],
    ["agent", (t) => t.agent],
    ["was", (t) => t.stateBefore],
    ["epoch", (t) => String(t.epoch)],
    ["SVIDs dead", (t) => String(t.svids)],
  ], none);
}

function revokedText(answer: RevokeResponse__Output): string {
  const would = answer.dryRun ? "would be " : "";
  const lines = [endedTable(answer.tasks, answer.alreadyEnded > 0 ? "nothing left to end" : "no task was live")];
  for (const service of answer.services) lines.push(`service ${safe(service)}: its SVIDs until now ${would || "are "}dead`);
  if (answer.alreadyEnded > 0) lines.push(`${answer.alreadyEnded} ended before`);
  const sequence = answer.dryRun ? "" : `, feed sequence ${answer.sequence}`;
  const tasks = answer.tasks.length === 1 ? "1 task" : `${answer.tasks.length} tasks`;
  const svids = answer.svids === 1 ? "1 SVID" : `${answer.svids} SVIDs`;
  lines.push(painter()("bold", `${tasks} ${would}ended, ${svids} ${would}dead${sequence}`));
  if (answer.newTasks !== "") lines.push(`new tasks: ${safe(answer.newTasks)}`);
  if (answer.dryRun) lines.push("nothing was changed (--dry-run)");
  return lines.join("\n");
}
