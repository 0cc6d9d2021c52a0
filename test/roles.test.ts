// Does each listener answer exactly those that the table lets in?
// Every method of the table is called on every listener in every role, with an empty request: whether it is let
// through or refused is as the table says, and no method is served that the table does not have.
// Which of its objects a role sees is network.test.ts's and open.test.ts's question.
import { Client, Metadata, credentials } from "@grpc/grpc-js";
import type { ChannelCredentials } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { mayCall, networkRoles, paths } from "../src/api/roles.ts";
import type { Role } from "../src/api/roles.ts";
import { decodeError } from "../src/client/status.ts";
import { packageDefinition } from "../src/proto.ts";
import { addOperator, channelCredentials } from "./support/operator.ts";
import { World } from "./support/world.ts";

let world: World;
beforeAll(async () => {
  world = await World.start({ env: { BREVET_LISTEN_GRPC: "127.0.0.1:0" } });
});
afterAll(() => world.end());

type Listener = { readonly target: string; readonly credentials: ChannelCredentials };

/** `let in`, or how it was kept out. What a handler makes of an empty request does not matter. */
async function knock(client: Client, path: string): Promise<"let in" | "no such method" | "DENIED_ROLE"> {
  const metadata = new Metadata();
  metadata.set("workload.spiffe.io", "true");
  const empty = Buffer.alloc(0);
  const call = client.makeServerStreamRequest(path, (bytes: Buffer) => bytes, (bytes: Buffer) => bytes, empty, metadata, { deadline: Date.now() + 8_000 });
  const error = await new Promise<unknown>((resolve) => call.once("data", () => resolve(undefined)).once("end", () => resolve(undefined)).once("error", resolve));
  call.on("error", () => undefined).cancel();
  if (error === undefined) return "let in";
  const { code, message } = decodeError(error, "");
  if (code === "UNIMPLEMENTED" && message.includes("no such method")) return "no such method";
  if (code === "BROKER_UNREACHABLE" || code === "DENIED_UNATTESTED") throw new Error(`${path}: ${message}`);
  return code === "DENIED_ROLE" ? code : "let in";
}

async function answers(listener: Listener): Promise<Record<string, string>> {
  const client = new Client(listener.target, listener.credentials, { "grpc.use_local_subchannel_pool": 1 });
  try {
    const found: Record<string, string> = {};
    for (const path of paths) found[path] = await knock(client, path);
    return found;
  } finally {
    client.close();
  }
}

const expected = (role: Role, others: readonly Role[]): Record<string, string> => Object.fromEntries(paths.map((path) => [
  path, mayCall(role, path) ? "let in" : others.some((other) => mayCall(other, path)) ? "DENIED_ROLE" : "no such method",
]));

describe("the table is what is served", () => {
  test("on the workload socket, to any process", async () => {
    const listener = { target: world.broker.workloadSocket, credentials: credentials.createInsecure() };
    expect(await answers(listener)).toEqual(expected("process", []));
  });

  test("on the admin socket, to administrators", async () => {
    const listener = { target: world.broker.adminSocket, credentials: credentials.createInsecure() };
    expect(await answers(listener)).toEqual(expected("administrator", []));
  });

  test.for(networkRoles)("on the network, to %s", async (role) => {
    const identity = await addOperator(world, { name: role, role, agents: role === "orchestrator" ? ["researcher"] : [] });
    expect(await answers({ target: world.broker.grpc, credentials: channelCredentials(identity) })).toEqual(expected(role, networkRoles));
  });

  test("and it has every method of the protos, and of those no other", () => {
    const defined = Object.entries(packageDefinition).filter(([name, what]) => /^(brevet\.v1\.|SpiffeWorkloadAPI|envoy\.)/.test(name) && !("format" in what))
      .flatMap(([name, service]) => Object.keys(service).map((method) => `/${name}/${method}`));
    expect(paths.filter((path) => !path.startsWith("/grpc.")).toSorted()).toEqual(defined.toSorted());
    expect(() => mayCall("administrator", "/brevet.v1.Tasks/Steal")).toThrow(/not in the table/);
  });
});
