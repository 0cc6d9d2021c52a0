// Are the generated things equal to their sources?
// Types from the proto files, the database's schema from its SQL, the CLI's help and the
// configuration's manual are made anew; `--check` only compares and fails with what differs.
// `npm run golden` writes them. Nothing else in the project is generated.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import pg from "pg";
import { describeConfig } from "../src/config.ts";
import { BrevetError } from "../src/errors.ts";
import { flockExclusive } from "../src/kernel.ts";
import { packageRoot } from "../src/proto.ts";
import { startEmbedded } from "../src/record/embedded.ts";
import { migrate } from "../src/record/schema.ts";
import { apiReference } from "./api.ts";

type Golden = { readonly path: string; readonly text: string };

const protos = ["workloadapi.proto", "brevet/v1/tasks.proto", "brevet/v1/agent.proto", "brevet/v1/feed.proto", "brevet/v1/admin.proto", "brevet/v1/operators.proto", "google/rpc/status.proto",
  "envoy/service/auth/v3/external_auth.proto", "envoy/service/secret/v3/sds.proto", "envoy/extensions/transport_sockets/tls/v3/secret.proto"];

function filesBelow(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: "utf8" }).filter((name) => statSync(join(directory, name)).isFile()).sort();
}

/** One file each, as proto-loader's generator writes them. */
function types(scratch: string): Golden[] {
  const out = join(scratch, "generated");
  execFileSync(join(packageRoot, "node_modules/.bin/proto-loader-gen-types"), [
    "--longs=Number", "--enums=String", "--defaults", "--oneofs", "--grpcLib=@grpc/grpc-js", "--includeDirs=proto",
    `--outDir=${out}`, "--importFileExtension=.ts", ...protos,
  ], { cwd: packageRoot, stdio: "ignore" });
  return filesBelow(out).map((name) => ({ path: join("src/generated", name), text: readFileSync(join(out, name), "utf8") }));
}

/** Tables, columns, constraints, indexes, functions and rights, as PostgreSQL tells them. */
async function schema(scratch: string): Promise<Golden> {
  const dataDir = join(scratch, "data");
  mkdirSync(dataDir);
  const server = await startEmbedded({ dataDir, lock: flockExclusive, log: () => undefined });
  try {
    const owner = server.connection(server.superuser, "postgres");
    await migrate(owner, join(packageRoot, "src/record"));
    const client = new pg.Client(owner);
    await client.connect();
    try {
      const { rows } = await client.query<{ line: string }>(schemaQuery);
      return { path: "test/golden/schema.txt", text: `${rows.map((row) => row.line).join("\n")}\n` };
    } finally {
      await client.end();
    }
  } finally {
    await server.stop(5000);
  }
}

const schemaQuery = `
  select line from (
    select 1 as part, table_name || '.' || lpad(ordinal_position::text, 2, '0') as key,
      'column ' || table_name || '.' || column_name || ' ' || data_type || case is_nullable when 'NO' then ' not null' else '' end ||
      coalesce(' default ' || column_default, '') as line
    from information_schema.columns where table_schema = 'brevet' and table_name <> 'migrations'
    union all
    select 2, conrelid::regclass::text || conname, 'constraint ' || conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid)
    from pg_constraint where connamespace = 'brevet'::regnamespace and conrelid <> 0 and contype <> 'n' and conrelid::regclass::text not like '%migrations'
    union all
    select 3, indexname, indexdef from pg_indexes where schemaname = 'brevet' and tablename <> 'migrations'
    union all
    select 4, tgname || tgrelid::regclass, pg_get_triggerdef(oid) from pg_trigger where not tgisinternal
    union all
    select 5, p.proname, 'function ' || p.oid::regprocedure || case when p.prosecdef then ' security definer' else '' end ||
      ' body ' || encode(sha256(convert_to(p.prosrc, 'UTF8')), 'hex')
    from pg_proc p where p.pronamespace = 'brevet'::regnamespace
    union all
    select 6, table_name || privilege_type, 'grant ' || privilege_type || ' on ' || table_name || ' to ' || grantee
    from information_schema.role_table_grants where table_schema = 'brevet' and grantee = 'brevet_app'
  ) x order by part, key collate "C"`;

/** The help of every command, in the order in which the commands stand. */
function help(): Golden {
  const run = (args: readonly string[]): string =>
    execFileSync(process.execPath, [join(packageRoot, "bin/brevet.js"), ...args, "--help"], { encoding: "utf8", env: { ...process.env, NO_COLOR: "1", COLUMNS: "100" } });
  const pages: string[] = [];
  const visit = (path: readonly string[]): void => {
    const text = run(path);
    pages.push(`$ brevet ${[...path, "--help"].join(" ")}\n${text.trimEnd()}\n`);
    const commands = /\nCommands:\n([\s\S]*?)(?:\n\n|$)/.exec(text)?.[1] ?? "";
    for (const line of commands.split("\n")) {
      const name = /^ {2}([a-z0-9]+)/.exec(line)?.[1];
      if (name !== undefined && name !== "help") visit([...path, name]);
    }
  };
  visit([]);
  return { path: "docs/cli.txt", text: pages.join("\n") };
}

function configuration(): Golden {
  const cell = (text: string): string => text.replaceAll("|", "\\|");
  const rows = describeConfig().map((key) => `| \`${key.key}\` | \`${key.env}\` | ${key.default === "" ? "" : `\`${cell(key.default)}\``} | ${cell(key.documentation)} |`);
  return {
    path: "docs/configuration.md",
    text: ["# Configuration", "", "One YAML file (`brevet broker --config FILE`), every key also as a variable. A flag goes before the environment, the environment before the file.",
      "Unknown keys and variables are refused by name. Secrets are only ever paths of files.", "",
      "| Key | Variable | Default | What it is |", "|---|---|---|---|", ...rows, ""].join("\n"),
  };
}

async function main(): Promise<void> {
  const checking = process.argv.includes("--check");
  const scratch = mkdtempSync(join(tmpdir(), "brevet-golden-"));
  try {
    const goldens = [...types(scratch), await schema(scratch), help(), configuration(), apiReference()];
    const differing = goldens.filter(({ path, text }) => readOr(join(packageRoot, path)) !== text).map(({ path }) => path);
    const made = new Set(goldens.map(({ path }) => path));
    const left = filesBelow(join(packageRoot, "src/generated")).map((name) => join("src/generated", name)).filter((path) => !made.has(path));
    if (checking) {
      if (differing.length + left.length > 0) throw new BrevetError("START_REFUSED", `not as their sources make them: ${[...differing, ...left].join(", ")}; run: npm run golden`);
      process.stdout.write(`${goldens.length} generated files are as their sources make them\n`);
      return;
    }
    for (const { path, text } of goldens) {
      mkdirSync(dirname(join(packageRoot, path)), { recursive: true });
      writeFileSync(join(packageRoot, path), text);
    }
    for (const path of left) rmSync(join(packageRoot, path));
    process.stdout.write(differing.length + left.length === 0 ? "nothing changed\n" : `written: ${[...differing, ...left].join(", ")}\n`);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function readOr(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

main().catch((error: unknown) => {
  process.stderr.write(`golden: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});
