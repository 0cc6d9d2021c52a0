// What can be asked over HTTP, and where?
// On `listen.http`, loopback by default, everything; on `listen.https`, with a certificate of the web, what others
// need to verify and no more; on `listen.bundle`, with the broker's own SVID, the trust bundle alone. Nothing
// here names a task to those who do not hold its token. Documents stand in files of their own.
// SPIFFE Federation sections 5.2.1 (https_web) and 5.2.2 (https_spiffe); Trust Domain and Bundle section 4.
import type { FastifyInstance } from "fastify";
import type { Config } from "../config.ts";
import type { BrokerParts } from "../health.ts";
import { splitDer } from "../identity/der.ts";
import { pem } from "../identity/pem.ts";
import type { Issuer } from "../issue/issue.ts";
import type { OwnCertificate, OwnSvid } from "../issue/own.ts";
import type { Trust } from "../issue/trust.ts";
import type { Crls } from "../revoke/crl.ts";
import type { StatusLists } from "../revoke/status-lists.ts";
import type { Log, Metrics } from "../telemetry.ts";
import { readCertificateFiles, watchCertificateFiles } from "./certificate-file.ts";
import { sendDocument } from "./document.ts";
import { listenHttp, newHttpApp } from "./http-app.ts";
import type { HttpAddress, ServerCertificate } from "./http-app.ts";
import { serveIntrospection } from "./introspect.ts";
import type { Judge } from "./judge.ts";
import { serveLists } from "./lists.ts";
import { serveOidc } from "./oidc.ts";
import { serveStatusLists } from "./status-list.ts";

export type HttpParts = {
  readonly config: Pick<Config, "publicUrl" | "listen" | "https" | "limits">;
  readonly health: BrokerParts;
  readonly trust: Trust;
  readonly crls: Crls;
  readonly own: OwnSvid;
  readonly issuer: Pick<Issuer, "isAlive">;
  readonly judge: Judge;
  /** None without publicUrl. */
  readonly statusLists: StatusLists | undefined;
  readonly metrics: Metrics;
  readonly collect: () => void;
  readonly log: Log;
};

/** @returns the address of `listen.http`, or `off`, and how to stop all that was opened */
export async function serveHttp(p: HttpParts): Promise<{ url: string; close: () => Promise<void> }> {
  const { http, https, bundle } = p.config.listen;
  const opened: (() => Promise<void> | void)[] = [];
  const close = async (): Promise<void> => {
    for (const step of opened.splice(0).reverse()) await step();
  };
  try {
    if (https) await serveWeb(https, p, opened);
    if (bundle) await serveSpiffe(bundle, p, opened);
    if (!http) return { url: "off", close };
    const app = newHttpApp();
    opened.push(() => app.close());
    addOwnRoutes(app, p);
    let url: string | undefined;
    addPublicRoutes(app, p, () => url);
    url = await listenHttp(app, "listen.http", http);
    return { url, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** With the files' certificate, for whoever trusts who signed it. */
async function serveWeb(address: HttpAddress, p: HttpParts, opened: (() => Promise<void> | void)[]): Promise<void> {
  const { certFile = "", keyFile = "" } = p.config.https;
  const files = { certFile, keyFile };
  const app = newHttpApp(readCertificateFiles(files));
  opened.push(() => app.close());
  opened.push(watchCertificateFiles(files, {
    changed: app.setCertificate,
    failed: (error) => p.log("https.certificate_not_taken", { message: error.message }, "error"),
  }));
  addPublicRoutes(app, p, () => undefined);
  p.log("https.listening", { http: await listenHttp(app, "listen.https", address) });
}

/** With the broker's own SVID, for whoever has the bundle already and wants the next. */
async function serveSpiffe(address: HttpAddress, p: HttpParts, opened: (() => Promise<void> | void)[]): Promise<void> {
  await p.own.start();
  const app = newHttpApp(asPem(p.own.current));
  opened.push(() => app.close());
  opened.push(p.own.onChange(() => app.setCertificate(asPem(p.own.current))));
  addBundle(app, "/", p);
  addBundle(app, "/bundle", p);
  p.log("bundle.listening", { http: await listenHttp(app, "listen.bundle", address) });
}

function addOwnRoutes(app: FastifyInstance, p: HttpParts): void {
  app.get("/livez", async () => ({ live: true }));
  app.get("/readyz", async (_request, reply) => {
    void reply.code(p.health.ready ? 200 : 503);
    return { ready: p.health.ready, parts: p.health.parts };
  });
  app.get("/metrics", async (_request, reply) => {
    p.collect();
    void reply.type(p.metrics.registry.contentType);
    return p.metrics.registry.metrics();
  });
}

/** `ownUrl`: where it is itself, for a broker that has no other name. */
function addPublicRoutes(app: FastifyInstance, p: HttpParts, ownUrl: () => string | undefined): void {
  const { publicUrl, limits: { perServiceIntrospectionsPerSecond: mostPerSecond } } = p.config;
  addBundle(app, "/bundle", p);
  serveOidc(app, { trust: p.trust, publicUrl });
  serveLists(app, { crls: p.crls, publicUrl });
  serveStatusLists(app, p.statusLists);
  serveIntrospection(app, { ...p, address: () => publicUrl ?? ownUrl(), mostPerSecond });
}

function addBundle(app: FastifyInstance, path: string, { trust }: Pick<HttpParts, "trust">): void {
  app.get(path, (request, reply) => {
    const { spiffe: body, bundle: { refreshHintSeconds: maxAgeSeconds } } = trust.published;
    return sendDocument(request, reply, { type: "application/json", body, maxAgeSeconds });
  });
}

function asPem({ key, chain }: OwnCertificate): ServerCertificate {
  return { key: pem("PRIVATE KEY", key), cert: splitDer(chain).map((der) => pem("CERTIFICATE", der)).join("") };
}
