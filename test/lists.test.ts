// Does software that fetches lists always get one that is true, and never an older one?
// Two brokers on one database, asked over HTTP as anybody may: each list holds its authority's dead until they
// have expired and one more list was made; the same number is the same list, a higher one never knows less, not
// after a restart, not when the clock was set back. Rows are put in by the owner where a test needs times
// that a broker would take minutes to make.
// RFC 5280 section 5; RFC 9110 section 13; threats T15, T16. What stands in a list is crl.test.ts's.
import { createPublicKey, verify } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readCertificate, readCrlDistributionPoint, oids } from "../src/identity/certificate.ts";
import { readCrl } from "../src/identity/crl.ts";
import type { Crl } from "../src/identity/crl.ts";
import { splitDer } from "../src/identity/der.ts";
import type { BrokerProcess } from "./support/broker.ts";
import { World } from "./support/world.ts";

type Listed = { readonly authority: string; readonly url: string; readonly number: number; readonly thisUpdate: string; readonly nextUpdate: string; readonly entries: number };

const publicUrl = "https://brevet.example.org/pki";
let world: World;
let here: BrokerProcess;
let there: BrokerProcess;

beforeAll(async () => {
  world = await World.start({ brokers: 2, env: { BREVET_PUBLIC_URL: publicUrl } });
  [here, there] = world.brokers as unknown as [BrokerProcess, BrokerProcess];
});
afterAll(async () => await world?.[Symbol.asyncDispose]());

const get = (broker: BrokerProcess, path: string, headers: Record<string, string> = {}, method = "GET"): Promise<Response> =>
  fetch(`${broker.httpUrl}${path}`, { headers, method });
async function index(broker: BrokerProcess): Promise<Listed[]> {
  return ((await (await get(broker, "/crl")).json()) as { lists: Listed[] }).lists;
}
async function fetched(broker: BrokerProcess, authority: string): Promise<Crl> {
  return readCrl(Buffer.from(await (await get(broker, `/crl/${authority}.crl`)).arrayBuffer()));
}
async function signing(): Promise<{ id: string; certificate: Buffer; public_key: Buffer }> {
  const [row] = await world.sql<{ id: string; certificate: Buffer; public_key: Buffer }>("select id, certificate, public_key from authorities where use = 'x509' and state = 'active'");
  if (!row) throw new Error("there is an active authority");
  return row;
}
/** A task that was open until now, with one certificate that expires in `seconds`. */
async function dead(seconds: number, authority: string): Promise<string> {
  const [row] = await world.sql<{ serial: string }>(`with head as (update feed_head set sequence = sequence + 1 returning sequence),
    task as (insert into tasks (id, agent, owner, state, epoch, context, context_digest, purpose, on_behalf_of, refs, bind, scope, x509_ttl, jwt_ttl, on_exit, opened_at, opened_by, expires_at, ended_at, ended_by, end_reason)
      values (gen_random_uuid(), 'researcher', 'o', 'closed', 2, '{}', '', '', '', '{}', 'claim', 'process', 300, 120, 'abort', now(), 'x', now() + interval '1 hour', now(), 'x', 'x') returning id),
    told as (insert into revocations (sequence, subject, epoch, until, at) select sequence, task.id::text, 2, now() + make_interval(secs => greatest($1, 0) + 120), now() from head, task)
    insert into svids (kind, serial, task, epoch, authority, issued_at, expires_at)
      select 'x509', '4' || substr(md5(task.id::text), 2), task.id, 1, $2, now() - interval '1 hour', now() + make_interval(secs => $1) from task returning serial`, [seconds, authority]);
  await world.sql("notify brevet, 'feed'");
  return row?.serial ?? "";
}
const listed = (broker: BrokerProcess, authority: string, serial: string): Promise<Crl> =>
  world.until("the entry", async () => {
    const list = await fetched(broker, authority);
    return list.has(serial) && list;
  });

describe("over HTTP", () => {
  test("there is a list for each authority, root and signing, signed by it, with what the index says", async () => {
    const lists = await index(here);
    const authorities = await world.sql<{ id: string; public_key: Buffer }>("select id, public_key from authorities where use <> 'jwt' order by id");
    expect(lists.map(({ authority }) => authority).sort()).toEqual(authorities.map(({ id }) => id));
    expect(authorities.length).toBeGreaterThanOrEqual(2);
    for (const { authority, url, number, thisUpdate, nextUpdate, entries } of lists) {
      expect(url).toBe(`${publicUrl}/crl/${authority}.crl`);
      const response = await get(here, `/crl/${authority}.crl`);
      expect([response.status, response.headers.get("content-type")]).toEqual([200, "application/pkix-crl"]);
      const list = readCrl(Buffer.from(await response.arrayBuffer()));
      expect([list.authorityKeyId.toString("hex"), Number(list.number), list.size]).toEqual([authority, number, entries]);
      expect([list.thisUpdate, list.nextUpdate].map((time) => time.toISOString())).toEqual([thisUpdate, nextUpdate]);
      const key = authorities.find(({ id }) => id === authority)?.public_key ?? Buffer.alloc(0);
      expect(verify("sha256", list.tbs, createPublicKey({ key, format: "der", type: "spki" }), list.signature)).toBe(true);
    }
  });

  test("as PEM it is the same list", async () => {
    const [{ authority } = { authority: "" }] = await index(here);
    const response = await get(here, `/crl/${authority}.pem`);
    const text = await response.text();
    expect([response.status, response.headers.get("content-type")]).toEqual([200, "application/x-pem-file"]);
    expect(text).toMatch(/^-----BEGIN X509 CRL-----\n(?:[A-Za-z0-9+/]{64}\n)*[A-Za-z0-9+/]{1,64}={0,2}\n-----END X509 CRL-----\n$/);
    const der = Buffer.from(await (await get(here, `/crl/${authority}.crl`)).arrayBuffer());
    expect(Buffer.from(text.replace(/-----[^-]+-----/g, ""), "base64")).toEqual(der);
  });

  test("it is not sent again to who has it or a newer one, and says for how long it may be kept", async () => {
    const [{ authority } = { authority: "" }] = await index(here);
    const path = `/crl/${authority}.crl`;
    const asked = await world.until("a list whose second is over", async () => {
      const response = await get(here, path);
      return response.headers.has("last-modified") && response;
    });
    const [etag, modified] = [asked.headers.get("etag") ?? "", asked.headers.get("last-modified") ?? ""];
    const number = Number(/"(\d+)"/.exec(etag)?.[1]);
    expect(asked.headers.get("cache-control")).toBe("public, max-age=5");
    const status = async (headers: Record<string, string>): Promise<number> => (await get(here, path, headers)).status;
    expect(await status({ "if-none-match": etag })).toBe(304);
    expect(await status({ "if-none-match": `"x", "${number + 1}"` })).toBe(304);
    expect(await status({ "if-none-match": "*" })).toBe(304);
    expect(await status({ "if-none-match": `W/"${number - 1}"`, "if-modified-since": modified })).toBe(200);
    expect(await status({ "if-none-match": '"x"' })).toBe(200);
    expect(await status({ "if-modified-since": modified })).toBe(304);
    expect(await status({ "if-modified-since": new Date(Date.parse(modified) - 1000).toUTCString() })).toBe(200);
    expect(await status({ "if-modified-since": "yesterday" })).toBe(200);
    const head = await get(here, path, {}, "HEAD");
    expect([head.status, head.headers.get("etag"), Number(head.headers.get("content-length")), (await head.arrayBuffer()).byteLength]).toEqual([200, etag, (await asked.arrayBuffer()).byteLength, 0]);
    const index304 = await get(here, "/crl", { "if-none-match": (await get(here, "/crl")).headers.get("etag") ?? "" });
    expect(index304.status).toBe(304);
  });

  test.each(["/crl/", "/crl/00.crl", "/crl/__proto__.crl", "/crl/x", "/crl/../bundle.crl"])("%s is nobody's list", async (path) => {
    const response = await get(here, path);
    expect([response.status, response.headers.get("content-type")]).toEqual([404, expect.stringContaining("application/problem+json")]);
  });

  test("certificates name their authority's list, and the signing authority's names the root's", async () => {
    const agent = await world.agent();
    const { id } = await world.open();
    await agent.claim(id);
    const [svid] = await agent.x509();
    const { id: authority } = await signing();
    const [root] = await world.sql<{ id: string }>("select id from authorities where use = 'root'");
    const points = splitDer(svid?.chain ?? Buffer.alloc(0)).map((der) => {
      const found = readCertificate(der).extensions.get(oids.crlDistributionPoints);
      return found && [found.critical, readCrlDistributionPoint(found.value)];
    });
    expect(points).toEqual([[false, `${publicUrl}/crl/${authority}.crl`], [false, `${publicUrl}/crl/${root?.id}.crl`]]);
    await world.close(id);
    const serial = svid?.serial ?? "";
    for (const broker of [here, there]) await listed(broker, authority, serial);
    expect((await fetched(here, root?.id ?? "")).has(serial)).toBe(false);
    for (const path of ["/crl", `/crl/${authority}.pem`]) expect(await (await get(here, path)).text()).not.toContain(id);
    await agent.kill();
  });
});

describe("two brokers", () => {
  test("publish one list under one number, and never a higher number that knows less, while tasks end at both", async () => {
    const { id: authority } = await signing();
    const seen = new Map<bigint, Crl[]>();
    const serials: string[] = [];
    let over = false;
    const watch = async (broker: BrokerProcess): Promise<void> => {
      let last = 0n;
      do {
        const list = await fetched(broker, authority);
        expect(list.number).toBeGreaterThanOrEqual(last);
        if (list.number > last) seen.set(list.number, [...(seen.get(list.number) ?? []), list]);
        last = list.number;
      } while (!over);
    };
    const watching = Promise.all([watch(here), watch(there)]);
    while (serials.length < 30 || seen.size < 5) {
      serials.push(await dead(300, authority));
      await new Promise((resolve) => setTimeout(resolve, 40));
    }
    for (const broker of [here, there]) await listed(broker, authority, serials.at(-1) ?? "");
    over = true;
    await watching;
    // held against all that died meanwhile, whenever a list was fetched
    const named = ([number, lists]: readonly [bigint, readonly Crl[]]): readonly string[] => {
      const [names = [], ...others] = lists.map((list) => serials.filter((serial) => list.has(serial)));
      for (const other of others) expect(other, `list ${number} of both`).toEqual(names);
      return names;
    };
    const byNumber = [...seen].sort(([a], [b]) => (a < b ? -1 : 1)).map(named);
    for (const [i, names] of byNumber.entries()) expect(names).toEqual(expect.arrayContaining([...(byNumber[i - 1] ?? [])]));
    expect(byNumber.at(-1)).toEqual(serials);
  });

  test("hand out no list that is older than what either of them has handed out, without any condition", async () => {
    const { id: authority } = await signing();
    let last = 0n;
    const neverBack = async (): Promise<void> => {
      for (const broker of [here, there]) {
        const { number } = await fetched(broker, authority);
        expect(number).toBeGreaterThanOrEqual(last);
        last = number;
        const [indexed] = (await index(broker)).filter((list) => list.authority === authority);
        expect(BigInt(indexed?.number ?? 0)).toBeGreaterThanOrEqual(last);
        last = BigInt(indexed?.number ?? 0);
      }
    };
    for (let i = 0; i < 10; i++) {
      await dead(3, authority);
      await neverBack();
    }
    await world.sql("update authorities set crl_number = crl_number + 5, crl_at = clock_timestamp() where id = $1", [authority]); // as a third would
    last += 5n;
    await neverBack();
  });
});

describe("an entry", () => {
  test("stays after its certificate's end until one more list was made, over a restart too, and then leaves", async () => {
    const { id: authority } = await signing();
    const [recent, long] = [await dead(-5, authority), await dead(-900, authority)];
    await listed(here, authority, recent);
    expect((await fetched(here, authority)).has(long)).toBe(false); // it had expired before it was revoked, and lists were made since
    // as if no broker had made a list for an hour: those that expired meanwhile have yet to be on one
    await Promise.all([here.stop(), there.stop()]);
    await world.sql("update authorities set crl_at = now() - interval '1 hour' where id = $1", [authority]);
    await here.start();
    const first = await listed(here, authority, recent);
    expect([first.has(recent), first.has(long)]).toEqual([true, true]);
    await dead(300, authority);
    const next = await world.until("the list after", async () => {
      const list = await fetched(here, authority);
      return list.number > first.number && list;
    });
    expect([next.has(recent), next.has(long)]).toEqual([true, false]);
    await there.start();
  });

  test("comes back when the clock is set back to where its certificate lives", async () => {
    const { id: authority } = await signing();
    // a list made by a clock an hour ahead, which found everything of now expired
    const before = await fetched(here, authority);
    await world.sql("update authorities set crl_at = now() + interval '1 hour', crl_since = now() + interval '58 minutes', crl_number = crl_number + 5 where id = $1", [authority]);
    const serial = await dead(300, authority);
    const list = await listed(here, authority, serial);
    expect(list.number).toBeGreaterThan(before.number);
    expect(list.thisUpdate.getTime()).toBeLessThan(Date.now());
    await world.restart(there);
    expect((await fetched(there, authority)).has(serial)).toBe(true);
  });

  test("of a context that changed says superseded, of a task that is over says so, the same at each broker and after each start", async () => {
    const agent = await world.agent();
    const { id } = await world.open();
    await agent.claim(id);
    const first = (await agent.x509())[0]?.serial ?? "";
    await world.change(id, { step: "2" });
    const second = (await agent.x509())[0]?.serial ?? "";
    await world.close(id);
    const { id: authority } = await signing();
    await listed(here, authority, second);
    await world.restart(there);
    const reasons = async (broker: BrokerProcess): Promise<(number | undefined)[]> => {
      const { tbs } = await listed(broker, authority, second);
      // … 0a 01 05: the reason code, within the entry that begins with the serial
      return [first, second].map((serial) => tbs[tbs.indexOf(Buffer.from("0a01", "hex"), tbs.indexOf(Buffer.from(serial, "hex"))) + 2]);
    };
    expect(await reasons(here)).toEqual([4, 5]);
    expect(await reasons(there)).toEqual([4, 5]);
    await agent.kill();
  });
});
