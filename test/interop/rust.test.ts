// Does the crate `spiffe`, as anybody has it from its makers, live with the broker?
// X.509, JWT, bundles, streams and sources on the common socket and on a task's own, across a change of
// context and the task's end, upon which its source hands out nothing any more.
// SPIFFE Workload API, the client's part being theirs.
// A server of rustls on the sidecar's files is recipes.test.ts's.
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { World, trustDomain } from "./world.ts";
import type { Stranger, Task } from "./world.ts";

type X509 = { readonly id: string; readonly hint: string; readonly serial: string; readonly certificates: number };
type Jwt = { readonly id: string; readonly hint: string; readonly token: string; readonly audience: readonly string[] };

const { rust } = inject("foreign");

describe.skipIf(rust === null)(rust === null ? "SKIPPED, not on this machine: cargo" : "the crate spiffe", () => {
  let world: World;
  beforeAll(async () => {
    world = await World.start();
  });
  afterAll(async () => await world?.close());

  const rustacean = async (): Promise<Stranger> => await world.stranger(rust?.program as string);

  const places: readonly (readonly [string, (task: Task) => string])[] = [
    ["the common socket", () => world.socket],
    ["the task's own socket", (task) => task.endpoint],
  ];

  describe.each(places)("on %s", (_, socketOf) => {
    let worker: Stranger;
    let task: Task;
    let socket: string;
    beforeAll(async () => {
      worker = await rustacean();
      task = await world.taskOf(worker, "rustacean");
      socket = socketOf(task);
    });

    test("holds the task's X.509-SVID, which rustls accepts by the bundle, and the bundles", async () => {
      expect(await worker.get("x509", { socket })).toMatchObject([{ id: task.spiffeId, hint: task.id }]);
      expect(await worker.get("x509-bundles", { socket })).toHaveProperty([trustDomain]);
      expect(await worker.get("jwt-bundles", { socket })).toHaveProperty([trustDomain]);
    });

    test("fetches a JWT-SVID that the fetched bundle and the broker accept, for its audience only", async () => {
      const { token, ...fetched } = await worker.get<Jwt>("jwt", { socket, audience: "crm", spiffeId: task.spiffeId });
      expect(fetched).toEqual({ id: task.spiffeId, hint: task.id, audience: ["crm"] });
      for (const way of ["jwt-verify", "jwt-validate"]) expect(await worker.get(way, { socket, token, audience: "crm" })).toMatchObject({ id: task.spiffeId });
      expect((await worker.ask("jwt-verify", { socket, token, audience: "mail" })).code).toBe("Local");
      expect((await worker.ask("jwt-validate", { socket, token, audience: "mail" })).code).toBe("InvalidArgument");
      expect((await worker.ask("jwt", { socket, audience: "crm", spiffeId: `spiffe://${trustDomain}/agent/other` })).code).toBe("PermissionDenied");
    });

    test("follows a new context and the task's end: streams end, its source hands out nothing any more", async () => {
      const opened = await worker.get<X509>("source", { socket, source: "source" });
      expect(opened.id).toBe(task.spiffeId);
      await worker.get("watch", { socket, source: "watch" });
      await worker.event<X509[]>("update", "watch", ({ result }) => result[0]?.serial === opened.serial);
      const old = await worker.get<Jwt>("jwt", { socket, audience: "crm" });

      await world.brevet("task", "context", task.id, "repository=shop@2");
      const renewed = await worker.event<X509>("update", "source", ({ result }) => result.serial !== opened.serial);
      await worker.event<X509[]>("update", "watch", ({ result }) => result[0]?.serial === renewed.result.serial);
      expect((await worker.ask("jwt-validate", { socket, token: old.token, audience: "crm" })).code).toBe("InvalidArgument");
      const jwt = await worker.get<Jwt>("jwt", { socket, audience: "crm" });
      expect((await worker.ask("jwt-validate", { socket, token: jwt.token, audience: "crm" })).code).toBe("OK");

      await world.brevet("task", "close", task.id);
      expect((await worker.event("lost", "watch")).code).toBe("PermissionDenied");
      await worker.event("over", "watch");
      expect((await worker.ask("x509", { socket: world.socket })).code).toBe("PermissionDenied");
      expect((await worker.ask("jwt", { socket: world.socket, audience: "crm" })).code).toBe("PermissionDenied");
      expect((await worker.ask("jwt-validate", { socket: world.socket, token: jwt.token, audience: "crm" })).code).toBe("InvalidArgument");
      expect((await worker.event("withdrawn", "source")).code).toBe("PermissionDenied");
    });
  });

  test("a worker with several tasks sees one SVID for each, told apart by hint", async () => {
    const worker = await rustacean();
    const tasks = [await world.taskOf(worker, "rustacean"), await world.taskOf(worker, "rustacean")];
    const ids = tasks.map(({ spiffeId: id, id: hint }) => expect.objectContaining({ id, hint }) as object);
    const { socket } = world;
    for (const [order, fields] of [["x509", { socket }], ["jwts", { socket, audience: "crm" }]] as const) {
      const all = await worker.get<unknown[]>(order, fields);
      expect(all).toEqual(expect.arrayContaining(ids));
      expect(all).toHaveLength(tasks.length);
    }
  });
});
