// How fast is Brevet on this machine?
// `npm run bench` measures every row of the table, one after the other; `-- NAME …` only those named (`revocation`: all that say
// how soon what ended is dead everywhere),
// `-- --json` prints a JSON line for each figure, `-- --profile=DIR` leaves the brokers' profiles there.
// It exits with 1 when a row could not be measured, not when it misses its target: a shared machine is
// slow by no fault of the code.
// What is measured is in the rows-*.ts; nothing is left running or lying about.
import { cpus, loadavg } from "node:os";
import { Broker } from "./broker.ts";
import { asJson, asText, reached } from "./figures.ts";
import type { Row } from "./figures.ts";
import { rows as calls } from "./rows-calls.ts";
import { rows as ending } from "./rows-ending.ts";
import { rows as lists } from "./rows-lists.ts";
import { rows as residual } from "./rows-residual.ts";
import { rows as revocation } from "./rows-revocation.ts";
import { rows as sizes } from "./rows-sizes.ts";
import { rows as tasks } from "./rows-tasks.ts";
import { rows as verifying } from "./rows-verify.ts";

const rows: readonly Row[] = [...ending, ...revocation, ...residual, ...tasks, ...calls, ...lists, ...sizes, ...verifying];
/** Names for several rows. */
const groups: Readonly<Record<string, readonly string[]>> = {
  revocation: ["close-verifier", "close-stream", "crl", ...revocation.map(({ name }) => name)],
};

async function main(args: readonly string[]): Promise<number> {
  const json = args.includes("--json");
  Broker.profiles = args.find((arg) => arg.startsWith("--profile="))?.slice("--profile=".length);
  const names = args.filter((arg) => !arg.startsWith("-")).flatMap((name) => groups[name] ?? [name]);
  const unknown = names.filter((name) => !rows.some((row) => row.name === name));
  if (unknown.length > 0) {
    process.stderr.write(`bench: no row ${unknown.join(", ")}; there are: ${[...rows.map((row) => row.name), ...Object.keys(groups)].join(", ")}\n`);
    return 2;
  }
  const say = (text: string): void => void process.stdout.write(`${text}\n`);
  if (!json) say(`${cpus().length} × ${cpus()[0]?.model ?? "unknown processor"}, Node ${process.version}, load before: ${loadavg().map((n) => n.toFixed(1)).join(" ")}\n`);
  let failed = 0;
  let missed = 0;
  for (const row of rows.filter(({ name }) => names.length === 0 || names.includes(name))) {
    const began = performance.now();
    try {
      const figures = await row.measure();
      missed += figures.filter((figure) => !reached(figure)).length;
      if (json) for (const figure of figures) say(asJson(row, figure));
      else say(`${asText(row, figures, (performance.now() - began) / 1000)}\n`);
    } catch (error) {
      failed++;
      process.stderr.write(`${row.name}: not measured: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    }
  }
  if (!json) say(missed === 0 && failed === 0 ? "every target reached" : `${missed} targets missed, ${failed} rows not measured`);
  return failed === 0 ? 0 : 1;
}

async function stopAll(): Promise<never> {
  await Promise.all([...Broker.running].map((broker) => broker.stop()));
  process.exit(130);
}

for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => void stopAll());
process.stdout.once("error", () => void stopAll()); // whoever read the table has gone
process.exitCode = await main(process.argv.slice(2));
