// Which authorities should come and go now?
// After the plan is carried out each use has exactly one active authority with time left. A key is
// published before it signs, if time allows, and stays published until nothing it signed can be valid.
// The plan is a pure function of records and time, so every broker makes the same one.
// SPIFFE Federation section 4.1 (publish new keys ahead, drop old ones once no valid SVID remains).
// Carrying it out, by compare-and-swap on the rows, is left to who keeps the records.
import type { AuthorityRecord, AuthorityUse } from "./authority.ts";

export type RotationPolicy = {
  readonly rootSeconds: number;
  /** Signing CAs and JWT keys. */
  readonly signingSeconds: number;
  /** How long a prepared authority is published before it is activated. */
  readonly publishSeconds: number;
  /** An active authority with less time left is replaced at once: it could not sign an SVID of full length. */
  readonly minimumSeconds: number;
  /** How long past its end an authority stays in the bundle: clock leeway, and one more CRL. */
  readonly keepSeconds: number;
};

const usesInOrder: readonly AuthorityUse[] = ["root", "x509", "jwt"];

export const defaultRotation: RotationPolicy = {
  rootSeconds: 365 * 86_400,
  signingSeconds: 86_400,
  publishSeconds: 3_600,
  minimumSeconds: 7_200,
  keepSeconds: 3_600,
};

export type RotationAction =
  | { readonly do: "create"; readonly use: AuthorityUse; readonly state: "prepared" | "active"; readonly lifetimeSeconds: number }
  | { readonly do: "activate" | "retire" | "drop"; readonly use: AuthorityUse; readonly id: string };

/** In the order to carry out: roots first, for signing CAs are made under the root that is then active. */
export function planRotation(records: readonly AuthorityRecord[], now: Date, policy: RotationPolicy = defaultRotation): RotationAction[] {
  return usesInOrder.flatMap((use) => planUse(use, records.filter((record) => record.use === use), now.getTime(), policy));
}

function planUse(use: AuthorityUse, records: readonly AuthorityRecord[], now: number, policy: RotationPolicy): RotationAction[] {
  const lifetimeSeconds = use === "root" ? policy.rootSeconds : policy.signingSeconds;
  const usable = (record: AuthorityRecord): boolean => secondsLeft(record, now) > minimum;
  const minimum = Math.min(policy.minimumSeconds, lifetimeSeconds / 4);
  const byAge = [...records].sort((a, b) => a.notBefore.getTime() - b.notBefore.getTime() || (a.id < b.id ? -1 : 1));
  const active = byAge.filter((record) => record.state === "active");
  const prepared = byAge.filter((record) => record.state === "prepared" && usable(record));
  const drops = byAge
    .filter((record) => secondsLeft(record, now) < -policy.keepSeconds || (record.state === "prepared" && !usable(record)))
    .filter((record) => record.state !== "active")
    .map((record) => ({ do: "drop" as const, use, id: record.id }));
  const retire = (old: readonly AuthorityRecord[]): RotationAction[] => old.map((record) => ({ do: "retire" as const, use, id: record.id }));

  const current = active.filter(usable).at(-1);
  const next = prepared[0];
  const superseded = active.filter((record) => record !== current);
  const due = current === undefined || isPastHalf(current, now);
  const published = next !== undefined && now - next.notBefore.getTime() >= policy.publishSeconds * 1000;
  if (next !== undefined && (current === undefined || (due && published))) {
    return [...retire(active), { do: "activate", use, id: next.id }, ...drops];
  }
  if (current === undefined) return [...retire(active), { do: "create", use, state: "active", lifetimeSeconds }, ...drops];
  if (due && next === undefined) return [...retire(superseded), { do: "create", use, state: "prepared", lifetimeSeconds }, ...drops];
  return [...retire(superseded), ...drops];
}

function secondsLeft(record: AuthorityRecord, now: number): number {
  return (record.notAfter.getTime() - now) / 1000;
}

function isPastHalf(record: AuthorityRecord, now: number): boolean {
  return now - record.notBefore.getTime() >= record.notAfter.getTime() - now;
}
