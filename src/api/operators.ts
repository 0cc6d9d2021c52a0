// Who is let in over the network, said by an administrator: brevet.v1.Operators.
// Adding is for the admin socket alone: who may come in from afar is said on the broker's own machine. Each
// certificate is asked for with a public key; renewing, by the certificate that the connection was made with.
// What a role may call is roles.ts's; how a removed one is cut off, peers.ts's.
import { BrevetError, notFound } from "../errors.ts";
import type { AddOperatorRequest__Output } from "../generated/brevet/v1/AddOperatorRequest.ts";
import type { Operator } from "../generated/brevet/v1/Operator.ts";
import type { OperatorCertificate as Certificate } from "../generated/brevet/v1/OperatorCertificate.ts";
import type { OperatorsHandlers } from "../generated/brevet/v1/Operators.ts";
import type { RemoveOperatorRequest__Output } from "../generated/brevet/v1/RemoveOperatorRequest.ts";
import type { RenewOperatorRequest__Output } from "../generated/brevet/v1/RenewOperatorRequest.ts";
import type { LiveCatalog } from "../authorize/catalog.ts";
import { formatOperatorId, isName } from "../identity/id.ts";
import { checkPublicKey } from "../issue/operators.ts";
import type { OperatorCertificate, OperatorCertificates } from "../issue/operators.ts";
import type { Trust } from "../issue/trust.ts";
import { toTimestamp } from "../proto.ts";
import { getOperator, listOperators } from "../record/operators.ts";
import type { OperatorRow } from "../record/operators.ts";
import type { Store } from "../record/store.ts";
import type { Revoker } from "../revoke/revoke.ts";
import { actorOf } from "./access.ts";
import { Fields } from "./fields.ts";
import { networkRoles } from "./roles.ts";
import type { ApiServer } from "./server.ts";

export type OperatorParts = {
  readonly store: Store;
  readonly trustDomain: string;
  readonly trust: Trust;
  readonly catalog: LiveCatalog;
  readonly certificates: OperatorCertificates;
  readonly revoker: Revoker;
};

const defaultTtl = 12 * 3600;
const longestTtl = 7 * 86_400;
const mostAgents = 256;

export function operatorHandlers(server: ApiServer, p: OperatorParts): OperatorsHandlers {
  return {
    Add: server.unary("Operators.Add", async (request: AddOperatorRequest__Output, call) => {
      const operator = read(p, request);
      const by = actorOf(call);
      const { verdict, epoch } = await p.revoker.addOperator({ ...operator, replace: request.replace, by });
      if (verdict === "exists") {
        throw new BrevetError("WRONG_STATE", `name: operator ${operator.name} is there already`, {
          metadata: { field: "name", try: "--replace, which ends its certificates until now; or brevet operator remove" },
        });
      }
      const certificate = await p.certificates.issue({ name: operator.name, epoch, publicKey: request.publicKey, by });
      return answer(p, certificate, operator.ttlSeconds);
    }),

    List: server.unary("Operators.List", async () => ({ operators: (await listOperators(p.store)).map((row) => toOperator(row, p.trustDomain)) })),

    Remove: server.unary("Operators.Remove", async (request: RemoveOperatorRequest__Output, call) => {
      const fields = new Fields();
      fields.text("name", request.name, 64, true);
      const reason = fields.text("reason", request.reason, 1024, true);
      fields.check();
      if (!isName(request.name) || !(await p.revoker.removeOperator(request.name, reason, actorOf(call)))) throw notFound("name", "operator");
      const row = await getOperator(p.store, request.name);
      if (!row) throw notFound("name", "operator");
      return toOperator(row, p.trustDomain);
    }),

    Renew: server.unary("Operators.Renew", async (request: RenewOperatorRequest__Output, call) => {
      const { peer } = call.connection;
      if (!peer || peer.operator === null) throw new BrevetError("DENIED_IDENTITY", "only operators renew their certificates here; an SVID is renewed by its own broker");
      const row = await getOperator(p.store, peer.operator);
      const certificate = await p.certificates.issue({ name: peer.operator, epoch: peer.epoch, publicKey: request.publicKey, by: actorOf(call) });
      return answer(p, certificate, row?.ttlSeconds ?? 0);
    }),
  };
}

function read(p: OperatorParts, request: AddOperatorRequest__Output): Pick<OperatorRow, "name" | "role" | "agents" | "ttlSeconds"> {
  const fields = new Fields();
  const name = fields.text("name", request.name, 64, true);
  if (name !== "" && !isName(name)) fields.wrong("name", "1 to 64 of a-z, 0-9 and ._- inside, no two dots in a row");
  const [first] = networkRoles;
  if (request.role === "") fields.wrong("role", `is required: ${networkRoles.join(", ")}`);
  const role = request.role === "" ? first : fields.oneOf("role", request.role, networkRoles, first);
  const ttlSeconds = fields.integer("ttl_seconds", request.ttlSeconds, 60, longestTtl, defaultTtl);
  const agents = [...new Set(request.agents)].sort();
  if (role === "orchestrator" && agents.length === 0) fields.wrong("agents", "at least one is required for an orchestrator: it handles their tasks");
  if (role !== "orchestrator" && agents.length > 0) fields.wrong("agents", `only an orchestrator has agents, and this is to be: ${role}`);
  if (agents.length > mostAgents) fields.wrong("agents", `at most ${mostAgents}`);
  else for (const [i, agent] of agents.entries()) if (!p.catalog.agent(agent)) fields.wrong(`agents[${i}]`, "no such agent");
  fields.check();
  checkPublicKey(request.publicKey);
  return { name, role, agents, ttlSeconds };
}

function answer(p: OperatorParts, { spiffeId, chain, expiresAt }: OperatorCertificate, ttlSeconds: number): Certificate {
  return { spiffeId, chain, expiresAt: toTimestamp(expiresAt), x509: p.trust.published.x509, ttlSeconds };
}

function toOperator(row: OperatorRow, trustDomain: string): Operator {
  return {
    name: row.name, role: row.role, agents: [...row.agents], spiffeId: formatOperatorId(trustDomain, row.name), ttlSeconds: row.ttlSeconds, epoch: row.epoch,
    addedAt: toTimestamp(row.addedAt), addedBy: row.addedBy, removedAt: row.removedAt && toTimestamp(row.removedAt), removedReason: row.removedReason,
    certifiedUntil: row.certifiedUntil && toTimestamp(row.certifiedUntil),
  };
}
