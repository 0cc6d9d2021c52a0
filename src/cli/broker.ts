// How is the broker started?
// Everything of it is loaded by this command only, so that the others start fast.
// What it does is src/broker.ts's business; its keys, src/config.ts's.
import { existsSync } from "node:fs";
import type { Command } from "commander";
import { described, usageError } from "./options.ts";

/** The package without a database has no broker either. */
const hasBroker = ["js", "ts"].some((kind) => existsSync(new URL(`../broker.${kind}`, import.meta.url)));

export function addBroker(program: Command): void {
  if (!hasBroker) return;
  described(program.command("broker"), {
    summary: "Run the broker and this machine's workload socket",
    more: "Says that it is ready once it can issue. SIGTERM: finishes what is under way, at most 5 s, and stops its PostgreSQL. "
      + "BREVET_DATA_DIR holds everything. Every key of the configuration is a flag too (--listen-http off) and a variable (BREVET_LISTEN_HTTP): "
      + "a flag goes before the environment, the environment before the file.",
    example: "brevet broker --config /etc/brevet/brevet.yaml",
  })
    .option("--config <file>", "configuration, YAML")
    .allowUnknownOption()
    .allowExcessArguments()
    .action(async ({ config }: { config?: string }, command: Command) => {
      const { runBroker } = await import("../broker.ts");
      const { describeConfig } = await import("../config.ts");
      const keys = new Map(describeConfig().map(({ flag, key }) => [flag, key]));
      await runBroker({ ...(config === undefined ? {} : { configFile: config }), flags: flagsOf(command.args, keys) });
    });
}

/** `--listen-http off` or `--listen-http=off`, by key of the configuration. */
function flagsOf(args: readonly string[], keys: ReadonlyMap<string, string>): Record<string, string> {
  const flags: Record<string, string> = {};
  for (let i = 0; i < args.length; i++) {
    const arg = args[i] ?? "";
    const [flag = "", ...rest] = arg.split("=");
    const key = keys.get(flag);
    if (key === undefined) throw usageError(arg.startsWith("-") ? `unknown option '${flag}'` : `too many arguments: '${arg}'`);
    const value = arg.includes("=") ? rest.join("=") : args[++i];
    if (value === undefined) throw usageError(`option '${flag} <value>' argument missing`);
    if (Object.hasOwn(flags, key)) throw usageError(`option '${flag} <value>' was given twice`);
    flags[key] = value;
  }
  return flags;
}
