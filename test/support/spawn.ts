// Which real processes do tests call from?
// Always true: each is a process of its own, and whatever a test started is dead and collected
// when that test is over.
// What they are asked to do is each test's business.
import { spawn } from "node:child_process";
import type { ChildProcess, SpawnOptions } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { onTestFinished } from "vitest";

export type Started = ChildProcess & { readonly pid: number };

/** Starts a program, killed when the test is over. */
export async function start(command: string, args: readonly string[], options: SpawnOptions = {}): Promise<Started> {
  const child = spawn(command, args, { stdio: "ignore", ...options });
  onTestFinished(() => kill(child));
  await once(child, "spawn");
  return child as Started;
}

/** Kills it and waits until the kernel has no trace of it. */
export async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill("SIGKILL");
  await exited;
}

/** Connects to a unix socket, then does what it is told; answers each order with one line. */
const puppetText = `
const net = require("node:net"), { spawn } = require("node:child_process");
const socket = net.connect(process.argv[1]);
socket.on("error", () => {});
const orders = {
  exit: () => process.exit(0),
  setuid: (uid) => process.setuid(Number(uid)),
  lend: () => spawn("sleep", ["60"], { stdio: ["ignore", "ignore", "ignore", socket], detached: true }).pid,
  exec: (path) => {
    const libc = require("koffi").load(null);
    libc.func("int fcntl(int fd, int command, int value)")(socket._handle.fd, 2, 0);
    libc.func("int execv(const char *path, const char **args)")(path, ["sleep", "60", null]);
  },
};
socket.on("connect", () => console.log("connected"));
require("node:readline").createInterface(process.stdin).on("line", (line) => {
  const [order, value] = line.split(" ");
  console.log(orders[order](value) ?? "done");
});
`;

export type Puppet = {
  readonly child: Started;
  /** Gives an order and waits for the answer; undefined if the process went instead. */
  order(text: string): Promise<string | undefined>;
  /** Gives an order that has no answer. */
  tell(text: string): void;
};

export type PuppetOptions = Pick<SpawnOptions, "uid" | "gid"> & { readonly through?: readonly string[] };

/** A process with a connection to this socket. `through`: the command that runs it, e.g. unshare. */
export async function puppet(socketPath: string, { through = [], ...options }: PuppetOptions = {}): Promise<Puppet> {
  const line = [...through, process.execPath, "-e", puppetText, socketPath];
  const child = await start(line[0] ?? "", line.slice(1), { ...options, stdio: ["pipe", "pipe", "inherit"] });
  if (!child.stdout || !child.stdin) throw new Error("a puppet has pipes");
  const { stdin } = child;
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const next = async (): Promise<string | undefined> => {
    const line = await lines.next();
    return line.done ? undefined : line.value;
  };
  stdin.on("error", () => {});
  if ((await next()) !== "connected") throw new Error("a puppet could not connect");
  return {
    child,
    order: (text) => {
      stdin.write(`${text}\n`);
      return next();
    },
    tell: (text) => void stdin.write(`${text}\n`),
  };
}
