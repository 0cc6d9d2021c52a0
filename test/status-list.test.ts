// Does a token's bit say that it is dead, as soon as it is, and never again that it lives?
// With `statusList: on` each agent's token has a place of its own; the list is read here by other hands (zlib, jose),
// after a close, a change of context, a restart, and at a second broker. That nothing of this is there without it:
// fetch.test.ts (the claims of a token) and http.test.ts.
// OAuth Token Status List (draft-ietf-oauth-status-list-20) sections 4 to 8 and 13.2.
import { inflateSync } from "node:zlib";
import { createRemoteJWKSet, jwtVerify } from "jose";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { issueStatusList } from "../ca/status-list.ts";
import { encodeStatusBits, newStatusBits, readStatusNumber, setStatusBit, statusListSize, statusNumber } from "../src/identity/status.ts";
import { StatusIndexes } from "../src/issue/status.ts";
import { newAuthorities } from "./support/authorities.ts";
import type { Agent, HeldJwt } from "./support/agent.ts";
import { freePort } from "./support/port.ts";
import { Ledger } from "./support/ledger.ts";
import { World } from "./support/world.ts";

type Place = { readonly idx: number; readonly uri: string };

let world: World;
let publicUrl: string;
let worker: Agent;

beforeAll(async () => {
  publicUrl = `http://127.0.0.1:${await freePort()}`;
  world = await World.start({ env: { BREVET_LISTEN_HTTP: new URL(publicUrl).host, BREVET_PUBLIC_URL: publicUrl, BREVET_STATUS_LIST: "on" } });
  worker = await world.agent();
});
afterAll(async () => await world?.end());

const placeOf = (svid: HeldJwt): Place => (svid.claims["status"] as { status_list: Place }).status_list;

async function held(): Promise<{ task: string; svid: HeldJwt; again: () => Promise<HeldJwt> }> {
  const task = await world.open({ context: { user: "alice" } });
  const { endpoint } = await worker.claim(task.id);
  const again = async (): Promise<HeldJwt> => (await worker.jwt(["crm"], { socket: endpoint }))[0] as HeldJwt;
  return { task: task.id, svid: await again(), again };
}

/** As a relying party does it: 0 or 1. */
async function statusOf({ idx, uri }: Place): Promise<number> {
  const response = await fetch(uri);
  expect(response.status).toBe(200);
  expect(response.headers.get("content-type")).toBe("application/statuslist+jwt");
  const { payload } = await jwtVerify(await response.text(), createRemoteJWKSet(new URL(`${publicUrl}/jwks`)), { typ: "statuslist+jwt", subject: uri, requiredClaims: ["iat", "exp", "ttl"] });
  const { bits, lst } = payload["status_list"] as { bits: number; lst: string };
  expect(bits).toBe(1);
  const bytes = inflateSync(Buffer.from(lst, "base64url"));
  expect(bytes.length * 8).toBe(statusListSize);
  return ((bytes[idx >> 3] as number) >> (idx & 7)) & 1;
}

describe("a token's bit", () => {
  test("is 0 while it lives and 1 after the close; its neighbours' stay", async () => {
    const [one, other] = [await held(), await held()];
    expect(await statusOf(placeOf(one.svid))).toBe(0);
    await world.close(one.task);
    await world.until("the bit", async () => (await statusOf(placeOf(one.svid))) === 1);
    expect(await statusOf(placeOf(other.svid))).toBe(0);
    await world.close(other.task);
  });

  test("dies with the epoch, and the next token has another", async () => {
    const { task, svid, again } = await held();
    await world.change(task, { user: "bob" });
    const next = await again();
    expect(placeOf(next)).not.toEqual(placeOf(svid));
    await world.until("the bit", async () => (await statusOf(placeOf(svid))) === 1);
    expect(await statusOf(placeOf(next))).toBe(0);
    await world.close(task);
  });

  test("is set still after a restart, which begins a new list", async () => {
    const dead = await held();
    await world.close(dead.task);
    const live = await held();
    await world.restart();
    expect(await statusOf(placeOf(dead.svid))).toBe(1);
    expect(await statusOf(placeOf(live.svid))).toBe(0);
    const after = await held();
    expect(placeOf(after.svid).uri).not.toBe(placeOf(live.svid).uri);
    await world.close(live.task);
    await world.until("the bit", async () => (await statusOf(placeOf(live.svid))) === 1);
    await world.close(after.task);
  });

  test("is no other token's, of many at once", async () => {
    const { again, task } = await held();
    const places = (await Promise.all(Array.from({ length: 300 }, again))).map((svid) => JSON.stringify(placeOf(svid)));
    expect(new Set(places).size).toBe(300);
    await world.close(task);
  });
});

test("what is not there is 404, the past 501, and what is held is not sent again", async () => {
  const { task, svid } = await held();
  const { uri } = placeOf(svid);
  for (const path of ["0", "01", "-1", "999999", "x", "1e3", "%2e%2e"]) expect((await fetch(`${publicUrl}/status-list/${path}`)).status).toBe(404);
  expect((await fetch(`${uri}?time=1700000000`)).status).toBe(501);
  const first = await fetch(uri);
  expect(first.headers.get("cache-control")).toBe("public, max-age=15");
  expect(first.headers.get("access-control-allow-origin")).toBe("*");
  await world.until("the same list, unless a new one was made just then", async () => {
    const etag = (await fetch(uri)).headers.get("etag") ?? "";
    return (await fetch(uri, { headers: { "if-none-match": etag } })).status === 304;
  });
  await world.close(task);
});

test("a second broker answers for the lists of the first", async () => {
  const ports = await freePort();
  const there = `http://127.0.0.1:${ports}`;
  await using two = await World.start({ brokers: 2, env: { BREVET_PUBLIC_URL: there, BREVET_STATUS_LIST: "on" } });
  const task = await two.open();
  const worker = await two.agent();
  await worker.claim(task.id);
  const [svid] = await worker.jwt(["crm"]);
  const { idx, uri } = placeOf(svid as HeldJwt);
  const [, second] = two.brokers;
  const bit = async (): Promise<number> => {
    const text = await (await fetch(uri.replace(there, second?.httpUrl ?? ""))).text();
    const { status_list: { lst } } = JSON.parse(Buffer.from(text.split(".")[1] ?? "", "base64url").toString()) as { status_list: { lst: string } };
    return ((inflateSync(Buffer.from(lst, "base64url"))[idx >> 3] as number) >> (idx & 7)) & 1;
  };
  expect(await bit()).toBe(0);
  await two.close(task.id);
  await two.until("the bit", async () => (await bit()) === 1);
});

describe("the encoding", () => {
  test("is the draft's: its example", () => {
    // section 4.1 of the draft: the bits 1 0 0 1 1 1 0 1 1 1 0 0 0 1 0 1, the first the least significant
    const bits = Buffer.alloc(2);
    for (const index of [0, 3, 4, 5, 7, 8, 9, 13, 15]) expect(setStatusBit(bits, index)).toBe(true);
    expect(bits).toEqual(Buffer.of(0xb9, 0xa3));
    expect(encodeStatusBits(bits)).toEqual({ bits: 1, lst: "eNrbuRgAAhcBXQ" });
    expect(setStatusBit(bits, 0)).toBe(false);
    expect(bits).toEqual(Buffer.of(0xb9, 0xa3));
  });

  test("a place is one number and back", () => {
    for (const place of [{ list: 1, index: 0 }, { list: 1, index: statusListSize - 1 }, { list: 2 ** 34, index: 77 }]) expect(readStatusNumber(statusNumber(place))).toEqual(place);
  });

  test("a list can't be taken for a JWT-SVID, nor end before it should be fetched again", () => {
    const { jwt } = newAuthorities();
    const request = { signer: jwt, uri: "https://b.example/status-list/1", issuedAt: new Date(), lifeSeconds: 60, ttlSeconds: 15, bits: newStatusBits() };
    const [header, claims] = issueStatusList(request).split(".").map((part) => Buffer.from(part, "base64url").toString());
    expect(JSON.parse(header ?? "")).toEqual({ alg: "ES256", kid: jwt.record.id, typ: "statuslist+jwt" });
    expect(Object.keys(JSON.parse(claims ?? "") as object)).toEqual(["sub", "iat", "exp", "ttl", "status_list"]);
    expect(() => issueStatusList({ ...request, ttlSeconds: 61 })).toThrow("ends before");
  });
});

test("indexes are given out once each, in no order, over the end of a list and by two brokers", async () => {
  const ledger = await Ledger.start();
  try {
    const brokers = [new StatusIndexes(ledger.store), new StatusIndexes(ledger.store)] as const;
    const places = new Set<number>();
    for (let i = 0; i < statusListSize + 10; i++) places.add(statusNumber(await brokers[0].take()));
    for (const place of await Promise.all(Array.from({ length: 100 }, () => brokers[1].take()))) places.add(statusNumber(place));
    expect(places.size).toBe(statusListSize + 110);
    const first = [...places].slice(0, 1000).map((place) => readStatusNumber(place).index);
    expect(first.filter((index, i) => i > 0 && Math.abs(index - (first[i - 1] as number)) === 1).length).toBeLessThan(20);
    expect(await ledger.owner.one("select count(*)::int as n from status_lists")).toEqual({ n: 3 });
  } finally {
    await ledger.close();
  }
});
