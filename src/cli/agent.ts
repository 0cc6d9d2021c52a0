// How does an administrator see and stop agents?
// Disabling an agent ends its tasks and refuses new ones until it is enabled, across restarts; what
// died is shown.
// What an agent is, the catalog says: apply.ts brings it to the broker.
import type { Command } from "commander";
import type { CatalogAgent__Output } from "../generated/brevet/v1/CatalogAgent.ts";
import { answering, group } from "./options.ts";
import type { Common } from "./options.ts";
import { fields, jsonText, print, short, table, when } from "./output.ts";
import { asAdmin } from "./reach.ts";
import { endedTable } from "./revoke.ts";
import { about } from "./target.ts";

export function addAgent(program: Command): void {
  const agent = group(program, "agent", { summary: "List, disable and enable agents", example: "brevet agent list" });

  answering(agent, "list", { summary: "List the registered agents", example: "brevet agent list" })
    .action(async (options: Common) => {
      const found = await asAdmin(options, (broker) => broker.catalog.listAgents({}));
      await print(options.output, found, () => table(found.agents, [
        ["agent", (a) => a.name],
        ["owner", (a) => a.owner],
        ["enabled", (a) => (a.enabled ? "yes" : `no: ${short(a.disabledReason, 40)}`)],
        ["live tasks", (a) => String(a.liveTasks)],
        ["purpose", (a) => short(a.purpose, 50)],
      ], "no agents: register some with brevet apply -f FILE"));
    });

  answering(agent, "show", { summary: "Show an agent as the catalog has it", example: "brevet agent show researcher" })
    .argument("<agent>", "its name")
    .action(async (name: string, options: Common) => {
      const found = await asAdmin(options, (broker) => about("agent", name, broker.catalog.getAgent({ name })));
      await print(options.output, found, () => agentText(found));
    });

  answering(agent, "disable", {
    summary: "End all tasks of an agent and refuse new ones until it is enabled",
    example: 'brevet agent disable researcher --reason "leaks customer data"',
  })
    .argument("<agent>", "its name")
    .requiredOption("--reason <text>", "why, for the record")
    .action(async (name: string, options: Common & { reason: string }) => {
      const request = { name, reason: options.reason };
      const answer = await asAdmin(options, (broker) => about("agent", name, broker.catalog.disableAgent(request)));
      await print(options.output, answer, () =>
        [...(answer.agent ? [agentText(answer.agent)] : []), "", endedTable(answer.tasks, "no task was live")].join("\n"));
    });

  answering(agent, "enable", { summary: "Let an agent have tasks again", example: "brevet agent enable researcher" })
    .argument("<agent>", "its name")
    .action(async (name: string, options: Common) => {
      const found = await asAdmin(options, (broker) => about("agent", name, broker.catalog.enableAgent({ name })));
      await print(options.output, found, () => agentText(found));
    });
}

function agentText(a: CatalogAgent__Output): string {
  return fields([
    ["agent", a.name], ["owner", a.owner], ["purpose", a.purpose], ["enabled", a.enabled ? "yes" : "no"],
    ["disabled", when(a.disabledAt)], ["reason", a.disabledReason], ["live tasks", String(a.liveTasks)],
    ["definition", a.definition ? jsonText(a.definition) : ""],
  ]);
}
