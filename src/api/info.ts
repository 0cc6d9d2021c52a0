// What does this broker vouch for, and is it well? brevet.v1.Trust.
// The bundle in every form, the lists, and the parts with their readiness; to any attested process.
import { readFileSync } from "node:fs";
import type { BrokerParts } from "../health.ts";
import type { TrustHandlers } from "../generated/brevet/v1/Trust.ts";
import type { Trust } from "../issue/trust.ts";
import { packageRoot, toTimestamp } from "../proto.ts";
import type { Crls } from "../revoke/crl.ts";
import type { ApiServer } from "./server.ts";

export const version: string = (JSON.parse(readFileSync(`${packageRoot}package.json`, "utf8")) as { version: string }).version;

export type InfoParts = {
  readonly trustDomain: string;
  readonly trust: Trust;
  readonly crls: Crls;
  readonly health: BrokerParts;
  readonly startedAt: Date;
  readonly postgresVersion: string;
  readonly clockDifferenceMs: () => Promise<number>;
};

export function trustHandlers(server: ApiServer, p: InfoParts): TrustHandlers {
  return {
    GetBundle: server.unary("Trust.GetBundle", () => {
      const { bundle, spiffe, jwks, x509 } = p.trust.published;
      return { trustDomain: p.trustDomain, spiffe, jwks, x509, crls: p.crls.published.map((crl) => crl.der), sequence: bundle.sequence };
    }),

    GetInfo: server.unary("Trust.GetInfo", async () => ({
      version, trustDomain: p.trustDomain, ready: p.health.ready, parts: [...p.health.parts], startedAt: toTimestamp(p.startedAt),
      clockDifferenceMs: await p.clockDifferenceMs(), postgresVersion: p.postgresVersion, pid: process.pid,
    })),
  };
}
