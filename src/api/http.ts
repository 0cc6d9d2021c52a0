// What can be asked without an identity?
// Liveness, readiness by part, metrics, and what others need to verify: the trust bundle, and the
// documents that stand in files of their own. Nothing here names a task. Loopback by default.
// SPIFFE Trust Domain and Bundle section 4 (the document).
import fastify from "fastify";
import type { BrokerParts } from "../health.ts";
import type { Trust } from "../issue/trust.ts";
import type { Metrics } from "../telemetry.ts";
import { BrevetError, asBrevetError } from "../errors.ts";
import { sendDocument } from "./document.ts";
import { serveOidc } from "./oidc.ts";
import { toProblem } from "./status.ts";

export type HttpParts = {
  readonly publicUrl: string | undefined;
  readonly health: BrokerParts;
  readonly trust: Trust;
  readonly metrics: Metrics;
  readonly collect: () => void;
};

const defaultPort = 8640;
const mostConnections = 256;

/** @returns the address and how to stop */
export async function serveHttp(address: { host: string; port: number }, p: HttpParts): Promise<{ url: string; close: () => Promise<void> }> {
  const refuse = (error: unknown, reply: Reply): void => problem(reply, publicError(error));
  const app = fastify({
    logger: false, requestTimeout: 5000, connectionTimeout: 5000, keepAliveTimeout: 5000,
    frameworkErrors: (error, _request, reply) => refuse(error, reply as unknown as Reply),
  });
  app.server.maxConnections = mostConnections;
  app.removeAllContentTypeParsers(); // nothing here takes a body
  app.setNotFoundHandler((_request, reply) => problem(reply, new BrevetError("NOT_FOUND", "there is nothing at this path")));
  app.setErrorHandler((error, _request, reply) => refuse(error, reply));

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
  app.get("/bundle", (request, reply) => {
    const { spiffe: body, bundle: { refreshHintSeconds: maxAgeSeconds } } = p.trust.published;
    return sendDocument(request, reply, { type: "application/json", body, maxAgeSeconds });
  });
  serveOidc(app, p);

  return { url: await listen(app, address), close: () => app.close() };
}

/** The default port may be another broker's already: then it is any free one, and the ready line says which. */
async function listen(app: { listen(address: { host: string; port: number }): Promise<string> }, address: { host: string; port: number }): Promise<string> {
  try {
    return await app.listen(address);
  } catch (error) {
    const taken = (error as NodeJS.ErrnoException).code === "EADDRINUSE";
    if (taken && address.port === defaultPort) return app.listen({ ...address, port: 0 });
    throw new BrevetError("START_REFUSED", `listen.http: ${address.host}:${address.port}: ${taken ? "is in use" : (error as Error).message}`, { cause: error });
  }
}

type Reply = { code(status: number): Reply; type(type: string): Reply; send(body: unknown): unknown };

/** What fastify finds wrong with a request is the caller's fault; all else is ours. */
function publicError(error: unknown): BrevetError {
  const status: unknown = error instanceof Error ? Reflect.get(error, "statusCode") : undefined;
  if (typeof status === "number" && status >= 400 && status < 500) return new BrevetError("INVALID_FIELD", "this is no request that is answered here", { cause: error });
  return asBrevetError(error);
}

function problem(reply: Reply, error: BrevetError): void {
  const { status, body } = toProblem(error);
  reply.code(status).type("application/problem+json").send(body);
}
