// Is this token good, now? For services that can ask but not listen.
// By RFC 7662: a registered service, which shows a JWT-SVID of its own made for this very path, learns of a
// token that it was shown whether it is alive by the database at this moment. Of any other token, whatever
// is wrong with it, it learns `active: false` and nothing else. Without the database there is no answer.
// RFC 7662 sections 2.1-2.3 and 4; RFC 6750 sections 2.1 and 3. Signatures and times are judge.ts's business.
import { createHash } from "node:crypto";
import type { FastifyInstance, FastifyRequest } from "fastify";
import { BrevetError } from "../errors.ts";
import { parseBrevetId } from "../identity/id.ts";
import { readJwtSvid } from "../identity/svid.ts";
import type { JwtSvid } from "../identity/svid.ts";
import type { Issuer } from "../issue/issue.ts";
import type { Metrics } from "../telemetry.ts";
import type { Judge } from "./judge.ts";
import { Bucket } from "./limits.ts";

export type IntrospectionParts = {
  /** For whose path below it a service's token is made; nobody is answered without one. */
  readonly address: () => string | undefined;
  /** Of one service, as the configuration has it. Whoever is none costs one signature's check, and connections are limited. */
  readonly mostPerSecond: number;
  readonly judge: Judge;
  readonly issuer: Pick<Issuer, "isAlive">;
  readonly metrics: Metrics;
};

const path = "/introspect";
/** A service's own token is judged once, and then only looked up until it ends: its life is short. */
const mostCallers = 1000;
const formType = "application/x-www-form-urlencoded";

export function serveIntrospection(app: FastifyInstance, { address, mostPerSecond, judge, issuer, metrics }: IntrospectionParts): void {
  const callers = new Callers({ judge, issuer, mostPerSecond });
  void app.register(async (form) => {
    form.addContentTypeParser(formType, { parseAs: "string" }, (_request, body, done) => done(null, body));
    form.post(path, async (request, reply) => {
      void reply.header("cache-control", "no-store");
      let code = "OK";
      try {
        const at = address();
        if (at === undefined) throw new BrevetError("NOT_FOUND", "nobody is answered here: the configuration names no publicUrl (BREVET_PUBLIC_URL)");
        await callers.admit(request, `${at}${path}`);
        return await describe(tokenOf(request.body), judge, issuer);
      } catch (error) {
        if (!(error instanceof BrevetError)) throw error;
        code = error.code;
        if (code.startsWith("VERIFY_")) void reply.header("www-authenticate", request.headers.authorization === undefined ? "Bearer" : 'Bearer error="invalid_token"');
        if (code === "RATE_LIMITED") void reply.header("retry-after", "1");
        throw error;
      } finally {
        metrics.calls.inc({ method: "Introspect", code });
      }
    });
  });
}

/** Section 2.2: all that is wrong is the same answer. */
async function describe(token: string, judge: Judge, issuer: Pick<Issuer, "isAlive">): Promise<object> {
  const svid = genuine(token, judge);
  if (svid?.binding == null || !(await issuer.isAlive(svid.binding))) return { active: false };
  const { iss, sub, exp, iat, jti, brevet } = svid.claims;
  return { active: true, iss, sub, aud: svid.audience, exp, iat, jti, brevet };
}

/** For whom the token is, the service must compare itself: it knows its names, we do not. */
function genuine(token: string, judge: Judge): JwtSvid | undefined {
  try {
    const [audience = ""] = readJwtSvid(token).audience;
    return judge.genuineJwt(token, audience);
  } catch (error) {
    if (error instanceof BrevetError && error.code !== "INTERNAL" && error.code !== "NOT_READY") return undefined;
    throw error;
  }
}

/** RFC 6749 section 3.1: no parameter stands twice. */
function tokenOf(body: unknown): string {
  const [token, ...others] = typeof body === "string" ? new URLSearchParams(body).getAll("token") : [];
  if (token === undefined || token === "" || others.length > 0) throw new BrevetError("INVALID_FIELD", `token: is needed, once, in a body of type ${formType}`);
  return token;
}

type Caller = { readonly svid: JwtSvid; readonly bucket: Bucket };

type CallersOptions = { readonly judge: Judge; readonly issuer: Pick<Issuer, "isAlive">; readonly mostPerSecond: number };

/** Which services ask, by the tokens of their own. */
class Callers {
  readonly #o: CallersOptions;
  readonly #known = new Map<string, Caller>();
  readonly #buckets = new Map<string, Bucket>();

  constructor(options: CallersOptions) {
    this.#o = options;
  }

  /** @throws BrevetError VERIFY_… or RATE_LIMITED */
  async admit(request: FastifyRequest, audience: string): Promise<void> {
    const [, bearer] = /^Bearer ([\w.-]{1,8192})$/i.exec(request.headers.authorization ?? "") ?? [];
    if (bearer === undefined) throw new BrevetError("VERIFY_MALFORMED", `Authorization: Bearer with a JWT-SVID of a registered service is needed, for the audience ${audience}`);
    const digest = createHash("sha256").update(bearer).digest("base64");
    const caller = this.#known.get(digest) ?? this.#judge(bearer, audience, digest);
    if (!caller.bucket.take()) throw new BrevetError("RATE_LIMITED", `more than ${this.#o.mostPerSecond} questions a second by one service`);
    if (caller.svid.expiresAt.getTime() <= Date.now()) {
      this.#known.delete(digest);
      throw new BrevetError("VERIFY_EXPIRED", "the caller's own token has expired");
    }
    if (caller.svid.binding === null || !(await this.#o.issuer.isAlive(caller.svid.binding))) throw new BrevetError("VERIFY_REVOKED", "the caller's own token is revoked");
  }

  #judge(bearer: string, audience: string, digest: string): Caller {
    const svid = this.#o.judge.genuineJwt(bearer, audience);
    const id = parseBrevetId(svid.spiffeId);
    if (id.kind !== "service") throw new BrevetError("VERIFY_NOT_AN_AGENT", "only services may ask");
    const caller = { svid, bucket: this.#bucketOf(id.service) };
    const [oldest] = this.#known.keys();
    if (this.#known.size >= mostCallers && oldest !== undefined) this.#known.delete(oldest);
    this.#known.set(digest, caller);
    return caller;
  }

  /** As many as there are services. */
  #bucketOf(service: string): Bucket {
    let bucket = this.#buckets.get(service);
    if (!bucket) this.#buckets.set(service, (bucket = new Bucket(this.#o.mostPerSecond)));
    return bucket;
  }
}
