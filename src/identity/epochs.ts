// Below which epoch is each task dead, for a million tasks?
// A task takes 24 bytes: its ID's 16, its epoch, and until when it matters; a look-up is one hash and
// a few compared words. An epoch only rises and `until` only grows. No call takes long: what no longer
// matters is swept out bit by bit, and of the many small tables each grows by itself.
// Open addressing with linear probing; deletion shifts back, so there are no marks of the deleted.
// Which tasks come in is left to src/verify/feed.ts.

/** Words of a slot: four of the ID, the epoch, `until` in minutes of Unix time. An epoch of 0 is an empty slot. */
const words = 6;
/** Tables; a power of two. The hash's upper bits choose one, its lower bits the slot. */
const tables = 64;
const tableShift = 26;
const fewest = 16;
const fullest = 0.7;
const emptiest = 0.1;
/** A sweep looks at whole tables, until it has seen so many slots. */
const leastSwept = 4096;
const longestId = 36;

export class Epochs {
  readonly #tables = Array.from({ length: tables }, () => new Table());
  #sweptTo = 0;
  /** What is no task: `service/<name>`. Few. */
  readonly #named = new Map<string, { epoch: number; until: number }>();

  get size(): number {
    return this.#tables.reduce((sum, { size }) => sum + size, this.#named.size);
  }

  /** 0 for a task that nothing is known of. */
  get(task: string): number {
    return readId(task) ? this.#table().get() : (this.#named.get(task)?.epoch ?? 0);
  }

  /** Says whether it was news. `until`: Unix seconds. */
  raise(task: string, epoch: number, until: number): boolean {
    const minute = Math.ceil(until / 60);
    if (readId(task)) return this.#table().raise(epoch, minute);
    const known = this.#named.get(task);
    if (epoch <= (known?.epoch ?? 0)) return false;
    this.#named.set(task, { epoch, until: Math.max(minute, known?.until ?? 0) });
    return true;
  }

  /** Drops some of what no longer matters at this Unix second; repeated, all of it. */
  sweep(now: number): void {
    const minute = Math.floor(now / 60);
    for (const [name, { until }] of this.#named) if (until < minute) this.#named.delete(name);
    for (let [swept, looked] = [0, 0]; swept < tables && looked < leastSwept; swept++) {
      looked += this.#tables[this.#sweptTo]?.sweep(minute) ?? 0;
      this.#sweptTo = (this.#sweptTo + 1) % tables;
    }
  }

  /** Of `id`. */
  #table(): Table {
    return this.#tables[hash(id[2] ?? 0, id[3] ?? 0) >>> tableShift] as Table;
  }
}

/** What is asked of it is asked of `id`. */
class Table {
  #slots = new Uint32Array(fewest * words);
  #capacity = fewest;
  #used = 0;

  get size(): number {
    return this.#used;
  }

  get(): number {
    return this.#slots[this.#find() * words + 4] ?? 0;
  }

  raise(epoch: number, minute: number): boolean {
    let at = this.#find() * words;
    const known = this.#slots[at + 4] ?? 0;
    if (epoch <= known) return false;
    if (known === 0) {
      if (this.#used >= this.#capacity * fullest) {
        const [a, b, c, d] = [id[0] ?? 0, id[1] ?? 0, id[2] ?? 0, id[3] ?? 0];
        this.#resize(this.#capacity * 2);
        [id[0], id[1], id[2], id[3]] = [a, b, c, d];
        at = this.#find() * words;
      }
      this.#used++;
      for (let word = 0; word < 4; word++) this.#slots[at + word] = id[word] ?? 0;
    }
    this.#slots[at + 4] = epoch;
    this.#slots[at + 5] = Math.max(minute, this.#slots[at + 5] ?? 0);
    return true;
  }

  /** How many slots it looked at. */
  sweep(minute: number): number {
    const looked = this.#capacity;
    for (let slot = 0; slot < this.#capacity;) {
      const at = slot * words;
      // what a deletion shifts into this slot is looked at next
      if (this.#slots[at + 4] !== 0 && (this.#slots[at + 5] ?? 0) < minute) this.#delete(slot);
      else slot++;
    }
    while (this.#capacity > fewest && this.#used < this.#capacity * emptiest) this.#resize(this.#capacity / 2);
    return looked;
  }

  /** The slot of `id`, or the empty one where it would stand. */
  #find(): number {
    const slots = this.#slots;
    const mask = this.#capacity - 1;
    const [a, b, c, d] = [id[0] ?? 0, id[1] ?? 0, id[2] ?? 0, id[3] ?? 0];
    for (let slot = hash(c, d) & mask; ; slot = (slot + 1) & mask) {
      const at = slot * words;
      if (slots[at + 4] === 0) return slot;
      if (slots[at + 3] === d && slots[at + 2] === c && slots[at + 1] === b && slots[at] === a) return slot;
    }
  }

  /** Knuth's algorithm R: whoever stands behind the gap and may stand in it moves up. */
  #delete(slot: number): void {
    const slots = this.#slots;
    const mask = this.#capacity - 1;
    let gap = slot;
    for (let next = (slot + 1) & mask; slots[next * words + 4] !== 0; next = (next + 1) & mask) {
      const home = hash(slots[next * words + 2] ?? 0, slots[next * words + 3] ?? 0) & mask;
      if (((next - home) & mask) < ((next - gap) & mask)) continue;
      slots.copyWithin(gap * words, next * words, (next + 1) * words);
      gap = next;
    }
    slots.fill(0, gap * words, (gap + 1) * words);
    this.#used--;
  }

  #resize(capacity: number): void {
    const old = this.#slots;
    const slots = new Uint32Array(capacity * words);
    this.#slots = slots;
    this.#capacity = capacity;
    for (let from = 0; from < old.length; from += words) {
      if (old[from + 4] === 0) continue;
      for (let word = 0; word < 4; word++) id[word] = old[from + word] ?? 0;
      const to = this.#find() * words;
      for (let word = 0; word < words; word++) slots[to + word] = old[from + word] ?? 0;
    }
  }
}

/** The ID that is looked for: written by `readId`, read at once. */
const id = new Uint32Array(4);

/** A UUIDv7's last words are random; where they are not, the feed's own broker is the one who suffers. */
function hash(c: number, d: number): number {
  return Math.imul(c ^ (d >>> 15) ^ d, 0x9e3779b1) >>> 0;
}

/** Whether the text is a UUID in lower case, which then stands in `id`. */
function readId(text: string): boolean {
  if (text.length !== longestId) return false;
  let word = 0;
  let value = 0;
  let digits = 0;
  for (let i = 0; i < longestId; i++) {
    const code = text.charCodeAt(i);
    if (i === 8 || i === 13 || i === 18 || i === 23) {
      if (code !== 0x2d) return false;
      continue;
    }
    const digit = code >= 0x30 && code <= 0x39 ? code - 0x30 : code >= 0x61 && code <= 0x66 ? code - 0x57 : -1;
    if (digit < 0) return false;
    value = (value << 4) | digit;
    if (++digits < 8) continue;
    id[word++] = value;
    [digits, value] = [0, 0];
  }
  return true;
}
