// Do programs of others and our SDK accept each other's SVIDs over mutual TLS, and refuse the dead?
// A Go service and a Go agent; the Go agent and a service of ours; an agent's server in Go and a
// client of ours. Our service cuts the live connection of a revoked task, and lets it in no more.
// X509-SVID section 5.
// What go-spiffe sees of the broker is go.test.ts's.
import { once } from "node:events";
import type { AddressInfo, Server, Socket } from "node:net";
import { createInterface } from "node:readline";
import type { Interface } from "node:readline";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { Verifier, WorkloadSource, agentIs, callerOf, connectMtls, createMtlsServer } from "../../src/index.ts";
import { World, trustDomain } from "./world.ts";
import type { Stranger, Task } from "./world.ts";

const { go, goService } = inject("foreign");
const service = (name: string): string => `spiffe://${trustDomain}/service/${name}`;

/** A connection that is cut says so to its reader too. */
function linesOf(socket: Socket): Interface {
  return createInterface(socket).on("error", () => {});
}

describe.skipIf(go === null)(go === null ? "SKIPPED, not on this machine: go" : "mutual TLS", () => {
  let world: World;
  let agent: Stranger;
  let task: Task;
  beforeAll(async () => {
    world = await World.start();
    agent = await world.stranger(go as string);
    task = await world.taskOf(agent, "gopher");
    await agent.get("source", { socket: task.endpoint, source: "agent" });
  });
  afterAll(async () => await world?.close());

  test("a Go service and a Go agent know each other by SPIFFE ID", async () => {
    const store = await world.stranger(goService as string);
    expect(await store.get("source", { socket: world.socket, source: "store" })).toMatchObject({ id: service("store") });
    const port = await store.get<number>("serve", { source: "store" });
    const call = async (spiffeId: string) => await agent.ask("dial", { source: "agent", address: `127.0.0.1:${port}`, spiffeId, text: "hello" });
    expect(await call(service("store"))).toMatchObject({ code: "OK", result: `${task.spiffeId} hello` });
    expect((await call(service("crm"))).error).toMatch(/unexpected ID/);
  });

  describe("with the SDK", () => {
    let source: WorkloadSource;
    let verifier: Verifier;
    const servers: Server[] = [];
    beforeAll(async () => {
      source = await WorkloadSource.open({ address: world.socket });
      verifier = new Verifier({ address: world.socket });
      await verifier.ready();
    });
    afterAll(() => {
      for (const server of servers) server.close();
      verifier?.close();
      source?.close();
    });

    test("a Go agent's server and our client know each other", async () => {
      const port = await agent.get<number>("serve", { source: "agent" });
      const socket = connectMtls({ verifier, source, authorize: agentIs("gopher"), host: "127.0.0.1", port });
      try {
        await once(socket, "secureConnect", { signal: AbortSignal.timeout(30_000) });
        socket.write("hello\n");
        const [line] = await once(linesOf(socket), "line", { signal: AbortSignal.timeout(30_000) });
        expect(line).toBe(`${service("crm")} hello`);
      } finally {
        socket.destroy();
      }
    });

    test("our service hears a Go agent, cuts it when its task is revoked, and lets it in no more", async () => {
      const server = createMtlsServer({ verifier, source }, (socket) => {
        linesOf(socket).on("line", (line) => socket.write(`${callerOf(socket).spiffeId} ${line}\n`));
      });
      servers.push(server);
      server.listen(0, "127.0.0.1");
      await once(server, "listening");
      const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
      const call = { source: "agent", address, spiffeId: service("crm"), text: "hello" };
      expect(await agent.get("dial", call)).toBe(`${task.spiffeId} hello`);
      expect(await agent.get("hold", call)).toBe(`${task.spiffeId} hello`);

      await world.brevet("revoke", "--task", task.id, "--reason", "proof");

      expect((await agent.event("cut")).code).toBe("Local");
      expect((await agent.ask("dial", call)).code).not.toBe("OK");
    });
  });
});
