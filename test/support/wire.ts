// How does a test break the line between a broker and its PostgreSQL at an exact point?
// A real proxy on a TCP port, before the server's own socket. It knows a statement by its name in the
// bytes of the Bind message, and stops there once: before the server has it, or before its answer is
// told. Nothing in the product helps with that.
// What must hold afterwards is said by the tests.
import net from "node:net";

/** Where to stop, and what becomes of the connection then. */
export type Stop =
  /** The request never reaches the server; the connection breaks. */
  | "cut before"
  /** The server acts and answers; the answer is lost with the connection. */
  | "cut after"
  /** The request waits for `release`. */
  | "hold before"
  /** The server has acted and answered; the answer waits for `release`. */
  | "hold after";

export type Halt = {
  /** Resolves when a connection stands there: with `after`, when the server has answered. */
  readonly reached: Promise<void>;
  release(): void;
};

type Armed = { readonly pattern: Buffer; readonly stop: Stop; reach(): void; readonly go: Promise<void> };

export class Wire {
  readonly #upstream: net.NetConnectOpts;
  readonly #server: net.Server;
  readonly #sockets = new Set<net.Socket>();
  #armed: Armed[] = [];
  #isDown = false;

  private constructor(upstream: net.NetConnectOpts) {
    this.#upstream = upstream;
    this.#server = net.createServer((client) => this.#accept(client));
  }

  /** Before the server that a PostgreSQL URL names. */
  static async start(url: string): Promise<Wire> {
    const { hostname, port } = new URL(url);
    const host = decodeURIComponent(hostname);
    const wire = new Wire(host.startsWith("/") ? { path: `${host}/.s.PGSQL.${port || 5432}` } : { host, port: Number(port || 5432) });
    await new Promise<void>((resolve) => wire.#server.listen(0, "127.0.0.1", resolve));
    return wire;
  }

  /** The same URL, led over this wire. */
  through(url: string): string {
    const changed = new URL(url);
    return url.replace(changed.host, `127.0.0.1:${(this.#server.address() as net.AddressInfo).port}`);
  }

  /** Stops the next request for this statement, on whichever connection it comes. */
  halt(statement: string, stop: Stop): Halt {
    let [reach, release] = [(): void => {}, (): void => {}];
    const reached = new Promise<void>((resolve) => (reach = resolve));
    const go = new Promise<void>((resolve) => (release = resolve));
    this.#armed.push({ pattern: Buffer.from(`\0${statement}\0`), stop, reach, go });
    return { reached, release };
  }

  /** Every connection breaks, and none is made until `mend`. */
  tear(): void {
    this.#isDown = true;
    this.cut();
  }

  mend(): void {
    this.#isDown = false;
  }

  /** Every connection breaks. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async close(): Promise<void> {
    this.tear();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #accept(client: net.Socket): void {
    if (this.#isDown) {
      client.destroy();
      return;
    }
    const server = net.connect(this.#upstream);
    const both = [client, server];
    for (const socket of both) {
      socket.setNoDelay(true);
      this.#sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        this.#sockets.delete(socket);
        for (const other of both) other.destroy();
      });
    }
    let [asking, answering] = [Promise.resolve(), Promise.resolve()];
    let answered: Armed | undefined;
    client.on("data", (bytes) => {
      const found = this.#armed.find(({ pattern }) => bytes.includes(pattern));
      if (found) this.#armed = this.#armed.filter((armed) => armed !== found);
      if (found?.stop.endsWith("after")) answered = found;
      asking = asking.then(async () => {
        if (found?.stop.endsWith("before")) {
          found.reach();
          if (found.stop === "cut before") client.destroy();
          await found.go;
        }
        server.write(bytes);
      });
    });
    server.on("data", (bytes) => {
      const lost = answered;
      answering = answering.then(async () => {
        if (lost) {
          lost.reach();
          if (lost.stop === "cut after") client.destroy();
          await lost.go;
        }
        client.write(bytes);
      });
    });
  }
}
