// Which Brevet is this?
// Asks nobody: it works where no broker runs. The broker's own version, `brevet doctor` shows.
import { readFileSync } from "node:fs";
import type { Command } from "commander";
import { answering } from "./options.ts";
import type { Common } from "./options.ts";
import { fields, print } from "./output.ts";

/** Works from src/cli/, from dist/src/cli/, and where both are one file. */
export function packageVersion(): string {
  const manifest = import.meta.url.replace(/\/(?:dist\/)?src\/(?:cli\/)?[^/]*$/, "/package.json");
  return (JSON.parse(readFileSync(new URL(manifest), "utf8")) as { version: string }).version;
}

export function addVersion(program: Command): void {
  answering(program, "version", { summary: "Say which version this is", example: "brevet version" })
    .action(async (options: Common) => {
      const answer = { version: packageVersion(), node: process.versions.node, platform: `${process.platform}-${process.arch}` };
      await print(options.output, answer, () => fields([["brevet", answer.version], ["node", answer.node], ["platform", answer.platform]]));
    });
}
