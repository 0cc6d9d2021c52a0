// Where does a whole run of the tests get its PostgreSQL?
// One embedded server for all files, started before the first and stopped after the last, named to them
// in BREVET_TEST_DATABASE_URL. Where that is set already, the server that it names is used.
// A database for each test is postgres.ts's business.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { flockExclusive } from "../../src/kernel.ts";
import { startEmbedded } from "../../src/record/embedded.ts";

export default async function startServer(): Promise<(() => Promise<void>) | undefined> {
  if (process.env["BREVET_TEST_DATABASE_URL"] !== undefined || process.platform !== "linux") return undefined;
  const dataDir = mkdtempSync(join(tmpdir(), "brevet-test-"));
  const { superuser, socketDir, port, stop } = await startEmbedded({ dataDir, lock: flockExclusive, log: () => {} });
  process.env["BREVET_TEST_DATABASE_URL"] = `postgresql://${superuser}@${encodeURIComponent(socketDir)}:${port}/postgres`;
  return async () => {
    await stop(10_000);
    rmSync(dataDir, { recursive: true });
  };
}
