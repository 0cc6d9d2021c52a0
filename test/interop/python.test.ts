// Does py-spiffe, as anybody has it from its makers, live with the broker?
// X.509, JWT, bundles and streams on the common socket and on a task's own, across a change of context
// and the task's end.
// SPIFFE Workload API, the client's part being theirs.
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { World, trustDomain } from "./world.ts";
import type { Stranger, Task } from "./world.ts";

type X509 = { readonly id: string; readonly serial: string; readonly certificates: number };
type Jwt = { readonly id: string; readonly token: string; readonly audience: readonly string[] };

const { python } = inject("foreign");
const script = fileURLToPath(new URL("python/client.py", import.meta.url));

describe.skipIf(python === null)(python === null ? "SKIPPED, not on this machine: python3 with venv" : "py-spiffe", () => {
  let world: World;
  beforeAll(async () => {
    world = await World.start();
  });
  afterAll(async () => await world?.close());

  const places: readonly (readonly [string, (task: Task) => string])[] = [
    ["the common socket", () => world.socket],
    ["the task's own socket", (task) => task.endpoint],
  ];

  describe.each(places)("on %s", (_, socketOf) => {
    let worker: Stranger;
    let task: Task;
    let socket: string;
    beforeAll(async () => {
      worker = await world.stranger(python?.program as string, world.reachable(script));
      task = await world.taskOf(worker, "pythonist");
      socket = socketOf(task);
    });

    test("holds the task's X.509-SVID and the bundles", async () => {
      expect(await worker.get("x509", { socket })).toMatchObject([{ id: task.spiffeId }]);
      expect(await worker.get("x509-bundles", { socket })).toHaveProperty([trustDomain]);
      expect(await worker.get("jwt-bundles", { socket })).toHaveProperty([trustDomain]);
    });

    test("fetches a JWT-SVID that the fetched bundle and the broker accept, for its audience only", async () => {
      const result = await worker.get<Jwt>("jwt", { socket, audience: "crm" });
      expect(result).toMatchObject({ id: task.spiffeId, audience: ["crm"] });
      const { token } = result;
      expect(await worker.get("jwt-verify", { socket, token, audience: "crm" })).toMatchObject({ id: task.spiffeId });
      expect(await worker.get("jwt-validate", { socket, token, audience: "crm" })).toMatchObject({ id: task.spiffeId });
      expect((await worker.ask("jwt-verify", { socket, token, audience: "mail" })).code).toBe("LOCAL");
      expect((await worker.ask("jwt-validate", { socket, token, audience: "mail" })).code).toBe("INVALID_ARGUMENT");
    });

    test("follows a new context and the task's end", async () => {
      const opened = await worker.get<X509>("source", { socket, source: "source" });
      expect(opened.id).toBe(task.spiffeId);
      await worker.get("watch", { socket, source: "watch" });
      const old = await worker.get<Jwt>("jwt", { socket, audience: "crm" });

      await world.brevet("task", "context", task.id, "repository=shop@2");
      const renewed = await worker.event<X509>("update", "source", ({ result }) => result.serial !== opened.serial);
      await worker.event<X509[]>("update", "watch", ({ result }) => result[0]?.serial === renewed.result.serial);
      expect((await worker.ask("jwt-validate", { socket, token: old.token, audience: "crm" })).code).toBe("INVALID_ARGUMENT");

      await world.brevet("task", "close", task.id);
      expect((await worker.event("lost", "watch")).error).toContain("PERMISSION_DENIED");
      expect((await worker.ask("x509", { socket: world.socket })).code).toBe("PERMISSION_DENIED");
    });
  });
});
