// Does java-spiffe, as anybody has it from its makers, live with the broker?
// X.509, JWT, bundles, watches and sources on the common socket and on a task's own, across a change of
// context and the task's end.
// SPIFFE Workload API, the client's part being theirs.
// A server of Java on the sidecar's files is recipes.test.ts's.
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { World, trustDomain, until } from "./world.ts";
import type { Stranger, Task } from "./world.ts";

type X509 = { readonly id: string; readonly hint: string; readonly serial: string; readonly certificates: number };
type Jwt = { readonly id: string; readonly hint: string; readonly token: string; readonly audience: readonly string[] };

const { java } = inject("foreign");

describe.skipIf(java === null)(java === null ? "SKIPPED, not on this machine: javac or mvn" : "java-spiffe", () => {
  let world: World;
  beforeAll(async () => {
    world = await World.start();
  });
  afterAll(async () => await world?.close());

  const javanese = async (): Promise<Stranger> => await world.stranger(java?.program as string, "-cp", java?.classpath ?? "", "Client");

  const places: readonly (readonly [string, (task: Task) => string])[] = [
    ["the common socket", () => world.socket],
    ["the task's own socket", (task) => task.endpoint],
  ];

  describe.each(places)("on %s", (_, socketOf) => {
    let worker: Stranger;
    let task: Task;
    let socket: string;
    beforeAll(async () => {
      worker = await javanese();
      task = await world.taskOf(worker, "javanese");
      socket = socketOf(task);
    });

    test("holds the task's X.509-SVID, which the bundle verifies, and the bundles", async () => {
      expect(await worker.get("x509", { socket })).toMatchObject([{ id: task.spiffeId, hint: task.id }]);
      expect(await worker.get("x509-bundles", { socket })).toHaveProperty([trustDomain]);
      expect(await worker.get("jwt-bundles", { socket })).toHaveProperty([trustDomain]);
    });

    test("fetches a JWT-SVID that the fetched bundle and the broker accept, for its audience only", async () => {
      const { token, ...fetched } = await worker.get<Jwt>("jwt", { socket, audience: "crm", spiffeId: task.spiffeId });
      expect(fetched).toEqual({ id: task.spiffeId, hint: task.id, audience: ["crm"] });
      for (const way of ["jwt-verify", "jwt-validate"]) expect(await worker.get(way, { socket, token, audience: "crm" })).toMatchObject({ id: task.spiffeId });
      expect((await worker.ask("jwt-verify", { socket, token, audience: "mail" })).code).toBe("LOCAL");
      expect((await worker.ask("jwt-validate", { socket, token, audience: "mail" })).code).toBe("INVALID_ARGUMENT");
      expect((await worker.ask("jwt", { socket, audience: "crm", spiffeId: `spiffe://${trustDomain}/agent/other` })).code).toBe("PERMISSION_DENIED");
    });

    test("follows a new context and the task's end: its watch ends", async () => {
      const opened = await worker.get<X509>("source", { socket, source: "source" });
      expect(opened.id).toBe(task.spiffeId);
      await worker.get("watch", { socket, source: "watch" });
      await worker.event<X509[]>("update", "watch", ({ result }) => result[0]?.serial === opened.serial);
      const old = await worker.get<Jwt>("jwt", { socket, audience: "crm" });

      await world.brevet("task", "context", task.id, "repository=shop@2");
      const { result: [renewed] } = await worker.event<X509[]>("update", "watch", ({ result }) => result[0]?.serial !== opened.serial);
      await until("its source has the new one", async () => (await worker.get<X509>("source-svid", { socket, source: "source" })).serial === renewed?.serial);
      expect((await worker.ask("jwt-validate", { socket, token: old.token, audience: "crm" })).code).toBe("INVALID_ARGUMENT");
      const jwt = await worker.get<Jwt>("jwt", { socket, audience: "crm" });
      expect((await worker.ask("jwt-validate", { socket, token: jwt.token, audience: "crm" })).code).toBe("OK");

      await world.brevet("task", "close", task.id);
      expect((await worker.event("lost", "watch")).code).toMatch(/^(PERMISSION_DENIED|UNAVAILABLE)$/); // it tries once more, and the task's socket is gone
      expect((await worker.ask("x509", { socket: world.socket })).code).toBe("PERMISSION_DENIED");
      expect((await worker.ask("jwt", { socket: world.socket, audience: "crm" })).code).toBe("PERMISSION_DENIED");
      expect((await worker.ask("jwt-validate", { socket: world.socket, token: jwt.token, audience: "crm" })).code).toBe("INVALID_ARGUMENT");
    });
  });

  test("a worker with several tasks sees one SVID for each, told apart by hint", async () => {
    const worker = await javanese();
    const tasks = [await world.taskOf(worker, "javanese"), await world.taskOf(worker, "javanese")];
    const ids = tasks.map(({ spiffeId: id, id: hint }) => expect.objectContaining({ id, hint }) as object);
    const { socket } = world;
    for (const [order, fields] of [["x509", { socket }], ["jwts", { socket, audience: "crm" }]] as const) {
      const all = await worker.get<unknown[]>(order, fields);
      expect(all).toEqual(expect.arrayContaining(ids));
      expect(all).toHaveLength(tasks.length);
    }
  });
});
