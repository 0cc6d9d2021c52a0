// Why was a caller refused?
// Shows what was measured, which agents and tasks nearly matched, the first fact that failed and the
// command that would mend it, as the broker judged it: nothing is judged here.
import type { Command } from "commander";
import type { ExplainRequest } from "../generated/brevet/v1/ExplainRequest.ts";
import type { Explanation__Output } from "../generated/brevet/v1/Explanation.ts";
import { answering, pid, usageError } from "./options.ts";
import type { Common } from "./options.ts";
import { fields, jsonText, painter, plain, print, safe, table, when } from "./output.ts";
import { asAdmin } from "./reach.ts";
import { about } from "./target.ts";

type Flags = Common & { pid?: number; last?: true };

export function addExplain(program: Command): void {
  answering(program, "explain", {
    summary: "Say why a caller was refused, or what it would get",
    more: "ATTEMPT is what the refusal carried. Without any: the last refusal.",
    example: "brevet explain --pid 4711",
  })
    .argument("[attempt]", "the attempt of a refusal")
    .option("--pid <pid>", "as if this process fetched now", pid)
    .option("--last", "the last refusal")
    .action(async (attempt: string | undefined, flags: Flags) => {
      const given = [attempt, flags.pid, flags.last].filter((value) => value !== undefined);
      if (given.length > 1) throw usageError("give one of ATTEMPT, --pid and --last");
      const request: ExplainRequest = flags.pid !== undefined ? { pid: flags.pid } : attempt !== undefined ? { attempt } : { last: true };
      const field = flags.pid !== undefined ? "pid" : "attempt";
      const answer = await asAdmin(flags, (broker) => about(field, String(given[0] ?? "--last"), broker.log.explain(request)));
      await print(flags.output, answer, () => explanationText(answer));
    });
}

function explanationText(e: Explanation__Output): string {
  const paint = painter();
  const facts = Object.entries((plain(e.facts) ?? {}) as Record<string, unknown>);
  const sections = [
    fields([["verdict", e.verdict], ["attempt", e.attempt], ["at", when(e.at)]]),
    `${paint("bold", "measured")}\n${indent(fields(facts.map(([name, value]) => [name, typeof value === "string" ? value : jsonText(value)])))}`,
    `${paint("bold", "agents and services, closest first")}\n${indent(table(e.agents, [
      ["kind", (a) => a.kind], ["name", (a) => a.name], ["matches", (a) => (a.matches ? "yes" : "no")], ["first mismatch", (a) => a.firstMismatch],
    ], "none is registered"))}`,
    `${paint("bold", "tasks")}\n${e.tasks.length === 0 ? "  none" : e.tasks.map((line) => `  ${safe(line)}`).join("\n")}`,
  ];
  if (e.remedy !== "") sections.push(`${paint("bold", "try")}\n  ${safe(e.remedy)}`);
  return sections.join("\n");
}

function indent(text: string): string {
  return text.replace(/^/gm, "  ");
}
