// Does stock software, set up as docs/recipes.md has it, refuse what a close has killed?
// Real nginx, HAProxy and PostgreSQL, and small TLS servers in several languages, all on the files that a real
// sidecar keeps. Each holds a connection open across the close: it ends within the cap that the recipe sets,
// new ones are refused after the reload, and another agent's go on as before.
// The sidecar itself is tested elsewhere; Envoy, which needs no files, is envoy.test.ts's.
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import tls from "node:tls";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { WorkloadSource } from "../../src/index.ts";
import { pem } from "../../src/identity/pem.ts";
import { freePort } from "../support/port.ts";
import { Recipe } from "./recipes.ts";
import { World, trustDomain, until } from "./world.ts";
import type { Task } from "./world.ts";

const { stock, go, python, rust, javac, openssl } = inject("foreign");
/** Its servers change users, as they do where they are used. */
const isRoot = process.getuid?.() === 0;
const why = (name: string, there: boolean): string => (there && isRoot ? name : `SKIPPED, ${isRoot ? `not on this machine: ${name}` : "only as root"}: ${name}`);

type Client = { readonly task: Task; readonly source: WorkloadSource; readonly options: tls.ConnectionOptions };

let world: World;
const opened: { close(): unknown }[] = [];
beforeAll(async () => {
  world = await World.start();
  const catalog = join(world.folder, "catalog.yaml");
  writeFileSync(catalog, `
agents:
  - { name: researcher, owner: l@${trustDomain}, selectors: [{ uid: ${process.getuid?.()}, path: "${process.execPath}" }], tasksPerInstance: 64 }
services:
  - { name: crm, owner: l@${trustDomain}, selectors: [{ uid: ${process.getuid?.()}, path: "${process.execPath}" }] }
`);
  await world.brevet("apply", "-f", catalog);
});
afterAll(async () => {
  for (const resource of opened.reverse()) await resource.close();
  await world?.close();
});

const keep = <T extends { close(): unknown }>(resource: T): T => {
  opened.push(resource);
  return resource;
};

/** This process, under a task of its own. */
async function agent(): Promise<Client> {
  const task = await world.brevet<Task>("task", "open", "--agent", "researcher");
  const source = keep(await WorkloadSource.claim({ task: task.id, address: world.socket }));
  const serverIs = (_: string, { subjectaltname }: tls.PeerCertificate): Error | undefined =>
    subjectaltname === `URI:spiffe://${trustDomain}/service/crm` ? undefined : new Error(`it is ${subjectaltname}`);
  return { task, source, options: { ...source.tlsOptions(), ca: source.bundle.map((der) => pem("CERTIFICATE", der)), checkServerIdentity: serverIs, host: "127.0.0.1" } };
}

const close = async ({ task }: Client): Promise<void> => void (await world.brevet("task", "close", task.id));

/** Answers `/` with the headers it got, and `/hold` with a first word only. */
async function upstream(): Promise<number> {
  const server = http.createServer((request, response) => {
    if (request.url === "/hold") response.setHeader("x-accel-buffering", "no").write("held"); // nginx keeps it back otherwise
    else response.end(JSON.stringify(request.headers));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  opened.push(server, { close: () => server.closeAllConnections() });
  return (server.address() as AddressInfo).port;
}

/** The status, or the error's text; `body` when it is there. */
async function get(port: number, { options }: Client, keeper?: https.Agent): Promise<{ status: number; body: string; error: string }> {
  try {
    const request = https.get({ ...options, port, path: "/", agent: keeper ?? false });
    const [response] = (await once(request, "response")) as [http.IncomingMessage];
    let body = "";
    for await (const part of response.setEncoding("utf8")) body += part;
    return { status: response.statusCode ?? 0, body, error: "" };
  } catch (error) {
    return { status: 0, body: "", error: (error as Error).message };
  }
}

/** Resolves once the first word is there; then `cut` when the connection is. */
async function hold(port: number, { options }: Client): Promise<{ cut: Promise<unknown> }> {
  const request = https.get({ ...options, port, path: "/hold", agent: false });
  request.on("error", () => {});
  const cut = new Promise((resolve) => request.once("close", resolve));
  const [response] = (await once(request, "response")) as [http.IncomingMessage];
  response.on("error", () => {});
  await once(response, "data");
  return { cut };
}

describe.each([
  { name: "nginx", there: stock.nginx, readCertificate: (shown: string) => new X509Certificate(decodeURIComponent(shown)), refused: /400|alert/ },
  { name: "HAProxy", there: stock.haproxy, readCertificate: (shown: string) => new X509Certificate(Buffer.from(shown, "base64")), refused: /alert certificate revoked/ },
])("$name", ({ name, there, readCertificate, refused }) => {
  test.skipIf(!there || !isRoot)(why(name, there), async () => {
    const recipe = keep(await Recipe.of(world, name, { "8443": String(await freePort()), "127.0.0.1:8080": `127.0.0.1:${await upstream()}` }));
    const section = name.toLowerCase();
    const conf = readFileSync(recipe.file(section === "nginx" ? "nginx.conf" : "haproxy.cfg"), "utf8");
    const port = Number(/(?:listen |bind :)(\d+)/.exec(conf)?.[1]);
    recipe.start("sh", "-eu", recipe.file(`${section}.sh`));
    opened.push({ close: () => stopByPidFile(join(recipe.folder, "run", section, "brevet.pid")) });
    const [ending, staying] = [await agent(), await agent()];
    await until(`${name} serves`, async () => (await get(port, ending)).status === 200 || ended(recipe));
    const { body } = await get(port, ending);
    const told = (JSON.parse(body) as Record<string, string>)["x-client-cert"] ?? "";
    expect(readCertificate(told).subjectAltName).toBe(`URI:${ending.task.spiffeId}`);

    const keeper = new https.Agent({ keepAlive: true, maxSockets: 1 });
    opened.push({ close: () => keeper.destroy() });
    expect(await get(port, ending, keeper)).toMatchObject({ status: 200 });
    const held = await hold(port, ending);
    await close(ending);
    let answer = await get(port, ending);
    await until(`${name} refuses new connections`, async () => (answer = await get(port, ending)).status !== 200);
    expect(`${answer.status} ${answer.error}`).toMatch(refused);
    await held.cut;
    expect((await get(port, ending, keeper)).status).not.toBe(200);
    expect(await get(port, staying)).toMatchObject({ status: 200 });
  });
});

function stopByPidFile(file: string): void {
  const pid = Number(readFileSync(file, "utf8"));
  if (pid > 1) process.kill(pid, "SIGTERM");
}

function ended(recipe: Recipe): false {
  if (recipe.isOver) throw new Error(`the recipe ended: ${recipe.said}`);
  return false;
}

describe("PostgreSQL", () => {
  test.skipIf(stock.postgresql === null || !isRoot)(why("PostgreSQL", stock.postgresql !== null), async () => {
    const port = await freePort();
    const recipe = keep(await Recipe.of(world, "PostgreSQL", { 5432: String(port), "brevet\\.local": trustDomain.replace(".", "\\.") }));
    const at = (...names: string[]): string => join(recipe.folder, ...names);
    const asPostgres = async (...command: string[]): Promise<void> => {
      const done = await recipe.run("runuser", "-u", "postgres", "--", ...command);
      if (!done.ok) throw new Error(done.text);
    };
    for (const place of ["run", "lib"]) await recipe.run("chown", "postgres", at(place, "postgresql"));
    await asPostgres("initdb", "-D", at("lib", "postgresql", "data"), "-A", "peer");
    opened.push({ close: () => asPostgres("pg_ctl", "stop", "-m", "immediate", "-D", at("lib", "postgresql", "data")) });
    recipe.start("sh", "-eu", recipe.file("postgresql.sh"));
    const socket = ["-h", at("run", "postgresql"), "-p", String(port), "-d", "postgres"];
    await until("PostgreSQL serves", async () => (await recipe.run("runuser", "-u", "postgres", "--", "psql", ...socket, "-c", "select 1")).ok || ended(recipe));
    await asPostgres("psql", ...socket, "-v", "ON_ERROR_STOP=1", "-f", recipe.file("agent.sql"));

    const session = async (ssl: tls.ConnectionOptions): Promise<pg.Client> => {
      const client = new pg.Client({ host: "127.0.0.1", port, user: "agent", database: "postgres", ssl });
      client.on("error", () => {}); // it is ended by a test
      await client.connect();
      opened.push({ close: () => client.end().catch(() => {}) });
      return client;
    };
    const [ending, staying] = [await agent(), await agent()];
    const [one, other] = [await session(ending.options), await session(staying.options)];
    const { rows } = await one.query("select agent_of_caller() as agent, task_of_caller() as task");
    expect(rows).toEqual([{ agent: "researcher", task: ending.task.id }]);
    await one.query("insert into notes (note) values ('found')");
    expect((await other.query("select task, note from notes")).rows).toEqual([{ task: ending.task.id, note: "found" }]);
    const read = (name: string): string => readFileSync(at("run", "postgresql", "brevet", name), "utf8");
    const service = await session({ ...ending.options, cert: read("svid.pem"), key: read("svid_key.pem") });
    expect((await service.query("select task, note from notes")).rows).toEqual([]);

    const cut = new Promise<Error & { code?: string }>((resolve) => one.once("error", resolve));
    await close(ending);
    expect(await cut).toMatchObject({ code: "57P01" });
    await expect(session(ending.options)).rejects.toThrow(/certificate revoked/);
    expect((await other.query("select note from notes")).rows).toEqual([{ note: "found" }]);
    expect((await (await session(staying.options)).query("select 1 as one")).rows).toEqual([{ one: 1 }]);
  });
});

describe("TLS servers on the files", () => {
  type Command = readonly [string, ...string[]];
  type Server = { readonly section: string; readonly there: boolean; readonly command: (recipe: Recipe, files: string, port: string) => Command | Promise<Command> };
  const servers: Server[] = [
    { section: "Node", there: true, command: (recipe, files, port) => [process.execPath, recipe.file("server.mjs"), files, port] },
    { section: "Python", there: python !== null, command: (recipe, files, port) => [python?.program ?? "", recipe.file("server.py"), files, port] },
    { section: "Go", there: go !== null, command: async (recipe, files, port) => [await compiled(recipe), files, port] },
    { section: "Rust", there: rust !== null, command: async (recipe, files, port) => [await compiledRust(recipe), files, port] },
    { section: "Java", there: javac, command: (recipe, files, port) => ["java", recipe.file("Server.java"), files, port] },
  ];

  async function compiled(recipe: Recipe): Promise<string> {
    const program = join(recipe.folder, "server");
    const built = await recipe.run("go", "build", "-o", program, recipe.file("server.go"));
    if (!built.ok) throw new Error(built.text);
    return program;
  }

  /** With the dependencies that the client's program was built with. */
  async function compiledRust(recipe: Recipe): Promise<string> {
    const place = join(rust?.crate ?? "", "src", "bin");
    mkdirSync(place, { recursive: true });
    copyFileSync(recipe.file("server.rs"), join(place, "server.rs"));
    const built = await recipe.run("cargo", "build", "--quiet", "--locked", "--offline", "--bin", "server",
      "--manifest-path", join(rust?.crate ?? "", "Cargo.toml"), "--target-dir", join(rust?.crate ?? "", "target"));
    if (!built.ok) throw new Error(built.text);
    return join(rust?.crate ?? "", "target", "debug", "server");
  }

  /** A connection that the server has greeted; the error if it lets nobody in. */
  async function enter(port: number, { options }: Client): Promise<tls.TLSSocket> {
    const socket = tls.connect({ ...options, port }).setEncoding("utf8");
    await new Promise<void>((resolve, reject) => {
      const hear = (heard: string): void => void (heard.endsWith("\n") && (socket.off("data", hear), resolve()));
      socket.on("data", hear).on("error", reject).on("close", () => reject(new Error("closed")));
    });
    return keep(Object.assign(socket, { close: () => socket.destroy() }));
  }

  /** What the server says of who came; the error's text when it lets nobody in. */
  async function greet(port: number, { options }: Client): Promise<string> {
    return await new Promise((resolve) => {
      const socket = tls.connect({ ...options, port });
      let heard = "";
      socket.setEncoding("utf8").on("data", (more: string) => {
        heard += more;
        if (!heard.endsWith("\n")) return;
        resolve(heard.trim());
        socket.destroy();
      });
      socket.on("error", (error) => resolve(`refused: ${error.message}`));
      socket.on("close", () => resolve("refused: closed"));
    });
  }

  test.each(servers)("$section: lets a live agent in; once its task has ended cuts what is open, and refuses it", async ({ section, there, command }) => {
    if (!there) return expect.soft(process.env["CI"]).toBeUndefined(); // said loudly by toolchains.ts
    const recipe = keep(await Recipe.of(world, section));
    const files = await recipe.keepFiles();
    const port = await freePort();
    recipe.start(...(await command(recipe, files, String(port))));
    const [ending, staying] = [await agent(), await agent()];
    await until(`${section} serves`, async () => (await greet(port, staying)).startsWith("URI:") || ended(recipe));
    expect(await greet(port, ending)).toBe(`URI:${ending.task.spiffeId}`);
    const [held, other] = [await enter(port, ending), await enter(port, staying)];
    const cut = once(held, "close");
    await close(ending);
    await cut;
    await until(`${section} refuses it`, async () => (await greet(port, ending)).startsWith("refused:"));
    expect(await greet(port, staying)).toBe(`URI:${staying.task.spiffeId}`);
    const echo = once(other, "data");
    other.write("?");
    expect(await echo).toEqual(["?"]);
    if (section === "Node") await resumesNothing(port, staying);
  });

  async function resumesNothing(port: number, { options, task }: Client): Promise<void> {
    let session: Buffer | undefined;
    const first = tls.connect({ ...options, port }).on("session", (ticket: Buffer) => (session = ticket)).on("error", () => {});
    await once(first, "data");
    first.end();
    await once(first.resume(), "close");
    if (session !== undefined) expect(await greet(port, { task, source: keep(await WorkloadSource.open({ address: world.socket })), options: { ...options, session } })).not.toMatch(/^URI/);
  }

  test.skipIf(!openssl)(openssl ? "OpenSSL's client refuses the server of an ended task" : "SKIPPED, not on this machine: openssl", async () => {
    const recipe = keep(await Recipe.of(world, "OpenSSL"));
    await recipe.keepFiles();
    const ending = await agent();
    const server = tls.createServer({ ...ending.source.tlsOptions() }, (socket) => socket.end()).on("tlsClientError", () => {});
    opened.push(server);
    server.listen(recipe.port, "127.0.0.1");
    await once(server, "listening");
    const ask = (): ReturnType<Recipe["run"]> => recipe.run("sh", "-eu", recipe.file("s_client.sh"));
    expect((await ask()).text).toContain("Verify return code: 0 (ok)");
    await close(ending);
    await until("it is refused", async () => !(await ask()).ok);
    expect((await ask()).text).toContain("certificate revoked");
  });
});
