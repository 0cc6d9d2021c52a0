// Which public keys does this trust domain have?
// What is printed is the broker's own document, as verifiers get it: public, and nothing but keys.
// SPIFFE Trust Domain and Bundle section 4 (the document), RFC 7517 (JWK Set), RFC 7468 (PEM).
// Judging SVIDs with it is src/verify's business.
import { Option } from "commander";
import type { Command } from "commander";
import { answering, group } from "./options.ts";
import type { Common } from "./options.ts";
import { print } from "./output.ts";
import { asCaller } from "./reach.ts";
import { pem } from "./svid.ts";

type Flags = Common & { format: "spiffe" | "jwks" | "pem" | "fingerprint" };

export function addBundle(program: Command): void {
  const bundle = group(program, "bundle", { summary: "Show the trust domain's public keys", example: "brevet bundle show" });
  answering(bundle, "show", {
    summary: "Show the bundle: X.509 authorities and JWT keys",
    more: "spiffe: the SPIFFE bundle document. jwks: the JWT keys alone. pem: the CA certificates. fingerprint: SHA-256 of each CA certificate, as "
      + "--trust-fingerprint takes it; also on stderr, beside each of the others.",
    example: "brevet bundle show --format pem",
  })
    .addOption(new Option("--format <format>", "which document").choices(["spiffe", "jwks", "pem", "fingerprint"]).default("spiffe"))
    .action(async (flags: Flags) => {
      const found = await asCaller(flags, (broker) => broker.trust.getBundle({}));
      const [{ splitDer }, { fingerprintOf }] = await Promise.all([import("../identity/der.ts"), import("../client/first-contact.ts")]);
      const fingerprints = splitDer(found.x509).map(fingerprintOf);
      if (flags.format === "fingerprint") return await print(flags.output, { trustDomain: found.trustDomain, fingerprints }, () => fingerprints.join("\n"));
      // beside, not within: what is redirected to a file is the document alone
      if (flags.output === "table") for (const one of fingerprints) process.stderr.write(`authority's fingerprint (SHA-256): ${one}\n`);
      if (flags.format === "pem") {
        const text = splitDer(found.x509).map((der) => pem("CERTIFICATE", der)).join("\n");
        return await print(flags.output, { trustDomain: found.trustDomain, sequence: found.sequence, pem: text }, () => text);
      }
      const document: unknown = JSON.parse(found[flags.format].toString("utf8"));
      await print(flags.output, document, () => JSON.stringify(document, undefined, 2));
    });
}
