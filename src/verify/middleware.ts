// How does a web framework let only live tasks in?
// One guard, made once, has a shape for each framework: behind it a request carries its accepted caller,
// before it nothing runs. The frameworks are known by the shape of what they pass, not by their packages.
// Who is accepted and what a refused caller hears is authenticate.ts's business.
import type { Duplex } from "node:stream";
import { BrevetError } from "../errors.ts";
import { aFunction, checkOptions } from "../identity/options.ts";
import { authenticateRules, judged, refusalOf } from "./authenticate.ts";
import type { AuthenticateOptions, Presented, Refusal } from "./authenticate.ts";
import type { Accepted, Refused } from "./verdict.ts";

export type GuardOptions = AuthenticateOptions & {
  /** Hears of each request that was refused, and why: for the log. */
  readonly onRefused?: (verdict: Refused) => void;
};

/** Of node:http, node:http2, Express, and what is like them. */
type NodeRequest = { readonly headers: { readonly authorization?: string | undefined }; readonly socket: Duplex; task?: Accepted };
type NodeResponse = {
  writeHead(status: number, headers: Record<string, string>): unknown;
  end(body: string): unknown;
};
type FastifyRequest = { readonly headers: { readonly authorization?: string | undefined }; readonly raw: { readonly socket: Duplex }; task?: Accepted };
type FastifyReply = { code(status: number): FastifyReply; headers(headers: Record<string, string>): FastifyReply; send(body: string): unknown };
type HonoContext = {
  readonly req: { header(name: string): string | undefined };
  readonly env: unknown;
  set(key: "task", caller: Accepted): void;
};

/** What `guard` makes: take the one that fits your framework. */
export type Guard = {
  /** Around a handler of `node:http`, `https` or `http2`: `createServer(only.node(handler))`. */
  node<Request extends Omit<NodeRequest, "task">, Response extends NodeResponse>(
    handler: (request: Request & { readonly task: Accepted }, response: Response) => void,
  ): (request: Request, response: Response) => void;
  /** `app.use(only.express)`; then `taskOf(request)`. */
  express(this: void, request: NodeRequest, response: NodeResponse, next: () => void): void;
  /** `app.addHook("onRequest", only.fastify)`; then `taskOf(request)`. */
  fastify(this: void, request: FastifyRequest, reply: FastifyReply): Promise<unknown>;
  /** `app.use(only.hono)`; then `context.get("task")`. */
  hono(this: void, context: HonoContext, next: () => Promise<void>): Promise<Response | void>;
};

/** Lets in whoever is accepted and authorized, and answers the others. Throws INVALID_FIELD. */
export function guard(options: GuardOptions): Guard {
  checkOptions(options, { ...authenticateRules, onRefused: aFunction }, ["verifier"]);
  const judge = (presented: Presented): { caller: Accepted } | { refusal: Refusal } => {
    const verdict = judged(presented, options);
    if (verdict.accepted) return { caller: verdict };
    options.onRefused?.(verdict);
    return { refusal: refusalOf(verdict) };
  };
  const admit = (request: NodeRequest, response: NodeResponse, next: (caller: Accepted) => void): void => {
    const answer = judge({ authorization: request.headers.authorization, socket: request.socket });
    if ("caller" in answer) return next(answer.caller);
    response.writeHead(answer.refusal.status, { ...answer.refusal.headers });
    response.end(answer.refusal.body);
  };
  return {
    node: (handler) => (request, response) => admit(request, response, (task) => handler(Object.assign(request, { task }), response)),
    express: (request, response, next) => admit(request, response, (task) => {
      request.task = task;
      next();
    }),
    fastify: async (request, reply) => {
      const answer = judge({ authorization: request.headers.authorization, socket: request.raw.socket });
      if ("refusal" in answer) return reply.code(answer.refusal.status).headers({ ...answer.refusal.headers }).send(answer.refusal.body);
      request.task = answer.caller;
      return undefined;
    },
    hono: async (context, next) => {
      const answer = judge({ authorization: context.req.header("authorization"), socket: socketOf(context.env) });
      if ("refusal" in answer) return new Response(answer.refusal.body, { status: answer.refusal.status, headers: { ...answer.refusal.headers } });
      context.set("task", answer.caller);
      return await next();
    },
  };
}

/** The caller of a request that a guard let in. Throws VERIFY_NOT_READY for a request that passed none. */
export function taskOf(request: object): Accepted {
  const { task } = request as { task?: Accepted };
  if (task === undefined) throw new BrevetError("VERIFY_NOT_READY", "this request passed no guard");
  return task;
}

/** Where @hono/node-server puts Node's own request. */
function socketOf(env: unknown): Duplex | undefined {
  return (env as { readonly incoming?: { readonly socket?: Duplex } } | undefined)?.incoming?.socket;
}
