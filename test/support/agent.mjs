// What is an agent that has no code of ours?
// A process of its own that speaks plain gRPC from the proto files, as a stock client would: unprivileged
// where the test is root, alone or as the first of a chain of parents and children. It does what it is
// told over a socket it inherited, and is gone when that is closed.
// Which orders it is given is agent.ts's business.
import { spawn } from "node:child_process";
import { closeSync } from "node:fs";
import net from "node:net";
import { createInterface } from "node:readline";
import tls from "node:tls";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const [index, last, uid] = process.argv.slice(2).map(Number);
const firstFd = 3;

if (index < last) {
  const fds = Array.from({ length: last + 1 }, (_, i) => (i > index ? firstFd + i : "ignore"));
  spawn(process.execPath, [fileURLToPath(import.meta.url), index + 1, last, uid], { stdio: ["ignore", "inherit", "inherit", ...fds] });
  for (const fd of fds) if (fd !== "ignore") closeSync(fd);
}

// everything is loaded before the rights go: the files may be out of that user's reach
const definitions = grpc.loadPackageDefinition(protoLoader.loadSync(
  ["workloadapi.proto", "brevet/v1/tasks.proto", "brevet/v1/agent.proto"],
  { includeDirs: [fileURLToPath(new URL("../../proto", import.meta.url))], longs: Number, bytes: String, defaults: true },
));
const services = { workload: definitions.SpiffeWorkloadAPI, tasks: definitions.brevet.v1.Tasks, agent: definitions.brevet.v1.Agent };
if (uid >= 0) {
  process.setgroups([]);
  process.setgid(uid);
  process.setuid(uid);
}

const clients = new Map();
const streams = new Map();
const line = new net.Socket({ fd: firstFd + index });
const say = (what) => line.write(`${JSON.stringify(what)}\n`);

function client({ service, socket, connection = "" }) {
  const key = `${service} ${socket} ${connection}`;
  if (!clients.has(key)) {
    clients.set(key, new services[service](socket, grpc.credentials.createInsecure(), {
      "grpc.use_local_subchannel_pool": 1, "grpc.initial_reconnect_backoff_ms": 20, "grpc.max_reconnect_backoff_ms": 100,
    }));
  }
  return clients.get(key);
}

function metadata({ header = "true" }) {
  const all = new grpc.Metadata();
  if (header !== "") all.set("workload.spiffe.io", header);
  return all;
}

const refusal = (error) => ({ code: error.code, message: error.details, bytes: error.metadata?.get("grpc-status-details-bin")[0]?.toString("base64") });

const orders = {
  call(order) {
    client(order)[order.method](order.request, metadata(order), { deadline: Date.now() + 60_000 }, (error, answer) => {
      say(error ? { id: order.id, refused: refusal(error) } : { id: order.id, answer });
    });
  },
  stream(order) {
    const call = client(order)[order.method](order.request, metadata(order));
    streams.set(order.id, call);
    call.on("data", (message) => say({ stream: order.id, message }));
    call.on("error", (error) => say({ stream: order.id, refused: refusal(error) }));
    call.on("end", () => say({ stream: order.id, ended: true }));
  },
  /** Mutual TLS with an SVID it holds, to a service that must have the SPIFFE ID `expected`. */
  connect({ id, port, certificates, key, authorities, expected }) {
    const socket = tls.connect({
      host: "127.0.0.1", port, cert: certificates, key, ca: authorities,
      checkServerIdentity: (_host, { subjectaltname }) => (subjectaltname === `URI:${expected}` ? undefined : new Error(`it is ${subjectaltname}`)),
    });
    streams.set(id, { cancel: () => socket.destroy(), write: (text) => socket.write(text) });
    socket.setEncoding("utf8").on("data", (message) => say({ stream: id, message }));
    socket.on("error", () => {}); // how a connection is cut differs; that it is gone is what counts
    socket.on("close", () => say({ stream: id, ended: true }));
    socket.on("secureConnect", () => socket.write("hello"));
  },
  write({ stream, text }) {
    streams.get(stream)?.write(text);
  },
  cancel({ stream }) {
    streams.get(stream)?.cancel();
  },
  exit({ code }) {
    process.exit(code);
  },
};

createInterface({ input: line }).on("line", (text) => {
  const order = JSON.parse(text);
  orders[order.op](order);
});
line.on("error", () => process.exit(1));
line.on("close", () => process.exit(0));
say({ pid: process.pid });
