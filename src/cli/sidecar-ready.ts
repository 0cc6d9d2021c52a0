// How does a probe ask over HTTP whether the files may be relied on?
// Any GET answers 200 `ready`, or 503 with what is wrong, a line each; nothing secret is in it.
// The same as a file is D/.ready (sidecar-folder.ts); what ready means is sidecar-keeper.ts's business.
import { createServer } from "node:http";
import { BrevetError } from "../errors.ts";
import { usageError } from "./options.ts";

/** HOST:PORT, or [ADDRESS]:PORT. */
export function hostAndPort(text: string): { readonly host: string; readonly port: number } {
  const [, bracketed, plain, digits] = /^(?:\[([0-9A-Fa-f:.]+)\]|([^:\s[\]]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  const port = Number(digits);
  if (host === undefined || port > 65_535) throw usageError(`--ready ${text}: give it as HOST:PORT, e.g. 127.0.0.1:8641`);
  return { host, port };
}

/** Serves until it is closed. Throws START_REFUSED if it cannot. */
export async function serveReadiness({ host, port }: ReturnType<typeof hostAndPort>, problems: () => readonly string[]): Promise<() => void> {
  const server = createServer({ requestTimeout: 5_000, headersTimeout: 5_000, keepAliveTimeout: 1_000, maxHeaderSize: 8_192 }, (request, response) => {
    const wrong = problems();
    response.writeHead(wrong.length === 0 ? 200 : 503, { "content-type": "text/plain; charset=utf-8", "cache-control": "no-store", connection: "close" });
    response.end(`${wrong.length === 0 ? "ready" : wrong.join("\n")}\n`);
    request.resume();
  });
  server.maxConnections = 64;
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => reject(new BrevetError("START_REFUSED", `--ready ${host}:${port}: cannot listen (${error.code ?? "error"})`, { cause: error })));
    server.listen(port, host, resolve);
  });
  return () => {
    server.close();
    server.closeAllConnections();
  };
}
