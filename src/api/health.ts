// Is a service served here, and is the broker ready? grpc.health.v1.Health.
// Of each service on this socket, and of the whole (""), one state: the broker issues, or it does not. A name that
// is none of them is unknown, and is not said back: anybody may have written it.
// gRPC health checking protocol. Which parts are ready is src/health.ts's business, which services there are listeners.ts's.
import { service as definition } from "grpc-health-check";
import type { ServerWritableStream } from "@grpc/grpc-js";
import { notFound } from "../errors.ts";
import type { BrokerParts } from "../health.ts";
import type { ApiServer } from "./server.ts";
import { newest } from "./unread.ts";

type Request = { readonly service: string };
type Answer = { readonly status: "SERVING" | "NOT_SERVING" | "SERVICE_UNKNOWN" };

export function addHealth(server: ApiServer, health: BrokerParts, served: readonly string[]): void {
  const known = new Set(["", ...served]);
  const now = (): Answer => ({ status: health.ready ? "SERVING" : "NOT_SERVING" });
  server.addService(definition, {
    Check: server.unary("Health.Check", ({ service }: Request) => {
      if (!known.has(service)) throw notFound("service", "service on this socket");
      return now();
    }),

    Watch: server.stream("Health.Watch", async ({ service }: Request, call, stream: ServerWritableStream<Request, Answer>) => {
      const send = newest(stream, () => (known.has(service) ? now() : { status: "SERVICE_UNKNOWN" }));
      const off = health.onChange(send);
      try {
        send();
        await new Promise<void>((_, reject) => void call.onGone(reject));
      } finally {
        off();
      }
    }),

    List: server.unary("Health.List", () => ({ statuses: Object.fromEntries([...known].map((name) => [name, now()])) })),
  });
}
