// How does a service accept agents whose task is alive, and no others?
// It holds an SVID of its own and a Verifier. Over mutual TLS nothing reaches its handler that was not
// accepted; a bearer token is judged by the same Verifier, on a plain port as behind a proxy.
// What it says to demo.ts are its two ports, and each caller that it refused.
import { createServer } from "node:http";
import type { AddressInfo, Server } from "node:net";
import { Verifier, WorkloadSource, callerOf, createHttpsServer } from "brevet";

function say(words: Record<string, string>): void {
  process.stdout.write(`${JSON.stringify(words)}\n`);
}

async function listening(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return String((server.address() as AddressInfo).port);
}

const verifier = new Verifier({ audience: "crm" });
const source = await WorkloadSource.open();
await verifier.ready();

const mtls = createHttpsServer({ verifier, source, onRefused: ({ reason }) => say({ event: "refused", reason }) }, (request, response) => {
  response.end(JSON.stringify(callerOf(request.socket)));
});
mtls.keepAliveTimeout = 60_000; // what is cut in the demo was not merely idle

const bearer = createServer((request, response) => {
  const verdict = verifier.jwt((request.headers.authorization ?? "").replace(/^Bearer /, ""));
  response.writeHead(verdict.accepted ? 200 : 401).end(JSON.stringify(verdict));
});

say({ event: "listening", spiffeId: source.svid().spiffeId, mtls: await listening(mtls), bearer: await listening(bearer) });

// Ends with its input: when the demo is gone, so is this process.
process.stdin.once("end", () => process.exit(0)).resume();
