// How does a client that has no proto file learn what is served?
// By reflection, v1 and v1alpha, of health too. The library's index is mended before it is used, since grpcurl and others
// can make nothing of it as it is: the standard's own service, which is in no package, is named with a
// dot before it; no file says which others it needs; and the entries of maps have names of their own.
// gRPC server reflection; SPIFFE Workload Endpoint section 7.
// Which services there are is listeners.ts's.
import { ReflectionService } from "@grpc/reflection";
import { service as healthService } from "grpc-health-check";
import { packageDefinition } from "../proto.ts";

type Server = Parameters<ReflectionService["addToServer"]>[0];
type Message = {
  name: string;
  readonly field: readonly { typeName: string }[];
  readonly nestedType: readonly Message[];
  readonly options: { readonly mapEntry?: boolean } | null;
};
type File = {
  readonly name: string;
  readonly messageType: readonly Message[];
  dependency: string[];
  readonly constructor: unknown;
};
type FileType = { encode(file: File): { finish(): Uint8Array } };

/** What the library keeps for each version of the protocol. */
type Index = {
  readonly services: Record<string, unknown>;
  readonly symbols: Record<string, unknown>;
  readonly files: Readonly<Record<string, File>>;
  readonly fileDependencies: ReadonlyMap<File, readonly File[]>;
  readonly fileEncodings: Map<File, Uint8Array>;
};

type Method = Parameters<Server["addService"]>[0][string];
type Handler = (stream: unknown) => void;

/** `served`: names of the services on this socket; no other is spoken of. Nothing is decoded before somebody asks. */
export function addReflection(server: Server, served: readonly string[]): void {
  let made: ReflectionService | undefined;
  for (const version of ["v1", "v1Alpha"] as const) {
    let added: readonly [Method, Handler] | undefined;
    const the = (): readonly [Method, Handler] => (added ??= methodOf((made ??= madeReflection(served))[version]));
    const definition: Method = {
      path: `/grpc.reflection.${version.toLowerCase()}.ServerReflection/ServerReflectionInfo`,
      requestStream: true,
      responseStream: true,
      requestSerialize: (message: unknown) => the()[0].requestSerialize(message),
      requestDeserialize: (bytes) => the()[0].requestDeserialize(bytes),
      responseSerialize: (message: unknown) => the()[0].responseSerialize(message),
      responseDeserialize: (bytes) => the()[0].responseDeserialize(bytes),
    };
    server.addService({ ServerReflectionInfo: definition }, { ServerReflectionInfo: ((stream: unknown) => the()[1](stream)) as never });
  }
}

/** What the library would add to a server. */
function methodOf(version: Pick<ReflectionService, "addToServer">): readonly [Method, Handler] {
  let added: readonly [Method, Handler] | undefined;
  version.addToServer({
    addService: (definition, implementation) => {
      const [method, handler] = [definition.ServerReflectionInfo, implementation.ServerReflectionInfo];
      if (method && handler) added = [method, handler as unknown as Handler];
    },
  } as Server);
  if (!added) throw new TypeError("@grpc/reflection adds no ServerReflectionInfo");
  return added;
}

function madeReflection(served: readonly string[]): ReflectionService {
  // any message brings the whole file that it is in
  const ofHealth = Object.entries(healthService).map(([name, { requestType }]) => [`grpc.health.v1.Health/${name}`, requestType]);
  const reflection = new ReflectionService({ ...packageDefinition, ...Object.fromEntries(ofHealth) as typeof packageDefinition });
  for (const index of Object.values(reflection) as unknown as readonly Index[]) {
    withoutDots(index.services);
    withoutDots(index.symbols);
    for (const name of Object.keys(index.services)) if (!served.includes(name)) delete index.services[name];
    for (const file of Object.values(index.files)) {
      file.messageType.forEach(nameMapEntries);
      file.dependency = [...new Set(index.fileDependencies.get(file)?.map(({ name }) => name))];
      index.fileEncodings.set(file, (file.constructor as FileType).encode(file).finish());
    }
  }
  return reflection;
}

function withoutDots(named: Record<string, unknown>): void {
  for (const [name, what] of Object.entries(named).filter(([name]) => name.startsWith("."))) {
    named[name.slice(1)] = what;
    delete named[name];
  }
}

/** As protoc names them: the map `context` is a list of `ContextEntry`. */
function nameMapEntries(message: Message): void {
  for (const nested of message.nestedType) {
    if (nested.options?.mapEntry) {
      const name = `${nested.name}Entry`;
      for (const field of message.field) if (field.typeName === nested.name) field.typeName = name;
      nested.name = name;
    }
    nameMapEntries(nested);
  }
}
