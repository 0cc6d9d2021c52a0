// How does Brevet say no?
// Every refusal is a BrevetError with a code from the one closed list below; the public
// message never carries the cause. The table maps a code to gRPC, HTTP and log level.
// google.rpc.ErrorInfo{reason: code, domain: "brevet"}; HTTP problems as RFC 9457.
// Turning an error into bytes on a wire is src/api/status.ts's business.

/** gRPC status codes (numbers of the gRPC specification). */
export const grpcStatus = {
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  UNAUTHENTICATED: 16,
} as const;

type Row = { readonly grpc: number; readonly http: number; readonly log: "debug" | "info" | "warn" | "error" };

/** The closed list. `DENIED_…`: genuine but not allowed; `VERIFY_…`: not genuine, or not any more. */
export const errorCodes = {
  // requests
  INVALID_FIELD: { grpc: grpcStatus.INVALID_ARGUMENT, http: 400, log: "debug" },
  SECURITY_HEADER_MISSING: { grpc: grpcStatus.INVALID_ARGUMENT, http: 400, log: "info" },
  NOT_FOUND: { grpc: grpcStatus.NOT_FOUND, http: 404, log: "debug" },
  WRONG_STATE: { grpc: grpcStatus.FAILED_PRECONDITION, http: 409, log: "debug" },
  CATALOG_INVALID: { grpc: grpcStatus.INVALID_ARGUMENT, http: 400, log: "info" },
  CATALOG_ORPHANS_TASKS: { grpc: grpcStatus.FAILED_PRECONDITION, http: 409, log: "info" },
  AGENT_DISABLED: { grpc: grpcStatus.FAILED_PRECONDITION, http: 409, log: "info" },
  UNIMPLEMENTED: { grpc: grpcStatus.UNIMPLEMENTED, http: 501, log: "debug" },
  // callers
  DENIED_UNATTESTED: { grpc: grpcStatus.PERMISSION_DENIED, http: 403, log: "info" },
  DENIED_NO_MATCH: { grpc: grpcStatus.PERMISSION_DENIED, http: 403, log: "info" },
  DENIED_NO_TASK: { grpc: grpcStatus.PERMISSION_DENIED, http: 403, log: "info" },
  DENIED_TASK_ENDED: { grpc: grpcStatus.PERMISSION_DENIED, http: 403, log: "info" },
  DENIED_INSTANCE_CHANGED: { grpc: grpcStatus.PERMISSION_DENIED, http: 403, log: "warn" },
  DENIED_AUDIENCE: { grpc: grpcStatus.PERMISSION_DENIED, http: 403, log: "info" },
  DENIED_IDENTITY: { grpc: grpcStatus.PERMISSION_DENIED, http: 403, log: "info" },
  DENIED_TICKET: { grpc: grpcStatus.PERMISSION_DENIED, http: 403, log: "warn" },
  DENIED_TASK_TAKEN: { grpc: grpcStatus.PERMISSION_DENIED, http: 403, log: "info" },
  DENIED_TOO_MANY_TASKS: { grpc: grpcStatus.PERMISSION_DENIED, http: 403, log: "info" },
  DENIED_ROLE: { grpc: grpcStatus.PERMISSION_DENIED, http: 403, log: "warn" },
  CONTEXT_CHANGED: { grpc: grpcStatus.ABORTED, http: 409, log: "info" },
  // load and state of the broker
  RATE_LIMITED: { grpc: grpcStatus.UNAVAILABLE, http: 429, log: "info" },
  NOT_READY: { grpc: grpcStatus.UNAVAILABLE, http: 503, log: "warn" },
  DATABASE_UNAVAILABLE: { grpc: grpcStatus.UNAVAILABLE, http: 503, log: "warn" },
  OUTCOME_UNKNOWN: { grpc: grpcStatus.UNAVAILABLE, http: 503, log: "error" },
  CLOCK_SKEW: { grpc: grpcStatus.UNAVAILABLE, http: 503, log: "error" },
  SHUTTING_DOWN: { grpc: grpcStatus.UNAVAILABLE, http: 503, log: "debug" },
  BROKER_UNREACHABLE: { grpc: grpcStatus.UNAVAILABLE, http: 503, log: "warn" },
  DEADLINE: { grpc: grpcStatus.DEADLINE_EXCEEDED, http: 504, log: "info" },
  INTERNAL: { grpc: grpcStatus.INTERNAL, http: 500, log: "error" },
  // configuration and start
  CONFIG_INVALID: { grpc: grpcStatus.INVALID_ARGUMENT, http: 400, log: "error" },
  START_REFUSED: { grpc: grpcStatus.FAILED_PRECONDITION, http: 500, log: "error" },
  KEY_UNUSABLE: { grpc: grpcStatus.FAILED_PRECONDITION, http: 500, log: "error" },
  LINT_REFUSED: { grpc: grpcStatus.INTERNAL, http: 500, log: "error" },
  // verification (section numbers of the standard stand where each is raised)
  VERIFY_NOT_READY: { grpc: grpcStatus.UNAVAILABLE, http: 503, log: "warn" },
  VERIFY_STALE: { grpc: grpcStatus.UNAVAILABLE, http: 503, log: "warn" },
  VERIFY_NO_SVID: { grpc: grpcStatus.UNAUTHENTICATED, http: 401, log: "debug" },
  VERIFY_REVOKED: { grpc: grpcStatus.UNAUTHENTICATED, http: 401, log: "info" },
  VERIFY_EXPIRED: { grpc: grpcStatus.UNAUTHENTICATED, http: 401, log: "info" },
  VERIFY_NOT_YET_VALID: { grpc: grpcStatus.UNAUTHENTICATED, http: 401, log: "info" },
  VERIFY_SIGNATURE: { grpc: grpcStatus.UNAUTHENTICATED, http: 401, log: "warn" },
  VERIFY_UNKNOWN_AUTHORITY: { grpc: grpcStatus.UNAUTHENTICATED, http: 401, log: "info" },
  VERIFY_UNKNOWN_TRUST_DOMAIN: { grpc: grpcStatus.UNAUTHENTICATED, http: 401, log: "info" },
  VERIFY_MALFORMED: { grpc: grpcStatus.UNAUTHENTICATED, http: 401, log: "info" },
  VERIFY_AUDIENCE: { grpc: grpcStatus.UNAUTHENTICATED, http: 401, log: "info" },
  VERIFY_NOT_AN_AGENT: { grpc: grpcStatus.UNAUTHENTICATED, http: 401, log: "info" },
  VERIFY_NOT_AUTHORIZED: { grpc: grpcStatus.PERMISSION_DENIED, http: 403, log: "info" },
} as const satisfies Record<string, Row>;

export type ErrorCode = keyof typeof errorCodes;

/** One thing wrong with a request: the field's name as the proto or the file has it, and what to do. */
export type Violation = { readonly field: string; readonly description: string };

export type ErrorOptions = {
  /** Never shown to a caller; logged. */
  readonly cause?: unknown;
  readonly violations?: readonly Violation[];
  /** Shown to callers in ErrorInfo.metadata: no secrets. */
  readonly metadata?: Readonly<Record<string, string>>;
};

export class BrevetError extends Error {
  override readonly name = "BrevetError";
  readonly code: ErrorCode;
  readonly violations: readonly Violation[];
  readonly metadata: Readonly<Record<string, string>>;

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.violations = options.violations ?? [];
    this.metadata = options.metadata ?? {};
  }
}

/** Refuses a request with all its violations at once. */
export function invalid(violations: readonly Violation[]): BrevetError {
  const text = violations.map((v) => `${v.field}: ${v.description}`).join("; ");
  return new BrevetError("INVALID_FIELD", text, { violations });
}

/** Not from this state; it is in the words and in the metadata. */
export function wrongState(task: string, state: string, what: string): BrevetError {
  return new BrevetError("WRONG_STATE", `the task is ${state}: ${what}`, { metadata: { task, state } });
}

/** The same answer for what does not exist and for what the caller may not see. */
export function notFound(field: string, what: string): BrevetError {
  return new BrevetError("NOT_FOUND", `${field}: no such ${what}`, { metadata: { field } });
}

/** For errors that reach a boundary: a BrevetError as it is, anything else as INTERNAL with the cause kept for the log. */
export function asBrevetError(error: unknown): BrevetError {
  if (error instanceof BrevetError) return error;
  return new BrevetError("INTERNAL", "internal error", { cause: error });
}

export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(errorCodes, text);
}
