// Which bundles of other trust domains were fetched last?
// One row for each domain and way of getting it; an older sequence never replaces a newer, whichever broker
// writes. Only public keys. What a bundle means is src/federation's business.
import type { Statement, Store } from "./store.ts";

const readStatement: Statement = { name: "get_federated_bundle", text: "select document from federated_bundles where trust_domain = $1 and source = $2" };

export async function readFederatedBundle(store: Store, trustDomain: string, source: string): Promise<Buffer | undefined> {
  const [row] = await store.query(readStatement, [trustDomain, source]);
  return row?.["document"] as Buffer | undefined;
}

const keepStatement: Statement = {
  name: "keep_federated_bundle",
  text: `insert into federated_bundles as f (trust_domain, source, sequence, document, fetched_at) values ($1, $2, $3, $4, clock_timestamp())
    on conflict (trust_domain, source) do update set sequence = excluded.sequence, document = excluded.document, fetched_at = excluded.fetched_at
    where f.sequence <= excluded.sequence`,
};

export async function keepFederatedBundle(
  store: Store, { trustDomain, source, sequence, document }: { trustDomain: string; source: string; sequence: number; document: Buffer },
): Promise<void> {
  await store.query(keepStatement, [trustDomain, source, sequence, document]);
}
