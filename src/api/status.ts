// How does a refusal cross the wire?
// One place turns a BrevetError into a gRPC status with google.rpc.ErrorInfo and, for bad requests,
// BadRequest; or into an RFC 9457 problem for HTTP. The cause stays here, for the log.
// The list of codes is src/errors.ts's; the reader is src/client/status.ts.
import { Metadata } from "@grpc/grpc-js";
import { errorCodes } from "../errors.ts";
import type { BrevetError } from "../errors.ts";
import { messageType } from "../proto.ts";

const statusMessage = messageType("google.rpc.Status");
const typePrefix = "type.googleapis.com/google.rpc.";

function packed(name: string, value: object): { type_url: string; value: Buffer } {
  return { type_url: typePrefix + name, value: messageType(`google.rpc.${name}`).serialize(value) };
}

/** What grpc-js sends: code, public message and details. */
export function toGrpcError(error: BrevetError): { code: number; details: string; metadata: Metadata } {
  const code = errorCodes[error.code].grpc;
  const details = [packed("ErrorInfo", { reason: error.code, domain: "brevet", metadata: error.metadata })];
  if (error.violations.length > 0) details.push(packed("BadRequest", { fieldViolations: error.violations }));
  const metadata = new Metadata();
  metadata.set("grpc-status-details-bin", statusMessage.serialize({ code, message: error.message, details }));
  return { code, details: error.message, metadata };
}

/** RFC 9457 problem details. */
export function toProblem(error: BrevetError): { status: number; body: Record<string, unknown> } {
  const status = errorCodes[error.code].http;
  return { status, body: { type: `urn:brevet:error:${error.code}`, title: error.message, status, violations: error.violations } };
}
