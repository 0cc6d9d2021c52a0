// How fast is the RPC library by itself?
// A server that answers the Workload API with messages of the same size as the broker's, and does
// nothing else: no attestation, no database, no signature. The broker's figures stand beside its.
import { Server, ServerCredentials } from "@grpc/grpc-js";
import type { sendUnaryData, ServerUnaryCall, ServerWritableStream } from "@grpc/grpc-js";
import type { JWTSVIDResponse } from "../src/generated/JWTSVIDResponse.ts";
import type { X509SVIDResponse } from "../src/generated/X509SVIDResponse.ts";
import { services } from "../src/proto.ts";

const spiffeId = `spiffe://brevet.local/agent/bench/task/${"0".repeat(36)}`;
const hint = "0".repeat(36);
const jwt: JWTSVIDResponse = { svids: [{ spiffeId, svid: "x".repeat(760), hint }] };
const x509: X509SVIDResponse = {
  svids: [{ spiffeId, x509Svid: Buffer.alloc(1300), x509SvidKey: Buffer.alloc(138), bundle: Buffer.alloc(450), hint }], crl: [Buffer.alloc(300), Buffer.alloc(300)],
};

/** Serves until the process ends. */
export function serveBare(socketPath: string): Promise<void> {
  const server = new Server({ "grpc.enable_channelz": 0 });
  const { FetchJWTSVID, FetchX509SVID } = services.workload;
  server.addService({ FetchJWTSVID, FetchX509SVID }, {
    FetchJWTSVID: (_call: ServerUnaryCall<unknown, unknown>, done: sendUnaryData<JWTSVIDResponse>) => done(null, jwt),
    FetchX509SVID: (stream: ServerWritableStream<unknown, X509SVIDResponse>) => void stream.write(x509),
  });
  return new Promise((resolve, reject) => {
    server.bindAsync(`unix:${socketPath}`, ServerCredentials.createInsecure(), (error) => (error ? reject(error) : resolve()));
  });
}
