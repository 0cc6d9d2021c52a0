// Which port may a broker have whose own address must be known before it starts?
// One that was free a moment ago; whoever takes it in between makes the broker refuse to start, loudly.
import { once } from "node:events";
import net from "node:net";
import type { AddressInfo } from "node:net";

export async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}
