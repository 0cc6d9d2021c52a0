// What does a process that makes load do?
// It waits for orders of its starter and ends with it. Each job's file is loaded when it is first
// wanted, so a process that is to wait for one SVID starts as fast as a small program does.
// Who orders what is the rows' business (rows-*.ts).
import type { Order, Reply } from "./worker.ts";

const calls = () => import("./load-calls.ts");
const streams = () => import("./load-streams.ts");
const tasks = () => import("./load-tasks.ts");
const issuing = () => import("./load-issuing.ts");
const verify = () => import("./load-verify.ts");
const revocation = () => import("./load-revocation.ts");

type Module = Awaited<ReturnType<typeof calls>>["jobs"] & Awaited<ReturnType<typeof streams>>["jobs"]
  & Awaited<ReturnType<typeof tasks>>["jobs"] & Awaited<ReturnType<typeof issuing>>["jobs"]
  & Awaited<ReturnType<typeof revocation>>["jobs"] & Awaited<ReturnType<typeof verify>>["jobs"];
export type Jobs = Module;

const files = [calls, streams, tasks, issuing, revocation, verify] as const;

async function find(job: string): Promise<(given: unknown) => Promise<unknown>> {
  for (const file of files) {
    const { jobs } = await file();
    const found = (jobs as Record<string, unknown>)[job];
    if (typeof found === "function") return found as (given: unknown) => Promise<unknown>;
  }
  throw new Error(`no such job: ${job}`);
}

process.on("disconnect", () => process.exit(0));
process.on("message", (order: Order) => {
  void (async () => {
    let reply: Reply;
    try {
      reply = { id: order.id, result: await (await find(order.job))(order.given) };
    } catch (error) {
      reply = { id: order.id, error: error instanceof Error ? (error.stack ?? error.message) : String(error) };
    }
    process.send?.(reply);
  })();
});
