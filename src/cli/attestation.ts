// Who asked, what was measured, and who was refused?
// Newest first; refusals alike stand as one row with a count.
// Why one was refused, step by step, is explain.ts's business.
import type { Command } from "commander";
import type { Attestation__Output } from "../generated/brevet/v1/Attestation.ts";
import { answering, group, since, wholeNumber } from "./options.ts";
import type { Common } from "./options.ts";
import { jsonText, print, table, when } from "./output.ts";
import { more, pageToken, upToLimit } from "./pages.ts";
import type { Paged } from "./pages.ts";
import { asAdmin } from "./reach.ts";

type Flags = Common & Paged & { denied?: true; since?: Date };

export function addAttestation(program: Command): void {
  const attestation = group(program, "attestation", { summary: "See who was attested, and who was refused", example: "brevet attestation list" });
  answering(attestation, "list", { summary: "List attestations, newest first", example: "brevet attestation list --denied --since 10m" })
    .option("--denied", "only refusals")
    .option("--since <when>", "only later than this: 10m (ago), a time, or a day (UTC)", since)
    .option("--limit <n>", "at most so many", wholeNumber(1, 10_000_000), 100)
    .addOption(pageToken())
    .action(async (flags: Flags) => {
      const { toTimestamp } = await import("../proto.ts");
      const after = flags.since === undefined ? null : toTimestamp(flags.since);
      const { rows: attestations, nextPageToken } = await asAdmin(flags, (broker) => upToLimit<Attestation__Output>(flags, async (page) => {
        const found = await broker.log.listAttestations({ denied: flags.denied ?? false, since: after, ...page });
        return [found.attestations, found.nextPageToken];
      }));
      await print(flags.output, { attestations, nextPageToken }, () => table(attestations, [
        ["id", (a) => a.id],
        ["at", (a) => when(a.at)],
        ["outcome", (a) => a.outcome],
        ["reason", (a) => (a.repeats > 0 ? `${a.reason} (and ${a.repeats} more)` : a.reason)],
        ["pid", (a) => String(a.pid)],
        ["uid", (a) => String(a.uid)],
        ["task", (a) => a.task],
        ["facts", (a) => (a.facts ? jsonText(a.facts) : "")],
      ], "no attestations") + more(nextPageToken));
    });
}
