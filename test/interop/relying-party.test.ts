// Does a relying party that knows OpenID Connect, in another language, verify our tokens and read their status?
// PyJWT by discovery alone, for an audience whose subject is the task; the token's bit by the same keys, before and
// after the close. It goes on accepting the token: that the bit says so is why there is one.
// OpenID Connect Discovery 1.0; OAuth Token Status List (draft-ietf-oauth-status-list-20) section 8.3.
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { freePort } from "../support/port.ts";
import { World } from "./world.ts";
import type { Stranger } from "./world.ts";

type Verified = { readonly claims: Readonly<Record<string, unknown>>; readonly status: number | null };

const { python } = inject("foreign");
const run = promisify(execFile);

describe.skipIf(python === null)(python === null ? "SKIPPED, not on this machine: python3 with venv" : "PyJWT", () => {
  let world: World;
  let worker: Stranger;
  let issuer: string;
  beforeAll(async () => {
    issuer = `http://127.0.0.1:${await freePort()}`;
    world = await World.start({ env: { BREVET_LISTEN_HTTP: new URL(issuer).host, BREVET_PUBLIC_URL: issuer, BREVET_STATUS_LIST: "on" } });
    worker = await world.stranger(python?.program as string, world.reachable(fileURLToPath(new URL("python/client.py", import.meta.url))));
  });
  afterAll(async () => await world?.close());

  const ask = async (order: { token: string; audience: string; issuer?: string }): Promise<Verified> => {
    const script = fileURLToPath(new URL("python/relying_party.py", import.meta.url));
    const { stdout } = await run(python?.program as string, [script, JSON.stringify({ issuer, ...order })], { timeout: 60_000 });
    return JSON.parse(stdout) as Verified;
  };

  test("finds issuer and keys, verifies the token, and reads in the list when it is dead", async () => {
    const task = await world.taskOf(worker, "pythonist");
    const { token } = await worker.get<{ token: string }>("jwt", { socket: task.endpoint, audience: "crm" });
    expect(await ask({ token, audience: "crm" })).toMatchObject({ claims: { iss: issuer, sub: task.spiffeId, aud: ["crm"], brevet: { task: task.id } }, status: 0 });
    await expect(ask({ token, audience: "mail" })).rejects.toThrow("InvalidAudienceError");
    await expect(ask({ token: token.replace(/.(?=.$)/, (last) => (last === "A" ? "B" : "A")), audience: "crm" })).rejects.toThrow("InvalidSignatureError");

    await world.brevet("task", "close", task.id);
    for (const deadline = performance.now() + 60_000; ; await sleep(200)) {
      const { status } = await ask({ token, audience: "crm" });
      if (status === 1) break;
      if (performance.now() > deadline) throw new Error("the list never said it");
    }
  });
});
