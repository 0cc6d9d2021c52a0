// When does the task of a running command end?
// It is followed by the stream that openers have. Who may claim but not see is told by the task's own
// socket, which is removed when the task ends, and then by a repeated claim, which an ended task
// refuses. A broker that is away ends nothing.
// What to do then is run.ts's business.
import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { follow } from "../client/connect.ts";
import type { Connection } from "../client/connect.ts";
import { asBrevetError, errorCodes, grpcStatus } from "../errors.ts";
import type { Task__Output } from "../generated/brevet/v1/Task.ts";
import { terminalStates } from "../identity/task.ts";
import type { TaskState } from "../identity/task.ts";

const lookEveryMs = 100;
const askEveryMs = 10_000;

type Brokers = { readonly opener: Connection; readonly caller: Connection };
type Claim = { readonly task: string; readonly ticket: string; readonly pid: number; readonly supervised: boolean };

/** How the task ended, in words; undefined when `signal` aborted first. */
export async function taskEnd({ opener, caller }: Brokers, claim: Claim, signal: AbortSignal): Promise<string | undefined> {
  let ended: string | undefined;
  let blind = false;
  const stop = new AbortController();
  await follow((s) => opener.tasks.watch({ task: claim.task }, { signal: s }), {
    message: (task) => {
      ended = endOf(task) ?? ended;
      if (ended !== undefined) stop.abort();
    },
    lost: (error) => {
      blind = error?.code === "NOT_FOUND" || error?.code.startsWith("DENIED_") === true;
      return !blind && ended === undefined;
    },
  }, AbortSignal.any([signal, stop.signal]));
  return blind ? await endSeenFromOutside(caller, claim, signal) : ended;
}

function endOf(task: Task__Output): string | undefined {
  if (!terminalStates.has(task.state as TaskState)) return undefined;
  return task.endReason === "" ? task.state : `${task.state} (${task.endReason})`;
}

async function endSeenFromOutside(caller: Connection, claim: Claim, signal: AbortSignal): Promise<string | undefined> {
  let endpoint = "";
  for (let asked = -askEveryMs; !signal.aborted; ) {
    const gone = endpoint !== "" && !existsSync(endpoint);
    if (gone || performance.now() - asked >= askEveryMs) {
      asked = performance.now();
      try {
        const answer = await caller.agent.claim(claim, { signal });
        endpoint = answer.endpoint.replace(/^unix:\/\//, "");
      } catch (error) {
        if (signal.aborted) return undefined;
        const { code, message } = asBrevetError(error);
        if (errorCodes[code].grpc !== grpcStatus.UNAVAILABLE && code !== "DEADLINE") return message;
      }
    }
    await sleep(lookEveryMs, undefined, { signal }).catch(() => {});
  }
  return undefined;
}
