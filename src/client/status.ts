// What did the broker mean by this gRPC error?
// Any failure of a call becomes one BrevetError: with the broker's own code, violations and
// metadata where it sent them, else with what the bare status says. It never throws.
// google.rpc.Status in `grpc-status-details-bin`, ErrorInfo{domain: "brevet"}, BadRequest.
// Writing such errors is src/api/status.ts's business; calls are connect.ts's.
import { status } from "@grpc/grpc-js";
import type { ServiceError } from "@grpc/grpc-js";
import { BrevetError, asBrevetError, isErrorCode } from "../errors.ts";
import type { ErrorCode, Violation } from "../errors.ts";
import { messageType } from "../proto.ts";
import type { BadRequest__Output } from "../generated/google/rpc/BadRequest.ts";
import type { ErrorInfo__Output } from "../generated/google/rpc/ErrorInfo.ts";
import type { Status__Output } from "../generated/google/rpc/Status.ts";

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && typeof (error as Partial<ServiceError>).code === "number";
}

/** What a status means that says nothing of Brevet: another server's, or gRPC's own. */
const meaning: Readonly<Record<number, ErrorCode>> = {
  [status.INVALID_ARGUMENT]: "INVALID_FIELD",
  [status.DEADLINE_EXCEEDED]: "DEADLINE",
  [status.NOT_FOUND]: "NOT_FOUND",
  [status.PERMISSION_DENIED]: "DENIED_IDENTITY",
  [status.RESOURCE_EXHAUSTED]: "RATE_LIMITED",
  [status.FAILED_PRECONDITION]: "WRONG_STATE",
  [status.UNIMPLEMENTED]: "UNIMPLEMENTED",
  [status.UNAVAILABLE]: "BROKER_UNREACHABLE",
  [status.CANCELLED]: "BROKER_UNREACHABLE",
  [status.UNAUTHENTICATED]: "DENIED_UNATTESTED",
};

/** The BrevetError that the broker meant; `target` names the socket where nobody answered. */
export function decodeError(error: unknown, target: string): BrevetError {
  if (!isServiceError(error)) return asBrevetError(error);
  const { info, violations } = decodeDetails(error.metadata?.get("grpc-status-details-bin")[0]);
  if (info?.domain === "brevet" && isErrorCode(info.reason)) {
    return new BrevetError(info.reason, error.details, { violations, metadata: info.metadata });
  }
  const code = meaning[error.code] ?? "INTERNAL";
  if (code === "DEADLINE") return new BrevetError(code, `${target}: no answer in time`, { cause: error });
  if (code !== "BROKER_UNREACHABLE") return new BrevetError(code, error.details, { violations, cause: error });
  return unreachable(target, error);
}

function unreachable(target: string, error: ServiceError): BrevetError {
  const tls = whatTlsSaid(error.details);
  if (tls !== undefined) return new BrevetError("BROKER_UNREACHABLE", `${target}: ${tls}`, { cause: error });
  const why = /\b(ENOENT|ECONNREFUSED|EACCES)\b/.exec(error.details)?.[1];
  const what = {
    ENOENT: "no such socket: is the broker running?",
    ECONNREFUSED: "nobody listens: is the broker running?",
    EACCES: "no permission for this socket",
    none: "the broker went away",
  }[why ?? "none"];
  return new BrevetError("BROKER_UNREACHABLE", `${target}: ${what}`, { cause: error });
}

function whatTlsSaid(details: string): string | undefined {
  if (/alert|certificate required/i.test(details)) return "refused our certificate: it has expired, or is of another trust domain";
  if (/no broker|X509-SVID/i.test(details)) return "shows a certificate that is not a broker's";
  if (/certificate/i.test(details)) return "shows a certificate that leads to no authority trusted here: another broker, or an old trust bundle";
  return undefined;
}

type Details = { info?: ErrorInfo__Output; violations: readonly Violation[] };

function decodeDetails(bytes: unknown): Details {
  const found: Details = { violations: [] };
  if (!Buffer.isBuffer(bytes)) return found;
  try {
    const outer = messageType("google.rpc.Status").deserialize(bytes) as Status__Output;
    for (const { type_url: type, value } of outer.details as readonly { type_url: string; value: Buffer }[]) {
      const name = type.slice(type.lastIndexOf("/") + 1);
      if (name === "google.rpc.ErrorInfo") found.info = messageType(name).deserialize(value) as ErrorInfo__Output;
      if (name === "google.rpc.BadRequest") {
        found.violations = (messageType(name).deserialize(value) as BadRequest__Output).fieldViolations;
      }
    }
  } catch {
    // details that cannot be read are none: the status itself still says what happened
  }
  return found;
}
