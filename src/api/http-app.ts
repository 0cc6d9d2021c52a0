// How does an HTTP listener treat whoever comes?
// Requests are bounded in time, size and number before anything looks at them; every refusal is a problem of
// RFC 9457 and tells nothing of the inside; whoever sends slowly is cut. With a certificate it speaks TLS as
// the SPIFFE Federation standard wants it (section 5: Mozilla's "intermediate"), and takes a new certificate
// without losing a connection.
// What is answered is the business of those who add routes.
import http from "node:http";
import https from "node:https";
import fastify from "fastify";
import type { FastifyInstance } from "fastify";
import { BrevetError, asBrevetError } from "../errors.ts";
import { toProblem } from "./status.ts";

/** PEM. */
export type ServerCertificate = { readonly key: string; readonly cert: string };
export type HttpAddress = { readonly host: string; readonly port: number };
export type HttpApp = FastifyInstance & {
  /** For new connections; those that are open keep theirs. */
  readonly setCertificate: (certificate: ServerCertificate) => void;
};

const defaultPort = 8640;
const mostConnections = 256;
const patienceMs = 5000;
const intermediate = {
  minVersion: "TLSv1.2",
  ciphers: "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    + "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305",
} as const;

export function newHttpApp(certificate?: ServerCertificate): HttpApp {
  const refuse = (error: unknown, reply: Reply): void => problem(reply, publicError(error));
  let secure: https.Server | undefined;
  const app: FastifyInstance = fastify({
    logger: false, bodyLimit: 16_384,
    serverFactory: (handler) => {
      secure = certificate && https.createServer({ ...intermediate, ...certificate, handshakeTimeout: patienceMs }, handler);
      const server = (secure as http.Server | undefined) ?? http.createServer(handler);
      server.setTimeout(patienceMs);
      return Object.assign(server, { maxConnections: mostConnections, requestTimeout: patienceMs, keepAliveTimeout: patienceMs });
    },
    // Fastify loads its compilers only where there are none: a start without them is sooner
    schemaController: { compilersFactory: { buildValidator: noSchemas, buildSerializer: noSchemas } },
    frameworkErrors: (error, _request, reply) => refuse(error, reply as unknown as Reply),
  });
  app.removeAllContentTypeParsers(); // who takes a body says so
  app.setNotFoundHandler((_request, reply) => problem(reply, new BrevetError("NOT_FOUND", "there is nothing at this path")));
  app.setErrorHandler((error, _request, reply) => refuse(error, reply));
  return Object.assign(app, { setCertificate: (next: ServerCertificate) => secure?.setSecureContext({ ...intermediate, ...next }) });
}

/** What comes and goes is checked by those who add routes. */
function noSchemas(): never {
  throw new TypeError("routes have no schemas here");
}

/**
 * The default port may be another broker's already: then it is any free one, and the ready line says which.
 * @returns the address
 */
export async function listenHttp(app: HttpApp, key: string, address: HttpAddress): Promise<string> {
  try {
    return await app.listen(address);
  } catch (error) {
    const taken = (error as NodeJS.ErrnoException).code === "EADDRINUSE";
    if (taken && key === "listen.http" && address.port === defaultPort) return app.listen({ ...address, port: 0 });
    throw new BrevetError("START_REFUSED", `${key}: ${address.host}:${address.port}: ${taken ? "is in use" : (error as Error).message}`, { cause: error });
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
