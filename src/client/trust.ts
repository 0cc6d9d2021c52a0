// What does the broker's trust domain vouch for now, and what did it take back?
// Each bundle that is yielded is whole: pieces of one that was cut off are dropped with its stream. A list
// of certificates taken back is in it as soon as it was published.
// Keeping the stream up is connect.ts's `follow`; judging by what is in it, src/verify's business.
import { BrevetError } from "../errors.ts";
import type { Bundle__Output } from "../generated/brevet/v1/Bundle.ts";
import { messageType } from "../proto.ts";
import type { Connection } from "./connect.ts";

const mostBytes = 64 << 20;

/** The bundle with its lists, now and after each publication. */
export async function* watchBundle(connection: Connection, signal: AbortSignal): AsyncGenerator<Bundle__Output, void, void> {
  let pieces: Buffer[] = [];
  let bytes = 0;
  for await (const { bundle, complete } of connection.trust.watchBundle({}, { signal })) {
    bytes += bundle.length;
    if (bytes > mostBytes) throw new BrevetError("VERIFY_MALFORMED", `the broker's bundle is larger than ${mostBytes >> 20} MiB`);
    pieces.push(bundle);
    if (!complete) continue;
    yield messageType("brevet.v1.Bundle").deserialize(Buffer.concat(pieces)) as Bundle__Output;
    [pieces, bytes] = [[], 0];
  }
}
