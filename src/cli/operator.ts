// Who may reach the broker from other machines?
// An administrator names an operator and its role; the key is made here and stays in the folder or key store that is
// written, with the certificate; the broker gets the public half only. A removed one is refused everywhere within
// milliseconds, whatever it holds. Its certificate is renewed by itself when it is used (client/upkeep.ts).
// What each role may do is the broker's business (docs/network.md).
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { Option } from "commander";
import type { Command } from "commander";
import { BrevetError } from "../errors.ts";
import { answering, collect, duration, group, usageError } from "./options.ts";
import type { Common } from "./options.ts";
import { fields, print, relative, safe, table, when } from "./output.ts";
import { writePrivate } from "./private-file.ts";
import { asAdmin, asAdministrator } from "./reach.ts";
import { about } from "./target.ts";
import { fromTimestamp } from "../proto.ts";
import type { OperatorCertificate__Output } from "../generated/brevet/v1/OperatorCertificate.ts";

type AddFlags = Common & { role: string; agent?: readonly string[]; ttl?: number; out?: string; p12?: string; replace?: true };

export function addOperator(program: Command): void {
  const operator = group(program, "operator", { summary: "Say who may reach the broker from other machines", example: "brevet operator list" });
  addAdd(operator);

  answering(operator, "list", { summary: "List operators, those removed too", example: "brevet operator list" })
    .action(async (flags: Common) => {
      const found = await asAdmin(flags, (broker) => broker.operators.list({}));
      await print(flags.output, found, () => table(found.operators, [
        ["operator", (o) => o.name],
        ["role", (o) => o.role],
        ["agents", (o) => o.agents.join(" ")],
        ["state", (o) => (o.removedAt ? `removed: ${safe(o.removedReason)}` : stateOf(fromTimestamp(o.certifiedUntil)))],
        ["added", (o) => when(o.addedAt)],
        ["by", (o) => o.addedBy],
      ], "no operators: brevet operator add NAME --role …"));
    });

  answering(operator, "remove", {
    summary: "End an operator's certificates and its connections, now",
    example: 'brevet operator remove alice --reason "laptop lost"',
  })
    .argument("<operator>", "its name")
    .requiredOption("--reason <text>", "why, for the record")
    .action(async (name: string, flags: Common & { reason: string }) => {
      const removed = await asAdmin(flags, (broker) => about("operator", name, broker.operators.remove({ name, reason: flags.reason }), "brevet operator list"));
      await print(flags.output, removed, () => `operator ${safe(removed.name)} is removed: its certificates below epoch ${removed.epoch} are dead`);
    });
}

function stateOf(certifiedUntil: Date | undefined): string {
  if (!certifiedUntil) return "no certificate";
  return certifiedUntil.getTime() > Date.now() ? `certified until ${relative(certifiedUntil)}` : "certificate expired: add it again with --replace";
}

function addAdd(operator: Command): void {
  answering(operator, "add", {
    summary: "Make an operator and its certificate",
    more: "Into a folder (--out): identity.pem with key and certificate, and bundle.pem; give it to the operator, who names it with --identity or keeps it as "
      + "brevet/identity in XDG_CONFIG_HOME. Into a key store (--p12): for browsers and the JVM; it is not renewed by itself. "
      + "operator: all but adding operators. orchestrator: opens, changes, ends and sees the tasks of its agents. service: feed and bundles. auditor: reads all.",
    here: true,
    example: "brevet operator add alice --role operator --out alice/",
  })
    .argument("<operator>", "its name")
    .addOption(new Option("--role <role>", "what it may do").choices(["operator", "orchestrator", "service", "auditor"]).makeOptionMandatory())
    .option("--agent <name>", "whose tasks an orchestrator handles (repeatable)", collect)
    .option("--ttl <duration>", "of each certificate (default: 12h)", duration)
    .option("--out <folder>", "where to write (default: brevet/identity in XDG_CONFIG_HOME)")
    .option("--p12 <file>", "a key store instead; its password is written beside it, as FILE.password")
    .option("--replace", "one of this name is there: it becomes this one, and its certificates until now are dead")
    .action(async (name: string, flags: AddFlags) => {
      if (flags.out !== undefined && flags.p12 !== undefined) throw usageError("give --out or --p12");
      const [{ newKey }, { IdentityFolder, defaultFolder }] = await Promise.all([import("../client/upkeep.ts"), import("../client/identity.ts")]);
      const folder = new IdentityFolder(flags.out ?? defaultFolder());
      const target = flags.p12 ?? folder.path;
      if (flags.p12 === undefined && folder.isTaken && !flags.replace) {
        throw new BrevetError("WRONG_STATE", `${target}: holds an identity already`, { metadata: { try: "another folder: --out DIR" } });
      }
      if (flags.p12 !== undefined && existsSync(flags.p12)) throw new BrevetError("WRONG_STATE", `${flags.p12}: is there already`, { metadata: { try: "another file" } });
      const { key, publicKey } = newKey();
      const request = { name, role: flags.role, agents: [...(flags.agent ?? [])], ttlSeconds: flags.ttl ?? 0, publicKey, replace: flags.replace ?? false };
      const made = await asAdministrator(flags, (broker) => broker.operators.add(request));
      const { splitDer } = await import("../identity/der.ts");
      if (flags.p12 !== undefined) await writeKeyStore(flags.p12, key, made);
      else {
        folder.write(key, made.chain);
        folder.writeBundle(splitDer(made.x509));
      }
      const answer = { spiffeId: made.spiffeId, role: flags.role, expiresAt: when(made.expiresAt), written: target };
      await print(flags.output, answer, () => fields([
        ["operator", made.spiffeId], ["role", flags.role], ["agents", (flags.agent ?? []).join(" ")], ["certificate until", answer.expiresAt], ["written", target],
      ]));
    });
}

async function writeKeyStore(file: string, key: string, made: OperatorCertificate__Output): Promise<void> {
  const [{ writeP12 }, { splitDer }] = await Promise.all([import("./p12.ts"), import("../identity/der.ts")]);
  const password = randomBytes(24).toString("base64url");
  const der = Buffer.from(key.replace(/-----[^-]+-----|\s/g, ""), "base64");
  writePrivate(`${file}.password`, `${password}\n`);
  writePrivate(file, writeP12({ name: made.spiffeId, key: der, chain: splitDer(made.chain), authorities: splitDer(made.x509) }, password));
}
