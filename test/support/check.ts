// What must be true of a world at any time?
// Each rule re-derives one invariant from what is recorded (as the database's owner reads it), from what
// brokers publish (feed, lists, metrics, logs), and from what clients were given. What is published a
// moment after the commit is waited for; all else must hold at once.
// How the world came to be so is world.ts's and the stories' business.
import { readCrl } from "../../src/identity/crl.ts";
import type { Crl } from "../../src/identity/crl.ts";
import type { TaskBinding } from "../../src/identity/task.ts";
import type { BrokerProcess } from "./broker.ts";
import { patienceMs } from "./patience.ts";
import type { World } from "./world.ts";

/** What a client was given. */
export type Seen = { readonly kind: "x509" | "jwt"; readonly binding: TaskBinding | null; readonly spiffeId: string; readonly expiresAt: Date };

type SvidRow = {
  kind: "x509" | "jwt"; serial: string; task: string | null; service: string | null; subject: string | null; epoch: number; instance: string | null; authority: string;
  issued_at: Date; expires_at: Date; agent: string | null; dead: boolean; task_instance: string | null; task_expires_at: Date | null; ended_at: Date | null;
};
type Wrong = string[];

export async function checkWorld(world: World): Promise<Wrong> {
  const wrong: Wrong = [];
  const svids = await readSvids(world);
  await nothingIssuedAfterTheEnd(world, svids, wrong);
  everySvidIsARow(world, svids, wrong);
  await theDeadAreInTheRecord(world, svids, wrong);
  await sequencesAreWhole(world, wrong);
  await boundOnce(world, wrong);
  await everyChangeIsLogged(world, wrong);
  for (const broker of world.brokers.filter(({ isRunning }) => isRunning)) {
    await theFeedTells(world, broker, wrong);
    await theListsTell(world, broker, wrong);
    await signedIsRecorded(world, broker, wrong);
    await metricsNameNobody(broker, wrong);
  }
  await noSecretIsWritten(world, wrong);
  for (const broker of world.brokers) {
    if (/broker\.crashed|call\.failed/.test(broker.output)) wrong.push(`10: the broker failed: ${linesOf(broker.output, /broker\.crashed|call\.failed/)}`);
  }
  return wrong;
}

async function readSvids(world: World): Promise<SvidRow[]> {
  return await world.sql<SvidRow>(`select s.kind, s.serial, s.task, s.service, s.subject, s.epoch::int, s.instance, s.authority, s.issued_at, s.expires_at,
      t.agent, t.instance as task_instance, t.expires_at as task_expires_at, t.ended_at,
      s.epoch < coalesce(t.epoch, v.epoch, o.epoch, 1) as dead
    from svids s left join tasks t on t.id = s.task left join services v on v.name = s.service
    left join operators o on 'brevet/operator/' || o.name = s.subject`);
}

/** 1, and: no SVID outlives its task. */
async function nothingIssuedAfterTheEnd(world: World, svids: readonly SvidRow[], wrong: Wrong): Promise<void> {
  for (const svid of svids) {
    if (svid.ended_at && svid.issued_at > svid.ended_at) wrong.push(`1: ${svid.serial} was issued after its task's end`);
    if (svid.task_expires_at && svid.expires_at > svid.task_expires_at) wrong.push(`1: ${svid.serial} outlives its task`);
  }
  const late = await world.sql<{ serial: string }>(`select s.serial from svids s join revocations r on r.subject = coalesce(s.task::text, 'service/' || s.service, s.subject)
    where s.epoch < r.epoch and s.issued_at > r.at`);
  for (const { serial } of late) wrong.push(`1: ${serial} was issued under an epoch that was over`);
}

/** 2, and 5: with the instance that holds the task. */
function everySvidIsARow(world: World, svids: readonly SvidRow[], wrong: Wrong): void {
  const rows = new Map(svids.map((row) => [row.serial, row]));
  for (const [serial, { kind, binding, spiffeId, expiresAt }] of world.seen) {
    const row = rows.get(serial);
    if (!row) {
      wrong.push(`2: a client has ${kind} ${serial}, of which there is no row`);
      continue;
    }
    const subject = row.task === null ? `/${subjectOf(row)}` : `/agent/${row.agent}/task/${row.task}`;
    if (!spiffeId.endsWith(subject) && spiffeId.replace(/.*(?=\/agent)/, "") !== `/agent/${row.agent}`) wrong.push(`2: ${serial} says ${spiffeId}, its row ${subject}`);
    if (row.kind !== kind) wrong.push(`2: ${serial} is ${kind}, its row ${row.kind}`);
    if (row.task !== null && (binding?.task !== row.task || binding.epoch !== row.epoch || binding.instance !== row.instance)) {
      wrong.push(`2: ${serial} is bound to ${JSON.stringify(binding)}, its row to ${row.task} ${row.epoch} ${row.instance}`);
    }
    if (expiresAt.getTime() > row.expires_at.getTime()) wrong.push(`2: ${serial} lives until ${expiresAt.toISOString()}, its row until ${row.expires_at.toISOString()}`);
  }
  for (const row of svids) if (row.instance !== row.task_instance) wrong.push(`5: ${row.serial} went to another instance than its task's`);
}

/** 3, the rows: what is dead is revoked until it would have expired. */
async function theDeadAreInTheRecord(world: World, svids: readonly SvidRow[], wrong: Wrong): Promise<void> {
  const last = await world.sql<{ subject: string; epoch: number; until: Date }>(
    "select distinct on (subject) subject, epoch::int, until from revocations order by subject, sequence desc");
  const revoked = new Map(last.map((row) => [row.subject, row]));
  const now = await clock(world);
  for (const svid of svids.filter(({ dead, expires_at }) => dead && expires_at > now)) {
    const row = revoked.get(subjectOf(svid));
    if (!row || row.epoch <= svid.epoch) wrong.push(`3: ${svid.serial} is dead, and no revocation says so`);
    else if (row.until < svid.expires_at) wrong.push(`3: ${svid.serial} expires after its revocation may be forgotten`);
  }
  const alive = await world.sql<{ id: string }>(`select t.id from tasks t where t.state in ('closed', 'aborted', 'expired')
    and exists (select from svids s where s.task = t.id and s.epoch >= t.epoch)`);
  for (const { id } of alive) wrong.push(`3: task ${id} is over, and SVIDs of its last epoch are not dead`);
}

/** 4: no gap, and the head is the last. */
async function sequencesAreWhole(world: World, wrong: Wrong): Promise<void> {
  // retention may have removed the oldest
  const [found] = await world.sql<{ rows: number; first: number; last: number; head: number }>(`select count(*)::int as rows,
    coalesce(min(sequence), 0)::int as first, coalesce(max(sequence), 0)::int as last, (select sequence::int from feed_head) as head from revocations`);
  if (!found) return;
  if (found.rows > 0 && found.last - found.first + 1 !== found.rows) wrong.push(`4: ${found.rows} revocations from ${found.first} to ${found.last}`);
  if (found.last !== found.head) wrong.push(`4: the last revocation is ${found.last}, the feed's head ${found.head}`);
  mayOnlyGrow(world, "feed_head", found.head, wrong);
}

/** 5: claimed at most once. */
async function boundOnce(world: World, wrong: Wrong): Promise<void> {
  const twice = await world.sql<{ task: string }>("select task from entries where kind = 'task.claimed' group by task having count(*) > 1");
  for (const { task } of twice) wrong.push(`5: ${task} was claimed twice`);
  const both = await world.sql<{ task: string }>("select task from attestations where outcome = 'granted' and task is not null group by task having count(*) > 1");
  for (const { task } of both) wrong.push(`5: ${task} was granted twice`);
}

/** 7: each change has its entry, and each entry its digest. */
async function everyChangeIsLogged(world: World, wrong: Wrong): Promise<void> {
  const missing = await world.sql<{ what: string }>(`
    select 'opened ' || id as what from tasks t where not exists (select from entries e where e.task = t.id and e.kind = 'task.opened' and e.at = t.opened_at)
    union all select 'claimed ' || id from tasks t where claimed_at is not null
      and not exists (select from entries e where e.task = t.id and e.kind = 'task.claimed' and e.at = t.claimed_at)
    union all select 'ended ' || id from tasks t where ended_at is not null
      and not exists (select from entries e where e.task = t.id and e.kind = 'task.' || t.state and e.at = t.ended_at)
    union all select 'changed to epoch ' || r.epoch || ' ' || r.subject from revocations r where r.subject not like '%/%'
      and not exists (select from entries e where e.task = r.subject::uuid and e.at = r.at and (e.body -> 'details' ->> 'epoch')::bigint = r.epoch)
    union all select 'issued ' || serial from svids s where not exists (
      select from entries e where e.kind = 'svid.issued' and e.task is not distinct from s.task and e.at = s.issued_at and e.body -> 'details' ->> 'serial' = s.serial)
    union all select 'digest of entry ' || id from entries where digest <> sha256(convert_to(body::text, 'UTF8')) or body ->> 'kind' <> kind
      or body ->> 'actor' <> actor or (body ->> 'at')::timestamptz <> at or (body ->> 'task')::uuid is distinct from task`);
  for (const { what } of missing) wrong.push(`7: not in the log: ${what}`);
}

/** 3 and 4, to verifiers: a snapshot holds every revocation that still matters. */
async function theFeedTells(world: World, broker: BrokerProcess, wrong: Wrong): Promise<void> {
  const rows = await world.sql<{ subject: string; epoch: number; sequence: number }>(`select distinct on (subject) subject, epoch::int, sequence::int
    from revocations where until > now() order by subject, sequence desc`);
  const head = rows.reduce((most, { sequence }) => Math.max(most, sequence), 0);
  const told = new Map<string, number>();
  const signal = AbortSignal.timeout(patienceMs);
  for await (const message of broker.workload.feed.watch({}, { signal })) {
    for (const { task, epoch } of message.revocations) told.set(task, Math.max(told.get(task) ?? 0, epoch));
    if (message.complete && message.sequence >= head) {
      mayOnlyGrow(world, `feed of ${broker.dataDir}`, message.sequence, wrong);
      break;
    }
  }
  for (const { subject, epoch } of rows) if ((told.get(subject) ?? 0) < epoch) wrong.push(`3: ${subject} is at epoch ${epoch}, the feed says ${told.get(subject)}`);
}

/** 3 and 4, to software that knows no feed: each list holds its authority's dead, and its number grows. */
async function theListsTell(world: World, broker: BrokerProcess, wrong: Wrong): Promise<void> {
  const now = await clock(world);
  const dead = (await readSvids(world)).filter((svid) => svid.kind === "x509" && svid.dead && svid.expires_at > now);
  const missing = (lists: readonly Crl[]): SvidRow[] => dead.filter(({ serial }) => !lists.some((list) => list.has(serial)));
  const lists = await world.until("a list of the dead", async () => {
    const read = (await broker.admin.trust.getBundle({})).crls.map((der) => readCrl(der));
    return missing(read).length === 0 ? read : undefined;
  }).catch(async () => (await broker.admin.trust.getBundle({})).crls.map((der) => readCrl(der)));
  for (const svid of missing(lists)) wrong.push(`3: ${svid.serial} is dead, and in no list`);
  for (const svid of await readSvids(world)) { // read again: whatever a list holds is dead by now
    if (!svid.dead && lists.some((list) => list.has(svid.serial))) wrong.push(`3: ${svid.serial} is alive, and in a list`);
  }
  for (const list of lists) {
    mayOnlyGrow(world, `list ${list.authorityKeyId.toString("hex")} of ${broker.dataDir}`, Number(list.number), wrong);
    if (list.nextUpdate <= now) wrong.push(`3: the list of ${list.authorityKeyId.toString("hex")} is out of date`);
  }
}

/** What was signed was recorded before. */
async function signedIsRecorded(world: World, broker: BrokerProcess, wrong: Wrong): Promise<void> {
  for (const kind of ["x509", "jwt"] as const) {
    const made = await broker.metric(`brevet_signatures{kind="${kind}"}`);
    const [{ rows } = { rows: 0 }] = await world.sql<{ rows: number }>("select count(*)::int as rows from svids where kind = $1", [kind]);
    if (made > rows) wrong.push(`2: ${made} ${kind} signatures were made for ${rows} rows`);
  }
}

/** Whoever may read the numbers learns of no task, instance, SPIFFE ID or serial. */
async function metricsNameNobody(broker: BrokerProcess, wrong: Wrong): Promise<void> {
  const labels = (await broker.metrics()).match(/\{[^}]*\}/g) ?? [];
  const named = labels.find((label) => /spiffe:|[0-9a-f]{8}-[0-9a-f]{4}-|[0-9a-f]{32}/.test(label));
  if (named !== undefined) wrong.push(`9: a metric of ${broker.dataDir} has the label ${named}`);
}

/** 9: neither in the database nor in what brokers wrote. */
async function noSecretIsWritten(world: World, wrong: Wrong): Promise<void> {
  if (world.secrets.size === 0) return;
  const tables = await world.sql<{ name: string }>("select tablename as name from pg_tables where schemaname = 'brevet'");
  const places = new Map(world.brokers.map((broker) => [`what the broker in ${broker.dataDir} wrote`, broker.output]));
  for (const { name } of tables) {
    const [{ text } = { text: "" }] = await world.sql<{ text: string | null }>(`select string_agg(t::text, chr(10)) as text from ${name} t`);
    places.set(`table ${name}`, text ?? "");
  }
  for (const [place, text] of places) {
    for (const [secret, what] of world.secrets) if (text.includes(secret)) wrong.push(`9: ${place} holds the ${what}`);
  }
}

async function clock(world: World): Promise<Date> {
  const [{ now } = { now: new Date() }] = await world.sql<{ now: Date }>("select clock_timestamp() as now");
  return now;
}

function subjectOf({ task, service, subject }: SvidRow): string {
  return task ?? subject ?? `service/${service}`;
}

function mayOnlyGrow(world: World, what: string, value: number, wrong: Wrong): void {
  const before = world.highest.get(what) ?? 0;
  if (value < before) wrong.push(`4: ${what} went back from ${before} to ${value}`);
  world.highest.set(what, Math.max(before, value));
}

function linesOf(output: string, what: RegExp): string {
  return output.split("\n").filter((line) => what.test(line)).slice(0, 5).join("\n");
}
