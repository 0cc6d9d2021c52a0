// How does an agent get its identity as files, from a process beside it?
// The sidecar claims for the agent's process, or for the unit, container or pod that it lives in, and is never the
// agent: its own end ends nothing. When the task ends, or the broker refuses for whatever reason, the files are
// gone before anybody is told. A broker that was away is asked whether the task is still there as soon as it is back.
// Whom the broker lets do so is src/claim's business; what becomes of the files, sidecar-keeper.ts's.
import { setTimeout as sleep } from "node:timers/promises";
import { connect } from "../client/connect.ts";
import type { Connection } from "../client/connect.ts";
import { WorkloadSource } from "../client/source.ts";
import { BrevetError, asBrevetError, errorCodes, grpcStatus } from "../errors.ts";
import type { ClaimResponse__Output } from "../generated/brevet/v1/ClaimResponse.ts";
import { about, claimRemedy } from "./target.ts";
import { followIdentity } from "./sidecar-identity.ts";
import type { Kept } from "./sidecar-keeper.ts";
import { keepTrust } from "./sidecar-verifier.ts";

/** `task`: empty for the ticket's, or without one for the task that the instance holds, or the next with bind `auto`. `pid`: 0 for the sidecar's own unit. */
export type Target = { readonly task: string; readonly ticket: string; readonly pid: number };

const retryMs = 1_000;
const longestClaimMs = 60_000;

/** Until the signal aborts; throws its reason if that is an error, and DENIED_TASK_ENDED when the task is over. */
export async function keepForAgent(kept: Kept, target: Target): Promise<void> {
  const broker = connect(kept.reach);
  const over = new AbortController();
  const signal = AbortSignal.any([kept.signal, over.signal]);
  let back = (): void => undefined;
  const keeping = keepTrust(kept.keeper, broker, signal, () => back());
  try {
    const { task, endpoint } = await claimed({ ...kept, signal }, broker, target);
    const again: Target = { task: task?.id ?? "", ticket: "", pid: target.pid };
    back = () => void claimed({ ...kept, signal }, broker, again).catch((error: unknown) => over.abort(error));
    await keepIdentity({ ...kept, signal }, endpoint, (error) => over.abort(error));
    await keeping;
    if (signal.reason instanceof Error) throw asBrevetError(signal.reason);
  } catch (thrown) {
    if (kept.signal.aborted && !(kept.signal.reason instanceof Error)) return; // stopped, or done: the files stay
    const error = asBrevetError(signal.aborted ? signal.reason : thrown);
    if (error.code !== "START_REFUSED" && !kept.signal.aborted) kept.keeper.withdraw(error, "nothing");
    throw error;
  } finally {
    over.abort();
    broker.close();
    await keeping.catch(() => undefined);
  }
}

/** Repeats are harmless, and waits for a task or a broker are without end; any other refusal is thrown. */
async function claimed({ keeper, signal }: Kept, broker: Connection, { task, ticket, pid }: Target): Promise<ClaimResponse__Output> {
  const request = { task, ticket, pid, sidecar: true, auto: task === "" && ticket === "", supervised: false };
  for (;;) {
    try {
      return await about("task", task, broker.agent.claim(request, { signal, timeoutMs: longestClaimMs }), pid === 0 ? undefined : claimRemedy(pid));
    } catch (thrown) {
      signal.throwIfAborted();
      const error = asBrevetError(thrown);
      if (error.code === "WRONG_STATE" && error.metadata["state"] !== undefined) throw new BrevetError("DENIED_TASK_ENDED", error.message, { metadata: error.metadata });
      const away = errorCodes[error.code].grpc === grpcStatus.UNAVAILABLE || error.code === "DEADLINE";
      if (away) keeper.brokerIsAway(error);
      else if (error.code !== "DENIED_NO_TASK") throw error;
    }
    await sleep(retryMs, undefined, { signal });
  }
}

/** Until the signal aborts. */
async function keepIdentity({ keeper, wanted, signal }: Kept, endpoint: string, fail: (error: BrevetError) => void): Promise<void> {
  const source = await WorkloadSource.open({ address: endpoint, signal });
  const stop = followIdentity(source, ([only]) => only, wanted, { files: (files) => keeper.identity(files), withdrawn: fail, refused: fail });
  try {
    if (!signal.aborted) await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
  } finally {
    stop();
    source.close();
  }
}
