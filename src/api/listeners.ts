// What is served on which socket?
// This table is the whole surface: the workload socket, for any attested process, the admin socket, for
// administrators, and the network, for whoever has a role there. Health and reflection are on all, behind the same guard.
// Each service is in a file of its own; sockets and the wrapper around every call are server.ts.
import type { Socket } from "node:net";
import type { LiveCatalog } from "../authorize/catalog.ts";
import { attestSocket, openerOf } from "../attest/caller.ts";
import type { Caller } from "../attest/caller.ts";
import type { HashCache } from "../attest/hash.ts";
import type { Bindings } from "../claim/bindings.ts";
import type { Claims } from "../claim/claim.ts";
import type { Config } from "../config.ts";
import { BrevetError } from "../errors.ts";
import type { BrokerParts } from "../health.ts";
import type { Issuer } from "../issue/issue.ts";
import type { OperatorCertificates } from "../issue/operators.ts";
import type { Trust } from "../issue/trust.ts";
import { envoyServices, preEncoded, services } from "../proto.ts";
import { readClock } from "../record/trust.ts";
import type { TaskRow } from "../record/tasks.ts";
import type { Store } from "../record/store.ts";
import type { Crls } from "../revoke/crl.ts";
import type { Feed } from "../revoke/feed.ts";
import type { Propagation } from "../revoke/propagation.ts";
import type { Revoker } from "../revoke/revoke.ts";
import type { Verifiers } from "../revoke/verifiers.ts";
import type { Log, Metrics } from "../telemetry.ts";
import { Access } from "./access.ts";
import { catalogHandlers, logHandlers, revocationHandlers } from "./admin.ts";
import { agentHandlers } from "./agent.ts";
import { checkHandlers } from "./envoy-check.ts";
import { secretHandlers } from "./envoy-secrets.ts";
import { Explainer } from "./explain.ts";
import { feedHandlers } from "./feed.ts";
import { addHealth } from "./health.ts";
import { trustHandlers } from "./info.ts";
import { Judge } from "./judge.ts";
import { CallerLimits } from "./limits.ts";
import { operatorHandlers } from "./operators.ts";
import { propagationHandlers } from "./propagation.ts";
import { addReflection } from "./reflection.ts";
import { Refusals } from "./refusals.ts";
import { networkRoles } from "./roles.ts";
import { ApiServer } from "./server.ts";
import { taskHandlers } from "./tasks.ts";
import { validator } from "./validate.ts";
import { workloadHandlers } from "./workload.ts";

export type ApiParts = {
  readonly config: Config;
  readonly store: Store;
  readonly postgresVersion: string;
  readonly catalog: LiveCatalog;
  readonly claims: Claims;
  readonly bindings: Bindings;
  readonly issuer: Issuer;
  readonly trust: Trust;
  readonly crls: Crls;
  readonly feed: Feed;
  readonly revoker: Revoker;
  readonly certificates: OperatorCertificates;
  readonly verifiers: Verifiers;
  readonly propagation: Propagation;
  readonly hash: HashCache;
  readonly health: BrokerParts;
  readonly metrics: Metrics;
  readonly log: Log;
  readonly endpointOf: (task: string) => string;
  readonly reloadCatalog: () => Promise<void>;
  readonly onTask: (task: string, callback: () => void) => () => void;
  readonly onServices: (callback: () => void) => () => void;
  readonly onOpened: (row: TaskRow) => void;
  readonly onClaimed: (row: TaskRow) => void;
};

export type Api = {
  readonly workload: ApiServer;
  readonly admin: ApiServer;
  /** Who comes in here is let in by network.ts. */
  readonly network: ApiServer;
  readonly limits: CallerLimits;
  readonly judge: Judge;
  close(): Promise<void>;
};

const adminMessageBytes = 4 << 20;
const adminLimits = { perUidFetchesPerSecond: 0, perUidChecksPerSecond: 0, perUidConnections: 0, perUidStreams: 0, maxConnections: 1024 };

export function createApi(p: ApiParts): Api {
  const { config, store, catalog, claims, bindings, trust, feed } = p;
  const { trustDomain } = config;
  const refusals = new Refusals(store);
  const limits = new CallerLimits(config.limits);
  const common = {
    maxStreamsPerConnection: config.limits.maxStreamsPerConnection,
    metadataBytes: config.limits.metadataBytes,
    connectionIdleSeconds: config.limits.connectionIdle,
    ...reporting(p, refusals),
  };
  const attest = (socket: Socket): Caller => attestSocket(socket, p.hash);
  const workload = new ApiServer({ ...common, roles: ["process"], door: { role: "process", attest, openerOf }, limits, messageBytes: config.limits.messageBytes });
  const admin = new ApiServer({
    ...common, roles: ["administrator"], door: { role: "administrator", attest, openerOf, admit: (caller) => refuseStranger(caller, config) },
    limits: new CallerLimits(adminLimits), messageBytes: adminMessageBytes,
  });
  const network = new ApiServer({
    ...common, roles: networkRoles, messageBytes: adminMessageBytes,
    limits: new CallerLimits({ ...config.limits, perUidConnections: config.limits.perIdentityConnections }),
  });
  const access = new Access({ trustDomain, store, catalog, claims, bindings });
  const clockDifferenceMs = async (): Promise<number> => Date.now() - (await readClock(store)).getTime();
  const info = { trustDomain, trust, crls: p.crls, health: p.health, startedAt: new Date(), postgresVersion: p.postgresVersion, clockDifferenceMs };
  for (const api of [workload, admin, network]) {
    api.addService(services.tasks, taskHandlers(api, { ...p, trustDomain, access, onTaskChanged: p.onTask }));
    api.addService(preEncoded(services.feed), feedHandlers(api, feed, p.verifiers));
    api.addService(services.trust, trustHandlers(api, info));
  }
  const judge = new Judge(trust, feed);
  const validate = validator(judge);
  const onLost = (subject: string): void => p.propagation.streamLost(subject);
  for (const api of [workload, network]) {
    api.addService(services.workload, workloadHandlers(api, { ...p, trustDomain, validate, onServicesChanged: p.onServices, onLost }));
    api.addService(envoyServices.authorization, checkHandlers(api, { ...p, judge }));
  }
  workload.addService(services.agent, agentHandlers(workload, { ...p, trustDomain, access }));
  workload.addService(envoyServices.secrets, secretHandlers(workload, { ...p, trustDomain, onServicesChanged: p.onServices, onLost }));

  const refusalsWritten = (): Promise<void> => refusals.written();
  const adminParts = { ...p, trustDomain, access, refusalsWritten, explain: new Explainer({ store, catalog, claims, hash: p.hash, refusalsWritten }) };
  for (const api of [admin, network]) {
    api.addService(services.revocations, { ...revocationHandlers(api, adminParts), ...propagationHandlers(api, p) });
    api.addService(services.catalog, catalogHandlers(api, adminParts));
    api.addService(services.log, logHandlers(api, adminParts));
    api.addService(services.operators, operatorHandlers(api, { ...p, trustDomain }));
  }
  for (const [api, names] of [[workload, onWorkload], [admin, onAdmin], [network, onNetwork]] as const) {
    addHealth(api, p.health, names);
    addReflection(api.guarded, [...names, "grpc.health.v1.Health"]);
  }
  return { workload, admin, network, limits, judge, close: () => refusals.close() };
}

const everywhere = ["brevet.v1.Tasks", "brevet.v1.Feed", "brevet.v1.Trust"];
const overseers = ["brevet.v1.Revocations", "brevet.v1.Catalog", "brevet.v1.Log", "brevet.v1.Operators"];
const onWorkload = [...everywhere, "SpiffeWorkloadAPI", "brevet.v1.Agent", "envoy.service.auth.v3.Authorization", "envoy.service.secret.v3.SecretDiscoveryService"];
const onAdmin = [...everywhere, ...overseers];
const onNetwork = [...everywhere, ...overseers, "SpiffeWorkloadAPI", "envoy.service.auth.v3.Authorization"];

/** Root, the broker's own user, and those that the configuration names: by the kernel's word, whatever the socket's mode. */
function refuseStranger(caller: Caller, config: Config): BrevetError | undefined {
  if (caller.uid === 0 || caller.uid === process.geteuid?.() || config.admin.uids.includes(caller.uid)) return undefined;
  return new BrevetError("DENIED_ROLE", "only administrators may use the admin socket");
}

/** One place counts and logs what was answered. */
function reporting({ metrics, log }: ApiParts, refusals: Refusals): Pick<ConstructorParameters<typeof ApiServer>[0], "onRefused" | "onServed"> {
  return {
    onRefused: (error, call, method) => {
      const noted = refusals.note(error, call);
      metrics.calls.inc({ method, code: error.code });
      if (error.code === "INTERNAL") log("call.failed", { method, message: String(error.cause instanceof Error ? error.cause.stack : error.cause) }, "error");
      else {
        const { process, peer } = call?.connection ?? {};
        const who = { code: error.code, identity: peer?.spiffeId, uid: process?.uid, pid: process?.pid, attempt: noted.metadata["attempt"] };
        if (method === "connect") log("connection.refused", { ...who, gid: process?.gid, message: error.message });
        else log("call.refused", { method, ...who }, "debug");
      }
      return noted;
    },
    onServed: (method, ms) => {
      metrics.calls.inc({ method, code: "OK" });
      metrics.callSeconds.observe({ method }, ms / 1000);
    },
  };
}
