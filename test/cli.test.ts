// Does the command line keep its rules, before any broker is asked?
// The help of every command, mistakes in typing, what reaches a terminal, which words name a task, and
// how a tree of processes ends: real command lines and real processes, no broker.
// What the commands do with a broker is cli-broker.test.ts's business.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CommanderError } from "commander";
import type { Command } from "commander";
import { afterAll, describe, expect, test } from "vitest";
import { failureText } from "../src/cli/failure.ts";
import { duration, pair, pairsOf, since } from "../src/cli/options.ts";
import { fields, jsonText, painter, plain, relative, safe, short, table, when, yamlText } from "../src/cli/output.ts";
import { writePrivate } from "../src/cli/private-file.ts";
import { descendants, endTree } from "../src/cli/process-tree.ts";
import { commandsOf, program } from "../src/cli/program.ts";
import { findProgram, startStopped } from "../src/cli/run-start.ts";
import { about, taskRef } from "../src/cli/target.ts";
import { BrevetError, invalid, notFound } from "../src/errors.ts";
import { typed } from "./support/command-line.ts";
import { patienceMs } from "./support/patience.ts";
import { parse } from "yaml";

const folder = mkdtempSync(join(tmpdir(), "brevet-cli-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const bin = new URL("../bin/brevet.js", import.meta.url).pathname;
const clean = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(BREVET_|SPIFFE_|NO_COLOR|FORCE_COLOR)/.test(name)));

function brevet(...args: string[]): { code: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [bin, ...args], {
    encoding: "utf8", input: "", env: { ...clean, XDG_CONFIG_HOME: folder, BREVET_DATA_DIR: join(folder, "none") },
  });
  return { code: status, stdout, stderr };
}

const commands = commandsOf(program((error) => {
  throw error;
}));
const actions = commands.filter(([command]) => command.commands.length === 0);

function commandOf(path: string): Command {
  return commands.find(([, known]) => known === path)?.[0] ?? expect.unreachable(path);
}

function helpOf(command: Command): string {
  let text = "";
  command.configureOutput({ writeOut: (written) => (text += written) });
  command.outputHelp();
  return text;
}

describe("the help of", () => {
  test.each(commands.map(([, path]) => path))("%s has one example, which is a command that exists", (path) => {
    const help = helpOf(commandOf(path));
    const examples = help.match(/^ {2}\$ .*$/gm) ?? [];
    expect(help.match(/^Example:$/gm)).toHaveLength(1);
    expect(examples).toHaveLength(1);
    const words: string[] = (examples[0]?.match(/\$ (.*?)(?: > \S+)?$/)?.[1] ?? "").match(/"[^"]*"|'[^']*'|\S+/g) ?? [];
    const [found] = commands.filter(([, path]) => words.join(" ").startsWith(path)).sort((a, b) => b[1].length - a[1].length)[0] ?? [];
    const end = words.indexOf("--");
    const flags = words.slice(0, end < 0 ? undefined : end).filter((word) => word.startsWith("-"));
    for (const flag of flags) expect(found?.options.some((option) => option.short === flag || option.long === flag), `${words.join(" ")}: ${flag}`).toBe(true);
  });

  test("a command is shown by the word too", async () => {
    for (const words of [[], ["task"], ["task", "open"], ["version"]]) {
      expect(await typed("help", ...words), words.join(" ")).toMatchObject({ code: 0, stderr: "", stdout: (await typed(...words, "--help")).stdout });
    }
    expect(await typed("help", "task", "opne")).toMatchObject({ code: 2, stdout: "", stderr: expect.stringContaining("unknown command 'task opne' [USAGE]") as string });
  });

  test("close, abort and revoke say how they differ", () => {
    for (const path of ["brevet task close", "brevet task abort", "brevet revoke"]) {
      const help = helpOf(commandOf(path));
      for (const word of ["close:", "abort:", "revoke:"]) expect(help, path).toContain(word);
    }
  });

  test.each(["run", "svid x509", "svid jwt", "task claim", "operator add"])("%s offers no broker on another machine, and says why not", async (path) => {
    expect(helpOf(commandOf(`brevet ${path}`))).not.toMatch(/^ +--(server|identity) /m);
    const { code, stdout, stderr } = await typed(...path.split(" "), "--server", "broker.example.org:8641", "--identity", "alice/");
    expect(stderr).toMatch(/--server is not for this command.*on the broker's own machine \[USAGE\]/);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
  });

  test("an agent's sidecar takes none either; one for a verifier does, and keeps no identity then", async () => {
    const sidecar = async (...args: string[]): Promise<unknown> => {
      const { code, stderr } = await typed("sidecar", "--dir", "/nowhere", "--server", "broker.example.org:8641", ...args);
      return [code, stderr.split("\n")[0]];
    };
    expect(await sidecar("--pid", "1")).toEqual([2, expect.stringMatching(/--server goes with --verifier.*on the broker's own machine \[USAGE\]/)]);
    expect(await sidecar("--verifier", "--audience", "crm")).toEqual([2, expect.stringContaining("want a broker of this machine")]);
  });

  test("every command that answers prints table, json and yaml", () => {
    const silent = ["brevet broker", "brevet run", "brevet sidecar", "brevet help"]; // their output is a log, the command's own, a page
    for (const [command, path] of actions) {
      const output = command.options.find((option) => option.long === "--output");
      if (silent.includes(path)) expect(output, path).toBeUndefined();
      else expect(output, path).toMatchObject({ short: "-o", argChoices: ["table", "json", "yaml"] });
    }
  });
});

describe("a mistake in typing exits with 2 and says what to do:", () => {
  test.each([
    ["an unknown command", ["nonsense"], /unknown command 'nonsense'.*\[USAGE\]\n {2}try: brevet --help/],
    ["an unknown command of a noun", ["task", "opne"], /Did you mean open\?.*\n {2}try: brevet task --help/],
    ["an unknown flag", ["task", "list", "--stat", "active"], /unknown option '--stat' \(Did you mean --state\?\)/],
    ["a missing argument", ["task", "show"], /missing required argument 'task'.*\n {2}try: brevet task show --help/],
    ["a missing reason", ["task", "abort", "0190c2a4"], /required option '--reason <text>'/],
    ["a bad duration", ["task", "open", "--agent", "a", "--ttl", "15"], /option '--ttl <duration>' argument '15' is invalid/],
    ["a task of no time", ["task", "open", "--agent", "a", "--ttl", "0s"], /option '--ttl <duration>' argument '0s' is invalid. Give a duration above zero/],
    ["a task of no time to run under", ["run", "--agent", "a", "--ttl", "0m", "--", "true"], /option '--ttl <duration>' argument '0m' is invalid/],
    ["a certificate of no time", ["operator", "add", "alice", "--role", "auditor", "--ttl", "0s"], /option '--ttl <duration>' argument '0s' is invalid/],
    ["no time to wait", ["svid", "jwt", "--audience", "crm", "--timeout", "0s"], /option '--timeout <duration>' argument '0s' is invalid/],
    ["a bad context", ["task", "open", "--agent", "a", "--context", "user"], /option '--context <key=value>' argument 'user'/],
    ["the same reference twice", ["task", "open", "--agent", "a", "--ref", "k=1", "--ref", "k=2"], /argument 'k=2' is invalid.*"k" was given before/],
    ["a bad fact", ["task", "context", "0190c2a4", "user"], /argument 'user' is invalid/],
    ["nothing to change", ["task", "context", "0190c2a4"], /key=value/],
    ["no task to change", ["task", "context"], /--agent/],
    ["nothing to change in many", ["task", "context", "--agent", "a"], /key=value/],
    ["a ref of one task", ["task", "context", "0190c2a4", "user=alice", "--ref", "a=b"], /--ref goes with --agent/],
    ["an unknown choice", ["task", "open", "--agent", "a", "--bind", "hope"], /Allowed choices are claim, ticket, auto/],
    ["a bad pid", ["explain", "--pid", "-1"], /--pid/],
    ["two targets", ["revoke", "--task", "0190c2a4", "--all", "--reason", "r"], /one of --task, --agent, --service and --all/],
    ["no target", ["revoke", "--reason", "r"], /one of --task, --agent, --service and --all/],
    ["a fact both set and removed", ["task", "context", "0190c2a4", "--remove", "user", "user=c"], /user: give it a value, or --remove it/],
    ...["--ttl=1m", "--purpose=p", "--context=user=a", "--for=alice", "--ref=a=b", "--bind=claim"].map((flag) =>
      ["what a task that is open can't be given", ["run", "--task", "0190c2a4", flag, "--", "true"], new RegExp(`${flag.split("=")[0]}: with --agent only`)] as const),
    ["a ticket for a task still to be opened", ["run", "--agent", "a", "--ticket-file", "ticket", "--", "true"], /--ticket-file goes with --task/],
    ["neither task nor agent", ["run", "--", "true"], /--task or --agent/],
    ["no command to run", ["run", "--agent", "a"], /missing required argument 'command'/],
    ["a file that is not there", ["apply", "-f", "/nonexistent/catalog.yaml"], /catalog.yaml: cannot be read \(ENOENT\)/],
    ["a key store without a place for its password", ["svid", "x509", "--format", "p12"], /--format p12 needs --password-file, or --out/],
    ["a key store in a document", ["svid", "x509", "--format", "p12", "--password-file", "p", "-o", "json"], /-o goes with --out/],
    ["a bad time", ["attestation", "list", "--since", "yesterday"], /--since/],
  ] as const)("%s", async (_what, args, message) => {
    const { code, stdout, stderr } = await typed(...args);
    expect(stderr).toMatch(message);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
  });

  test("an option of one value is taken once, and no option is taken without a value", async () => {
    for (const [command, path] of actions) {
      const words = path.split(" ").slice(1);
      for (const option of command.options.filter(({ required, hidden, long }) => required && !hidden && long !== "--server")) {
        const flag = option.long ?? expect.unreachable(option.flags);
        const empty = await typed(...words, flag, "");
        expect(empty, `${path} ${flag}`).toMatchObject({ code: 2, stdout: "" });
        expect(empty.stderr, `${path} ${flag}`).toContain(flag);
      }
    }
    for (const [args, flag] of [
      [["revoke", "--task", "0190c2a4", "--task", "0190c2a5", "--reason", "r"], "--task"], [["task", "open", "--agent", "a", "--ttl", "1m", "--ttl", "2m"], "--ttl"],
      [["task", "list", "-o", "json", "--output", "yaml"], "--output"], [["log", "export", "--since", "1h", "--since", "2h"], "--since"],
    ] as const) {
      const { code, stderr } = await typed(...args);
      expect(stderr).toMatch(new RegExp(`^brevet: option '[^']*${flag} [^']*' was given twice \\[USAGE\\]\n {2}try: brevet ${args[0]}.* --help\n$`));
      expect(code).toBe(2);
    }
    // what may be repeated still may: here only the broker is missing
    expect((await typed("svid", "jwt", "--audience", "crm", "--audience", "search", "--socket", join(folder, "none"))).stderr).toMatch(/\[BROKER_UNREACHABLE\]/);
  });

  test("a word missing shows the help on stderr", () => {
    const { code, stdout, stderr } = brevet("task");
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toContain("Usage: brevet task");
  });
});

describe("without a broker", () => {
  test.each([["task", "list"], ["revoke", "--task", "0190c2a4", "--reason", "r"], ["svid", "x509"], ["verify", "jwt", "e30.e30.c2ln", "--audience", "crm"], ["run", "--agent", "a", "--", "true"]])(
    "%s %s names the socket that was tried, and how to start one", (...args) => {
      const { code, stdout, stderr } = brevet(...args);
      expect(stderr).toContain(join(folder, "none"));
      expect(stderr).toMatch(/\[BROKER_UNREACHABLE\]\n {2}try: .*brevet broker/);
      expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    });

  test("doctor says what fails, with a remedy, and exits with 1", () => {
    const { code, stdout } = brevet("doctor", "-o", "json");
    const { checks } = JSON.parse(stdout) as { checks: { check: string; result: string; remedy: string }[] };
    expect(code).toBe(1);
    expect(checks.find((check) => check.check === "workload socket")).toMatchObject({ result: "fail", remedy: expect.stringContaining("brevet broker") });
    for (const name of ["kernel", "pid namespace", "hidepid", "disk", "limits"]) expect(checks.map((check) => check.check)).toContain(name);
  });

  test("version works in each format", () => {
    const json = JSON.parse(brevet("version", "-o", "json").stdout) as { version: string };
    expect(json.version).toMatch(/^\d+\.\d+\.\d+/);
    expect(parse(brevet("version", "-o", "yaml").stdout)).toEqual(json);
    expect(brevet("version").stdout).toContain(json.version);
    for (const flag of ["--version", "-V"]) expect(brevet(flag)).toEqual({ code: 0, stdout: `${json.version}\n`, stderr: "" });
  });
});

describe("what others wrote", () => {
  const hostile = "a\u001b[31mred\nline\r\u0007\u009b31m\u202eevil\u2066\u200b\u2028\ufeff\u0000\u007f\ud800\u{e0041} ok é 日本 🙂";

  test("reaches the terminal as one line that can't move the cursor or turn the text around", () => {
    const shown = safe(hostile);
    expect(shown).toBe("a\\u001b[31mred\\u000aline\\u000d\\u0007\\u009b31m\\u202eevil\\u2066\\u200b\\u2028\\ufeff\\u0000\\u007f\\ud800\\udb40\\udc41 ok é 日本 🙂");
    for (const text of [table([hostile], [["x", (row) => row]], ""), fields([["x", hostile]])]) {
      expect(text.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Cf}\u2028]/u);
    }
    expect(failureText(new BrevetError("NOT_FOUND", hostile)).replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Cf}]/u);
  });

  test("is the same again when a program reads it", async () => {
    const wellFormed = hostile.replace("\ud800", "");
    for (const text of [jsonText({ [wellFormed]: wellFormed }), jsonText({ [wellFormed]: wellFormed }, 2)]) {
      expect(text.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Cf}\u2028]/u);
      expect(JSON.parse(text)).toEqual({ [wellFormed]: wellFormed });
    }
    const yaml = await yamlText({ text: wellFormed, plain: "yes" });
    expect(yaml.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Cf}\u2028]/u);
    expect(parse(yaml)).toEqual({ text: wellFormed, plain: "yes" });
  });

  test("is cut by characters, never inside one", () => {
    expect(short("🙂🙂🙂🙂", 3)).toBe("🙂🙂…");
    expect(short("abc", 3)).toBe("abc");
  });
});

describe("output", () => {
  const now = new Date("2026-11-22T10:03:00Z");

  test.each([["2026-11-22T10:00:00Z", "3m ago"], ["2026-11-22T12:33:00Z", "in 2h"], ["2026-11-22T10:03:00Z", "now"], ["2026-11-10T10:03:00Z", "12d ago"]])(
    "%s is %s", (time, text) => expect(relative(new Date(time), now)).toBe(text));

  test("absolute and relative time stand side by side", () => {
    expect(when({ seconds: Date.parse("2026-11-22T10:00:00Z") / 1000, nanos: 5e8 }, now)).toBe("2026-11-22T10:00:00Z (3m ago)");
    expect(when(null)).toBe("");
  });

  test("a message becomes JSON: times, bytes, structs, nothing absent", () => {
    const struct = { fields: {
      uid: { kind: "numberValue", numberValue: 1000 }, none: { kind: "nullValue", nullValue: "NULL_VALUE" },
      list: { kind: "listValue", listValue: { values: [{ kind: "stringValue", stringValue: "x" }, { kind: "boolValue", boolValue: false }] } },
      deep: { kind: "structValue", structValue: { fields: { empty: { kind: "stringValue", stringValue: "" } } } },
    } };
    expect(plain({ openedAt: { seconds: 1_795_341_600, nanos: 250_000_000 }, endedAt: null, facts: struct, key: Buffer.from("hi"), epoch: 2 })).toEqual({
      openedAt: "2026-11-22T10:00:00.250Z", facts: { uid: 1000, none: null, list: ["x", false], deep: { empty: "" } }, key: "aGk=", epoch: 2,
    });
  });

  test("colours are for terminals that want them", () => {
    expect(painter({ isTTY: true }, {})("red", "x")).toBe("\u001b[31mx\u001b[0m");
    for (const [stream, env] of [[{}, {}], [{ isTTY: true }, { NO_COLOR: "1" }], [{ isTTY: true }, { TERM: "dumb" }]] as const) {
      expect(painter(stream, env)("red", "x")).toBe("x");
    }
  });

  test("columns line up, and an empty list says so", () => {
    expect(table([{ a: "x", b: "1" }, { a: "longer", b: "" }], [["a", (r) => r.a], ["b", (r) => r.b]], "none")).toBe("A       B\nx       1\nlonger  -");
    expect(table([], [["a", () => ""]], "no tasks")).toBe("no tasks");
  });
});

describe("an error says what, what to do, and the code:", () => {
  test("one that the broker refused, with the object as it was typed", async () => {
    const error = await about("task", "0190c2a4", Promise.reject(notFound("task", "task"))).catch((thrown: unknown) => thrown);
    expect(failureText(error)).toBe('brevet: task: no such task "0190c2a4" [NOT_FOUND]\n  try: brevet task list');
  });

  test("every field that is not right, by its flag too", () => {
    const text = failureText(invalid([{ field: "ttl_seconds", description: "too long" }, { field: "context.user", description: "unknown key" }]), "brevet task open");
    expect(text).toBe("brevet: 2 fields are not right [INVALID_FIELD]\n  ttl_seconds (--ttl): too long\n  context.user (--context): unknown key\n  try: brevet task open --help");
  });

  test.each([
    ["spiffe_id", "brevet svid jwt", "spiffe_id (--spiffe-id)"], ['set["bad"]', "brevet task context", 'set["bad"] (key=value)'], ["remove[0]", "brevet task context", "remove[0] (--remove)"],
    ["name", "brevet agent show", "name (<agent>)"], ["name", "brevet operator remove", "name (<operator>)"], ["audience", "brevet svid jwt", "audience (--audience)"],
  ])("the field %s of %s is named as it is typed", (field, command, named) => {
    expect(failureText(invalid([{ field, description: "is wrong" }]), command)).toBe(`brevet: ${named}: is wrong [INVALID_FIELD]\n  try: ${command} --help`);
  });

  test("a refusal leads to its explanation", () => {
    const refusal = new BrevetError("DENIED_NO_MATCH", "caller: matches no agent", { metadata: { attempt: "01J" } });
    expect(failureText(refusal)).toContain("try: brevet explain 01J");
  });

  test("the cause stays inside", () => {
    expect(failureText(new Error("password=hunter2"))).toMatch(/internal error \[INTERNAL\]/);
    expect(failureText(new CommanderError(2, "x", "error: bad"), "brevet task")).toBe("brevet: bad [USAGE]\n  try: brevet task --help");
  });
});

describe("values", () => {
  test("durations and times", () => {
    expect([duration("90s"), duration("15m"), duration("1h30m"), duration("2d")]).toEqual([90, 900, 5400, 172_800]);
    for (const bad of ["", "15", "1x", "-1s", "1.5h"]) expect(() => duration(bad), bad).toThrow();
    expect(since("2026-11-22T10:00:00Z").toISOString()).toBe("2026-11-22T10:00:00.000Z");
    expect(since("2026-11-30").toISOString()).toBe("2026-11-30T00:00:00.000Z");
    for (const bad of ["2026-13-99T10:00:00Z", "2026-13-99", "2026-11-30x", "30.11.2026"]) expect(() => since(bad), bad).toThrow();
  });

  test("pairs keep what follows the first =, and any key", () => {
    expect(pair("a=b=c")).toEqual({ a: "b=c" });
    expect(pair("b=", { a: "1" })).toEqual({ a: "1", b: "" });
    expect(Object.entries(pairsOf(["__proto__=x"]))).toEqual([["__proto__", "x"]]);
    for (const bad of ["a", "=b", ""]) expect(() => pair(bad), bad).toThrow();
  });
});

describe("a task is named by", () => {
  const id = "0190c2a4-77aa-7c3e-9d5e-52f0a1b2c3d4";
  const spiffeId = `spiffe://example.org/agent/researcher/task/${id}`;

  test.each([id, "0190c2a4", spiffeId, "pid:4711", "9f86d081884c7d65"])("%s, which the broker resolves", (ref) => expect(taskRef(ref)).toBe(ref));

  const file = (name: string, content: string | Buffer): string => {
    writeFileSync(join(folder, name), content);
    return join(folder, name);
  };

  test("a certificate, PEM or DER", () => {
    const pem = certificate(spiffeId);
    expect(taskRef(file("svid.pem", pem))).toBe(spiffeId);
    expect(taskRef(file("svid.der", Buffer.from(pem.replace(/-----.*-----|\s/g, ""), "base64")))).toBe(spiffeId);
    expect(() => taskRef(file("service.pem", certificate("spiffe://example.org/service/crm")))).toThrow(/belongs to no task/);
  });

  test("a token, in a file or pasted", () => {
    const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
    const token = `${part({ alg: "ES256" })}.${part({ sub: "spiffe://example.org/agent/researcher", brevet: { task: id } })}.c2ln`;
    expect(taskRef(token)).toBe(id);
    expect(taskRef(file("token", `${token}\n`))).toBe(id);
    expect(() => taskRef(`${part({})}.${part({ sub: "x" })}.c2ln`)).toThrow(/without a task/);
  });

  test("nothing else: what holds no SVID is refused by its name", () => {
    expect(() => taskRef(file("notes.txt", "hello"))).toThrow(/notes.txt holds no SVID/);
    expect(() => taskRef(join(folder, "nothing.pem"))).toThrow(/cannot be read/);
  });
});

function certificate(uri: string): string {
  const args = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "/dev/null", "-subj", "/O=x", "-addext", `subjectAltName=URI:${uri}`];
  const { stdout } = spawnSync("openssl", args, { encoding: "utf8" });
  return stdout;
}

/** Z: dead, and to be collected by whoever is its parent now. */
function stateOf(pid: number): string {
  try {
    return /\) (\S)/.exec(readFileSync(`/proc/${pid}/stat`, "latin1"))?.[1] ?? "unknown";
  } catch {
    return "gone";
  }
}

describe("a secret's file", () => {
  const at = (name: string): string => join(folder, name);

  test("is for nobody else, and holds nothing of what was there before", () => {
    writeFileSync(at("old"), "something longer that stood there before", { mode: 0o644 });
    for (const name of ["old", "new"]) {
      writePrivate(at(name), "secret");
      expect([statSync(at(name)).mode & 0o777, readFileSync(at(name), "utf8")]).toEqual([0o600, "secret"]);
    }
  });

  test("is never reached over a link, and is never a device", () => {
    symlinkSync(at("new"), at("link"));
    for (const name of [at("link"), "/dev/null", at("none/file"), folder]) expect(() => writePrivate(name, "secret"), name).toThrow(/cannot be written/);
  });
});

describe("a tree of processes", () => {
  test("ends whole: those who ignore SIGTERM, the stopped, and their children", async () => {
    const stubborn = `trap "" TERM; sleep 300 & while :; do wait; done`;
    const root = spawn("sh", ["-c", `sleep 300 & sh -c '${stubborn}' & sh -c 'kill -STOP $$' & echo ready; wait; wait; wait; read x`], { stdio: ["pipe", "pipe", "ignore"] });
    await once(root.stdout, "data");
    await expect.poll(() => descendants(root.pid ?? 0).length, { timeout: patienceMs }).toBe(4);
    const all = descendants(root.pid ?? 0);
    await endTree(root.pid ?? 0, 300);
    expect(descendants(root.pid ?? 0)).toEqual([]);
    for (const pid of all) expect(["gone", "Z"], `state of ${pid}`).toContain(stateOf(pid));
    expect(root.exitCode).toBeNull(); // the root itself is not touched
    root.kill("SIGKILL");
    await once(root, "exit");
  });
});

describe("a command", () => {
  const out = (name: string): string => join(folder, name);
  const ownFiles = (file: string): string[] => ["find", "/proc/self/fd", "-type", "l", "-fprintf", file, "%f %l\\n"];
  const programOf = (name: string): string => {
    const found = findProgram(name);
    return "file" in found ? found.file : expect.unreachable(name);
  };
  const ran = async (argv: readonly string[], env: NodeJS.ProcessEnv): Promise<number | null> => {
    const { child } = startStopped(argv, programOf(argv[0] ?? ""), env);
    const exited = once(child, "exit") as Promise<[number | null]>;
    child.kill("SIGCONT");
    return (await exited)[0];
  };

  test("is stopped before its first instruction, as its own program, and nobody follows it then", async () => {
    const { child, isStopped } = startStopped(["touch", out("touched")], programOf("touch"), process.env);
    expect(isStopped).toBe(true);
    const pid = child.pid ?? 0;
    expect(readFileSync(`/proc/${pid}/cmdline`, "utf8")).toBe(`touch\0${out("touched")}\0`);
    await expect.poll(() => stateOf(pid), { timeout: patienceMs }).toBe("T");
    expect(readFileSync(`/proc/${pid}/status`, "utf8")).toMatch(/^TracerPid:\t0$/m);
    expect(readFileSync(`/proc/${pid}/maps`, "utf8")).not.toMatch(/\blibc[.-]/); // not even its libraries are there
    const exited = once(child, "exit");
    child.kill("SIGCONT");
    expect(await exited).toEqual([0, null]);
    expect(statSync(out("touched")).isFile()).toBe(true);
  });

  test.each([
    ["of an ordinary caller", { ...process.env, PWD: process.cwd(), _: "/usr/bin/brevet", EMPTY: "", LINES: "a\nb" }],
    ["without what shells add", { PATH: process.env["PATH"] }],
    ["with names that a shell would drop", { PATH: process.env["PATH"], "discovery.type": "single-node" }],
  ])("has the environment and the open files %s", async (_what, env) => {
    for (const name of ["plain-env", "env"]) rmSync(out(name), { force: true }); // a copy may be written no more than what it was made of
    spawnSync("cp", ["/proc/self/environ", out("plain-env")], { env, stdio: "inherit" });
    expect(await ran(["cp", "/proc/self/environ", out("env")], env)).toBe(0);
    expect(readFileSync(out("env"), "latin1").split("\0").sort()).toEqual(readFileSync(out("plain-env"), "latin1").split("\0").sort());
    const [find = "", ...args] = ownFiles(out("fds"));
    spawnSync(find, args, { env, stdio: "inherit" });
    const plainly = readFileSync(out("fds"), "utf8").replaceAll(/\/proc\/\d+/g, "");
    expect(await ran(ownFiles(out("fds")), env)).toBe(0);
    expect(readFileSync(out("fds"), "utf8").replaceAll(/\/proc\/\d+/g, "")).toBe(plainly);
  });

  test("keeps its arguments and its exit code; one that cannot be executed ends by itself", async () => {
    expect(await ran(["sh", "-c", 'test "$0-$1-$2" = "a b-*-" && exit 7', "a b", "*", ""], process.env)).toBe(7);
    writeFileSync(out("odd"), "#!/usr\n", { mode: 0o755 });
    const { child, isStopped } = startStopped([out("odd")], out("odd"), process.env);
    expect(isStopped).toBe(false);
    expect(await once(child, "exit")).toEqual([126, null]);
  });

  test("is found as a shell finds it", () => {
    const path = { PATH: `${folder}:/nonexistent:/usr/bin:/bin` };
    writeFileSync(out("dull"), "text", { mode: 0o644 });
    writeFileSync(out("script"), "#! /bin/sh -e\n", { mode: 0o755 });
    writeFileSync(out("lost"), "#!/nonexistent/interpreter\n", { mode: 0o755 });
    expect(findProgram("script", path)).toEqual({ file: out("script") });
    expect(findProgram("lost", path)).toMatchObject({ exitCode: 127, error: { message: "command: lost: its interpreter /nonexistent/interpreter: ENOENT" } });
    expect(findProgram("sh", path)).toMatchObject({ file: expect.stringMatching(/\/bin\/sh$/) as string });
    mkdirSync(out("closed"), { mode: 0o000 }); // what it holds is nobody's to know
    expect(findProgram("no-such-program", { PATH: `${out("closed")}:/usr/bin` })).toMatchObject({ exitCode: 127 });
    for (const [name, exitCode] of [["dull", 126], ["no-such-program", 127], ["", 127], [folder, 126], [`${out("dull")}/x`, 127]] as const) {
      expect(findProgram(name, path), name).toMatchObject({ exitCode });
    }
  });
});
