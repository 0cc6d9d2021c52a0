// Who may call which method?
// This table is the whole answer: a method that is not in it can't be served at all, and one is served on a
// listener only if somebody who comes in there may call it. Whose objects a role then sees is access.ts's
// question: what is not its own is answered as what is not there.
// administrator: the admin socket. process: any attested process, on the workload socket. The others come over
// the network, and hold their role by certificate (peers.ts).
export const networkRoles = ["operator", "orchestrator", "service", "auditor"] as const;
export type NetworkRole = (typeof networkRoles)[number];
export type Role = "administrator" | "process" | NetworkRole;

const everybody: readonly Role[] = ["administrator", "process", ...networkRoles];
const overseers: readonly Role[] = ["administrator", "operator"];
const readers: readonly Role[] = [...overseers, "auditor"];
const openers: readonly Role[] = [...overseers, "process", "orchestrator"];

/** Methods by service; a service's own name goes before all of its methods. */
const table: Readonly<Record<string, Readonly<Record<string, readonly Role[]>>>> = {
  "brevet.v1.Tasks": {
    Open: openers, ChangeContext: openers, ChangeContexts: openers, Close: openers, Abort: openers, IssueTicket: openers,
    Get: [...openers, "auditor"], List: [...openers, "auditor"], Watch: [...openers, "auditor"],
  },
  "brevet.v1.Feed": { Watch: everybody },
  "brevet.v1.Trust": { GetBundle: everybody, WatchBundle: everybody, GetInfo: everybody },
  "brevet.v1.Revocations": { Revoke: overseers, WatchPropagation: readers, ListVerifiers: readers },
  "brevet.v1.Catalog": { Apply: overseers, DisableAgent: overseers, EnableAgent: overseers, ListAgents: readers, GetAgent: readers },
  "brevet.v1.Log": { ListEntries: readers, ListSvids: readers, ListAttestations: readers, Explain: readers },
  "brevet.v1.Operators": { Add: ["administrator"], Remove: overseers, List: readers, Renew: networkRoles },
  "brevet.v1.Agent": { Claim: ["process"], Status: ["process"], Finish: ["process"] },
  SpiffeWorkloadAPI: {
    FetchX509SVID: ["process"], FetchJWTSVID: ["process"], ValidateJWTSVID: ["process"], FetchWITSVID: ["process"], FetchWITBundles: ["process"],
    FetchX509Bundles: ["process", ...networkRoles], FetchJWTBundles: ["process", ...networkRoles],
  },
  "envoy.service.auth.v3.Authorization": { Check: ["process", "service"] },
  "envoy.service.secret.v3.SecretDiscoveryService": { StreamSecrets: ["process"], FetchSecrets: ["process"], DeltaSecrets: ["process"] },
  "grpc.health.v1.Health": { Check: everybody, Watch: everybody, List: everybody },
  "grpc.reflection.v1.ServerReflection": { ServerReflectionInfo: everybody },
  "grpc.reflection.v1alpha.ServerReflection": { ServerReflectionInfo: everybody },
};

const byPath = new Map<string, ReadonlySet<Role>>(Object.entries(table).flatMap(([service, methods]) =>
  Object.entries(methods).map(([method, roles]) => [`/${service}/${method}`, new Set(roles)] as const)));

/** Every path of the table. */
export const paths: readonly string[] = [...byPath.keys()];

/** Throws for a path that the table does not have: whoever adds a method says there who may call it. */
export function mayCall(role: Role, path: string): boolean {
  const roles = byPath.get(path);
  if (!roles) throw new TypeError(`${path} is not in the table of src/api/roles.ts`);
  return roles.has(role);
}

/** Roles that see and touch the tasks of every agent, as far as they may call anything. */
export const seesEveryTask: ReadonlySet<Role> = new Set(readers);
