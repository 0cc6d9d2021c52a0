// What does this broker vouch for, and is it well? brevet.v1.Trust.
// The bundle in every form, the lists, and the parts with their readiness; to any attested process. Who
// watches the bundle gets each publication as soon as it has taken the one before, and misses none that is the newest.
import { EventEmitter, once } from "node:events";
import { readFileSync } from "node:fs";
import type { ServerWritableStream } from "@grpc/grpc-js";
import type { BrokerParts } from "../health.ts";
import type { Bundle } from "../generated/brevet/v1/Bundle.ts";
import type { BundlePiece } from "../generated/brevet/v1/BundlePiece.ts";
import type { TrustHandlers } from "../generated/brevet/v1/Trust.ts";
import type { Trust } from "../issue/trust.ts";
import { messageType, packageRoot, toTimestamp } from "../proto.ts";
import type { Crls } from "../revoke/crl.ts";
import type { ApiServer } from "./server.ts";
import { taken } from "./unread.ts";

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
  const bundleNow = (): Bundle => {
    const { bundle, spiffe, jwks, x509 } = p.trust.published;
    return { trustDomain: p.trustDomain, spiffe, jwks, x509, crls: p.crls.published.map((crl) => crl.der), sequence: bundle.sequence, federated: p.trust.federated.documents };
  };
  const encoded = encodedOnce(p, bundleNow);
  return {
    GetBundle: server.unary("Trust.GetBundle", bundleNow),

    WatchBundle: server.stream("Trust.WatchBundle", async (_request: object, call, stream: ServerWritableStream<object, BundlePiece>) => {
      await watchBundle(p, encoded, stream, call.signal);
    }),

    GetInfo: server.unary("Trust.GetInfo", async () => ({
      version, trustDomain: p.trustDomain, ready: p.health.ready, parts: [...p.health.parts], startedAt: toTimestamp(p.startedAt),
      clockDifferenceMs: await p.clockDifferenceMs(), postgresVersion: p.postgresVersion, pid: process.pid,
    })),
  };
}

const pieceBytes = 1 << 20;

/** In pieces, and made once for all that watch. */
function encodedOnce(p: InfoParts, bundleNow: () => Bundle): () => readonly BundlePiece[] {
  let pieces: readonly BundlePiece[] | undefined;
  const forget = (): void => (pieces = undefined);
  p.trust.onChange(forget);
  p.crls.onChange(forget);
  return () => (pieces ??= cut(messageType("brevet.v1.Bundle").serialize(bundleNow())));
}

function cut(bytes: Buffer): BundlePiece[] {
  const count = Math.max(1, Math.ceil(bytes.length / pieceBytes));
  return Array.from({ length: count }, (_, i) => ({ bundle: bytes.subarray(i * pieceBytes, (i + 1) * pieceBytes), complete: i === count - 1 }));
}

/** Until `signal` aborts. What a slow reader has not taken yet is not made more of: it gets the newest next. */
async function watchBundle(p: InfoParts, encoded: () => readonly BundlePiece[], stream: ServerWritableStream<object, BundlePiece>, signal: AbortSignal): Promise<void> {
  let isNew = true;
  const news = new EventEmitter();
  const changed = (): void => {
    isNew = true;
    news.emit("change");
  };
  const off = [p.trust.onChange(changed), p.crls.onChange(changed)];
  try {
    for (;;) {
      if (!isNew) await once(news, "change", { signal });
      isNew = false;
      for (const piece of encoded()) await taken(stream, piece, signal);
    }
  } finally {
    for (const stop of off) stop();
  }
}
