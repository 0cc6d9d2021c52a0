// Is the network listener usable with a stock gRPC client and certificates that go-spiffe holds?
// grpc-go, its TLS by go-spiffe's X509Source or an operator's PEM files, methods and messages by reflection: none of
// our code at the client's end. The broker is known by its SPIFFE ID; a role is what the certificate gives; what is
// removed is cut, and told why when it comes again.
// X509-SVID section 5. Our own clients there are ../network.test.ts's, all roles ../roles.test.ts's.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { freePort } from "../support/port.ts";
import { World, trustDomain } from "./world.ts";
import type { Answer, Stranger, Task } from "./world.ts";

type FeedMessage = { readonly complete?: boolean; readonly snapshot?: boolean; readonly revocations?: readonly { readonly task: string; readonly epoch: string }[] };
type Identity = { readonly source: string } | { readonly pem: string; readonly bundle: string };

const { go, goService } = inject("foreign");
const brokerId = `spiffe://${trustDomain}/brevet/broker`;

describe.skipIf(go === null)(go === null ? "SKIPPED, not on this machine: go" : "grpc-go over the network", () => {
  let world: World;
  let address: string;
  let store: Stranger;
  let agent: Stranger;
  beforeAll(async () => {
    address = `127.0.0.1:${await freePort()}`;
    world = await World.start({ env: { BREVET_LISTEN_GRPC: address } });
    store = await world.stranger(goService as string);
    await store.get("source", { socket: world.socket, source: "svid" });
    agent = await world.stranger(go as string);
  });
  afterAll(async () => await world?.close());

  /** Connects and, by reflection, makes the first call; the connection stays as `service`. */
  const come = async (client: Stranger, service: string, identity: Identity, more: { readonly spiffeId?: string; readonly tls?: string } = {}) =>
    await client.ask<{ id: string; tls: string; services: string[] }>("remote", { service, address, spiffeId: brokerId, ...identity, ...more });
  const call = async <T>(client: Stranger, service: string, method: string, request: object = {}): Promise<Answer<T>> =>
    await client.ask<T>("remote-call", { service, method: `brevet.v1.${method}`, text: JSON.stringify(request) });
  const result = async <T>(...asked: Parameters<typeof call>): Promise<T> => {
    const { code, error, result: answered } = await call<T>(...asked);
    if (code !== "OK") throw new Error(`${asked[2]}: ${code}: ${error}`);
    return answered;
  };
  /** Follows the feed on a connection from its snapshot on. */
  const follow = async (client: Stranger, service: string): Promise<void> => {
    await client.get("remote-follow", { service, method: "brevet.v1.Feed/Watch", text: "{}" });
    await client.event<FeedMessage>("message", service, (message) => message.result.complete === true && message.result.snapshot === true);
  };
  const hears = async (client: Stranger, service: string, task: string): Promise<string | undefined> => {
    const of = ({ result: { revocations = [] } }: { result: FeedMessage }) => revocations.find((one) => one.task === task);
    const heard = await client.event<FeedMessage>("message", service, (message) => of(message) !== undefined);
    return of(heard)?.epoch;
  };
  const addOperator = async (name: string, role: string): Promise<Identity> => {
    const folder = join(world.folder, name);
    await world.brevet("operator", "add", name, "--role", role, "--out", folder);
    return { pem: readFileSync(join(folder, "identity.pem"), "utf8"), bundle: readFileSync(join(folder, "bundle.pem"), "utf8") };
  };

  test("the server is the broker by its SPIFFE ID, over TLS 1.3; nobody else, and nothing older", async () => {
    const here = { source: "svid" };
    const met = await come(store, "first", here);
    expect(met).toMatchObject({ code: "OK", result: { id: brokerId, tls: "TLS 1.3" } });
    expect(met.result.services).toEqual(expect.arrayContaining(["brevet.v1.Feed", "brevet.v1.Tasks", "brevet.v1.Trust"]));
    expect((await come(store, "crm", here, { spiffeId: `spiffe://${trustDomain}/service/crm` })).error).toMatch(/unexpected ID/);
    expect((await come(store, "old", here, { tls: "1.2" })).error).toMatch(/protocol version/);
  });

  test("a service of the catalog gets the bundle by its X509Source, and no tasks; an agent gets nothing", async () => {
    await come(store, "service", { source: "svid" });
    const bundle = await result<{ trustDomain: string; jwks: string }>(store, "service", "Trust/GetBundle");
    const jwks = Buffer.from(bundle.jwks, "base64");
    expect(bundle.trustDomain).toBe(trustDomain);
    expect(JSON.parse(jwks.toString())).toEqual(JSON.parse(await world.text("bundle", "show", "--format", "jwks")));
    await store.get("remote-follow", { service: "service", method: "brevet.v1.Trust/WatchBundle", text: "{}" });
    const piece = await store.event<{ bundle: string; complete?: boolean }>("message", "service");
    expect(piece.result.complete).toBe(true);
    expect(Buffer.from(piece.result.bundle, "base64").includes(jwks)).toBe(true);
    for (const [method, request] of [["Tasks/List", {}], ["Tasks/Open", { agent: "gopher" }], ["Operators/List", {}]] as const) {
      expect(await call(store, "service", method, request), method).toMatchObject({ code: "PermissionDenied", error: expect.stringMatching(/^DENIED_ROLE/) });
    }

    const task = await world.taskOf(agent, "gopher");
    await agent.get("source", { socket: task.endpoint, source: "task" });
    expect(await come(agent, "agent", { source: "task" })).toMatchObject({ code: "PermissionDenied", error: expect.stringMatching(/^DENIED_ROLE/) });
    await world.brevet("task", "close", task.id);
  });

  test("an operator opens and closes a task from afar, and a service that follows the feed hears its end", async () => {
    await come(store, "feed", { source: "svid" });
    await follow(store, "feed");
    await come(agent, "alice", await addOperator("alice", "operator"));
    const opened = await result<Task & { openedBy: string; state: string }>(agent, "alice", "Tasks/Open", { agent: "gopher", context: { repository: "shop@1" } });
    expect(opened).toMatchObject({ state: "ready", openedBy: `spiffe://${trustDomain}/brevet/operator/alice` });

    await world.brevet("task", "claim", opened.id, "--pid", String(agent.pid));
    expect(await agent.get("x509", { socket: world.socket })).toMatchObject([{ hint: opened.id }]);
    expect(await result(agent, "alice", "Tasks/Close", { task: opened.id })).toMatchObject({ id: opened.id, state: "closed" });
    expect(await hears(store, "feed", opened.id)).toBe("2");
    expect((await agent.ask("x509", { socket: world.socket })).code).toBe("PermissionDenied");
  });

  test("an operator who is removed is cut, and refused with the reason when it comes again; others are not disturbed", async () => {
    const mallory = await addOperator("mallory", "operator");
    await come(agent, "mallory", mallory);
    await follow(agent, "mallory");
    await come(store, "bystander", { source: "svid" });
    await follow(store, "bystander");

    await world.brevet("operator", "remove", "mallory", "--reason", "laptop lost");

    expect((await agent.event("ended", "mallory")).code).toBe("Unavailable");
    const refused = { code: "Unauthenticated", error: expect.stringMatching(/^VERIFY_REVOKED/) };
    expect(await call(agent, "mallory", "Tasks/List")).toMatchObject(refused); // grpc-go connects anew by itself
    expect(await come(agent, "again", mallory)).toMatchObject(refused);

    const { id } = await world.taskOf(agent, "gopher");
    await world.brevet("task", "abort", id, "--reason", "proof");
    expect(await hears(store, "bystander", id)).toBe("2");
  });
});
