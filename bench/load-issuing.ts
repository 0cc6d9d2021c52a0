// How fast is issuing without the wire, and what is the machine's limit?
// The broker's own parts, against its database, in a process that serves nobody: every SVID is
// recorded durably and then signed, as in the broker. The limits do the least that could be done.
import { generateKeyPairSync, sign } from "node:crypto";
import { encodeCrlEntry, prepareCrl, signCrl } from "../ca/crl.ts";
import { newSerial } from "../ca/x509.ts";
import { Issuer, keyOf } from "../src/issue/issue.ts";
import type { Holder } from "../src/issue/issue.ts";
import { loadKeyEncryptionKey } from "../src/issue/kek.ts";
import { Trust } from "../src/issue/trust.ts";
import { Store } from "../src/record/store.ts";
import { serveBare } from "./bare.ts";
import { now } from "./worker.ts";

export type Database = { readonly host: string; readonly port: number; readonly user: string; readonly database: string };
export type BoundTask = { readonly task: string; readonly agent: string; readonly instance: string };

const trustDomain = "brevet.local";

async function repeatFor(ms: number, callers: number, once: (caller: number, round: number) => Promise<void>): Promise<number> {
  const began = now();
  let count = 0;
  await Promise.all(Array.from({ length: callers }, async (_, caller) => {
    for (let round = 0; now() < began + ms; round++) {
      await once(caller, round);
      count++;
    }
  }));
  return count / ((now() - began) / 1000);
}

export const jobs = {
  /** SVIDs recorded and signed each second. */
  async issue(given: { app: Database; kekFile: string; tasks: readonly BoundTask[]; kind: "x509" | "jwt"; callers: number; ms: number }): Promise<number> {
    const store = new Store({ app: { ...given.app, options: "-c role=brevet_app" }, log: () => undefined });
    const trust = new Trust(store, trustDomain, loadKeyEncryptionKey(given.kekFile, true));
    await trust.refresh();
    const issuer = new Issuer({ store, trustDomain, issuer: `spiffe://${trustDomain}`, signers: () => trust.signers, whenClear: () => undefined });
    const holders = given.tasks.map((bound): Holder => ({ kind: "task", ...bound, isSame: () => true }));
    const once = async (caller: number, round: number): Promise<void> => {
      const holder = holders[(caller + round * given.callers) % holders.length];
      if (!holder) throw new Error("no tasks");
      if (given.kind === "jwt") await issuer.jwt(holder, ["crm"]);
      else await issuer.x509(holder);
      issuer.forget(keyOf(holder));
    };
    await repeatFor(given.ms / 4, given.callers, once);
    const rate = await repeatFor(given.ms, given.callers, once);
    await store.close();
    return rate;
  },

  /** Builds and signs a list; milliseconds of each of several. */
  async buildCrl(given: { app: Database; kekFile: string; entries: number; times: number }): Promise<number[]> {
    const store = new Store({ app: { ...given.app, options: "-c role=brevet_app" }, log: () => undefined });
    const trust = new Trust(store, trustDomain, loadKeyEncryptionKey(given.kekFile, true));
    await trust.refresh();
    const serials = Array.from({ length: given.entries }, newSerial);
    const thisUpdate = new Date();
    const nextUpdate = new Date(thisUpdate.getTime() + 300_000);
    const samples: number[] = [];
    for (let i = 0; i < given.times; i++) {
      const began = now();
      const entries = Buffer.concat(serials.map((serial) => encodeCrlEntry(serial, thisUpdate, 5)));
      await signCrl(trust.signers.x509, prepareCrl({ issuer: trust.signers.x509, number: 1n, thisUpdate, nextUpdate, entries }));
      samples.push(now() - began);
    }
    await store.close();
    return samples;
  },

  /** P-256 signatures each second, on one core. */
  async signRate({ ms }: { ms: number }): Promise<number> {
    const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const data = Buffer.alloc(700);
    const began = now();
    let count = 0;
    for (; now() < began + ms; count++) sign("sha256", data, { key: privateKey, dsaEncoding: "ieee-p1363" });
    return count / ((now() - began) / 1000);
  },

  /** Durable commits of one small row each second, by so many clients. */
  async commitRate({ app, clients, ms }: { app: Database; clients: number; ms: number }): Promise<number> {
    const store = new Store({ app, log: () => undefined, poolSize: clients });
    await store.query({ name: "bench_table", text: "create table if not exists public.bench_commits (n bigint generated always as identity primary key, body text)" });
    const insert = { name: "bench_insert", text: "insert into public.bench_commits (body) values ($1)" };
    const body = "x".repeat(200);
    const rate = await repeatFor(ms, clients, async () => void (await store.query(insert, [body])));
    await store.close();
    return rate;
  },

  /** When the database first serves a new connection, from a moment on. */
  async untilDatabaseAnswers({ app, notBefore, ms }: { app: Database; notBefore: number; ms: number }): Promise<number> {
    for (const deadline = now() + ms; now() < deadline; ) {
      const store = new Store({ app, log: () => undefined, poolSize: 1 });
      const asked = now();
      const answered = await store.query({ name: "bench_alive", text: "select 1" }).then(() => true, () => false);
      const at = now();
      await store.close();
      if (answered && asked >= notBefore) return at;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    throw new Error(`the database did not answer within ${ms} ms`);
  },

  /** The RPC library alone, on its own socket, as long as this process lives. */
  async serveBare({ socket }: { socket: string }): Promise<void> {
    await serveBare(socket);
  },
};
