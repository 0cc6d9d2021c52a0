// What does `import { … } from "brevet"` offer?
// Three things: Verifier for services, WorkloadSource for agents and services, Tasks for
// orchestrators; with the types of their answers and the one class of error. Nothing else is public.
// It runs wherever Node does, and needs no database.
export { BrevetError } from "./errors.ts";
export type { ErrorCode, Violation } from "./errors.ts";
export type { Duration } from "./identity/duration.ts";
export type { Bind, Scope, TaskBinding, TaskState } from "./identity/task.ts";

export type { BrokerOptions } from "./client/connect.ts";

// services
export { Verifier } from "./verify/verifier.ts";
export type { FeedView } from "./verify/feed.ts";
export type { CheckOptions, VerifierOptions } from "./verify/verifier.ts";
export type { Accepted, Kind, Refused, Verdict } from "./verify/verdict.ts";
export { agentIs, allOf, anyAgent, onBehalfOf, oneOf, serviceIs, taskIs } from "./verify/authorize.ts";
export type { Authorizer } from "./verify/authorize.ts";
export { authenticate, refusalOf } from "./verify/authenticate.ts";
export type { AuthenticateOptions, Presented, Refusal } from "./verify/authenticate.ts";
export { guard, taskOf } from "./verify/middleware.ts";
export type { Guard, GuardOptions } from "./verify/middleware.ts";
export { MtlsAgent, callerOf, connectHttp2, connectMtls, createHttp2Server, createHttpsServer, createMtlsServer } from "./verify/tls.ts";
export type { ConnectOptions, MtlsOptions, PeerOptions } from "./verify/tls.ts";

// agents
export { AgentTask } from "./call/task.ts";
export type { AgentTaskOptions } from "./call/task.ts";
export { WorkloadSource } from "./client/source.ts";
export type { ClaimOptions, SourceOptions, X509Identity } from "./client/source.ts";

// orchestrators
export { Task, Tasks } from "./client/tasks.ts";
export type { ChangeOptions, Facts, ListOptions, OpenOptions } from "./client/tasks.ts";
