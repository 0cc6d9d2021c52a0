// Does every key arrive from flag, environment, file and default, in that order, and nothing else?
// The sample in deploy/ holds every key with its default; an unknown key or variable is refused by
// its name; no input makes the loader throw anything but CONFIG_INVALID.
// What the parts do with their keys is tested with them.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { describeConfig, loadConfig, socketPaths, taskEndpointPath } from "../src/config.ts";
import type { Config, ConfigSources } from "../src/config.ts";
import { BrevetError } from "../src/errors.ts";
import { newTaskId } from "../src/identity/id.ts";

const folder = mkdtempSync(join(tmpdir(), "brevet-config-"));
afterAll(() => rmSync(folder, { recursive: true }));

const sample = join(import.meta.dirname, "../deploy/brevet.yaml");
let files = 0;
function written(text: string): string {
  const path = join(folder, `${++files}.yaml`);
  writeFileSync(path, text);
  return path;
}

const load = (sources: ConfigSources = {}): Config => loadConfig({ env: { HOME: "/home/alice" }, uid: 1000, ...sources });

function refusal(sources: ConfigSources): BrevetError {
  try {
    load(sources);
  } catch (error) {
    if (error instanceof BrevetError && error.code === "CONFIG_INVALID") return error;
    throw error;
  }
  throw new Error("was not refused");
}
const violations = (sources: ConfigSources): string[] => refusal(sources).violations.map(({ field, description }) => `${field}: ${description}`);

describe("the sample", () => {
  test("says what would hold without it", () => {
    expect(load({ file: sample })).toEqual(load());
  });

  test("holds every key, in the manual's order, and each may be set as it stands there", () => {
    const everything = readFileSync(sample, "utf8").replace(/^( *)#(?=[a-zA-Z]+:)/gm, "$1");
    const config = load({ file: written(everything) });
    expect(config.database).toEqual({ url: "postgres://brevet@db.example.org:5432/brevet", passwordFile: "/etc/brevet/database-password", appUser: "brevet_app", appPasswordFile: "/etc/brevet/database-app-password", caFile: "/etc/brevet/database-ca.pem" });
    const sections: string[] = [];
    const keys = everything.split("\n").flatMap((line) => {
      const [, indent, key, value] = /^( *)([a-zA-Z]+):(.*)$/.exec(line) ?? [];
      if (key === undefined || indent === undefined) return [];
      if (value === "") sections[0] = key;
      return value === "" ? [] : [indent === "" ? key : `${sections[0]}.${key}`];
    });
    expect(keys).toEqual(describeConfig().map(({ key }) => key));
  });
});

describe("the manual", () => {
  const manual = describeConfig();

  test("each key has a variable, a flag and a text of its own", () => {
    expect(new Set(manual.map(({ env }) => env)).size).toBe(manual.length);
    expect(manual.every(({ env, flag, documentation }) => /^BREVET_[A-Z0-9_]+$/.test(env) && /^--[a-z0-9-]+$/.test(flag) && documentation.endsWith("."))).toBe(true);
    const env = Object.fromEntries(manual.map(({ key, env }) => [key, env]));
    expect(env).toMatchObject({
      "dataDir": "BREVET_DATA_DIR", "database.url": "BREVET_DATABASE_URL", "listen.http": "BREVET_LISTEN_HTTP",
      "limits.perUidFetchesPerSecond": "BREVET_LIMITS_PER_UID_FETCHES_PER_SECOND", "limits.perUidConnections": "BREVET_LIMITS_PER_UID_CONNECTIONS",
    });
  });

  test("every default may be written as a variable and as a flag, and means the same there", () => {
    const texts = manual.filter((key) => key.default !== "");
    const env = Object.fromEntries(texts.map((key) => [key.env, key.default]));
    const flags = Object.fromEntries(texts.map((key) => [key.key, key.default]));
    expect(load({ env: { HOME: "/home/alice", ...env } })).toEqual(load());
    expect(load({ flags })).toEqual(load());
    expect(texts.length).toBeGreaterThan(15);
  });
});

describe("sources", () => {
  test("flag over environment over file over default", () => {
    const file = written("waitForTask: 1s\nlog: { level: debug }\nlimits: { maxConnections: 7 }\n");
    const env = { BREVET_LOG_LEVEL: "warn", BREVET_LIMITS_MAX_CONNECTIONS: "8", BREVET_ADMIN_UIDS: "1, 2", BREVET_TASK_ID: "x", BREVET_TEST_ANYTHING: "x", OTHER: "x" };
    const config = load({ file, env, flags: { "limits.maxConnections": "9" } });
    expect([config.waitForTask, config.log.level, config.limits.maxConnections, config.admin.uids, config.limits.messageBytes]).toEqual([1, "warn", 9, [1, 2], 262_144]);
  });

  test("a list of mappings may be written as YAML or JSON, as a variable and as a flag", () => {
    const role = { spiffeId: "spiffe://brevet.local/service/ci", role: "orchestrator", agents: ["researcher"] };
    const domain = { trustDomain: "partner.example", bundleFile: "/b" };
    const env = { BREVET_ROLES: JSON.stringify([role]), BREVET_FEDERATION: "- { trustDomain: partner.example, bundleFile: /b }" };
    expect(load({ env })).toMatchObject({ roles: [role], federation: [domain] });
    expect(load({ env, flags: { roles: "" } })).toMatchObject({ roles: [], federation: [domain] });
    expect(violations({ env: { BREVET_ROLES: "[{ role: king }]", BREVET_FEDERATION: "partner.example" } })).toEqual([
      "federation: must be a list, is text (BREVET_FEDERATION)", "roles[0].spiffeId: is missing (BREVET_ROLES)",
      "roles[0].role: must be operator or orchestrator or service or auditor (BREVET_ROLES)",
    ]);
    expect(violations({ flags: { roles: "[{" } })).toEqual(["roles: must be a list, is text (--roles)"]);
  });

  test("zero means no limit, where it may be said", () => {
    const env = { BREVET_LIMITS_PER_UID_FETCHES_PER_SECOND: "0", BREVET_LIMITS_PER_UID_CONNECTIONS: "0" };
    expect(load({ env }).limits).toMatchObject({ perUidFetchesPerSecond: 0, perUidConnections: 0 });
    expect(violations({ env: { BREVET_LIMITS_MAX_CONNECTIONS: "0" } })).toEqual(["limits.maxConnections: must be at least 1 (BREVET_LIMITS_MAX_CONNECTIONS)"]);
  });

  test("all that is wrong at once, each by name and place", () => {
    const file = written("trustDomain: Example.org\nwaitForTask: 30\nlimit: {}\nlisten:\n  htp: off\nretention: 90d\nretention: 1d\n");
    const env = { BREVET_RETENTIN: "1d", BREVET_LOG_LEVEL: "loud", BREVET_ADMIN_UIDS: "root", BREVET_LIMITS_MESSAGE_BYTES: "many" };
    expect(violations({ file, env, flags: { "listen.http": "8640", "listen.hpp": "x" } })).toEqual([
      `the file: \`retention\` stands twice (${file}:7:1)`,
      "BREVET_RETENTIN: unknown variable; did you mean `BREVET_RETENTION`?",
      "listen.hpp: unknown key; did you mean `listen.http`?",
      `trustDomain: must be 1 to 255 of a-z, 0-9, dots, dashes and underscores (${file}:1:14)`,
      "listen.http: must be host:port such as 127.0.0.1:8640 or [::1]:8640, or off (--listen-http)",
      `listen.htp: unknown key; did you mean \`http\`? (${file}:5:3)`,
      "admin.uids[0]: must be a number, is text (BREVET_ADMIN_UIDS)",
      `waitForTask: has no unit: write a duration such as 90s, 15m, 1h or 1h30m (${file}:2:14)`,
      "limits.messageBytes: must be a number, is text (BREVET_LIMITS_MESSAGE_BYTES)",
      "log.level: must be debug or info or warn or error (BREVET_LOG_LEVEL)",
      `limit: unknown key; did you mean \`limits\`? (${file}:3:1)`,
    ]);
  });

  test("a file that can't be read, or is none", () => {
    expect(refusal({ file: join(folder, "none.yaml") }).message).toContain("none.yaml can't be read: ENOENT");
    expect(refusal({ file: folder }).message).toContain("EISDIR");
    expect(violations({ file: written("- a\n") })[0]).toMatch(/^the file: must be a mapping, is a list \(.*:1:1\)$/);
    expect(violations({ file: written("limits: 5\n"), env: { BREVET_LIMITS_MAX_CONNECTIONS: "1" } })[0]).toMatch(/^limits: must be a mapping, is a number \(.*:1:9\)$/);
    expect(load({ file: written("# nothing\n") })).toEqual(load());
  });

  test("a password in the database's URL is refused, and not repeated", () => {
    for (const url of ["postgres://u:hunter2@h/d", "postgres://u@h/d?password=hunter2"]) {
      const { message } = refusal({ env: { BREVET_DATABASE_URL: url } });
      expect(message).toContain("database.passwordFile");
      expect(message).not.toContain("hunter2");
    }
    expect(violations({ env: { BREVET_DATABASE_URL: "hunter2" } })).toEqual(["database.url: must be postgres://user@host:port/database (BREVET_DATABASE_URL)"]);
    expect(load({ env: { BREVET_DATABASE_URL: "postgresql:///d?host=/run/pg" } }).database.url).toBe("postgresql:///d?host=/run/pg");
  });

  test.each([["127.0.0.1:0", { host: "127.0.0.1", port: 0 }], ["[::1]:80", { host: "::1", port: 80 }], ["localhost:65535", { host: "localhost", port: 65_535 }], ["off", null]])(
    "listen.http %s", (text, parsed) => expect(load({ flags: { "listen.http": text } }).listen.http).toEqual(parsed));
  test.each(["", "8640", ":8640", "h:65536", "[::g]:1", "::1:80", "h:-1", "http://h:1", "h:1 "])("listen.http %j is refused", (text) => {
    expect(violations({ flags: { "listen.http": text } })).toHaveLength(1);
  });

  test.each(["https://b.example.org", "https://b.example.org:8443/pki", "http://127.0.0.1:8640"])(
    "publicUrl %s", (text) => expect(load({ env: { BREVET_PUBLIC_URL: text } }).publicUrl).toBe(text));
  test.each(["", "b.example.org", "ftp://b", "https://u@b", "https://u:p@b", "https://b/?q", "https://b/#f", "https://", "https://b/", "https://B", "http://b.example.org"])("publicUrl %j is refused", (text) => {
    expect(violations({ env: { BREVET_PUBLIC_URL: text } })).toHaveLength(1);
  });

  test("keys that contradict each other", () => {
    const file = written("authorities: { rootTtl: 1d, signingTtl: 2d }\ndatabase: { caFile: /ca.pem }\n");
    expect(violations({ file })).toEqual(["authorities.signingTtl: must not be longer than authorities.rootTtl", "database.caFile: means nothing without database.url"]);
  });
});

describe("where things lie", () => {
  const placed = (sources: ConfigSources): [string, string, string] => {
    const config = load(sources);
    return [config.dataDir, socketPaths(config).workload, config.keyEncryptionKeyFile];
  };

  test("BREVET_DATA_DIR holds everything, for root too", () => {
    for (const uid of [0, 1000]) {
      const config = load({ uid, env: { BREVET_DATA_DIR: "/d" } });
      expect(socketPaths(config)).toEqual({ workload: "/d/workload.sock", admin: "/d/admin.sock", taskDir: "/d/t" });
      expect([config.dataDir, config.keyEncryptionKeyFile]).toEqual(["/d", "/d/keys/kek"]);
    }
    expect(load({ env: { BREVET_DATA_DIR: "d" } }).dataDir).toBe(join(process.cwd(), "d"));
    expect(violations({ file: written("dataDir: d\n") })[0]).toMatch(/^dataDir: must be an absolute path/);
    expect(violations({ env: { BREVET_DATA_DIR: "" } })).toEqual(["dataDir: is empty (BREVET_DATA_DIR)"]);
  });

  test("without it: the system's places for root, else the user's state directory", () => {
    expect(placed({ uid: 0 })).toEqual(["/var/lib/brevet", "/run/brevet/workload.sock", "/var/lib/brevet/keys/kek"]);
    expect(placed({})).toEqual(["/home/alice/.local/state/brevet", "/home/alice/.local/state/brevet/workload.sock", "/home/alice/.local/state/brevet/keys/kek"]);
    expect(placed({ env: { HOME: "/home/alice", XDG_STATE_HOME: "/s" } })[0]).toBe("/s/brevet");
    expect(placed({ env: { HOME: "/home/alice", XDG_STATE_HOME: "s" } })[0]).toBe("/home/alice/.local/state/brevet");
  });

  test("a systemd credential is the key, unless one is named", () => {
    const credentials = join(folder, "credentials");
    mkdirSync(credentials);
    const env = { BREVET_DATA_DIR: "/d", CREDENTIALS_DIRECTORY: credentials };
    expect(placed({ env })[2]).toBe("/d/keys/kek");
    writeFileSync(join(credentials, "brevet-kek"), "");
    expect(placed({ env })[2]).toBe(join(credentials, "brevet-kek"));
    expect(placed({ env: { ...env, BREVET_KEY_ENCRYPTION_KEY_FILE: "/k" } })[2]).toBe("/k");
  });

  test("no socket's path is longer than the kernel takes: counted in bytes", () => {
    const longest = `/${"é".repeat(46)}`;
    const config = load({ env: { BREVET_DATA_DIR: longest } });
    const paths = socketPaths(config);
    const endpoint = taskEndpointPath(paths.taskDir, newTaskId(0));
    expect([Buffer.byteLength(paths.workload), Buffer.byteLength(endpoint)]).toEqual([107, 107]);
    expect(violations({ env: { BREVET_DATA_DIR: `${longest}x` } })).toEqual([
      `dataDir: the socket path ${longest}x/workload.sock has 108 bytes, and a socket's path at most 107: choose a shorter one (BREVET_DATA_DIR)`,
    ]);
  });

  test("a task's endpoint is named by the random half of its ID", () => {
    expect(taskEndpointPath("/d/t", "019ab0c2-7f00-7000-8000-0000000000ff")).toBe("/d/t/gAAAAAAAAP8");
    const names = Array.from({ length: 1_000 }, () => taskEndpointPath("/t", newTaskId(0)));
    expect(new Set(names).size).toBe(1_000);
    expect(names.every((name) => /^\/t\/[A-Za-z0-9_-]{11}$/.test(name))).toBe(true);
    expect(() => taskEndpointPath("/t", "../../etc/passwd")).toThrow(BrevetError);
  });
});

describe("no input makes it throw anything but CONFIG_INVALID", () => {
  const manual = describeConfig();
  const accepts = (sources: ConfigSources): void => {
    try {
      load(sources);
    } catch (error) {
      const { code, violations } = error as BrevetError;
      if (code !== "CONFIG_INVALID" || violations.length === 0) throw error;
    }
  };

  test("in variables and flags", () => {
    const value = fc.oneof(fc.string({ unit: "binary" }), fc.constantFrom("0", "-1", "1e9", "off", "[::]:1", "postgres://", "postgres://%", "1,,2", "99999999999999999999"));
    const env = fc.dictionary(fc.constantFrom(...manual.map((key) => key.env), "BREVET_", "BREVET___PROTO__"), value);
    const flags = fc.dictionary(fc.constantFrom(...manual.map((key) => key.key), "__proto__", "constructor", ""), value);
    fc.assert(fc.property(env, flags, (env, flags) => accepts({ env: { HOME: "/h", ...env }, flags })), { numRuns: 300 });
  });

  test("in the file", () => {
    const sections = new Set(manual.map(({ key }) => key.split(".")[0] ?? ""));
    const value = fc.dictionary(fc.constantFrom(...sections, "__proto__"), fc.oneof(fc.jsonValue(), fc.dictionary(fc.constantFrom(...manual.map(({ key }) => key.split(".")[1] ?? "")), fc.jsonValue())));
    fc.assert(fc.property(value, (value) => accepts({ file: written(JSON.stringify(value)), env: { BREVET_LISTEN_HTTP: "off", HOME: "/h" } })), { numRuns: 100 });
  });
});
