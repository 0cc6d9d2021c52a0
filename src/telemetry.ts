// What does a broker say about itself?
// Log lines are JSON with allowed fields only, so a secret has no field to stand in; metric names are
// all here, and no label ever carries a task, an instance, a SPIFFE ID or a serial.
// Whoever reports calls `log` with an event's name; what is proved is in PostgreSQL, this is a copy.
import pino from "pino";
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from "prom-client";

export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>;
export type Log = (event: string, fields?: LogFields, level?: "debug" | "info" | "warn" | "error") => void;

const allowed = new Set([
  "pid", "uid", "gid", "identity", "from", "grpc", "ms", "code", "method", "message", "attempt", "task", "agent", "service", "socket", "path", "http",
  "trustDomain", "version", "sequence", "count", "removed", "what", "authority", "field", "port", "cause", "file", "line", "column", "seconds",
]);
const mostCharacters = 1000;
const mostPerSecond = 50;

/**
 * Fields that are not allowed are dropped, by name; text is cut and stripped of what can't be seen. Of one event
 * a second has at most 50 lines, and the next line of it says how many were left out: no caller can fill a disk.
 */
export function createLog(level: string): Log {
  const logger = pino({ level, base: { name: "brevet" }, timestamp: pino.stdTimeFunctions.isoTime }, pino.destination({ dest: 2, sync: true }));
  const windows = new Map<string, { until: number; lines: number; leftOut: number }>();
  return (event, fields = {}, at = "info") => {
    if (!logger.isLevelEnabled(at)) return;
    const now = performance.now();
    const window = windows.get(event);
    if (window && now < window.until && window.lines >= mostPerSecond) {
      window.leftOut++;
      return;
    }
    const leftOut = window?.leftOut ?? 0;
    if (window && now < window.until) window.lines++;
    else windows.set(event, { until: now + 1000, lines: 1, leftOut: 0 });
    const shown: Record<string, unknown> = leftOut > 0 ? { leftOut } : {};
    for (const [key, value] of Object.entries(fields)) {
      if (value === undefined) continue;
      if (!allowed.has(key)) shown["dropped"] = key;
      else shown[key] = typeof value === "string" ? value.slice(0, mostCharacters).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu, "\ufffd") : value;
    }
    logger[at](shown, event);
  };
}

export function createMetrics() {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const registers = [registry];
  return {
    registry,
    calls: new Counter({ name: "brevet_calls_total", help: "Calls answered, by method and code (OK or the error's)", labelNames: ["method", "code"], registers }),
    callSeconds: new Histogram({
      name: "brevet_call_seconds", help: "Time to answer a call once", labelNames: ["method"], registers,
      buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5],
    }),
    checks: new Counter({ name: "brevet_checks_total", help: "Requests judged for proxies, by verdict (accepted or the refusal's code)", labelNames: ["verdict"], registers }),
    ended: new Counter({ name: "brevet_tasks_changed_total", help: "Tasks ended or changed, by verdict and state", labelNames: ["verdict", "state"], registers }),
    signatures: new Gauge({ name: "brevet_signatures", help: "Signatures made since the start, by kind", labelNames: ["kind"], registers }),
    recorded: new Gauge({ name: "brevet_svids_recorded", help: "SVIDs recorded since the start, by kind: never fewer than the signatures", labelNames: ["kind"], registers }),
    gauges: new Gauge({ name: "brevet_now", help: "Connections, open endpoints, bound tasks, waiting callers, feed subscribers, held SVIDs", labelNames: ["what"], registers }),
    propagation: new Histogram({
      name: "brevet_revocation_propagation_seconds", labelNames: ["class"], registers,
      help: "From a revocation's commit until it was in force: at a verifier (sdk, its word's way back included), a workload stream (stream), in a published list (crl)",
      buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
    }),
    verifiers: new Gauge({ name: "brevet_feed_subscribers", help: "Who follows the feed here: acknowledging, or silent", labelNames: ["kind"], registers }),
    verifiersLag: new Gauge({ name: "brevet_feed_acknowledgement_lag_seconds", help: "Age of the oldest revocation that a connected verifier has not acknowledged", registers }),
    crlAge: new Gauge({ name: "brevet_crl_age_seconds", help: "Age of the oldest published list", registers }),
    feedSequence: new Gauge({ name: "brevet_feed_sequence", help: "The last revocation known here", registers }),
  };
}

export type Metrics = ReturnType<typeof createMetrics>;
