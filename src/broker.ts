// How do the parts become a broker?
// This file wires and starts them in the one right order, and stops them in the other: database, keys,
// catalog, live instances, feed, lists, and only then the sockets; ready is said when it can issue.
// It decides nothing. A crash at any point leaves what the next start takes up: rows, not memory.
import { readdirSync } from "node:fs";
import inspector from "node:inspector";
import { hostname } from "node:os";
import { join } from "node:path";
import { signaturesMade } from "../ca/authority.ts";
import { defaultRotation } from "../ca/rotation.ts";
import { serveHttp } from "./api/http.ts";
import { createApi } from "./api/listeners.ts";
import type { Api } from "./api/listeners.ts";
import { serveNetwork } from "./api/network.ts";
import { Peers } from "./api/peers.ts";
import { clearPath } from "./api/unix-socket.ts";
import { version } from "./api/info.ts";
import { attestPid } from "./attest/caller.ts";
import { HashCache } from "./attest/hash.ts";
import { machineOf } from "./attest/machine.ts";
import { bootId } from "./attest/proc.ts";
import { LiveCatalog } from "./authorize/catalog.ts";
import { Bindings } from "./claim/bindings.ts";
import { Claims } from "./claim/claim.ts";
import { Endpoints } from "./claim/endpoints.ts";
import { loadConfig, socketPaths, taskEndpointPath } from "./config.ts";
import type { Config } from "./config.ts";
import { openDatabase } from "./database.ts";
import { prepareDirectories } from "./directories.ts";
import { BrevetError } from "./errors.ts";
import { BrokerParts } from "./health.ts";
import { Issuer } from "./issue/issue.ts";
import { loadKeyEncryptionKey, namingKeyFile } from "./issue/kek.ts";
import { OperatorCertificates } from "./issue/operators.ts";
import { OwnSvid } from "./issue/own.ts";
import { StatusIndexes, statusListLifeSeconds } from "./issue/status.ts";
import { Trust } from "./issue/trust.ts";
import { Federation } from "./federation/federation.ts";
import { ExitWatch, setNotDumpable } from "./kernel.ts";
import { readRegistered } from "./record/catalog.ts";
import { readTrust } from "./record/trust.ts";
import { boundTasks } from "./record/claims.ts";
import { Crls } from "./revoke/crl.ts";
import { Feed } from "./revoke/feed.ts";
import { Fences } from "./revoke/fence.ts";
import { Propagation } from "./revoke/propagation.ts";
import { Revoker } from "./revoke/revoke.ts";
import { StatusLists } from "./revoke/status-lists.ts";
import { Verifiers } from "./revoke/verifiers.ts";
import { Changes } from "./changes.ts";
import { Housekeeping } from "./housekeeping.ts";
import { createLog, createMetrics } from "./telemetry.ts";
import type { Log } from "./telemetry.ts";

type Broker = { readonly config: Config; readonly httpUrl: string; readonly grpc: string; stop(deadlineMs?: number): Promise<void> };

/** Each would end the process by itself, without a drain. A second one of the same name does. */
const endSignals = ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR2"] as const;
const drainMs = 4000;
const factsMs = 15_000;

/** The command `brevet broker`: runs until SIGTERM or SIGINT. */
export async function runBroker(options: { configFile?: string; flags?: Readonly<Record<string, string>> } = {}): Promise<void> {
  const config = loadConfig({ file: options.configFile, flags: options.flags ?? {} });
  const log = createLog(config.log.level);
  process.on("unhandledRejection", (error) => {
    log("broker.crashed", { message: error instanceof Error ? (error.stack ?? error.message) : "unknown" }, "error");
    process.exit(1); // the supervisor starts it again; what counts is in PostgreSQL
  });
  // from the first moment on: what a start has begun is ended too, and nothing that ends a process leaves PostgreSQL behind
  const asked = new AbortController();
  const ending = new Promise<void>((resolve) => {
    for (const name of endSignals) {
      process.once(name, () => {
        log("broker.stopping", { message: name });
        asked.abort(new BrevetError("SHUTTING_DOWN", `the broker was ended by ${name} before it was ready`));
        resolve();
      });
    }
  });
  const broker = await startBroker(config, log, asked.signal).catch((error: unknown) => {
    if (asked.signal.aborted) return undefined;
    const cause = error instanceof BrevetError ? error.cause : error;
    if (cause !== undefined) log("broker.refused_to_start", { message: cause instanceof Error ? (cause.stack ?? cause.message) : "unknown" }, "error");
    throw error;
  });
  if (broker === undefined) return log("broker.stopped");
  const { workload, admin } = socketPaths(config);
  const network = config.listen.grpc ? `grpc ${broker.grpc}, ` : "";
  process.stdout.write(`brevet: ready: trust domain ${config.trustDomain}, workload socket unix://${workload}, admin socket unix://${admin}, ${network}http ${broker.httpUrl}\n`);
  await ending;
  await broker.stop();
  log("broker.stopped");
  process.exit(0);
}

/** @throws BrevetError with what to change; then nothing of it is left running */
async function startBroker(config: Config, log: Log, asked: AbortSignal): Promise<Broker> {
  if (process.platform !== "linux") {
    throw new BrevetError("START_REFUSED", `the broker needs Linux (this is ${process.platform}): run it there; the SDK and the other commands that ask a broker run here`);
  }
  if (inspector.url() !== undefined) {
    throw new BrevetError("START_REFUSED", "a debugger could read every key: start Node without --inspect, also in NODE_OPTIONS");
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
    asked.throwIfAborted();
    // only now is it certain that no other broker runs on this data directory's database
    for (const name of readdirSync(paths.taskDir)) await clearPath(join(paths.taskDir, name));

    const kek = loadKeyEncryptionKey(config.keyEncryptionKeyFile, (await readTrust(store)) !== null);
    const trust = new Trust(store, config.trustDomain, kek, {
      policy: { ...defaultRotation, rootSeconds: config.authorities.rootTtl, signingSeconds: config.authorities.signingTtl },
      publicUrl: config.publicUrl,
      keyType: config.authorities.keyType,
    });
    await trust.refresh().catch((error: unknown) => {
      throw namingKeyFile(config.keyEncryptionKeyFile, error);
    });
    health.set("authorities", true);

    const federation = new Federation({ store, domains: config.federation, changed: (bundles) => trust.setFederated(bundles), log });
    undo.push(() => federation.close());
    await federation.start();

    const catalog = new LiveCatalog();
    const changes = new Changes();
    // one after the other: an older reading must not replace a newer one
    let reloaded = Promise.resolve();
    const reloadCatalog = (): Promise<void> => {
      const reload = reloaded.then(async () => {
        const { agents, services: known } = await readRegistered(store);
        catalog.set(agents, known);
        changes.servicesChanged();
      });
      reloaded = reload.catch(() => undefined);
      return reload;
    };
    await reloadCatalog();

    const exits = new ExitWatch();
    undo.push(() => exits.close());
    const fences = new Fences();
    const hash = new HashCache();
    const bindings = new Bindings({
      store, bootId: bootId(), exits,
      onExit: (bound) => housekeeping.instanceExited(bound),
      attest: (pid) => attestPid(pid, hash),
      isAgent: async (agent, process) => catalog.isAgent(agent, await claims.facts(process, { signal: AbortSignal.timeout(factsMs) })),
    });
    undo.push(() => bindings.close());
    const issuer = new Issuer({ store, trustDomain: config.trustDomain, issuer: config.publicUrl ?? `spiffe://${config.trustDomain}`, statusIndexes: config.statusList === "on" ? new StatusIndexes(store) : undefined, publicUrl: config.publicUrl, signers: () => trust.signers, whenClear: (task) => fences.whenClear(task) });
    const own = new OwnSvid({ store, trustDomain: config.trustDomain, publicUrl: config.publicUrl, trust, onRecorded: () => issuer.recorded.x509++, log });
    undo.push(() => own.close());
    const certificates = new OperatorCertificates({ store, trustDomain: config.trustDomain, publicUrl: config.publicUrl, trust, onRecorded: () => issuer.recorded.x509++ });
    const feed = new Feed(store, (rows) => changes.revoked(rows), () => bindings.size > 0 || api.network.connections > 0);
    undo.push(() => feed.close());
    const verifiers = new Verifiers({
      store, broker: `${hostname()}/${process.pid}`, clock: feed.clock, committedAt: (sequence) => feed.committedAt(sequence),
      onApplied: (ms) => metrics.propagation.observe({ class: "sdk" }, ms / 1000), log,
    });
    undo.push(() => verifiers.close());
    const crls = new Crls({ store, signers: () => trust.published.crlSigners, sequence: () => feed.sequence, log });
    undo.push(() => crls.close());
    const propagation = new Propagation({
      store, clock: feed.clock, committedAt: (sequence) => feed.committedAt(sequence), lists: () => crls,
      onTold: (told, ms) => metrics.propagation.observe({ class: told }, ms / 1000),
    });
    crls.onChange(() => propagation.listed());
    const statusLists = config.publicUrl === undefined ? undefined
      : new StatusLists({ store, publicUrl: config.publicUrl, signer: () => trust.signers.jwt, feed, lifeSeconds: statusListLifeSeconds });
    const revoker = new Revoker({ store, fences, log, onCommitted: (verdicts, rows) => changes.committed(verdicts, rows) });
    undo.push(() => revoker.close());

    const endpointOf = (task: string): string => taskEndpointPath(paths.taskDir, task);
    const endpoints = new Endpoints((task) => workload.listen(endpointOf(task), 0o666, task));
    const claims = new Claims({ store, bindings, catalog, waitForTaskSeconds: config.waitForTask, openEndpoint: (task) => endpoints.open(task) });
    changes.connect({ store, bindings, issuer, feed, crls, propagation, endpoints, metrics });
    const housekeeping = new Housekeeping({ store, bindings, claims, revoker, trust, issuer, crls, feed, endpoints, reloadCatalog, health, log, machine: machineOf(config.dataDir) });
    undo.push(() => housekeeping.close());

    const api: Api = createApi({
      config, store, postgresVersion: serverVersion, catalog, claims, bindings, issuer, trust, crls, feed, revoker, certificates, verifiers, propagation, hash,
      health, metrics, log, endpointOf, reloadCatalog,
      onTask: (task, callback) => changes.onTask(task, callback),
      onServices: (callback) => changes.onServices(callback),
      onOpened: (row) => housekeeping.opened(row),
      onClaimed: (row) => changes.task(row.id),
    });
    const { workload, admin } = api;
    undo.push(() => api.close());

    asked.throwIfAborted();
    // after a start: instances, feed, lists; then serve; then heartbeats
    await Promise.all([feed.load(), crls.prepare()]);
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

    let grpc = "off";
    if (config.listen.grpc) {
      const peers = new Peers({
        store, trustDomain: config.trustDomain, trust, catalog, roles: config.roles,
        epochOf: (subject) => feed.epochOf(subject), onRevoked: (callback) => changes.onRevoked(callback),
      });
      undo.push(() => peers.close(), () => api.network.close(drainMs));
      const network = await serveNetwork(config.listen.grpc, {
        api: api.network, peers, own, trust, maxConnections: config.limits.maxConnections,
        onRefused: (error, from) => log("network.refused", { code: error.code, message: error.message, from }),
      });
      grpc = network.address;
      undo.push(() => network.close());
    }

    const collect = (): void => {
      for (const kind of ["x509", "jwt", "crl"] as const) metrics.signatures.set({ kind }, signaturesMade(kind));
      for (const kind of ["x509", "jwt"] as const) metrics.recorded.set({ kind }, issuer.recorded[kind]);
      const now = { connections: api.limits.connections, network: api.network.connections, bound: bindings.size, waiting: claims.waiting, subscribers: feed.subscribers, held: issuer.held };
      for (const [what, value] of Object.entries(now)) metrics.gauges.set({ what }, value);
      metrics.feedSequence.set(feed.sequence);
      metrics.verifiers.set({ kind: "acknowledging" }, verifiers.connected);
      metrics.verifiers.set({ kind: "silent" }, verifiers.silent);
      metrics.verifiersLag.set(verifiers.lagMs(feed.sequence) / 1000);
      metrics.crlAge.set(Math.max(0, ...crls.published.map(({ at }) => feed.clock.now() - at.getTime())) / 1000);
    };
    const { url: httpUrl, close: closeHttp } = await serveHttp({ config, health, trust, crls, statusLists, own, issuer, judge: api.judge, metrics, collect, log });
    undo.push(closeHttp);
    log("broker.started", { version, trustDomain: config.trustDomain, http: httpUrl, grpc, socket: paths.workload });
    return { config, httpUrl, grpc, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
