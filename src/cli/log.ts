// What happened, in order?
// Oldest first. `list` stops at its limit and says so; `export` writes every entry page by page, a JSON
// line each, so its memory does not grow with the log.
// What an entry holds is the broker's business.
import type { Command } from "commander";
import type { Connection } from "../client/connect.ts";
import type { LogEntry__Output } from "../generated/brevet/v1/LogEntry.ts";
import { answering, group, since, wholeNumber } from "./options.ts";
import type { Common } from "./options.ts";
import { jsonText, print, table, when, yamlText } from "./output.ts";
import { asAdmin } from "./reach.ts";
import { about, taskRef } from "./target.ts";

type Filter = { task?: string; since?: Date };

export function addLog(program: Command): void {
  const log = group(program, "log", { summary: "Read the log of what happened", example: "brevet log list --since 1h" });

  filtered(answering(log, "list", { summary: "List log entries, oldest first", example: "brevet log list --task 0190c2a4 --since 1h" }))
    .option("--limit <n>", "at most so many", wholeNumber(1, 10_000_000), 200)
    .action(async (flags: Common & Filter & { limit: number }) => {
      const entries: LogEntry__Output[] = [];
      await asAdmin(flags, async (broker) => {
        for await (const page of pages(broker, flags, Math.min(flags.limit, 1_000))) {
          entries.push(...page.slice(0, flags.limit - entries.length));
          if (entries.length >= flags.limit) break;
        }
      });
      const more = entries.length === flags.limit ? "\nstopped at the limit: raise --limit, or give a later --since" : "";
      await print(flags.output, { entries }, () => table(entries, [
        ["id", (e) => String(e.id)],
        ["at", (e) => when(e.at)],
        ["kind", (e) => e.kind],
        ["task", (e) => e.task],
        ["agent", (e) => e.agent],
        ["actor", (e) => e.actor],
        ["details", (e) => (e.details ? jsonText(e.details) : "")],
      ], "no entries") + more);
    });

  filtered(answering(log, "export", { summary: "Write every log entry, one JSON line each", example: "brevet log export --since 1h > log.jsonl" }))
    .action(async (flags: Common & Filter) => {
      await asAdmin(flags, async (broker) => {
        for await (const page of pages(broker, flags, 1_000)) {
          const lines = await Promise.all(page.map(async (entry) =>
            flags.output === "yaml" ? `---\n${await yamlText(entry)}` : `${jsonText(entry)}\n`));
          const text = lines.join("");
          if (!process.stdout.write(text)) await new Promise((resolve) => process.stdout.once("drain", resolve));
        }
      });
    });
}

function filtered(made: Command): Command {
  return made
    .option("--task <task>", "only of this task")
    .option("--since <when>", "only later than this: 10m (ago), a time, or a day (UTC)", since);
}

async function* pages(broker: Connection, filter: Filter, pageSize: number): AsyncGenerator<LogEntry__Output[]> {
  const { toTimestamp } = await import("../proto.ts");
  const task = filter.task === undefined ? "" : taskRef(filter.task);
  const after = filter.since === undefined ? null : toTimestamp(filter.since);
  for (let afterId = 0; ; ) {
    const { entries } = await about("task", filter.task ?? "", broker.log.listEntries({ task, since: after, afterId, pageSize }));
    if (entries.length > 0) yield entries;
    if (entries.length < pageSize) return;
    afterId = entries.at(-1)?.id ?? afterId;
  }
}
