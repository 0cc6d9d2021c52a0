// Which port may a broker have whose own address must be known before it starts?
// One that was free a moment ago, and that the kernel gives to nobody by itself: whoever lets it choose gets a
// port of its ephemeral range, which begins above these (ip_local_port_range is 32768 or higher).
import { randomInt } from "node:crypto";
import { once } from "node:events";
import net from "node:net";

export async function freePort(): Promise<number> {
  for (;;) {
    const server = net.createServer();
    const port = randomInt(10_000, 32_768);
    const isFree = await Promise.race([
      once(server.listen(port, "127.0.0.1"), "listening").then(() => true),
      once(server, "error").then(() => false),
    ]).catch(() => false);
    if (!isFree) continue;
    server.close();
    await once(server, "close");
    return port;
  }
}
