// How does a list come that is longer than the broker gives at once?
// Page by page up to --limit; where more is left, table, JSON and YAML all say with which token to go on.
// What a token means is the broker's business.
import { Option } from "commander";

export type Paged = { readonly limit: number; readonly pageToken?: string };

const mostAtOnce = 1_000;

export function pageToken(): Option {
  return new Option("--page-token <token>", "go on where a list stopped");
}

/** `ask` gives a page: its rows, and the token of the next. */
export async function upToLimit<Row>(
  flags: Paged, ask: (page: { pageSize: number; pageToken: string }) => Promise<readonly [rows: readonly Row[], nextPageToken: string]>,
): Promise<{ rows: Row[]; nextPageToken: string }> {
  const found: Row[] = [];
  let next = flags.pageToken ?? "";
  do {
    const [rows, token] = await ask({ pageSize: Math.min(flags.limit - found.length, mostAtOnce), pageToken: next });
    found.push(...rows);
    next = token;
  } while (next !== "" && found.length < flags.limit);
  return { rows: found, nextPageToken: next };
}

/** What stands under a table that stopped at its limit. */
export function more(token: string): string {
  return token === "" ? "" : `\nmore: --page-token ${token}, or raise --limit`;
}
