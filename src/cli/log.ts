// What happened, in order?
// Oldest first. `list` stops at its limit and says where to go on; `export` writes every entry page by page, a
// JSON line each, so its memory does not grow with the log.
// What an entry holds is the broker's business.
import type { Command } from "commander";
import type { Connection } from "../client/connect.ts";
import type { LogEntry__Output } from "../generated/brevet/v1/LogEntry.ts";
import { answering, group, since, wholeNumber } from "./options.ts";
import type { Common } from "./options.ts";
import { jsonText, print, table, when, yamlText } from "./output.ts";
import { more, pageToken, upToLimit } from "./pages.ts";
import type { Paged } from "./pages.ts";
import { asAdmin } from "./reach.ts";
import { about, taskRef } from "./target.ts";

type Filter = { task?: string; since?: Date };

export function addLog(program: Command): void {
  const log = group(program, "log", { summary: "Read the log of what happened", example: "brevet log list --since 1h" });

  filtered(answering(log, "list", { summary: "List log entries, oldest first", example: "brevet log list --task 0190c2a4 --since 1h" }))
    .option("--limit <n>", "at most so many", wholeNumber(1, 10_000_000), 200)
    .addOption(pageToken())
    .action(async (flags: Common & Filter & Paged) => {
      const { rows: entries, nextPageToken } = await asAdmin(flags, async (broker) => {
        const ask = await reader(broker, flags);
        return await upToLimit(flags, ask);
      });
      await print(flags.output, { entries, nextPageToken }, () => table(entries, [
        ["id", (e) => String(e.id)],
        ["at", (e) => when(e.at)],
        ["kind", (e) => e.kind],
        ["task", (e) => e.task],
        ["agent", (e) => e.agent],
        ["actor", (e) => e.actor],
        ["details", (e) => (e.details ? jsonText(e.details) : "")],
      ], "no entries") + more(nextPageToken));
    });

  filtered(answering(log, "export", { summary: "Write every log entry, one JSON line each", example: "brevet log export --since 1h > log.jsonl" }))
    .action(async (flags: Common & Filter) => {
      await asAdmin(flags, async (broker) => {
        const ask = await reader(broker, flags);
        let token = "";
        do {
          const [entries, next] = await ask({ pageSize: 1_000, pageToken: token });
          const lines = await Promise.all(entries.map(async (entry) =>
            flags.output === "yaml" ? `---\n${await yamlText(entry)}` : `${jsonText(entry)}\n`));
          const text = lines.join("");
          if (!process.stdout.write(text)) await new Promise((resolve) => process.stdout.once("drain", resolve));
          token = next;
        } while (token !== "");
      });
    });
}

function filtered(made: Command): Command {
  return made
    .option("--task <task>", "only of this task")
    .option("--since <when>", "only later than this: 10m (ago), a time, or a day (UTC)", since);
}

type Page = readonly [entries: readonly LogEntry__Output[], nextPageToken: string];

async function reader(broker: Connection, filter: Filter): Promise<(page: { pageSize: number; pageToken: string }) => Promise<Page>> {
  const { toTimestamp } = await import("../proto.ts");
  const task = filter.task === undefined ? "" : taskRef(filter.task);
  const after = filter.since === undefined ? null : toTimestamp(filter.since);
  return async (page) => {
    const found = await about("task", filter.task ?? "", broker.log.listEntries({ task, since: after, ...page }));
    return [found.entries, found.nextPageToken];
  };
}
