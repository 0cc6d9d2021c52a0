// Do agents and orchestrators get what the SDK promises?
// Each test talks over a real socket to a server that plays the broker's outside: tasks end with
// their block, SVIDs go when the stream takes them, errors arrive as they were meant.
// Against the broker itself: test/story.test.ts.
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { status } from "@grpc/grpc-js";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { AgentTask } from "../src/call/task.ts";
import { connect } from "../src/client/connect.ts";
import { WorkloadSource } from "../src/client/source.ts";
import { Tasks } from "../src/client/tasks.ts";
import { BrevetError } from "../src/errors.ts";
import { readJwtSvid } from "../src/identity/svid.ts";
import { Outside, agentJwt, agentSvid, refusal, taskA, taskB, until } from "./support/outside.ts";
import { patienceMs } from "./support/patience.ts";

let outside: Outside;
const open: { close(): void }[] = [];

beforeEach(async () => {
  outside = await Outside.start();
});
afterEach(() => {
  for (const one of open.splice(0)) one.close();
  outside.close();
});

function held<T extends { close(): void }>(one: T): T {
  open.push(one);
  return one;
}

async function refusalOf(promise: Promise<unknown>): Promise<BrevetError> {
  const error: unknown = await promise.then(() => undefined, (reason: unknown) => reason);
  if (!(error instanceof BrevetError)) throw new TypeError("was not refused", { cause: error });
  return error;
}

describe("a connection", () => {
  it("shows the security header with every call", async () => {
    const connection = held(connect({ address: outside.address }));
    await connection.tasks.open({ agent: "a" });
    for await (const message of connection.feed.watch({})) {
      expect(message.complete).toBe(true);
      break;
    }
    expect([...outside.headers]).toEqual(['["true"]']);
  });

  it("gives the broker's own error back: code, violations, attempt", async () => {
    outside.failures.push(refusal(status.PERMISSION_DENIED, "DENIED_NO_MATCH", "no agent matches", { attempt: "a-1" }));
    const error = await refusalOf(held(connect({ address: outside.address })).tasks.get({ task: "x" }));
    expect(error.code).toBe("DENIED_NO_MATCH");
    expect(error.metadata["attempt"]).toBe("a-1");
    expect(error.violations).toEqual([{ field: "agent", description: "unknown" }]);
  });

  it("makes sense of errors that are nobody's", async () => {
    const connection = held(connect({ address: outside.address }));
    for (const [code, meant] of [[status.PERMISSION_DENIED, "DENIED_IDENTITY"], [status.UNIMPLEMENTED, "UNIMPLEMENTED"], [status.DATA_LOSS, "INTERNAL"]] as const) {
      outside.failures.push({ code, details: "?" });
      expect((await refusalOf(connection.tasks.get({ task: "x" }))).code).toBe(meant);
    }
    outside.failures.push({ ...refusal(status.NOT_FOUND, "MADE_UP", "?") });
    expect((await refusalOf(connection.tasks.get({ task: "x" }))).code).toBe("NOT_FOUND");
  });

  it("names the socket where nobody answers", async () => {
    outside.stop();
    const error = await refusalOf(held(connect({ address: outside.address })).tasks.get({ task: "x" }));
    expect(error.code).toBe("BROKER_UNREACHABLE");
    expect(error.message).toContain(outside.directory);
  });

  it("refuses addresses that are none", () => {
    for (const address of ["", "tcp://10.0.0.1:1", "tcp://127.0.0.1", "unix:relative", "https://x", `unix:///${"x".repeat(107)}`]) {
      expect(() => connect({ address })).toThrow(BrevetError);
    }
  });

  it("asks again, where that is harmless, until the broker is back", async () => {
    outside.stop();
    const connection = held(connect({ address: outside.address }));
    const answer = connection.tasks.list({}, { retry: true, timeoutMs: patienceMs });
    await new Promise((resolve) => setTimeout(resolve, 100));
    await outside.listen();
    expect((await answer).tasks).toEqual([]);
  });

  it("ends calls with their signal's reason and on close", async () => {
    const connection = held(connect({ address: outside.address }));
    const stop = new AbortController();
    const stream = connection.tasks.watch({ task: "x" }, { signal: stop.signal });
    await stream.next();
    stop.abort(new RangeError("enough"));
    await expect(stream.next()).rejects.toThrow("enough");
    await expect(connection.tasks.get({ task: "x" }, { signal: stop.signal })).rejects.toThrow("enough");
    const other = connection.tasks.watch({ task: "x" });
    await other.next();
    connection.close();
    await expect(other.next()).rejects.toThrow("closed");
    expect((await refusalOf(connection.tasks.get({ task: "x" }, { retry: true }))).code).toBe("WRONG_STATE");
  });

  it("lets the process end once all is closed", async () => {
    const script = `
      import { Tasks } from ${JSON.stringify(new URL("../dist/src/client/tasks.js", import.meta.url).href)};
      import { Verifier } from ${JSON.stringify(new URL("../dist/src/verify/verifier.js", import.meta.url).href)};
      const address = ${JSON.stringify(outside.address)};
      const tasks = new Tasks({ address });
      const verifier = new Verifier({ address });
      const task = await tasks.open({ agent: "a" });
      task.signal.addEventListener("abort", () => {});
      await verifier.ready();
      verifier.close();
      tasks.close();
      console.log("closed");`;
    const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", script]);
    expect(stdout).toBe("closed\n");
  });
});

describe("options", () => {
  type Refused = [field: string, what: RegExp, make: (address: string) => unknown];
  const loose = (options: object): never => options as never; // as a program without types passes them
  it.each<Refused>([
    ["adress", /is no option: there are address, server, identity, trustBundle/, (address) => new Tasks(loose({ adress: address }))],
    ["ttl", /longer than 0s/, (address) => new Tasks({ address }).open({ agent: "a", ttl: "0s" })],
    ["idempotencyKey", /not empty/, (address) => new Tasks({ address }).open({ agent: "a", idempotencyKey: "" })],
    ["idempotencykey", /did you mean idempotencyKey/, (address) => new Tasks({ address }).open(loose({ agent: "a", idempotencykey: "k" }))],
    ["agent", /is missing/, (address) => new Tasks({ address }).open(loose({}))],
    ["context", /model must be text/, (address) => new Tasks({ address }).open(loose({ agent: "a", context: { user: "u", model: 5 } }))],
    ["bind", /must be claim or ticket or auto/, (address) => new Tasks({ address }).run(loose({ agent: "a", bind: "magic" }), () => 1)],
    ["status", /is no option/, async (address) => await new Tasks({ address }).list(loose({ status: "active" })).next()],
    ["facts", /model must be text, or undefined to remove it/, (address) => new Tasks({ address }).changeContexts(loose({ agent: "a", facts: { model: null } }))],
    ["facts", /model must be text/, async (address) => await (await held(new Tasks({ address })).open({ agent: "a" })).changeContext(loose({ model: 5 }))],
    ["options", /must be an object/, () => WorkloadSource.open(loose("unix:///x" as unknown as object))],
    ["hint", /is no option/, (address) => WorkloadSource.open(loose({ address, hint: "x" }))],
    ["task", /is missing/, (address) => WorkloadSource.claim(loose({ address }))],
    ["servers", /must be a function/, (address) => AgentTask.open(loose({ address, servers: "crm" }))],
  ])("that are none, or are not right, are refused by their names: %s %s", async (field, what, make) => {
    const made = async (): Promise<unknown> => await make(outside.address);
    await expect(made()).rejects.toMatchObject({ code: "INVALID_FIELD", violations: [{ field, description: expect.stringMatching(what) as string }] });
  });

  it("that are undefined were not given", async () => {
    const tasks = held(new Tasks({ address: outside.address, server: undefined }));
    await (await tasks.open({ agent: "a", ttl: undefined, idempotencyKey: undefined })).close();
  });
});

describe("a task", () => {
  it("is closed when its block is left", async () => {
    const tasks = held(new Tasks({ address: outside.address }));
    let id: string;
    {
      await using task = await tasks.open({ agent: "researcher", ttl: "15m", context: { user: "u" } });
      id = task.id;
      expect(outside.tasks.get(id)?.state).toBe("ready");
    }
    expect(outside.tasks.get(id)?.state).toBe("closed");
  });

  it("run: closes on return, aborts with the error's class, not its text, on throw", async () => {
    const tasks = held(new Tasks({ address: outside.address }));
    const done = await tasks.run({ agent: "a" }, (task) => task.id);
    expect(outside.tasks.get(done)?.state).toBe("closed");
    let failed = "";
    await expect(tasks.run({ agent: "a" }, (task) => {
      failed = task.id;
      throw new RangeError("the password is hunter2");
    })).rejects.toThrow(RangeError);
    expect(outside.tasks.get(failed)).toMatchObject({ state: "aborted", endReason: "RangeError" });
    await expect(tasks.run({ agent: "a" }, (task) => {
      failed = task.id;
      throw new BrevetError("WRONG_STATE", "?");
    })).rejects.toThrow(BrevetError);
    expect(outside.tasks.get(failed)?.endReason).toBe("BrevetError WRONG_STATE");
  });

  it("has a signal that aborts when somebody else ends it", async () => {
    const tasks = held(new Tasks({ address: outside.address }));
    const task = await tasks.open({ agent: "a" });
    const { signal } = task;
    await until(() => outside.calls.includes("watch"));
    expect(signal.aborted).toBe(false);
    const other = await tasks.get(task.id);
    await other.abort("stopped by the operator");
    await until(() => signal.aborted);
    expect(signal.reason).toMatchObject({ code: "DENIED_TASK_ENDED" });
    expect(String(signal.reason)).toContain("stopped by the operator");
    expect(task.state).toBe("aborted");
    await task.close();
    expect(outside.tasks.get(task.id)?.state).toBe("aborted");
  });

  it("keeps its signal through a broker's restart, and learns of epochs", async () => {
    const tasks = held(new Tasks({ address: outside.address }));
    const task = await tasks.open({ agent: "a" });
    const { signal } = task;
    await until(() => outside.calls.includes("watch"));
    outside.stop();
    outside.calls.length = 0;
    await outside.listen();
    await until(() => outside.calls.includes("watch"));
    await (await tasks.get(task.id)).changeContext({ user: "v" });
    await until(() => task.epoch === 1);
    expect(signal.aborted).toBe(false);
    await task.close();
    expect(signal.aborted).toBe(true);
  });

  it("has a signal that aborts at its expiry without any broker", async () => {
    const tasks = held(new Tasks({ address: outside.address }));
    const task = await tasks.open({ agent: "a", ttl: 1 });
    const { signal } = task;
    outside.stop();
    await until(() => signal.aborted);
    expect(String(signal.reason)).toContain("expired");
  });

  it("sets and removes facts", async () => {
    const tasks = held(new Tasks({ address: outside.address }));
    const task = await tasks.open({ agent: "a", context: { user: "u", model: "m" } });
    await task.changeContext({ user: "v", model: undefined });
    expect(task.record.context).toEqual({ user: "v" });
    expect(task.epoch).toBe(1);
    expect(await task.newTicket()).toHaveLength(43);
  });

  it("changes the facts of all of an agent's tasks", async () => {
    const tasks = held(new Tasks({ address: outside.address }));
    const [one, two] = [await tasks.open({ agent: "a", context: { user: "u" } }), await tasks.open({ agent: "a", context: { model: "m" } })];
    outside.failures.push(refusal(status.UNAVAILABLE, "OUTCOME_UNKNOWN", "?"));
    expect(await tasks.changeContexts({ agent: "a", facts: { user: undefined, model: "m" } })).toEqual({ changed: [one.id], unchanged: 1 });
    expect((await tasks.get(one.id)).record.context).toEqual({ model: "m" });
    expect((await tasks.get(two.id)).epoch).toBe(0);
  });

  it("opens once, however often it had to ask", async () => {
    const tasks = held(new Tasks({ address: outside.address }));
    outside.failures.push(refusal(status.UNAVAILABLE, "OUTCOME_UNKNOWN", "?"), refusal(status.UNAVAILABLE, "DATABASE_UNAVAILABLE", "?"));
    await tasks.open({ agent: "a" });
    expect(outside.calls.filter((name) => name === "open")).toHaveLength(3);
    const one = await tasks.open({ agent: "a", idempotencyKey: "k" });
    const two = await tasks.open({ agent: "a", idempotencyKey: "k" });
    expect(one.id).toBe(two.id);
    expect(outside.tasks.size).toBe(2);
  });

  it("lists page after page", async () => {
    const tasks = held(new Tasks({ address: outside.address }));
    for (let i = 0; i < 5; i++) await tasks.open({ agent: "a" });
    const ids: string[] = [];
    for await (const task of tasks.list({ agent: "a" })) ids.push(task.id);
    expect(new Set(ids).size).toBe(5);
  });

  it("refuses a length of time that is none", async () => {
    const tasks = held(new Tasks({ address: outside.address }));
    for (const ttl of ["15 m", "-1s", "1y", "", Number.NaN, -1, Number.POSITIVE_INFINITY]) {
      expect((await refusalOf(tasks.open({ agent: "a", ttl }))).violations[0]?.field).toBe("ttl");
    }
  });
});

describe("a source of SVIDs", () => {
  it("holds what the first message said, and follows each", async () => {
    const source = held(await WorkloadSource.open({ address: outside.address }));
    expect(source.svid().binding).toMatchObject({ task: taskA, epoch: 0 });
    expect(source.svid().cert.match(/BEGIN CERTIFICATE/g)).toHaveLength(2);
    outside.held = outside.holding(agentSvid(outside.authorities, taskA, 1), taskA);
    outside.pushSvids();
    await until(() => source.svid().binding?.epoch === 1);
    expect(source.svid(taskA)).toBe(source.svid());
    expect(() => source.svid(taskB)).toThrow("no X.509-SVID is held");
  });

  it("drops an SVID that is absent from a message, and all on PermissionDenied", async () => {
    const [a, b] = [outside.holding(agentSvid(outside.authorities, taskA), taskA), outside.holding(agentSvid(outside.authorities, taskB), taskB)];
    outside.held = { svids: [...a.svids, ...b.svids] };
    const source = held(await WorkloadSource.open({ address: outside.address }));
    expect(source.svid(taskB).hint).toBe(taskB);
    outside.held = a;
    outside.pushSvids();
    await until(() => source.svids.length === 1);
    expect(() => source.svid(taskB)).toThrow(BrevetError);
    const ended = new Promise<BrevetError>((resolve) => source.once("end", resolve));
    outside.held = refusal(status.PERMISSION_DENIED, "DENIED_TASK_ENDED", "the task ended");
    outside.pushSvids();
    expect((await ended).code).toBe("DENIED_TASK_ENDED");
    expect(() => source.svid()).toThrow(BrevetError);
    await expect(source.jwt("crm")).rejects.toThrow(BrevetError);
    expect(source.signal.aborted).toBe(false);
    outside.held = b;
    await until(() => source.svids.length === 1);
    expect(source.svid().hint).toBe(taskB);
  });

  it("keeps its SVIDs while the broker is away", async () => {
    const source = held(await WorkloadSource.open({ address: outside.address }));
    outside.stop();
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(source.svid().hint).toBe(taskA);
    outside.held = outside.holding(agentSvid(outside.authorities, taskA, 4), taskA);
    await outside.listen();
    await until(() => source.svid().binding?.epoch === 4);
  });

  it("does not hand out what has expired", async () => {
    outside.held = outside.holding(agentSvid(outside.authorities, taskA, 0, 3), taskA);
    const source = held(await WorkloadSource.open({ address: outside.address }));
    await until(() => {
      try {
        return source.svid() === undefined;
      } catch {
        return true;
      }
    });
  });

  it("discards a message that is not complete", async () => {
    const source = held(await WorkloadSource.open({ address: outside.address }));
    const good = outside.held;
    const other = agentSvid(outside.authorities, taskB);
    for (const issued of [{ ...other, key: Buffer.alloc(0) }, { ...other, chain: Buffer.alloc(0) }, { ...other, chain: other.chain.subarray(1) }]) {
      outside.calls.length = 0;
      outside.held = outside.holding(issued, taskB);
      outside.pushSvids();
      await until(() => outside.calls.length > 1);
      expect(source.svids.every(({ hint }) => hint === taskA)).toBe(true);
    }
    outside.held = good;
  });

  it("refuses at once who has no task, with the attempt to explain", async () => {
    outside.held = refusal(status.PERMISSION_DENIED, "DENIED_NO_TASK", "no task", { attempt: "a-7" });
    const error = await refusalOf(WorkloadSource.open({ address: outside.address }));
    expect([error.code, error.metadata["attempt"]]).toEqual(["DENIED_NO_TASK", "a-7"]);
  });

  it("waits for a broker that is away, as long as its signal lets it", async () => {
    outside.stop();
    const opening = WorkloadSource.open({ address: outside.address });
    await expect(WorkloadSource.open({ address: outside.address, signal: AbortSignal.timeout(50) })).rejects.toThrow("timeout");
    await outside.listen();
    expect(held(await opening).svid().hint).toBe(taskA);
  });

  it("fetches a JWT-SVID once per audience until half of its life is over", async () => {
    const source = held(await WorkloadSource.open({ address: outside.address }));
    const [one, two] = await Promise.all([source.jwt("crm"), source.jwt(["crm"])]);
    expect(two).toBe(one);
    expect(await source.jwt("crm")).toBe(one);
    expect(await source.jwt("search")).not.toBe(one);
    expect(outside.calls.filter((name) => name === "fetchJWTSVID")).toHaveLength(2);
    outside.token = (audience) => agentJwt(outside.authorities, taskA, { audience: [...audience], ttlSeconds: 2 });
    const brief = await source.jwt("brief");
    await new Promise((resolve) => setTimeout(resolve, 1_200));
    expect(await source.jwt("brief")).not.toBe(brief);
  });

  it("drops JWT-SVIDs with their epoch, also one still under way", async () => {
    const source = held(await WorkloadSource.open({ address: outside.address }));
    const old = await source.jwt("crm");
    let send = (): void => {};
    outside.hold = new Promise((resolve) => (send = resolve));
    const late = source.jwt("late");
    await until(() => outside.calls.filter((name) => name === "fetchJWTSVID").length === 2);
    outside.held = outside.holding(agentSvid(outside.authorities, taskA, 1), taskA);
    outside.token = (audience) => agentJwt(outside.authorities, taskA, { audience: [...audience], epoch: 1 });
    outside.pushSvids();
    await until(() => source.svid().binding?.epoch === 1);
    send();
    expect(readJwtSvid(await late).binding?.epoch).toBe(1);
    expect(await source.jwt("crm")).not.toBe(old);
    outside.failures.push(refusal(status.PERMISSION_DENIED, "DENIED_AUDIENCE", "not for you"));
    expect((await refusalOf(source.jwt("bank"))).code).toBe("DENIED_AUDIENCE");
    expect(await source.jwt("bank")).toMatch(/^ey/);
  });

  it("claims a task and ends with it", async () => {
    const tasks = held(new Tasks({ address: outside.address }));
    const { id } = await tasks.open({ agent: "researcher" });
    outside.held = outside.holding(agentSvid(outside.authorities, id), id);
    const source = held(await WorkloadSource.claim({ address: outside.address, task: id }));
    expect(source.task?.id).toBe(id);
    expect(source.svid().hint).toBe(id);
    outside.held = refusal(status.PERMISSION_DENIED, "DENIED_TASK_ENDED", "the task ended");
    outside.pushSvids();
    await until(() => source.signal.aborted);
    expect(source.signal.reason).toMatchObject({ code: "DENIED_TASK_ENDED" });
  });
});
