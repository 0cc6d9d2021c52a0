// Until when can anybody still accept what was revoked?
// Computed, class by class, from what is known: who has applied it, which lists carry it, when the last
// SVID expires. Whoever checks nothing but signature and time accepts until the SVID's own end, and of
// JWT-SVIDs a minute longer, since that is the leeway of the stock SPIFFE library for Go; no class can
// accept longer than that. Unix milliseconds on PostgreSQL's clock.
// What each class measured is docs/residual.md; what relying parties issue on an SVID is theirs.
import type { DeadSvids } from "../record/revocations.ts";
import type { VerifierState } from "./verifiers.ts";

/** `until`: absent if nobody of this class can. */
export type Residual = { readonly class: "sdk" | "crl" | "x509-offline" | "jwt-offline"; readonly until: number | undefined; readonly why: string };

/** The lists of one authority: the first that carries all, if there is one, and when the last one without ends. */
export type ListState = { readonly authority: string; readonly carries: boolean; readonly previousEnds: number };

export type Revoked = {
  readonly sequence: number;
  readonly committedAt: number;
  readonly svids: readonly DeadSvids[];
};

export const offlineLeewayMs = 60_000;

/** From when on a verifier that has not applied it refuses by itself. */
export function refusesBy({ heardUntil, maxStalenessMs }: VerifierState, { committedAt }: Revoked): number {
  return Math.min(heardUntil, committedAt) + maxStalenessMs;
}

export function residuals(revoked: Revoked, now: number, verifiers: readonly VerifierState[], lists: readonly ListState[]): Residual[] {
  const x509 = lastExpiry(revoked, "x509");
  const jwt = lastExpiry(revoked, "jwt");
  const behind = verifiers.filter(({ applied }) => applied < revoked.sequence).map((verifier) => refusesBy(verifier, revoked));
  const sdk = Math.min(Math.max(0, ...behind), Math.max(x509, jwt));
  const list = Math.min(Math.max(0, ...lists.map(({ previousEnds }) => previousEnds)), x509);
  const possible = (until: number): number | undefined => (until > now ? until : undefined);
  const missing = lists.filter(({ carries }) => !carries).length;
  return [
    { class: "sdk", until: possible(sdk), why: behind.length === 0 ? "all that are known have applied it" : `${behind.length} have not applied it and trust what they heard last until then` },
    { class: "crl", until: possible(list), why: missing > 0 ? `${missing} of ${lists.length} lists do not carry it yet` : "who fetched the list before may keep it until its nextUpdate" },
    { class: "x509-offline", until: possible(x509), why: "who checks signature and time alone accepts until the last certificate's notAfter" },
    {
      class: "jwt-offline", until: jwt === 0 ? undefined : possible(jwt + offlineLeewayMs),
      why: `who checks signature and time alone accepts until ${offlineLeewayMs / 1_000} s after the last token's exp`,
    },
  ];
}

/** The end of all classes; the commit itself, if nobody ever could. */
export function nobodyAfter({ committedAt }: Revoked, all: readonly Residual[]): number {
  return Math.max(committedAt, ...all.map(({ until }) => until ?? 0));
}

function lastExpiry({ svids }: Revoked, kind: DeadSvids["kind"]): number {
  return Math.max(0, ...svids.filter((died) => died.kind === kind).map((died) => died.lastExpiry));
}
