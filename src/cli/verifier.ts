// Who verifies, and is up to date?
// Every verifier that acknowledges, at every broker of the database, as the brokers know it.
// What became of one revocation is propagation.ts's business.
import type { Command } from "commander";
import { answering, group } from "./options.ts";
import type { Common } from "./options.ts";
import { print, relative, table } from "./output.ts";
import { asAdmin } from "./reach.ts";
import { fromTimestamp } from "../proto.ts";

export function addVerifier(program: Command): void {
  const verifier = group(program, "verifier", { summary: "Show who verifies SVIDs and follows the feed", example: "brevet verifier list" });
  answering(verifier, "list", {
    summary: "List the verifiers of all brokers on this database, and what they have applied",
    more: "A verifier that left is listed for as long as it may still accept what was revoked since.",
    example: "brevet verifier list",
  }).action(async (flags: Common) => {
    const found = await asAdmin(flags, (broker) => broker.revocations.listVerifiers({}));
    await print(flags.output, found, () => {
      const list = table(found.verifiers, [
        ["verifier", (v) => v.name],
        ["who", (v) => v.who],
        ["pid", (v) => String(v.pid)],
        ["broker", (v) => v.broker],
        ["applied", (v) => `${v.applied}${v.applied < found.sequence ? ` (${found.sequence - v.applied} behind)` : ""}`],
        ["trusts silence", (v) => `${v.maxStalenessMs / 1_000} s`],
        ["connected", (v) => (v.connected ? "yes" : `no: last heard ${relative(fromTimestamp(v.heardUntil) ?? new Date(0))}`)],
      ], "no verifier acknowledges");
      return `${list}\nfeed sequence ${found.sequence}${found.silent > 0 ? `; ${found.silent} more follow the feed here and acknowledge nothing` : ""}`;
    });
  });
}
