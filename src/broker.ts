// How do the parts become a broker?
// This file wires and starts them in the one right order, and stops them in the other: database, keys,
// catalog, live instances, feed, lists, and only then the sockets; ready is said when it can issue.
// It decides nothing. A crash at any point leaves what the next start takes up: rows, not memory.
import { mkdirSync, chmodSync, readdirSync, unlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Socket } from "node:net";
import { HealthImplementation } from "grpc-health-check";
import { ReflectionService } from "@grpc/reflection";
import { signaturesMade } from "../ca/authority.ts";
import { defaultRotation } from "../ca/rotation.ts";
import { Access } from "./api/access.ts";
import { catalogHandlers, logHandlers, revocationHandlers } from "./api/admin.ts";
import { agentHandlers } from "./api/agent.ts";
import { Explainer } from "./api/explain.ts";
import { feedHandlers } from "./api/feed.ts";
import { serveHttp } from "./api/http.ts";
import { trustHandlers, version } from "./api/info.ts";
import { UidLimits } from "./api/limits.ts";
import { Refusals } from "./api/refusals.ts";
import { ApiServer } from "./api/server.ts";
import { taskHandlers } from "./api/tasks.ts";
import { validator } from "./api/validate.ts";
import { workloadHandlers } from "./api/workload.ts";
import { attestSocket } from "./attest/caller.ts";
import type { Caller } from "./attest/caller.ts";
import { HashCache } from "./attest/hash.ts";
import { bootId } from "./attest/proc.ts";
import { LiveCatalog } from "./authorize/catalog.ts";
import { Bindings } from "./claim/bindings.ts";
import { Claims } from "./claim/claim.ts";
import { Endpoints } from "./claim/endpoints.ts";
import { loadConfig, socketPaths, taskEndpointPath } from "./config.ts";
import type { Config } from "./config.ts";
import { openDatabase } from "./database.ts";
import { BrevetError } from "./errors.ts";
import { BrokerParts } from "./health.ts";
import { Issuer } from "./issue/issue.ts";
import { loadKeyEncryptionKey } from "./issue/kek.ts";
import { Trust } from "./issue/trust.ts";
import { ExitWatch, setNotDumpable } from "./kernel.ts";
import { packageDefinition, preEncoded, services } from "./proto.ts";
import { readRegistered } from "./record/catalog.ts";
import { readClock, readTrust } from "./record/trust.ts";
import { boundTasks } from "./record/tasks.ts";
import { Crls } from "./revoke/crl.ts";
import { Feed } from "./revoke/feed.ts";
import { Fences } from "./revoke/fence.ts";
import { Revoker } from "./revoke/revoke.ts";
import { Changes } from "./changes.ts";
import { Housekeeping } from "./housekeeping.ts";
import { createLog, createMetrics } from "./telemetry.ts";
import type { Log } from "./telemetry.ts";

export type Broker = { readonly config: Config; readonly httpUrl: string; stop(deadlineMs?: number): Promise<void> };

const drainMs = 4000;
const adminMessageBytes = 4 << 20;

/** The command `brevet broker`: runs until SIGTERM or SIGINT. */
export async function runBroker(options: { configFile?: string } = {}): Promise<void> {
  const config = loadConfig({ file: options.configFile });
  const log = createLog(config.log.level);
  process.on("unhandledRejection", (error) => {
    log("broker.crashed", { message: error instanceof Error ? (error.stack ?? error.message) : "unknown" }, "error");
    process.exit(1); // the supervisor starts it again; what counts is in PostgreSQL
  });
  const broker = await startBroker(config, log);
  const { workload, admin } = socketPaths(config);
  process.stdout.write(`brevet: ready: trust domain ${config.trustDomain}, workload socket unix://${workload}, admin socket unix://${admin}, http ${broker.httpUrl}\n`);
  const signal = await new Promise<NodeJS.Signals>((resolve) => {
    for (const name of ["SIGTERM", "SIGINT"] as const) process.once(name, resolve);
  });
  log("broker.stopping", { message: signal });
  await broker.stop();
  log("broker.stopped");
  process.exit(0);
}

/** @throws BrevetError with what to change; then nothing of it is left running */
export async function startBroker(config: Config, log: Log): Promise<Broker> {
  if (process.platform !== "linux") {
    throw new BrevetError("START_REFUSED", `the broker needs Linux (this is ${process.platform}): run it there; the SDK and the other commands that ask a broker run here`);
  }
  setNotDumpable();
  const paths = socketPaths(config);
  prepareDirectories(config, paths.taskDir);
  const health = new BrokerParts(["database", "authorities", "feed", "workload socket"]);
  const metrics = createMetrics();
  const undo: (() => Promise<void> | void)[] = [];
  const stop = async (): Promise<void> => {
    for (const step of undo.splice(0).reverse()) await step();
  };
  try {
    const { store, serverVersion, stop: stopDatabase } = await openDatabase(config, log);
    undo.push(() => stopDatabase(3000));
    health.set("database", true, `PostgreSQL ${serverVersion}`);

    const kek = loadKeyEncryptionKey(config.keyEncryptionKeyFile, (await readTrust(store)) !== null);
    const trust = new Trust(store, config.trustDomain, kek, {
      ...defaultRotation, rootSeconds: config.authorities.rootTtl, signingSeconds: config.authorities.signingTtl,
    });
    await trust.refresh();
    health.set("authorities", true);

    const catalog = new LiveCatalog();
    const changes = new Changes();
    const reloadCatalog = async (): Promise<void> => {
      const { agents, services: known } = await readRegistered(store);
      catalog.set(agents, known);
      changes.servicesChanged();
    };
    await reloadCatalog();

    const exits = new ExitWatch();
    undo.push(() => exits.close());
    const fences = new Fences();
    const bindings = new Bindings({ store, bootId: bootId(), exits, onExit: (bound) => housekeeping.instanceExited(bound) });
    undo.push(() => bindings.close());
    const issuer = new Issuer({ store, trustDomain: config.trustDomain, signers: () => trust.signers, whenClear: (task) => fences.whenClear(task) });
    const feed = new Feed(store, (rows) => changes.revoked(rows), () => bindings.size > 0);
    undo.push(() => feed.close());
    const crls = new Crls({ store, signers: () => trust.published.crlSigners, sequence: () => feed.sequence, log });
    undo.push(() => crls.close());
    const revoker = new Revoker({ store, fences, log, onCommitted: (verdicts, rows) => changes.committed(verdicts, rows) });
    undo.push(() => revoker.close());

    const endpointOf = (task: string): string => taskEndpointPath(paths.taskDir, task);
    const endpoints = new Endpoints((task) => workload.listen(endpointOf(task), 0o666, task));
    const claims = new Claims({ store, bindings, catalog, waitForTaskSeconds: config.waitForTask, openEndpoint: (task) => endpoints.open(task) });
    changes.connect({ store, bindings, issuer, feed, crls, endpoints, metrics });
    const housekeeping = new Housekeeping({ store, bindings, claims, revoker, trust, crls, feed, endpoints, reloadCatalog, health, log, retentionSeconds: config.retention });
    undo.push(() => housekeeping.close());

    const refusals = new Refusals(store);
    undo.push(() => refusals.close());
    const hash = new HashCache();
    const limits = new UidLimits(config.limits);
    const server = (name: string, admit?: (caller: Caller) => BrevetError | undefined): ApiServer => new ApiServer({
      name, limits: name === "admin" ? new UidLimits({ perUidFetchesPerSecond: 0, perUidConnections: 0, perUidStreams: 0, maxConnections: 1024 }) : limits,
      attest: (socket: Socket) => attestSocket(socket, hash), ...(admit ? { admit } : {}),
      maxStreamsPerConnection: config.limits.maxStreamsPerConnection,
      messageBytes: name === "admin" ? adminMessageBytes : config.limits.messageBytes,
      connectionIdleSeconds: config.limits.connectionIdle,
      onRefused: (error, call, method) => {
        const noted = refusals.note(error, call);
        metrics.calls.inc({ method, code: error.code });
        const { attempt } = noted.metadata;
        if (error.code === "INTERNAL") log("call.failed", { method, message: String(error.cause instanceof Error ? error.cause.stack : error.cause) }, "error");
        else log("call.refused", { method, code: error.code, uid: call?.connection.caller.uid, pid: call?.connection.caller.pid, attempt }, "debug");
        return noted;
      },
      onServed: (method, ms) => {
        metrics.calls.inc({ method, code: "OK" });
        metrics.callSeconds.observe({ method }, ms / 1000);
      },
    });
    const workload = server("workload");
    const admin = server("admin", (caller) => {
      if (caller.uid === 0 || caller.uid === process.geteuid?.() || config.admin.uids.includes(caller.uid)) return undefined;
      return new BrevetError("DENIED_ROLE", "only administrators may use the admin socket");
    });

    const startedAt = new Date();
    const explain = new Explainer({ store, catalog, claims, hash });
    const clockDifferenceMs = async (): Promise<number> => Date.now() - (await readClock(store)).getTime();
    const info = { trustDomain: config.trustDomain, trust, crls, health, startedAt, postgresVersion: serverVersion, clockDifferenceMs };
    const anyTask = new Access({ store, catalog, claims, bindings, admin: true });
    for (const api of [workload, admin]) {
      const access = api === admin ? anyTask : new Access({ store, catalog, claims, bindings, admin: false });
      api.addService(services.tasks, taskHandlers(api, {
        store, trustDomain: config.trustDomain, catalog, access, revoker, endpointOf,
        onTaskChanged: (task, callback) => changes.onTask(task, callback),
        onOpened: (row) => housekeeping.opened(row),
      }));
      api.addService(preEncoded(services.feed), feedHandlers(api, feed));
      api.addService(services.trust, trustHandlers(api, info));
    }
    workload.addService(services.workload, workloadHandlers(workload, {
      trustDomain: config.trustDomain, claims, bindings, catalog, issuer, trust, crls,
      validate: validator(() => trust.published.bundle, (subject) => feed.epochOf(subject)),
      onServicesChanged: (callback) => changes.onServices(callback),
    }));
    workload.addService(services.agent, agentHandlers(workload, {
      store, trustDomain: config.trustDomain, claims, bindings, anyTask, hash, endpointOf, onClaimed: (row) => changes.task(row.id),
    }));
    const adminParts = { store, trustDomain: config.trustDomain, catalog, access: anyTask, revoker, feed, explain, reloadCatalog };
    admin.addService(services.revocations, revocationHandlers(admin, adminParts));
    admin.addService(services.catalog, catalogHandlers(admin, adminParts));
    admin.addService(services.log, logHandlers(admin, adminParts));
    const grpcHealth = new HealthImplementation({ "": "NOT_SERVING", SpiffeWorkloadAPI: "NOT_SERVING" });
    health.onChange((ready) => {
      for (const name of ["", "SpiffeWorkloadAPI"]) grpcHealth.setStatus(name, ready ? "SERVING" : "NOT_SERVING");
    });
    for (const api of [workload, admin]) {
      grpcHealth.addToServer(api.guarded as never);
      new ReflectionService(packageDefinition).addToServer(api.guarded as never);
    }

    // after a start: instances, feed, lists; then serve; then heartbeats
    await feed.load();
    undo.push(() => endpoints.close());
    for (const row of await boundTasks(store, bootId(), null)) if (bindings.add(row)) await endpoints.open(row.id);
    await housekeeping.endOrphans();
    await crls.start();
    health.set("feed", true);
    housekeeping.start();

    undo.push(() => workload.close(drainMs), () => admin.close(drainMs));
    undo.push(await workload.listen(paths.workload, 0o666, null));
    undo.push(await admin.listen(paths.admin, config.admin.uids.length > 0 ? 0o666 : 0o600, null));
    health.set("workload socket", true, `unix://${paths.workload}`);

    const collect = (): void => {
      for (const kind of ["x509", "jwt", "crl"] as const) metrics.signatures.set({ kind }, signaturesMade(kind));
      const now = { connections: limits.connections, bound: bindings.size, waiting: claims.waiting, subscribers: feed.subscribers, held: issuer.held };
      for (const [what, value] of Object.entries(now)) metrics.gauges.set({ what }, value);
      metrics.feedSequence.set(feed.sequence);
    };
    let httpUrl = "off";
    if (config.listen.http) {
      const http = await serveHttp(config.listen.http, { health, trust, metrics, collect });
      httpUrl = http.url;
      undo.push(() => http.close());
    }
    log("broker.started", { version, trustDomain: config.trustDomain, http: httpUrl, socket: paths.workload });
    return { config, httpUrl, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Others must get through to the sockets, and no further. Endpoints of a broker that was killed are swept. */
function prepareDirectories(config: Config, taskDir: string): void {
  for (const directory of new Set([config.dataDir, config.socketDir, taskDir])) {
    mkdirSync(directory, { recursive: true, mode: 0o711 });
    chmodSync(directory, 0o711);
  }
  for (const name of readdirSync(taskDir)) unlinkSync(join(taskDir, name));
  const keys = dirname(config.keyEncryptionKeyFile);
  if (keys.startsWith(config.dataDir)) {
    mkdirSync(keys, { recursive: true, mode: 0o700 });
    chmodSync(keys, 0o700);
  }
}
