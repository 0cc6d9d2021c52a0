// What is this broker, or this command, told to do?
// This file is the manual: every key, its default and what it is for stand in the schema below.
// Flag > environment (BREVET_…) > file > default; an unknown key or variable is refused by its name,
// all violations at once; secrets are only ever named by the path of their file.
// Where its sockets lie follows from it too, so every command finds the broker that it means.
// Reading the named files, and whether an address is free, is left to the parts that use them.
import { existsSync, readFileSync } from "node:fs";
import { isIPv6 } from "node:net";
import { homedir } from "node:os";
import { join } from "node:path";
import * as z from "zod";
import { absolutePath, envName, fillSections, flagName, leavesOf, override, textsFromEnv, textsFromFlags } from "./config-layers.ts";
import { BrevetError } from "./errors.ts";
import type { Violation } from "./errors.ts";
import { isTaskId, parseSpiffeId, parseTrustDomain } from "./identity/id.ts";
import { check, duration, formatPath, listOf, section, text } from "./identity/schema.ts";
import { readYaml } from "./identity/yaml.ts";
import type { Path, YamlFile } from "./identity/yaml.ts";

const minute = 60;
const hour = 60 * minute;
const day = 24 * hour;

const count = (min: number, max: number): z.ZodInt => z.int().min(min).max(max);

const trustDomain = z.string().transform((name, context) => {
  try {
    return parseTrustDomain(name);
  } catch {
    context.issues.push({ code: "custom", message: "must be 1 to 255 of a-z, 0-9, dots, dashes and underscores", input: name });
    return z.NEVER;
  }
});

const databaseUrl = text(2_048).refine(isPostgresUrl, { error: "must be postgres://user@host:port/database" })
  .refine((url) => !isPostgresUrl(url) || !hasPassword(url), { error: "must not carry a password: put it into a file of its own and name that in database.passwordFile" });

const bundleEndpoint = text(2_048).refine(isBundleEndpoint, { error: "must be an https:// address without user, password and fragment" });

const spiffeId = text(2_048).refine(isWorkloadId, { error: "must be a workload's SPIFFE ID such as spiffe://example.org/spire/server" });

/** SPIFFE Federation section 5.1: nothing of it is ever inferred. */
const federatedDomain = section({
  trustDomain,
  /** Its bundle document; with an endpoint the first one, which `https_spiffe` begins with. */
  bundleFile: absolutePath.optional(),
  endpoint: bundleEndpoint.optional(),
  profile: z.enum(["https_web", "https_spiffe"]).optional(),
  /** Who the endpoint must be, by `https_spiffe`. */
  endpointSpiffeId: spiffeId.optional(),
  /** PEM certificates that vouch for the endpoint by `https_web`, instead of the web's. */
  caFile: absolutePath.optional(),
});

/** `host:port` in the file; null for `off`. */
const httpAddress = z.string().transform((written, context): { readonly host: string; readonly port: number } | null => {
  if (written === "off") return null;
  const [, v6, name, port] = /^(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9.-]{1,253})):(\d{1,5})$/.exec(written) ?? [];
  const host = v6 !== undefined && isIPv6(v6) ? v6 : name;
  if (host !== undefined && Number(port) <= 65_535) return { host, port: Number(port) };
  context.issues.push({ code: "custom", message: "must be host:port such as 127.0.0.1:8640 or [::1]:8640, or off", input: written });
  return z.NEVER;
});

/** An OpenID Connect issuer is compared byte by byte: one way to write it, and no slash at its end. */
const publicUrl = text(200).refine(isPublicUrl, {
  error: "must be https://host, with a port or a path if need be, in lower case and without a slash at its end (http:// on loopback only)",
});

const roleId = text(2_048).refine(isRoleId, {
  error: "must be spiffe://… of a service or of another trust domain's workload, or end with /* for all below it; agents and /brevet hold no role",
});

const roleEntry = section({
  spiffeId: roleId,
  role: z.enum(["operator", "orchestrator", "service", "auditor"]),
  agents: listOf(text(64), 256).default([]),
}).refine(({ role, agents }) => (role === "orchestrator") === agents.length > 0, { error: "an orchestrator needs agents, and nobody else has them" });

const schema = section({
  dataDir: absolutePath.optional().describe(
    "Holds everything: PostgreSQL's data, sealed keys, and the sockets. Without it: as root /var/lib/brevet with the sockets in /run/brevet, else $XDG_STATE_HOME/brevet (~/.local/state/brevet)."),
  trustDomain: trustDomain.prefault("brevet.local").describe(
    "The trust domain of every SPIFFE ID that is issued. Choose it once: another name is another world."),
  database: section({
    url: databaseUrl.optional().describe(
      "postgres://user@host:port/database of a PostgreSQL 15 or later. Without it the broker runs its own PostgreSQL in dataDir."),
    passwordFile: absolutePath.optional().describe("A file that holds the password of database.url, and nothing else, and that nobody but its owner may read (mode 600)."),
    appUser: text(63).optional().describe(
      "Who the broker's statements log in as, once database.url's user has brought the tables up to date: brevet_app, or a member of it. Without it they log in as database.url's user and take the role brevet_app, which whoever gets hold of that session can lay down."),
    appPasswordFile: absolutePath.optional().describe("A file that holds the password of database.appUser, likewise."),
    caFile: absolutePath.optional().describe("PEM certificates that vouch for the server of database.url; with it, TLS is required and the server's name is checked."),
  }).prefault({}),
  postgres: section({
    user: text(64).optional().describe(
      "The existing account that the broker's own PostgreSQL runs as when the broker is root. Without it: postgres if there is one, else nobody."),
  }).prefault({}),
  listen: section({
    http: httpAddress.prefault("127.0.0.1:8640").describe(
      "host:port for /livez, /readyz, /metrics and the documents for others; port 0: any free one; off: none. Nobody is authenticated there: keep it on loopback or behind something."),
    https: httpAddress.prefault("off").describe(
      "host:port for the documents for others (no metrics, no readiness), with the certificate of https.certFile: the endpoint of SPIFFE's profile https_web."),
    bundle: httpAddress.prefault("off").describe(
      "host:port for the trust bundle alone, with the broker's own SVID as its certificate: the endpoint of SPIFFE's profile https_spiffe."),
    grpc: httpAddress.prefault("off").describe(
      "host:port where other machines reach brevet.v1 over mutual TLS 1.3; port 0: any free one; off: none. Who may come in: operators (brevet operator add), services of the catalog, and whom `roles` names."),
  }).prefault({}),
  https: section({
    certFile: absolutePath.optional().describe("PEM certificates of listen.https, its own first. Read again when the file changes."),
    keyFile: absolutePath.optional().describe("The key of https.certFile, PEM, not encrypted, not readable by everybody."),
  }).prefault({}),
  publicUrl: publicUrl.optional().describe(
    "https://… under which others reach this broker's HTTP documents: the issuer of its JWT-SVIDs (`iss`) and of OpenID Connect discovery. Choose it once. Without it there is no discovery, and `iss` is the trust domain. Certificates name the CRL of their authority under it."),
  statusList: z.enum(["on", "off"]).default("off").describe(
    "Whether agents' JWT-SVIDs name their place in an OAuth Token Status List (some 110 bytes more each), which is served under publicUrl."),
  federation: listOf(federatedDomain, 100).default([]).describe(
    "Other trust domains whose bundles are handed out beside our own: trustDomain, and bundleFile or endpoint and profile (docs/federation.md). As a variable or a flag: the same list, as YAML or JSON."),
  admin: section({
    uids: listOf(count(0, 0xff_ff_ff_fe), 1_000).default([]).describe(
      "User IDs that may use the admin socket, besides root and the broker's own."),
  }).prefault({}),
  roles: listOf(roleEntry, 1_000).default([]).describe(
    "SVIDs that hold a role on listen.grpc: a list of { spiffeId, role, agents }. `spiffeId` ends with /* for all that are below it; `agents` are those whose tasks an orchestrator handles. The first entry that fits counts. Agents hold no role. As a variable or a flag: the same list, as YAML or JSON."),
  keyEncryptionKeyFile: absolutePath.optional().describe(
    "The key that seals the signing keys. Without it: the systemd credential brevet-kek if there is one, else keys/kek in dataDir, made at the first start. Brokers on one database share it."),
  waitForTask: duration(0, 10 * minute).prefault("30s").describe(
    "How long a fetch of an SVID is held for a task that the caller may claim automatically, before it is refused."),
  limits: section({
    perUidFetchesPerSecond: count(0, 1_000_000).default(500).describe("Calls that one user ID may make in a second; 0: no limit."),
    perUidChecksPerSecond: count(0, 1_000_000).default(2_000).describe("Requests that one user ID's proxies may ask about in a second (Envoy's ext_authz); 0: no limit."),
    perUidConnections: count(0, 1_000_000).default(256).describe("Connections that one user ID may hold open; 0: no limit."),
    perIdentityConnections: count(0, 1_000_000).default(2_048).describe("Connections that one SPIFFE ID may hold open on listen.grpc; 0: no limit. Its calls and streams are limited as a user ID's."),
    perUidStreams: count(0, 1_000_000).default(16_384).describe("Streams that one user ID may hold open over all its connections; 0: no limit."),
    perServiceIntrospectionsPerSecond: count(0, 1_000_000).default(1_000).describe("Questions to /introspect that one service may ask in a second; 0: no limit."),
    maxConnections: count(1, 1_000_000).default(16_384).describe("Connections on one socket in all."),
    maxStreamsPerConnection: count(1, 65_536).default(256).describe("Streams open at once on one connection."),
    messageBytes: count(1_024, 4_194_304).default(262_144).describe("The largest message that a caller may send on the workload socket; Envoy's hold 64 KiB about itself."),
    metadataBytes: count(1_024, 65_536).default(8_192).describe("The largest metadata of one call."),
    connectionIdle: duration(1, day).prefault("10m").describe("A connection without any call is closed after this."),
  }).prefault({}),
  authorities: section({
    keyType: z.enum(["ec-p256", "rsa-2048"]).default("ec-p256").describe("The keys of authorities that are made from now on: rsa-2048 for relying parties that know no EC. SVIDs have P-256 keys always."),
    rootTtl: duration(minute, 3_650 * day).prefault("365d").describe("Life of the root authority, which signs only the signing authorities."),
    signingTtl: duration(10, 365 * day).prefault("24h").describe("Life of an authority that signs X.509-SVIDs; the next is prepared and published before it is needed."),
    jwtTtl: duration(10, 365 * day).prefault("24h").describe("Life of a key that signs JWT-SVIDs; likewise."),
  }).prefault({}),
  retention: duration(day, 3_650 * day).prefault("90d").describe(
    "How long ended tasks, their SVIDs and log entries are kept, and never less than 2 days. What a CRL or the feed still needs stays longer. Brokers on one database: the one that started last says."),
  log: section({
    level: z.enum(["debug", "info", "warn", "error"]).default("info").describe("What is logged: this and worse."),
  }).prefault({}),
});

const leaves = leavesOf(schema);

type Written = z.output<typeof schema>;
export type Config = Written & {
  readonly dataDir: string;
  readonly socketDir: string;
  readonly keyEncryptionKeyFile: string;
};

export type ConfigSources = {
  /** The YAML file's path. */
  readonly file?: string | undefined;
  readonly env?: NodeJS.ProcessEnv;
  /** By key: `{ "listen.http": "off" }`, as text. */
  readonly flags?: Readonly<Record<string, string>>;
  readonly uid?: number | undefined;
};

export type ConfigKey = {
  readonly key: string;
  readonly env: string;
  readonly flag: string;
  /** As it would be written; empty: none. */
  readonly default: string;
  readonly documentation: string;
};

/** Every key, in the order of the schema. */
export function describeConfig(): ConfigKey[] {
  return leaves.map(({ path, type, initial, documentation }) => {
    const shown = type === "list" && Array.isArray(initial) ? initial.join(",") : String(initial ?? "");
    return { key: path.join("."), env: envName(path), flag: flagName(path), default: shown, documentation };
  });
}

/** @throws BrevetError CONFIG_INVALID with every violation, each named by its key or variable and with where it stands */
export function loadConfig(sources: ConfigSources = {}): Config {
  const { env = process.env, uid = process.geteuid?.() } = sources;
  const violations: Violation[] = [];
  const yaml = sources.file === undefined ? undefined : readFile(sources.file, violations);
  const values = yaml?.value === undefined || yaml.value === null ? {} : yaml.value;
  const origins = new Map<string, string>();
  fillSections(leaves, values);
  override(values, textsFromEnv(leaves, env, violations), origins);
  override(values, textsFromFlags(leaves, sources.flags ?? {}, violations), origins);

  const { value, findings } = check(schema, values);
  for (const { path, part, message } of findings) {
    violations.push({ field: formatPath(path) || "the file", description: `${message}${origin(path, part, sources.file, yaml, origins)}` });
  }
  if (!value) throw refused(violations);
  const config = withDefaults(value, env, uid);
  violations.push(...contradictions(config));
  if (violations.length > 0) throw refused(violations);
  return config;
}

export type SocketPaths = { readonly workload: string; readonly admin: string; readonly taskDir: string };

export function socketPaths(config: Pick<Config, "socketDir">): SocketPaths {
  const within = (name: string): string => join(config.socketDir, name);
  return { workload: within("workload.sock"), admin: within("admin.sock"), taskDir: within("t") };
}

/** A task's own socket: named by the random half of its ID, in 11 characters, since a socket's path must be short. */
export function taskEndpointPath(taskDir: string, taskId: string): string {
  if (!isTaskId(taskId)) throw new BrevetError("INTERNAL", "task endpoint: not a task ID");
  const random = Buffer.from(taskId.replaceAll("-", ""), "hex").subarray(8);
  return join(taskDir, random.toString("base64url"));
}

// Defaults that depend on the machine, and what no single key can say

/** sockaddr_un holds 108 bytes, the last of them zero. */
const maxSocketPath = 107;

function withDefaults(written: Written, env: NodeJS.ProcessEnv, uid: number | undefined): Config {
  const root = uid === 0;
  const dataDir = written.dataDir ?? (root ? "/var/lib/brevet" : join(stateHome(env), "brevet"));
  const socketDir = written.dataDir === undefined && root ? "/run/brevet" : dataDir;
  return { ...written, dataDir, socketDir, keyEncryptionKeyFile: written.keyEncryptionKeyFile ?? credential(env) ?? join(dataDir, "keys", "kek") };
}

/** XDG Base Directory Specification: a relative path there is to be ignored. */
function stateHome(env: NodeJS.ProcessEnv): string {
  const named = env["XDG_STATE_HOME"];
  if (named?.startsWith("/")) return named;
  return join(env["HOME"] || homedir(), ".local", "state");
}

function credential(env: NodeJS.ProcessEnv): string | undefined {
  const directory = env["CREDENTIALS_DIRECTORY"];
  const file = directory?.startsWith("/") ? join(directory, "brevet-kek") : undefined;
  return file !== undefined && existsSync(file) ? file : undefined;
}

function contradictions(config: Config): Violation[] {
  const found: Violation[] = [];
  const { workload, admin, taskDir } = socketPaths(config);
  const longest = [workload, admin, join(taskDir, "x".repeat(11))].reduce((a, b) => Buffer.byteLength(b) > Buffer.byteLength(a) ? b : a);
  const bytes = Buffer.byteLength(longest);
  if (bytes > maxSocketPath) {
    found.push({ field: "dataDir", description: `the socket path ${longest} has ${bytes} bytes, and a socket's path at most ${maxSocketPath}: choose a shorter one (BREVET_DATA_DIR)` });
  }
  if (config.authorities.signingTtl > config.authorities.rootTtl) {
    found.push({ field: "authorities.signingTtl", description: "must not be longer than authorities.rootTtl" });
  }
  if (config.statusList === "on" && config.publicUrl === undefined) {
    found.push({ field: "statusList", description: "needs publicUrl: tokens name their list by it" });
  }
  for (const key of ["certFile", "keyFile"] as const) {
    if (config.listen.https !== null && config.https[key] === undefined) {
      found.push({ field: `https.${key}`, description: "is missing: listen.https needs a certificate and its key" });
    }
  }
  found.push(...config.federation.flatMap((domain, i) => wrongInDomain(config, domain).map((description) => ({ field: `federation[${i}]`, description }))));
  const needs = { passwordFile: "url", appUser: "url", appPasswordFile: "appUser", caFile: "url" } as const;
  for (const [key, needed] of Object.entries(needs) as [keyof typeof needs, "url" | "appUser"][]) {
    if (config.database[key] !== undefined && config.database[needed] === undefined) {
      found.push({ field: `database.${key}`, description: `means nothing without database.${needed}` });
    }
  }
  return found;
}

function wrongInDomain({ trustDomain: own, federation }: Config, domain: Config["federation"][number]): string[] {
  const { trustDomain: name, bundleFile, endpoint, profile, endpointSpiffeId, caFile } = domain;
  const issuer = endpointSpiffeId && parseSpiffeId(endpointSpiffeId).trustDomain;
  const rules: [boolean, string][] = [
    [name === own, `${name} is this broker's own trust domain`],
    [federation.find((other) => other.trustDomain === name) !== domain, `${name} stands twice`],
    [bundleFile === undefined && endpoint === undefined, "needs a bundleFile, or an endpoint and its profile"],
    [(endpoint === undefined) !== (profile === undefined), "endpoint and profile need each other"],
    [(profile === "https_spiffe") !== (endpointSpiffeId !== undefined), "endpointSpiffeId and the profile https_spiffe need each other"],
    [profile === "https_spiffe" && issuer === name && bundleFile === undefined, "an endpoint that proves itself by the bundle it serves needs the first one as bundleFile"],
    [issuer !== undefined && !federation.some((other) => other.trustDomain === issuer), `the trust domain of ${endpointSpiffeId} is not among federation`],
    [caFile !== undefined && profile !== "https_web", "caFile is for the profile https_web"],
  ];
  return rules.filter(([broken]) => broken).map(([, what]) => what);
}

function isBundleEndpoint(written: string): boolean {
  if (!URL.canParse(written)) return false;
  const { protocol, username, password, hash } = new URL(written);
  return protocol === "https:" && username === "" && password === "" && hash === "";
}

function isWorkloadId(written: string): boolean {
  try {
    return parseSpiffeId(written).path !== "";
  } catch {
    return false;
  }
}

function isPublicUrl(written: string): boolean {
  if (!URL.canParse(written)) return false;
  const { protocol, hostname, origin, pathname, search, hash, username, password } = new URL(written);
  const loopback = ["127.0.0.1", "[::1]", "localhost"].includes(hostname);
  const plain = search === "" && hash === "" && username === "" && password === "";
  return (protocol === "https:" || (protocol === "http:" && loopback)) && plain && written === origin + (pathname === "/" ? "" : pathname) && !written.endsWith("/");
}

/** Not below /agent or /brevet, and no prefix that would take them in. */
function isRoleId(written: string): boolean {
  try {
    const { path } = parseSpiffeId(written.endsWith("/*") ? written.slice(0, -2) : written);
    return path !== "" && !/^\/(?:agent|brevet)(?:\/|$)/.test(path);
  } catch {
    return false;
  }
}

function isPostgresUrl(text: string): boolean {
  return URL.canParse(text) && ["postgres:", "postgresql:"].includes(new URL(text).protocol);
}

function hasPassword(text: string): boolean {
  const url = new URL(text);
  return url.password !== "" || [...url.searchParams.keys()].some((key) => /password/i.test(key));
}

// What was written where

function readFile(path: string, violations: Violation[]): YamlFile | undefined {
  let content: string;
  try {
    content = readFileSync(path, "utf8");
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? "unreadable";
    throw new BrevetError("CONFIG_INVALID", `the configuration file ${path} can't be read: ${code}`, { cause: error, violations: [{ field: "config", description: `${path}: ${code}` }] });
  }
  const yaml = readYaml({ name: path, text: content });
  for (const { line, column, message } of yaml.problems) violations.push({ field: "the file", description: `${message} (${path}:${line}:${column})` });
  return yaml;
}

/** ` (brevet.yaml:3:5)`, or the variable or flag that the value came from. */
function origin(path: Path, part: "key" | "value", file: string | undefined, yaml: YamlFile | undefined, origins: ReadonlyMap<string, string>): string {
  for (let length = path.length; length > 0; length--) {
    const named = origins.get(path.slice(0, length).join("."));
    if (named !== undefined) return ` (${named})`;
  }
  if (yaml === undefined || file === undefined) return "";
  const { line, column } = yaml.place(path, part);
  return ` (${file}:${line}:${column})`;
}

function refused(violations: readonly Violation[]): BrevetError {
  const list = violations.map(({ field, description }) => `${field}: ${description}`);
  return new BrevetError("CONFIG_INVALID", `configuration: ${list.join("; ")}`, { violations });
}
