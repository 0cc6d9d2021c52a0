// Does go-spiffe, as anybody has it from its makers, live with the broker?
// X.509, JWT, bundles and streams on the common socket and on a task's own; several tasks on one
// worker; what a context change and an end do to what it holds; and what plain grpc-go gets.
// SPIFFE Workload Endpoint and Workload API, the client's part being theirs.
// mTLS is left to mtls.test.ts.
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { World, trustDomain } from "./world.ts";
import type { Stranger, Task } from "./world.ts";

type X509 = { readonly id: string; readonly hint: string; readonly serial: string; readonly certificates: number };
type Jwt = { readonly id: string; readonly hint: string; readonly token: string; readonly claims: Readonly<Record<string, unknown>> };

const { go } = inject("foreign");

describe.skipIf(go === null)(go === null ? "SKIPPED, not on this machine: go" : "go-spiffe", () => {
  let world: World;
  beforeAll(async () => {
    world = await World.start();
  });
  afterAll(async () => await world?.close());

  const gopher = async (): Promise<Stranger> => await world.stranger(go as string);

  const places: readonly (readonly [string, (task: Task) => string])[] = [
    ["the common socket", () => world.socket],
    ["the task's own socket", (task) => task.endpoint],
  ];

  describe.each(places)("on %s", (_, socketOf) => {
    let worker: Stranger;
    let task: Task;
    let socket: string;
    beforeAll(async () => {
      worker = await gopher();
      task = await world.taskOf(worker, "gopher");
      socket = socketOf(task);
    });

    test("holds the task's X.509-SVID, which its bundle verifies", async () => {
      const result = await worker.get<X509[]>("x509", { socket });
      expect(result).toMatchObject([{ id: task.spiffeId, hint: task.id }]);
      expect(task.spiffeId).toBe(`spiffe://${trustDomain}/agent/gopher/task/${task.id}`);
      const first = await worker.get<X509>("x509-default", { socket });
      expect(first.serial).toBe(result[0]?.serial);
    });

    test("gets the bundles of its trust domain, X.509 and JWT", async () => {
      expect(await worker.get("x509-bundles", { socket })).toHaveProperty([trustDomain]);
      expect(await worker.get("jwt-bundles", { socket })).toHaveProperty([trustDomain]);
    });

    test("fetches a JWT-SVID that the fetched bundle, the broker and a JWT library accept, for its audiences only", async () => {
      const fetched = await worker.get<Jwt>("jwt", { socket, audience: "crm", extra: "search" });
      expect(fetched).toMatchObject({ id: task.spiffeId, hint: task.id, claims: { sub: task.spiffeId, aud: ["crm", "search"] } });
      const { token } = fetched;
      for (const audience of ["crm", "search"]) {
        expect(await worker.get("jwt-verify", { socket, token, audience })).toMatchObject({ id: task.spiffeId });
        expect(await worker.get("jwt-validate", { socket, token, audience })).toMatchObject({ id: task.spiffeId });
      }
      expect((await worker.ask("jwt-verify", { socket, token, audience: "mail" })).code).not.toBe("OK");
      expect((await worker.ask("jwt-validate", { socket, token, audience: "mail" })).code).toBe("InvalidArgument");

      const jwks = await world.text("bundle", "show", "--format", "jwks");
      const claims = await worker.get("jwt-jwks", { jwks, token, audience: "crm" });
      expect(claims).toMatchObject({ sub: task.spiffeId, brevet: { task: task.id } });
      const forged = token.replace(/.(?=.$)/, (last) => (last === "A" ? "B" : "A"));
      expect((await worker.ask("jwt-jwks", { jwks, token: forged, audience: "crm" })).code).toBe("Local");
      expect((await worker.ask("jwt-validate", { socket, token: forged, audience: "crm" })).code).toBe("InvalidArgument");
    });

    test("sees a new context at once: new SVIDs on the open streams, the old JWT-SVID refused", async () => {
      const opened = await worker.get<X509>("source", { socket, source: "source" });
      expect(opened.id).toBe(task.spiffeId);
      await worker.get("watch", { socket, source: "watch" });
      await worker.event<X509[]>("update", "watch", ({ result }) => result[0]?.serial === opened.serial);
      const old = await worker.get<Jwt>("jwt", { socket, audience: "crm" });

      await world.brevet("task", "context", task.id, "repository=shop@2");

      const isNew = (serial: string | undefined): boolean => serial !== opened.serial;
      const watched = await worker.event<X509[]>("update", "watch", ({ result }) => isNew(result[0]?.serial));
      const sourced = await worker.event<X509>("update", "source", ({ result }) => isNew(result.serial));
      expect(watched.result).toMatchObject([{ id: task.spiffeId, hint: task.id, serial: sourced.result.serial }]);
      expect(await worker.get("source-svid", { source: "source" })).toEqual(sourced.result);

      expect((await worker.ask("jwt-validate", { socket, token: old.token, audience: "crm" })).code).toBe("InvalidArgument");
      const renewed = await worker.get<Jwt>("jwt", { socket, audience: "crm" });
      expect((await worker.ask("jwt-validate", { socket, token: renewed.token, audience: "crm" })).code).toBe("OK");
    });

    test("is refused once the task is closed, also on the open stream", async () => {
      const jwt = await worker.get<Jwt>("jwt", { socket, audience: "crm" });
      await world.brevet("task", "close", task.id);
      expect((await worker.event("lost", "watch")).code).toBe("PermissionDenied");
      expect((await worker.ask("x509", { socket: world.socket })).code).toBe("PermissionDenied");
      expect((await worker.ask("jwt", { socket: world.socket, audience: "crm" })).code).toBe("PermissionDenied");
      expect((await worker.ask("jwt-validate", { socket: world.socket, token: jwt.token, audience: "crm" })).code).toBe("InvalidArgument");
      expect((await worker.ask("x509", { socket: task.endpoint })).code).toMatch(/^(PermissionDenied|Unavailable)$/);
    });
  });

  test("a worker with several tasks sees one SVID for each, told apart by hint, and on each task's socket its own", async () => {
    const worker = await gopher();
    const tasks: Task[] = [];
    for (let i = 0; i < 3; i++) tasks.push(await world.taskOf(worker, "gopher"));
    const ids = tasks.map(({ spiffeId: id, id: hint }) => ({ id, hint }));

    const all = await worker.get<X509[]>("x509", { socket: world.socket });
    expect(all.map(({ id, hint }) => ({ id, hint }))).toEqual(expect.arrayContaining(ids));
    expect(all).toHaveLength(tasks.length);
    const jwts = await worker.get<Jwt[]>("jwts", { socket: world.socket, audience: "crm" });
    expect(jwts.map(({ id, hint }) => ({ id, hint }))).toEqual(expect.arrayContaining(ids));
    expect(jwts).toHaveLength(tasks.length);

    for (const { id: hint, spiffeId, endpoint } of tasks) {
      expect(await worker.get("x509", { socket: endpoint })).toMatchObject([{ id: spiffeId, hint }]);
      expect(await worker.get("jwt", { socket: endpoint, audience: "crm" })).toMatchObject({ id: spiffeId, hint });
      expect(await worker.get("jwt", { socket: world.socket, audience: "crm", spiffeId })).toMatchObject({ id: spiffeId, hint });
    }

    const [ended, ...left] = tasks;
    await worker.get("watch", { socket: world.socket, source: "several" });
    await worker.event<X509[]>("update", "several", ({ result }) => result.length === tasks.length);
    await world.brevet("task", "abort", ended?.id ?? "", "--reason", "one of several");
    const remaining = await worker.event<X509[]>("update", "several", ({ result }) => result.length === left.length);
    expect(remaining.result.map(({ hint }) => hint).sort()).toEqual(left.map(({ id }) => id).sort());
  });

  test("whoever the catalog doesn't name gets bundles, and no SVID", async () => {
    const unknown = await world.stranger(world.reachable(go as string));
    const { socket } = world;
    expect((await unknown.ask("x509-bundles", { socket })).code).toBe("OK");
    expect((await unknown.ask("jwt-bundles", { socket })).code).toBe("OK");
    expect((await unknown.ask("x509", { socket })).code).toBe("PermissionDenied");
    expect((await unknown.ask("jwt", { socket, audience: "crm" })).code).toBe("PermissionDenied");
  });

  describe("plain grpc-go", () => {
    let client: Stranger;
    beforeAll(async () => {
      client = await gopher();
    });
    const methods = [
      "FetchX509SVID", "FetchX509Bundles", "FetchJWTSVID", "FetchJWTBundles", "ValidateJWTSVID", "FetchWITSVID", "FetchWITBundles",
      "Health",
    ];

    test.each(["", "false", "True", "1"])("is refused before anything with the security header %j", async (header) => {
      expect(await client.get("header", { socket: world.socket, header })).toEqual(Object.fromEntries(methods.map((method) => [method, "InvalidArgument"])));
    });

    test("learns that the WIT profile is not there", async () => {
      expect(await client.get("wit", { socket: world.socket })).toEqual({ svid: "Unimplemented", bundles: "Unimplemented" });
    });

    test("asks for health as every gRPC service has it", async () => {
      const health = async (service: string) => await client.ask("health", { socket: world.socket, service });
      expect(await health("")).toMatchObject({ code: "OK", result: "SERVING" });
      expect(await health("SpiffeWorkloadAPI")).toMatchObject({ code: "OK", result: "SERVING" });
      expect((await health("no.such.Service")).code).toBe("NotFound");
    });

    test("finds the services by reflection, in both versions", async () => {
      const services = ["SpiffeWorkloadAPI", "brevet.v1.Agent", "brevet.v1.Feed", "brevet.v1.Tasks", "brevet.v1.Trust"];
      const { socket } = world;
      const found = await client.get<{ services: string[]; methods: string[] }>("reflection", { socket });
      expect(found.services).toEqual(expect.arrayContaining(services));
      expect(found.methods.sort()).toEqual(methods.filter((name) => name !== "Health").sort());
      expect(await client.get("reflection-old", { socket })).toEqual(expect.arrayContaining(services));
    });
  });
});
