// Does the broker always have a certificate of its own that others can trust?
// It is recorded before it is signed, leads to the bundle, is renewed before it ends and when its authority
// rotates, and no agent's or service's place is open to it.
// Whom it is shown to is network.test.ts's.
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { signaturesMade } from "../ca/authority.ts";
import { defaultRotation } from "../ca/rotation.ts";
import { splitDer } from "../src/identity/der.ts";
import { OwnSvid } from "../src/issue/own.ts";
import type { OwnCertificate } from "../src/issue/own.ts";
import { Trust } from "../src/issue/trust.ts";
import { identify } from "../src/verify/verdict.ts";
import { readSigningCertificate, verifyX509 } from "../src/verify/x509.ts";
import { readX509Svid, splitChain } from "../src/identity/svid.ts";
import { Ledger } from "./support/ledger.ts";
import { patienceMs } from "./support/patience.ts";

const trustDomain = "example.org";
let ledger: Ledger;
beforeAll(async () => {
  ledger = await Ledger.start();
});
afterAll(() => ledger.close());

const rows = async (): Promise<string[]> =>
  (await ledger.owner.rows<{ serial: string }>("select serial from svids where subject = 'brevet/broker' order by id")).map(({ serial }) => serial);
const serialOf = ({ chain }: OwnCertificate): string => readX509Svid(splitChain(chain)[0] ?? Buffer.alloc(0)).serial;

async function until(what: string, holds: () => boolean): Promise<void> {
  for (const deadline = performance.now() + patienceMs; !holds();) {
    if (performance.now() > deadline) throw new Error(`never came: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

test("each is a row before it is a signature, and follows its authority's rotation", async () => {
  const trust = new Trust(ledger.store, trustDomain, randomBytes(32), { policy: { ...defaultRotation, signingSeconds: 8, publishSeconds: 1, minimumSeconds: 2 } });
  await trust.refresh();
  const before = signaturesMade("x509");
  let recorded = 0;
  const own = new OwnSvid({ store: ledger.store, trustDomain, trust, onRecorded: () => recorded++, log: () => undefined });
  expect(() => own.current).toThrow(/no certificate of its own/);
  await Promise.all([own.start(), own.start()]);
  expect(await rows()).toEqual([serialOf(own.current)]);

  const svid = verifyX509(own.current.chain, () => splitDer(trust.published.x509).map(readSigningCertificate), Date.now());
  expect(svid).toMatchObject({ spiffeId: "spiffe://example.org/brevet/broker", binding: null });
  const genuine = { ...svid, expiresAt: svid.notAfter };
  expect(() => identify(genuine, ["agent", "service"])).toThrow(expect.objectContaining({ code: "VERIFY_NOT_AN_AGENT" }));

  const authority = trust.signers.x509.record.id;
  let told = 0;
  own.onChange(() => told++);
  const enough = new AbortController();
  const looking = (async () => {
    for (; !enough.signal.aborted; await sleep(200)) await trust.refresh();
  })();
  await until("another authority", () => trust.signers.x509.record.id !== authority);
  const signer = trust.signers.x509;
  await until("a certificate by it", () => splitChain(own.current.chain)[1]?.equals(signer.certificate) ?? false);
  expect(told).toBeGreaterThan(0);
  enough.abort();
  await looking;
  await own.close();
  expect((await rows()).at(-1)).toBe(serialOf(own.current));
  expect(signaturesMade("x509") - before).toBe(recorded);
  expect(await rows()).toHaveLength(recorded);
});
