// Where is a status list fetched?
// At the address that stands in the tokens; kept no longer than the list itself says. Lists of the past are not kept.
// OAuth Token Status List (draft-ietf-oauth-status-list-20) sections 8.1, 8.2 and 8.4.
// What stands in a list is src/revoke/status-lists.ts's business.
import type { FastifyInstance } from "fastify";
import { BrevetError } from "../errors.ts";
import { statusTtlSeconds } from "../revoke/status-lists.ts";
import type { StatusLists } from "../revoke/status-lists.ts";
import { sendDocument } from "./document.ts";

export function serveStatusLists(app: FastifyInstance, statusLists: StatusLists | undefined): void {
  app.get<{ Params: { id: string }; Querystring: { time?: string } }>("/status-list/:id", async (request, reply) => {
    const { id } = request.params;
    if (statusLists === undefined || !/^[1-9]\d{0,11}$/.test(id)) throw new BrevetError("NOT_FOUND", "there is no such status list");
    if (request.query.time !== undefined) throw new BrevetError("UNIMPLEMENTED", "time: lists of the past are not kept");
    return sendDocument(request, reply, { type: "application/statuslist+jwt", body: await statusLists.token(Number(id)), maxAgeSeconds: statusTtlSeconds });
  });
}
