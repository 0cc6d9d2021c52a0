// What proves a claim where selectors alone can't tell callers apart?
// A ticket: 256 random bits, shown once, stored only as its SHA-256, good for one use and five minutes.
// Compared byte for byte as it was given: a ticket with a space or in other letters is another ticket.
import { createHash, randomBytes } from "node:crypto";

export const ticketSeconds = 300;

export function newTicket(): { ticket: string; hash: Buffer } {
  const ticket = randomBytes(32).toString("base64url");
  return { ticket, hash: hashTicket(ticket) };
}

export function hashTicket(ticket: string): Buffer {
  return createHash("sha256").update(ticket).digest();
}
