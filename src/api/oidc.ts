// How does a relying party that knows nothing of SPIFFE find our keys?
// By OpenID Connect discovery: the issuer is `publicUrl`, byte for byte as it stands in `iss`, and the
// JWK Set holds the JWT keys alone, each with its algorithm. Keys are there before they sign, and as
// long as anything that they signed can be valid. Without `publicUrl` there is no issuer, and we say so.
// OpenID Connect Discovery 1.0 sections 3 and 4; RFC 7517. There is no authorization endpoint to name.
// Which keys those are is src/issue/trust.ts's business.
import type { FastifyInstance } from "fastify";
import { BrevetError } from "../errors.ts";
import type { Trust } from "../issue/trust.ts";
import { sendDocument } from "./document.ts";

const maxAgeSeconds = 300;

export function serveOidc(app: FastifyInstance, { trust, publicUrl }: { readonly trust: Trust; readonly publicUrl: string | undefined }): void {
  const discovery = publicUrl === undefined ? undefined : encodeDiscovery(publicUrl);
  app.get("/.well-known/openid-configuration", (request, reply) => {
    if (discovery === undefined) throw withoutIssuer();
    return sendDocument(request, reply, { type: "application/json", body: discovery, maxAgeSeconds });
  });
  app.get("/jwks", (request, reply) => sendDocument(request, reply, { type: "application/jwk-set+json", body: trust.published.oidcJwks, maxAgeSeconds }));
}

function encodeDiscovery(issuer: string): Buffer {
  return Buffer.from(JSON.stringify({
    issuer,
    jwks_uri: `${issuer}/jwks`,
    introspection_endpoint: `${issuer}/introspect`,
    response_types_supported: ["id_token"],
    subject_types_supported: ["public"],
    id_token_signing_alg_values_supported: ["ES256", "RS256"],
    claims_supported: ["iss", "sub", "aud", "exp", "iat", "jti", "status", "brevet"],
  }));
}

function withoutIssuer(): BrevetError {
  return new BrevetError("NOT_FOUND", "this broker is no OpenID Connect issuer: its configuration names no publicUrl (BREVET_PUBLIC_URL)");
}
