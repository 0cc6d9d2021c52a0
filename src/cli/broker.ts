// How is the broker started?
// Everything of it is loaded by this command only, so that the others start fast.
// What it does is src/broker.ts's business; its keys, src/config.ts's.
import type { Command } from "commander";
import { described } from "./options.ts";

export function addBroker(program: Command): void {
  described(program.command("broker"), {
    summary: "Run the broker and this machine's workload socket",
    more: "Says that it is ready once it can issue. SIGTERM: finishes what is under way, at most 5 s, and stops its PostgreSQL. "
      + "BREVET_DATA_DIR holds everything; every key of the configuration has a BREVET_ variable.",
    example: "brevet broker --config /etc/brevet/brevet.yaml",
  })
    .option("--config <file>", "configuration, YAML")
    .action(async ({ config }: { config?: string }) => {
      const { runBroker } = await import("../broker.ts");
      await runBroker(config === undefined ? {} : { configFile: config });
    });
}
