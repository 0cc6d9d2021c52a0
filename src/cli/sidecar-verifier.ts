// What does software need as files that only verifies others?
// Bundle and lists as soon as they are published; and if this process is a service of the catalog, its own SVID,
// in the same generation. Asking whether it is one binds no task. A broker that is away takes nothing back.
// What becomes of it is sidecar-keeper.ts's business.
import { setTimeout as sleep } from "node:timers/promises";
import { connect, follow } from "../client/connect.ts";
import type { Connection } from "../client/connect.ts";
import { WorkloadSource } from "../client/source.ts";
import type { X509Identity } from "../client/source.ts";
import { watchBundle } from "../client/trust.ts";
import { BrevetError, asBrevetError } from "../errors.ts";
import { parseBrevetId } from "../identity/id.ts";
import type { Keeper, Kept } from "./sidecar-keeper.ts";
import { followIdentity } from "./sidecar-identity.ts";

const askAgainMs = 30_000;
const askMs = 10_000;
const retryMs = 1_000;

/** Until the signal aborts; throws its reason if that is an error. */
export async function keepForVerifier(kept: Kept): Promise<void> {
  const broker = connect(kept.reach);
  try {
    await Promise.all([keepTrust(kept.keeper, broker, kept.signal), isHere(kept) ? keepService(kept, broker) : kept.keeper.identity(null)]);
    if (kept.signal.reason instanceof Error) throw asBrevetError(kept.signal.reason);
  } finally {
    broker.close();
  }
}

/** Elsewhere nobody knows this process: it has no identity of its own to keep. */
function isHere({ reach }: Kept): boolean {
  return reach.server === undefined;
}

/** Until the signal aborts. `onBack`: the broker is there again after it was away. */
export async function keepTrust(keeper: Keeper, broker: Connection, signal: AbortSignal, onBack = (): void => undefined): Promise<void> {
  await Promise.all([watch(keeper, broker, signal, onBack), keepAsking(keeper, broker, signal)]);
}

/** While nothing changes nothing is pushed: that the broker hangs, or lost its database, is found by asking. */
async function keepAsking(keeper: Keeper, broker: Connection, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await sleep(askMs, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) return;
    await broker.trust.getInfo({}, { signal, timeoutMs: askMs }).then(() => keeper.brokerAnswers(), () => undefined);
  }
}

async function watch(keeper: Keeper, broker: Connection, signal: AbortSignal, onBack: () => void): Promise<void> {
  let wasAway = false;
  await follow((stop) => watchBundle(broker, stop), {
    message: (bundle) => {
      keeper.trust(bundle);
      keeper.brokerIsHere();
      if (wasAway) onBack();
      wasAway = false;
    },
    lost: (error) => {
      wasAway = true;
      keeper.brokerIsAway(error);
      return true;
    },
  }, signal);
}

/** Asked at the start, and again now and then: the catalog may name it later, or no more. */
async function keepService(kept: Kept, broker: Connection): Promise<void> {
  const { keeper, signal } = kept;
  while (!signal.aborted) {
    const asked = await broker.agent.status({}, { signal }).catch(asBrevetError);
    if (signal.aborted) return;
    const isKnown = !(asked instanceof BrevetError);
    if (isKnown && asked.services.length === 0) keeper.identity(null);
    if (isKnown && asked.services.length > 0) await keepIdentity(kept);
    await sleep(isKnown ? askAgainMs : retryMs, undefined, { signal }).catch(() => undefined);
  }
}

/** Until it is withdrawn, or the signal aborts. */
async function keepIdentity({ keeper, reach, wanted, signal }: Kept): Promise<void> {
  const source = await WorkloadSource.open({ address: reach.address, signal }).catch(asBrevetError);
  if (source instanceof BrevetError) {
    if (!signal.aborted) keeper.withdraw(source, "trust");
    return;
  }
  let stop = (): void => undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      stop = followIdentity(source, serviceOf, wanted, {
        files: (files) => keeper.identity(files),
        withdrawn: (why) => {
          keeper.withdraw(why, "trust");
          resolve();
        },
        refused: reject,
      });
      signal.addEventListener("abort", () => resolve(), { once: true });
    });
  } finally {
    stop();
    source.close();
  }
}

/** A process may be an agent too; its tasks are not this sidecar's. */
function serviceOf(svids: readonly X509Identity[]): X509Identity | undefined {
  return svids.find(({ spiffeId }) => parseBrevetId(spiffeId).kind === "service");
}
