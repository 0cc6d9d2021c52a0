// Does a real Envoy, configured as docs/envoy.md has it, refuse what a close has killed?
// The configuration is the document's, with this machine's socket and free ports in place of its own. Envoy
// is the service, attested like any other; this process is the agent. A connection that is open across the
// close is refused by its next request, new ones by the list, tokens too, and everything without the broker.
// How the broker judges is envoy-check.test.ts's, what it hands out envoy-secrets.test.ts's.
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { connect } from "node:tls";
import type { ConnectionOptions, PeerCertificate, TLSSocket } from "node:tls";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { WorkloadSource } from "../../src/index.ts";
import { pem } from "../../src/identity/pem.ts";
import { World, trustDomain, until } from "./world.ts";
import type { Task } from "./world.ts";

const { envoy } = inject("foreign");
const ownUid = process.getuid?.() ?? 0;
const envoyUid = ownUid === 0 ? 65_534 : ownUid;
const crm = `spiffe://${trustDomain}/service/crm`;
type Answer = { readonly status: number; readonly body: string; readonly reused: boolean };

describe.skipIf(envoy === null)(envoy === null ? "SKIPPED, not on this machine: envoy" : "Envoy", () => {
  let world: World;
  let proxy: ChildProcess | undefined;
  let upstream: http.Server;
  let ports: Record<string, number>;
  let said = "";
  const sources: WorkloadSource[] = [];
  const keepers: https.Agent[] = [];

  beforeAll(async () => {
    world = await World.start();
    const catalog = join(world.folder, "catalog.yaml");
    writeFileSync(catalog, `
agents:
  - { name: researcher, owner: l@${trustDomain}, selectors: [{ uid: ${ownUid}, path: "${process.execPath}" }], audiences: [crm, search], tasksPerInstance: 32 }
services:
  - { name: crm, owner: l@${trustDomain}, selectors: [{ uid: ${envoyUid}, path: "${envoy}" }] }
`);
    await world.brevet("apply", "-f", catalog);
    upstream = http.createServer((request, response) => response.end(JSON.stringify(request.rawHeaders))).listen(0, "127.0.0.1");
    await once(upstream, "listening");
    await startEnvoy();
  });
  afterAll(async () => {
    for (const keeper of keepers) keeper.destroy();
    for (const source of sources) source.close();
    upstream?.close();
    if (proxy && proxy.exitCode === null) {
      proxy.kill("SIGKILL");
      await once(proxy, "exit");
    }
    await world?.close();
  });

  async function startEnvoy(): Promise<void> {
    const config = join(world.folder, "envoy.yaml");
    const [, block = ""] = /```yaml\n(# envoy\.yaml\n.*?)```/s.exec(readFileSync(new URL("../../docs/envoy.md", import.meta.url), "utf8")) ?? [];
    writeFileSync(config, block.replace("/run/brevet/workload.sock", world.socket.replace("unix://", ""))
      .replaceAll(/0\.0\.0\.0, port_value: 844\d/g, "127.0.0.1, port_value: 0")
      .replace("port_value: 8080", `port_value: ${(upstream.address() as AddressInfo).port}`)
      + "admin: { address: { socket_address: { address: 127.0.0.1, port_value: 0 } } }\n");
    const addressFile = join(world.reachableFolder("envoy"), "admin");
    const account = envoyUid === ownUid ? {} : { uid: envoyUid, gid: envoyUid };
    const child = spawn(envoy as string, ["-c", config, "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning", "--admin-address-path", addressFile],
      { ...account, cwd: "/", stdio: ["ignore", "pipe", "pipe"] });
    proxy = child;
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text: string) => (said += text));
    await until("Envoy has its secrets and listens", async () => {
      if (child.exitCode !== null) throw new Error(`Envoy ended: ${said}`);
      const admin = await Promise.resolve().then(() => readFileSync(addressFile, "utf8")).catch(() => "");
      if (admin === "") return false;
      const get = async (path: string): Promise<string> => await (await fetch(`http://${admin}${path}`)).text();
      if ((await get("/ready")).trim() !== "LIVE" || !(await get("/certs")).includes(crm)) return false;
      const { listener_statuses: listeners } = JSON.parse(await get("/listeners?format=json")) as
        { listener_statuses: { name: string; local_address: { socket_address: { port_value: number } } }[] };
      ports = Object.fromEntries(listeners.map(({ name, local_address: { socket_address: at } }) => [name, at.port_value]));
      return true;
    });
  }

  async function newTask(): Promise<{ task: Task; source: WorkloadSource }> {
    const task = await world.brevet<Task>("task", "open", "--agent", "researcher", "--context", "user=alice");
    const source = await WorkloadSource.claim({ task: task.id, address: world.socket });
    sources.push(source);
    return { task, source };
  }

  const port = (name: string): number => ports[name] ?? 0;
  const serverIs = (_: string, { subjectaltname }: PeerCertificate): Error | undefined => (subjectaltname === `URI:${crm}` ? undefined : new Error(`it is ${subjectaltname}`));
  const trusting = (source: WorkloadSource): ConnectionOptions => ({ ca: source.bundle.map((der) => pem("CERTIFICATE", der)), checkServerIdentity: serverIs });

  /** One connection, kept open. */
  function kept(options: ConnectionOptions): https.Agent {
    const keeper = new https.Agent({ keepAlive: true, maxSockets: 1, ...options });
    keepers.push(keeper);
    return keeper;
  }

  async function ask(agent: https.Agent, name: string, headers: http.OutgoingHttpHeaders = {}): Promise<Answer> {
    const request = https.get({ host: "127.0.0.1", port: port(name), agent, headers });
    const [response] = (await once(request, "response")) as [http.IncomingMessage];
    let body = "";
    for await (const part of response.setEncoding("utf8")) body += part;
    return { status: response.statusCode ?? 0, body, reused: request.reusedSocket };
  }

  const refused = (code: string, status = 401): object => ({ status, body: JSON.stringify({ type: `urn:brevet:error:${code}`, status }) });

  /** Of what the upstream was told, the values of one name. */
  function told({ body }: Answer, name: string): string[] {
    const raw = JSON.parse(body) as string[];
    return raw.filter((_, i) => i % 2 === 1 && raw[i - 1]?.toLowerCase() === name);
  }

  test("lets an agent through, and tells the service who it is, whatever the request said of itself", async () => {
    const { task, source } = await newTask();
    const agent = kept({ ...source.tlsOptions(), ...trusting(source) });
    const answer = await ask(agent, "by-certificate", { "x-brevet-task": ["another", "and another"], "X-Brevet-Agent": "root", "x-brevet-for": "root" });
    expect(answer.status).toBe(200);
    expect(["x-brevet-task", "x-brevet-agent", "x-brevet-for"].map((name) => told(answer, name))).toEqual([[task.id], ["researcher"], []]);
    expect((await ask(agent, "by-certificate", { x_brevet_task: "another" })).status).toBe(400);
  });

  test("refuses, after a close, the next request of the open connection, and then new connections", async () => {
    const { task, source } = await newTask();
    const options = { ...source.tlsOptions(), ...trusting(source) };
    const agent = kept(options);
    expect(await ask(agent, "by-certificate")).toMatchObject({ status: 200 });
    await world.brevet("task", "close", task.id);
    expect(await ask(agent, "by-certificate")).toMatchObject({ ...refused("VERIFY_REVOKED"), reused: true });
    await until("the handshake is refused", async () => {
      const answer = await ask(kept(options), "by-certificate").catch((error: Error) => error);
      if (!(answer instanceof Error)) expect(answer).toMatchObject(refused("VERIFY_REVOKED"));
      return answer instanceof Error && /certificate revoked/.test(answer.message);
    });
    expect(await ask(agent, "by-certificate")).toMatchObject({ ...refused("VERIFY_REVOKED"), reused: true });
    const another = await newTask();
    expect(await ask(kept({ ...another.source.tlsOptions(), ...trusting(another.source) }), "by-certificate")).toMatchObject({ status: 200 });
  });

  test("resumes no session, which would not meet the lists", async () => {
    const { source } = await newTask();
    const options = { host: "127.0.0.1", port: port("by-certificate"), ...source.tlsOptions(), ...trusting(source) };
    let session: Buffer | undefined;
    const opened = async (more: ConnectionOptions): Promise<TLSSocket> => {
      const socket = connect({ ...options, ...more });
      socket.on("session", (ticket: Buffer) => (session = ticket)).on("error", () => {});
      await once(socket, "secureConnect");
      socket.write("GET / HTTP/1.1\r\nhost: crm\r\n\r\n");
      await once(socket, "data");
      return socket;
    };
    const first = await opened({});
    session ??= first.getSession();
    first.destroy();
    const second = await opened({ session });
    expect(second.isSessionReused()).toBe(false);
    second.destroy();
  });

  test("refuses what a change of context has killed, and accepts what came after", async () => {
    const { task, source } = await newTask();
    const before = kept({ ...source.tlsOptions(), ...trusting(source) });
    expect(await ask(before, "by-certificate")).toMatchObject({ status: 200 });
    await world.brevet("task", "context", task.id, "user=bob");
    expect(await ask(before, "by-certificate")).toMatchObject(refused("VERIFY_REVOKED"));
    await until("the agent has its new SVID", async () => source.svid().binding?.epoch === 2);
    expect(await ask(kept({ ...source.tlsOptions(), ...trusting(source) }), "by-certificate")).toMatchObject({ status: 200 });
  });

  test("judges bearer tokens by their audience and their task", async () => {
    const { task, source } = await newTask();
    const agent = kept(trusting(source));
    const bearer = async (audience: string): Promise<http.OutgoingHttpHeaders> => ({ authorization: `Bearer ${await source.jwt(audience)}` });
    const [good, foreign] = [await bearer("crm"), await bearer("search")];
    const answer = await ask(agent, "by-token", good);
    expect(answer.status).toBe(200);
    expect(told(answer, "x-brevet-task")).toEqual([task.id]);
    expect(await ask(agent, "by-token", foreign)).toMatchObject(refused("VERIFY_AUDIENCE"));
    expect(await ask(agent, "by-token")).toMatchObject(refused("VERIFY_MALFORMED"));
    await world.brevet("task", "close", task.id);
    expect(await ask(agent, "by-token", good)).toMatchObject(refused("VERIFY_REVOKED"));
  });

  test("lets nothing through without the broker", async () => {
    const { source } = await newTask();
    const agent = kept({ ...source.tlsOptions(), ...trusting(source) });
    const token = { authorization: `Bearer ${await source.jwt("crm")}` };
    const byToken = kept(trusting(source));
    expect(await ask(agent, "by-certificate")).toMatchObject({ status: 200 });
    expect(await ask(byToken, "by-token", token)).toMatchObject({ status: 200 });
    await world.stopBroker();
    expect((await ask(agent, "by-certificate")).status).toBe(503);
    expect((await ask(byToken, "by-token", token)).status).toBe(503);
    expect(said).not.toMatch(/PRIVATE KEY/);
  });
});
