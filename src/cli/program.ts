// Which commands are there, and what becomes of a command line?
// Every noun adds its own commands; what a command needs is loaded when it runs. Whatever goes wrong
// ends here: one text on stderr, exit code 1 for what failed or was refused, 2 for a mistake in typing.
// What each command does is its noun's file's business.
import { Command, CommanderError } from "commander";
import { addAgent } from "./agent.ts";
import { addApply } from "./apply.ts";
import { addAttestation } from "./attestation.ts";
import { addBroker } from "./broker.ts";
import { addBundle } from "./bundle.ts";
import { addDoctor } from "./doctor.ts";
import { addExplain } from "./explain.ts";
import { exitCode, failureText } from "./failure.ts";
import { addFeed } from "./feed.ts";
import { addLog } from "./log.ts";
import { described, refuseDoubtful, usageError } from "./options.ts";
import { addOperator } from "./operator.ts";
import { addRevoke } from "./revoke.ts";
import { addRun } from "./run.ts";
import { addSidecar } from "./sidecar.ts";
import { addSvid } from "./svid.ts";
import { addTask } from "./task.ts";
import { addVerifier } from "./verifier.ts";
import { addVerify } from "./verify.ts";
import { addVersion, packageVersion } from "./version.ts";

const nouns = [
  addBroker, addApply, addAgent, addTask, addRun, addSidecar, addRevoke, addSvid, addVerify, addExplain, addBundle, addFeed, addVerifier, addOperator,
  addAttestation, addLog, addDoctor, addVersion,
];

/** All commands. `failed` hears of a mistake in typing, and which command it was made in. */
export function program(failed: (error: CommanderError, command: string) => never): Command {
  const brevet = described(new Command("brevet"), {
    summary: "Identity for AI agents: SVIDs that are bound to one task and die with it",
    more: "Every command finds the broker whose BREVET_DATA_DIR it is given.",
    example: "brevet task open --agent researcher --ttl 15m",
  });
  brevet.configureOutput({ outputError: () => {} }).enablePositionalOptions().helpCommand(false);
  brevet.version(packageVersion(), "-V, --version", "say which version this is");
  for (const add of nouns) add(brevet);
  addHelp(brevet);
  for (const [command, path] of commandsOf(brevet)) {
    command.exitOverride((error) => failed(error, path));
    refuseDoubtful(command);
  }
  return brevet;
}

function addHelp(brevet: Command): void {
  described(brevet.command("help"), { summary: "Show the help of a command", example: "brevet help task open" })
    .argument("[command...]", "the command's words")
    .action((words: readonly string[]) => {
      const path = ["brevet", ...words].join(" ");
      const [found] = commandsOf(brevet).find(([, known]) => known === path) ?? [];
      if (found === undefined) throw usageError(`unknown command '${words.join(" ")}'`);
      found.outputHelp();
    });
}

/** The command and all under it, each with its words. */
export function commandsOf(command: Command, path = command.name()): [command: Command, path: string][] {
  return [[command, path], ...command.commands.flatMap((sub) => commandsOf(sub, `${path} ${sub.name()}`))];
}

/** Runs a command line (without node and script); resolves with the exit code. */
export async function main(argv: readonly string[]): Promise<number> {
  let at = "brevet";
  const brevet = program((error, command) => {
    at = command;
    throw error;
  });
  brevet.hook("preAction", (_, action) => {
    at = commandsOf(brevet).find(([command]) => command === action)?.[1] ?? at;
  });
  try {
    await brevet.parseAsync(argv, { from: "user" });
    return Number(process.exitCode ?? 0);
  } catch (error) {
    const code = exitCode(error);
    const helped = error instanceof CommanderError && error.code === "commander.help";
    if (code !== 0 && !helped) process.stderr.write(`${failureText(error, at)}\n`);
    return code;
  }
}
