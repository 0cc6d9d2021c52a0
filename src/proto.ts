// What crosses the wire?
// The proto files are the contract; this file loads them once and gives each service its typed
// definition. 64-bit integers are numbers (all stay below 2^53), absent fields have their defaults.
// Which service is served where is src/api's business; types are generated into src/generated.
import { fileURLToPath } from "node:url";
import protoLoader from "@grpc/proto-loader";
import type { MessageTypeDefinition } from "@grpc/proto-loader";
import type { SpiffeWorkloadAPIDefinition } from "./generated/SpiffeWorkloadAPI.ts";
import type { AgentDefinition } from "./generated/brevet/v1/Agent.ts";
import type { CatalogDefinition } from "./generated/brevet/v1/Catalog.ts";
import type { FeedDefinition } from "./generated/brevet/v1/Feed.ts";
import type { LogDefinition } from "./generated/brevet/v1/Log.ts";
import type { OperatorsDefinition } from "./generated/brevet/v1/Operators.ts";
import type { RevocationsDefinition } from "./generated/brevet/v1/Revocations.ts";
import type { TasksDefinition } from "./generated/brevet/v1/Tasks.ts";
import type { TrustDefinition } from "./generated/brevet/v1/Trust.ts";
import type { AuthorizationDefinition } from "./generated/envoy/service/auth/v3/Authorization.ts";
import type { SecretDiscoveryServiceDefinition } from "./generated/envoy/service/secret/v3/SecretDiscoveryService.ts";

/** Works from src/ and from dist/src/: the package's root is the folder that holds `proto`. */
const here = fileURLToPath(import.meta.url);
export const packageRoot = here.includes("/dist/src/")
  ? fileURLToPath(new URL("../../", import.meta.url))
  : fileURLToPath(new URL("../", import.meta.url));

const protoFiles = [
  "workloadapi.proto",
  "brevet/v1/tasks.proto",
  "brevet/v1/agent.proto",
  "brevet/v1/feed.proto",
  "brevet/v1/admin.proto",
  "brevet/v1/operators.proto",
  "google/rpc/status.proto",
  "envoy/service/auth/v3/external_auth.proto",
  "envoy/service/secret/v3/sds.proto",
  "envoy/extensions/transport_sockets/tls/v3/secret.proto",
];

const loaded = protoLoader.loadSync(protoFiles, {
  includeDirs: [`${packageRoot}proto`],
  longs: Number,
  enums: String,
  defaults: true,
  oneofs: true,
});

/** All that was loaded, as reflection and the tests of field rules need it. */
export const packageDefinition = loaded;

function definition<T>(name: string): T {
  const found = loaded[name];
  if (found === undefined) throw new TypeError(`proto: ${name} is not defined`);
  return found as unknown as T;
}

export const services = {
  workload: definition<SpiffeWorkloadAPIDefinition>("SpiffeWorkloadAPI"),
  tasks: definition<TasksDefinition>("brevet.v1.Tasks"),
  agent: definition<AgentDefinition>("brevet.v1.Agent"),
  feed: definition<FeedDefinition>("brevet.v1.Feed"),
  revocations: definition<RevocationsDefinition>("brevet.v1.Revocations"),
  catalog: definition<CatalogDefinition>("brevet.v1.Catalog"),
  log: definition<LogDefinition>("brevet.v1.Log"),
  trust: definition<TrustDefinition>("brevet.v1.Trust"),
  operators: definition<OperatorsDefinition>("brevet.v1.Operators"),
} as const;

/** Those that Envoy asks, and nobody else. */
export const envoyServices = {
  authorization: definition<AuthorizationDefinition>("envoy.service.auth.v3.Authorization"),
  secrets: definition<SecretDiscoveryServiceDefinition>("envoy.service.secret.v3.SecretDiscoveryService"),
} as const;

/** The same service, whose answers may also be handed over as bytes already encoded. */
export function preEncoded<D extends object>(service: D): D {
  return Object.fromEntries(Object.entries(service).map(([name, method]) => {
    const { responseSerialize } = method as { responseSerialize: (value: object) => Buffer };
    return [name, { ...method, responseSerialize: (value: object) => (Buffer.isBuffer(value) ? value : responseSerialize(value)) }];
  })) as D;
}

/** One message type, to encode and decode outside of a call (error details). */
export function messageType(name: string): MessageTypeDefinition<object, object> {
  return definition<MessageTypeDefinition<object, object>>(name);
}

/** google.protobuf.Timestamp. */
export type Timestamp = { readonly seconds: number; readonly nanos: number };

export function toTimestamp(date: Date): Timestamp {
  const ms = date.getTime();
  const seconds = Math.floor(ms / 1000);
  return { seconds, nanos: (ms - seconds * 1000) * 1_000_000 };
}

export function fromTimestamp(value: { seconds?: unknown; nanos?: unknown } | null | undefined): Date | undefined {
  if (!value) return undefined;
  return new Date(Number(value.seconds ?? 0) * 1000 + Math.floor(Number(value.nanos ?? 0) / 1_000_000));
}
