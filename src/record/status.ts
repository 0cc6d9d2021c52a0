// Which status lists are there, and which of their indexes are dead?
// A list comes from one insert and belongs to whoever made it: so no index is ever given out twice. Dead indexes are
// found by the feed's sequence, as certificates are.
// What an index means, and how lists are published, is src/issue's and src/revoke's business.
import type { Statement, Store } from "./store.ts";

const openStatement: Statement = {
  name: "open_status_list",
  text: "insert into status_lists (until) values (clock_timestamp() + make_interval(secs => $1)) returning id",
};

export async function openStatusList(store: Store, lifeSeconds: number): Promise<number> {
  const [row] = await store.query(openStatement, [lifeSeconds]);
  return row?.["id"] as number;
}

const liveStatement: Statement = { name: "live_status_lists", text: "select id, until from status_lists where until > clock_timestamp() order by id" };

export async function liveStatusLists(store: Store): Promise<Map<number, Date>> {
  return new Map((await store.query(liveStatement)).map((row) => [row["id"] as number, row["until"] as Date]));
}

const firstStatement: Statement = {
  name: "first_revocation_for_status",
  text: "select coalesce(min(sequence), 0) as sequence from revocations where until > clock_timestamp() - make_interval(secs => $1)",
};

/** The first revocation whose task may have a token in a list that lives; 0: there is none. */
export async function firstRevocationWithin(store: Store, seconds: number): Promise<number> {
  const [row] = await store.query(firstStatement, [seconds]);
  return row?.["sequence"] as number;
}

const deadStatement: Statement = {
  name: "dead_status_indexes",
  text: `with news as (select r.subject::uuid as task, r.epoch from revocations r where r.sequence > $1 and r.sequence <= $2 and position('/' in r.subject) = 0)
    select s.id, s.status from news n join svids s on s.task = n.task and s.epoch < n.epoch
    where s.status is not null and s.id > $3 order by s.id limit $4`,
};

/** Indexes of the tokens that the revocations after `from`, up to `to`, killed: those after the row `afterId`. */
export async function deadStatusIndexes(
  store: Store, { from, to, afterId, limit }: { from: number; to: number; afterId: number; limit: number },
): Promise<{ id: number; status: number }[]> {
  return (await store.query(deadStatement, [from, to, afterId, limit])).map((row) => ({ id: row["id"] as number, status: row["status"] as number }));
}
