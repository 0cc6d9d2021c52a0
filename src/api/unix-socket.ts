// How does a socket come to stand at a path, and go again?
// Its file has its mode before anybody can connect; what a killed broker left there is removed, and nothing else is;
// on closing only the file that was made here goes, with the connections that came through it.
// unix(7), bind(2), umask(2).
// Who comes in is server.ts's business.
import { chmodSync, lstatSync, unlinkSync } from "node:fs";
import net from "node:net";
import { BrevetError } from "../errors.ts";

const backlog = 1024;
/** What is being ended gets its last message out first. */
const lastWordsMs = 250;

/** @returns closes the socket, its path and its connections */
export async function listenAt(path: string, mode: number, accept: (socket: net.Socket) => void): Promise<() => Promise<void>> {
  await clearPath(path);
  const sockets = new Set<net.Socket>();
  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    accept(socket);
  });
  const before = process.umask(0o777 & ~mode);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen({ path, backlog }, () => resolve());
    });
  } catch (error) {
    throw new BrevetError("START_REFUSED", `${path}: cannot listen: ${(error as Error).message}`, { cause: error });
  } finally {
    process.umask(before);
  }
  chmodSync(path, mode);
  const made = lstatSync(path);
  return async () => {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    removeIfSame(path, made.ino);
    setTimeout(() => {
      for (const socket of sockets) socket.destroy();
    }, lastWordsMs).unref();
    await closed;
  };
}

/**
 * Removes the socket of a broker that was killed.
 * @throws BrevetError START_REFUSED if somebody serves it, or it is no socket
 */
export async function clearPath(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (!found) return;
  if (!found.isSocket()) throw new BrevetError("START_REFUSED", `${path}: is there already and is not a socket: remove it`);
  const answered = await new Promise<boolean>((resolve) => {
    const probe = net.connect(path, () => {
      probe.destroy();
      resolve(true);
    });
    probe.on("error", () => resolve(false));
  });
  if (answered) throw new BrevetError("START_REFUSED", `${path}: another process serves this socket`);
  unlinkSync(path);
}

function removeIfSame(path: string, ino: number): void {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found?.ino === ino) unlinkSync(path);
}
