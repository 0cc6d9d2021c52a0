// Does the broker federate with a trust domain that go-spiffe runs, and what does that domain refuse after a close?
// Bundles both ways by https_spiffe, each fetched by the other's own client; a stock service of the partner's that
// serves our agents; and, measured, how long it accepts what is dead: that is what docs/beside-spire.md says.
// SPIFFE Federation sections 4.1 and 5.2.2; X509-SVID section 5.1; JWT-SVID section 3.3 (leeway).
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { freePort } from "../support/port.ts";
import { World, trustDomain } from "./world.ts";
import type { Stranger, Task } from "./world.ts";

type Partner = { readonly url: string; readonly id: string; readonly bundle: string };
type Bundle = { readonly sequence: number; readonly x509: number; readonly jwt: number; readonly hint: number };
type Token = { readonly token: string; readonly claims: { readonly exp: number } };

const { go } = inject("foreign");
const broker = `spiffe://${trustDomain}/brevet/broker`;

describe.skipIf(go === null)(go === null ? "SKIPPED, not on this machine: go" : "with go-spiffe", () => {
  let partner: Stranger;
  let their: Partner;
  let before: World;
  let world: World;
  let endpoint: string;
  let agent: Stranger;
  let ours: string;

  beforeAll(async () => {
    // the partner is a program of its own; any world can start one
    before = await World.start();
    partner = await before.stranger(go as string);
    their = await partner.get<Partner>("partner", {});
    const bundleFile = join(before.folder, "partner.json");
    writeFileSync(bundleFile, their.bundle);
    const port = await freePort();
    endpoint = `https://127.0.0.1:${port}/`;
    world = await World.start({
      env: { BREVET_LISTEN_BUNDLE: `127.0.0.1:${port}` },
      configuration: `federation: [{ trustDomain: partner.example, endpoint: "${their.url}", profile: https_spiffe, endpointSpiffeId: "${their.id}", bundleFile: "${bundleFile}" }]\n`,
    });
    agent = await world.stranger(go as string);
    ours = await world.text("bundle", "show");
  });
  afterAll(async () => {
    await world?.close();
    await before?.close();
  });

  test("its client fetches our bundle and knows our broker by its SPIFFE ID", async () => {
    const { spiffe_sequence: sequence } = JSON.parse(ours) as { spiffe_sequence: number };
    expect(await partner.get<Bundle>("bundle-fetch", { address: endpoint, spiffeId: broker, text: ours })).toEqual({ sequence, x509: 1, jwt: 1, hint: 60 });
    expect((await partner.ask("bundle-fetch", { address: endpoint, spiffeId: `spiffe://${trustDomain}/spire/server`, text: ours })).error).toMatch(/unexpected ID/);
  });

  test("our client follows its endpoint, and go-spiffe agents get what it serves", async () => {
    const task = await world.taskOf(agent, "gopher");
    const authorities = async (): Promise<number> => (await agent.get<Record<string, number>>("x509-bundles", { socket: task.endpoint }))["partner.example"] ?? 0;
    expect(await authorities()).toBe(1);
    expect(await partner.get("partner-rotate", {})).toBe(2);
    for (const deadline = performance.now() + 60_000; (await authorities()) !== 2; await sleep(100)) if (performance.now() > deadline) throw new Error("the new authority never came");
    await world.brevet("task", "close", task.id);
  });

  describe("a stock service of the partner's", () => {
    let port: number;
    beforeAll(async () => {
      await partner.get("bundle-watch", { address: endpoint, spiffeId: broker, text: ours, source: "ours" });
      expect((await partner.event<Bundle>("update", "ours")).result).toMatchObject({ x509: 1, jwt: 1 });
      port = await partner.get<number>("partner-serve", { spiffeId: trustDomain });
    });

    test.concurrent("serves our agent, and goes on doing so after the close, until the SVID it holds expires", async () => {
      const task: Task = await world.taskOf(agent, "brief");
      await agent.get("source", { socket: task.endpoint, source: "brief" });
      const call = async () => await agent.ask<string>("dial", { source: "brief", address: `127.0.0.1:${port}`, spiffeId: their.id, text: "hello" });
      expect(await call()).toMatchObject({ code: "OK", result: `${task.spiffeId} hello` });
      await world.brevet("task", "close", task.id);
      expect(await call()).toMatchObject({ code: "OK", result: `${task.spiffeId} hello` });
      await sleep(17_000); // x509Ttl of this agent is 15 s, and go-spiffe asks for no leeway
      expect((await call()).code).not.toBe("OK");
    });

    test.concurrent("accepts a JWT-SVID of an ended task until 60 s after its end, and no longer", async () => {
      const task = await world.taskOf(agent, "brief");
      const { token, claims: { exp } } = await agent.get<Token>("jwt", { socket: task.endpoint, audience: "store" });
      await world.brevet("task", "close", task.id);
      const verdict = async (): Promise<string> => (await partner.ask("jwt-verify", { socket: world.socket, token, audience: "store" })).code;
      const at = async (second: number): Promise<string> => {
        await sleep(Math.max(0, (exp + second) * 1000 - Date.now()));
        return await verdict();
      };
      expect(await verdict()).toBe("OK");
      expect(await at(55)).toBe("OK");
      expect(await at(61)).toBe("Local");
    });
  });
});
