// How does an agent that knows nothing of Brevet hold its SVIDs?
// It is a stock SPIFFE client: @grpc/grpc-js, SPIFFE's workloadapi.proto, and no line of this project's
// src/. (npm has no SPIFFE client for Node; elsewhere go-spiffe and py-spiffe do what this file does.)
// It keeps every SVID it ever got, so that the demo can have it show a dead one.
// SPIFFE Workload API sections 5.2.1, 6.2.1; Workload Endpoint section 5 (the security header).
// What it does and when is told by demo.ts, one JSON object a line.
import { X509Certificate } from "node:crypto";
import * as http from "node:http";
import * as https from "node:https";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { Metadata, credentials, loadPackageDefinition, status } from "@grpc/grpc-js";
import type { ChannelCredentials, ClientReadableStream, ServiceError } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

type X509Svid = { spiffe_id: string; x509_svid: Buffer; x509_svid_key: Buffer; bundle: Buffer };
type JwtSvid = { spiffe_id: string; svid: string };
type WorkloadClient = {
  FetchX509SVID(request: object, metadata: Metadata): ClientReadableStream<{ svids: X509Svid[] }>;
  FetchJWTSVID(request: object, metadata: Metadata, answer: (error: ServiceError | null, response: { svids: JwtSvid[] }) => void): void;
};
type Identity = { readonly key: string; readonly cert: string; readonly ca: string };
type Words = Record<string, string>;

const proto = fileURLToPath(new URL("../../proto/workloadapi.proto", import.meta.url));
const definition = loadPackageDefinition(loadSync(proto, { keepCase: true })) as unknown as {
  SpiffeWorkloadAPI: new (address: string, channel: ChannelCredentials) => WorkloadClient;
};
const workload = new definition.SpiffeWorkloadAPI(process.env["SPIFFE_ENDPOINT_SOCKET"] ?? "", credentials.createInsecure());
const header = new Metadata();
header.set("workload.spiffe.io", "true");

const identities: Identity[] = [];
const tokens: string[] = [];

function say(words: Words): void {
  process.stdout.write(`${JSON.stringify({ at: String(performance.timeOrigin + performance.now()), ...words })}\n`);
}

function follow(): void {
  const stream = workload.FetchX509SVID({}, header);
  stream.on("data", ({ svids: [svid] }: { svids: X509Svid[] }) => {
    if (svid === undefined) return;
    identities.push({ key: pem("PRIVATE KEY", svid.x509_svid_key), cert: pemAll(svid.x509_svid), ca: pemAll(svid.bundle) });
    const { serialNumber, validTo } = new X509Certificate(identities.at(-1)?.cert ?? "");
    say({ event: "svid", spiffeId: svid.spiffe_id, serial: serialNumber.toLowerCase().replace(/^(00)+/, ""), until: new Date(validTo).toISOString() });
  });
  stream.on("error", (error: ServiceError) => say({ event: "ended", code: status[error.code] ?? "", message: error.details }));
}

async function fetchJwt(audience: string): Promise<Words> {
  return await new Promise((resolve) => {
    workload.FetchJWTSVID({ audience: [audience] }, header, (error, response) => {
      const [first] = error ? [] : response.svids;
      if (first === undefined) return resolve({ refused: status[error?.code ?? status.UNKNOWN] ?? "" });
      tokens.push(first.svid);
      const { jti, exp } = JSON.parse(Buffer.from(first.svid.split(".")[1] ?? "", "base64url").toString()) as { jti: string; exp: number };
      resolve({ jti, until: new Date(exp * 1_000).toISOString() });
    });
  });
}

/** One request with the SVID of this number; `keep`: the connection stays, and its end is told. */
async function overMtls(number: number, server: string, port: number, keep: boolean): Promise<Words> {
  const connections = new https.Agent({ keepAlive: keep, maxCachedSessions: 0 });
  const checkServerIdentity = (_host: string, { subjectaltname }: { subjectaltname?: string | undefined }): Error | undefined => {
    return subjectaltname === `URI:${server}` ? undefined : new Error(`the server is ${subjectaltname}, not ${server}`);
  };
  const request = https.get({ host: "127.0.0.1", port, agent: connections, checkServerIdentity, ...identities[number] });
  if (keep) request.once("socket", (socket) => socket.once("close", () => say({ event: "cut" })));
  return await answerOf(request);
}

async function withJwt(number: number, port: number): Promise<Words> {
  return await answerOf(http.get({ host: "127.0.0.1", port, agent: false, headers: { authorization: `Bearer ${tokens[number]}` } }));
}

async function answerOf(request: http.ClientRequest): Promise<Words> {
  return await new Promise((resolve) => {
    request.on("error", (error: NodeJS.ErrnoException) => resolve({ broken: error.code ?? error.message }));
    request.on("response", (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (text: string) => (body += text));
      response.on("end", () => resolve({ status: String(response.statusCode), ...(JSON.parse(body) as Words) }));
      response.on("error", (error: NodeJS.ErrnoException) => resolve({ broken: error.code ?? error.message }));
    });
  });
}

function pem(label: string, der: Buffer): string {
  return `-----BEGIN ${label}-----\n${der.toString("base64").replace(/.{64}(?=.)/g, "$&\n")}\n-----END ${label}-----\n`;
}

/** Certificates stand one behind the other: each is 30 82 LL LL and LLLL bytes. */
function pemAll(der: Buffer): string {
  if (der.length < 4) return "";
  const length = 4 + der.readUInt16BE(2);
  return pem("CERTIFICATE", der.subarray(0, length)) + pemAll(der.subarray(length));
}

const orders: Record<string, (words: Words) => Promise<Words> | Words> = {
  follow: () => {
    follow();
    return {};
  },
  jwt: ({ audience = "" }) => fetchJwt(audience),
  mtls: ({ svid, server = "", port, keep }) => overMtls(Number(svid), server, Number(port), keep === "yes"),
  bearer: ({ jwt, port }) => withJwt(Number(jwt), Number(port)),
};

// Ends with its input: when the demo is gone, so is this process.
for await (const line of createInterface({ input: process.stdin })) {
  const words = JSON.parse(line) as Words;
  say({ event: "answer", ...(await orders[words["do"] ?? ""]?.(words)) });
}
process.exit(0);
