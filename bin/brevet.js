#!/usr/bin/env node
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

// Node would open a debugger for it, to everybody on this machine: what holds keys must not
process.on("SIGUSR1", () => undefined);

const entry = new URL("../dist/src/cli.js", import.meta.url);
if (!existsSync(fileURLToPath(entry))) {
  process.stderr.write("brevet: not built yet: run `npm ci` (or `npm run build`) in the package's folder\n");
  process.exit(1);
}
await import(entry.href);
