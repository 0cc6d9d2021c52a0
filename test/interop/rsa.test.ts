// Do the stock clients of each language live with authorities of RSA, too?
// Each holds the task's X.509-SVID by the bundle, and verifies its JWT-SVID by the keys that it fetched.
// JWT-SVID section 2.1 (RS256); that authorities sign so at all, and what else they then are, is ../rsa.test.ts's.
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { World } from "./world.ts";

const { go, python, rust, java } = inject("foreign");
const script = fileURLToPath(new URL("python/client.py", import.meta.url));

describe("with authorities of RSA", () => {
  let world: World;
  beforeAll(async () => {
    world = await World.start({ env: { BREVET_AUTHORITIES_KEY_TYPE: "rsa-2048" } });
  });
  afterAll(async () => await world?.close());

  test.each([
    { name: "go-spiffe", agent: "gopher", there: go !== null, command: (): string[] => [go ?? ""] },
    { name: "py-spiffe", agent: "pythonist", there: python !== null, command: () => [python?.program ?? "", world.reachable(script)] },
    { name: "the crate spiffe", agent: "rustacean", there: rust !== null, command: () => [rust?.program ?? ""] },
    { name: "java-spiffe", agent: "javanese", there: java !== null, command: () => [java?.program ?? "", "-cp", java?.classpath ?? "", "Client"] },
  ])("$name holds both SVIDs", async ({ agent, there, command }) => {
    if (!there) return expect.soft(process.env["CI"]).toBeUndefined(); // said loudly by toolchains.ts
    const [program = "", ...args] = command();
    const worker = await world.stranger(program, ...args);
    const { spiffeId } = await world.taskOf(worker, agent);
    const { socket } = world;
    expect(await worker.get("x509", { socket })).toMatchObject([{ id: spiffeId }]);
    const { token } = await worker.get<{ token: string }>("jwt", { socket, audience: "crm" });
    expect(JSON.parse(Buffer.from(token.split(".")[0] ?? "", "base64url").toString())).toMatchObject({ alg: "RS256" });
    expect(await worker.get("jwt-verify", { socket, token, audience: "crm" })).toMatchObject({ id: spiffeId });
  });
});
