// How does a test come in over the network?
// As an operator does: with a key of its own and the certificate that an administrator had made for it. The world
// remembers the key as a secret.
import { generateKeyPairSync } from "node:crypto";
import * as tls from "node:tls";
import { credentials } from "@grpc/grpc-js";
import type { ChannelCredentials } from "@grpc/grpc-js";
import type { AddOperatorRequest } from "../../src/generated/brevet/v1/AddOperatorRequest.ts";
import { splitDer } from "../../src/identity/der.ts";
import { pem } from "./authorities.ts";
import type { World } from "./world.ts";

export type Keys = { readonly key: string; readonly publicKey: Buffer };
export type Identity = { readonly key: string; readonly cert: string; readonly ca: string };

export function newKeys(): Keys {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "prime256v1" });
  return { key: privateKey.export({ format: "pem", type: "pkcs8" }).toString(), publicKey: publicKey.export({ format: "der", type: "spki" }) };
}

/** On the admin socket. */
export async function addOperator(world: World, request: Partial<AddOperatorRequest> & { name: string; role: string }): Promise<Identity> {
  const { key, publicKey } = newKeys();
  const { chain, x509 } = await world.admin.operators.add({ ttlSeconds: 0, agents: [], replace: false, ...request, publicKey });
  const certificates = (der: Buffer): string => splitDer(der).map((one) => pem("CERTIFICATE", one)).join("");
  const identity = { key, cert: certificates(chain), ca: certificates(x509) };
  world.sawIdentity(identity);
  return identity;
}

/** For a grpc-js client without any of our own code: the server's name is not checked. */
export function channelCredentials({ key, cert, ca }: Identity): ChannelCredentials {
  return credentials.createFromSecureContext(tls.createSecureContext({ key, cert, ca, minVersion: "TLSv1.3" }), { checkServerIdentity: () => undefined });
}
