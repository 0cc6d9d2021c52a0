// Where does the `brevet` command begin?
// It wires and decides nothing: one command line in, one exit code out. A reader that went away
// (`brevet log export | head`) is no failure.
// The commands are src/cli/program.ts's and its nouns' business.
import { main } from "./cli/program.ts";

process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  throw error;
});
process.exitCode = await main(process.argv.slice(2));
// what still waits for somebody who does not answer keeps no command from ending
setTimeout(() => process.exit(), 1_000).unref();
