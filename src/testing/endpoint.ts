// What does a workload hear at its address in a test?
// Each task and each service has an endpoint of its own on the loopback interface, and whoever asks
// there is it: nothing is attested, so this must serve nothing but tests. The answers are those of a
// broker: SVIDs and bundles as the SPIFFE Workload API sends them, the feed, the claim.
// SPIFFE Workload Endpoint sections 3 and 4; SPIFFE Workload API sections 4-6.
// What the answers are is broker.ts's business.
import { Server, ServerCredentials } from "@grpc/grpc-js";
import type { ServerWritableStream, UntypedServiceImplementation, sendUnaryData } from "@grpc/grpc-js";
import { toGrpcError } from "../api/status.ts";
import { BrevetError, asBrevetError } from "../errors.ts";
import type { Task } from "../generated/brevet/v1/Task.ts";
import type { WatchFeedRequest__Output } from "../generated/brevet/v1/WatchFeedRequest.ts";
import type { X509SVIDResponse } from "../generated/X509SVIDResponse.ts";
import { services } from "../proto.ts";
import type { TestAuthority } from "./authority.ts";
import type { Listener, TestFeed } from "./feed.ts";

type Stream = ServerWritableStream<Record<string, unknown>, object>;
type Request = Record<string, unknown>;
type Method = (request: Request) => object | Promise<object>;

/** Who asks at an endpoint. Methods throw BrevetErrors. */
export type Holder = {
  x509(): X509SVIDResponse;
  jwt(audience: readonly string[]): { readonly spiffeId: string; readonly svid: string };
  tasks(): readonly Task[];
};

/** What orchestrators may ask, by the name of the method; answered alike at every endpoint. */
export type TaskMethods = Readonly<Record<"open" | "get" | "changeContext" | "close" | "abort", Method>>;

export type Shared = {
  readonly authority: TestAuthority;
  readonly feed: TestFeed;
  readonly tasks: TaskMethods;
  /** Says a task's record now and at each change. */
  readonly watch: (task: string, say: (record: Task) => void) => void;
};

export class Endpoint {
  readonly address: string;
  readonly #server: Server;
  readonly #holder: Holder;
  readonly #streams = new Set<Stream>();

  private constructor(server: Server, holder: Holder, address: string, streams: Set<Stream>) {
    this.#server = server;
    this.#holder = holder;
    this.address = address;
    this.#streams = streams;
  }

  static async listen(shared: Shared, holder: Holder): Promise<Endpoint> {
    const server = new Server();
    const streams = new Set<Stream>();
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) => (error ? reject(error) : resolve(bound)));
    });
    const address = `tcp://127.0.0.1:${port}`;
    server.addService(services.workload, workload(shared, holder, streams));
    // the first request says where to begin, later ones acknowledge, which is not asked for here
    server.addService(services.feed, {
      watch: stream((call) => void (call as unknown as Listener).once("data", (first: WatchFeedRequest__Output) => {
        shared.feed.listen(call as unknown as Listener, first);
      })),
    });
    server.addService(services.agent, {
      claim: unary(({ task }) => ({ task: heldBy(holder, String(task)), endpoint: address })),
      status: unary(() => ({ tasks: [...holder.tasks()] })),
    });
    server.addService(services.tasks, {
      ...Object.fromEntries(Object.entries(shared.tasks).map(([name, method]) => [name, unary(method)])),
      watch: stream((call, { task }) => shared.watch(String(task), (record) => void call.write(record))),
    });
    return new Endpoint(server, holder, address, streams);
  }

  /** To all who hold its SVIDs: what they are now, or that there are none any more. */
  push(): void {
    for (const call of this.#streams) send(call, () => this.#holder.x509());
  }

  close(): void {
    this.#server.forceShutdown();
  }
}

function workload({ authority }: Shared, holder: Holder, streams: Set<Stream>): UntypedServiceImplementation {
  const trustDomain = `spiffe://${authority.trustDomain}`;
  return {
    FetchX509SVID: stream((call) => {
      streams.add(call);
      call.on("cancelled", () => streams.delete(call));
      send(call, () => holder.x509());
    }),
    FetchX509Bundles: stream((call) => void call.write({ bundles: { [trustDomain]: authority.bundle } })),
    FetchJWTBundles: stream((call) => void call.write({ bundles: { [trustDomain]: authority.jwks } })),
    FetchJWTSVID: unary(({ audience }) => ({ svids: [{ ...holder.jwt(audience as string[]), hint: "" }] })),
  };
}

function heldBy(holder: Holder, id: string): Task {
  const found = holder.tasks().find((task) => task.id === id);
  if (found === undefined) throw new BrevetError("DENIED_NO_MATCH", `this is the endpoint of another: task ${id} is claimed at its own`);
  return found;
}

function send(call: Stream, read: () => object): void {
  try {
    call.write(read());
  } catch (error) {
    call.emit("error", toGrpcError(asBrevetError(error)));
  }
}

function unary(method: Method) {
  return (call: { metadata: { get(name: string): unknown[] }; request: Request }, done: sendUnaryData<object>): void => {
    void (async () => {
      refuseWithoutHeader(call.metadata);
      return await method(call.request);
    })().then((answer) => done(null, answer), (error: unknown) => done(toGrpcError(asBrevetError(error))));
  };
}

function stream(serve: (call: Stream, request: Request) => void) {
  return (call: Stream): void => {
    try {
      refuseWithoutHeader(call.metadata);
      serve(call, call.request);
    } catch (error) {
      call.emit("error", toGrpcError(asBrevetError(error)));
    }
  };
}

function refuseWithoutHeader(metadata: { get(name: string): unknown[] }): void {
  const [value, ...others] = metadata.get("workload.spiffe.io");
  if (value !== "true" || others.length > 0) throw new BrevetError("SECURITY_HEADER_MISSING", "the header workload.spiffe.io: true is missing");
}
