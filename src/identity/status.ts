// Where is a token's bit?
// In a list of fixed size, at an index: together one number, as it is recorded; and in the token the list's address
// and the index. Writer and reader of each form stand side by side. A bit is 0 for valid, 1 for invalid, the first
// of a byte its least significant.
// OAuth Token Status List (draft-ietf-oauth-status-list-20) sections 4.1, 6.1 and 7.1.
import { deflateSync } from "node:zlib";

export type StatusIndex = { readonly list: number; readonly index: number };

/** Indexes in a list. */
export const statusListSize = 2 ** 17;

export function statusNumber({ list, index }: StatusIndex): number {
  return list * statusListSize + index;
}

export function readStatusNumber(number: number): StatusIndex {
  return { list: Math.floor(number / statusListSize), index: number % statusListSize };
}

export function statusListUri(publicUrl: string, list: number): string {
  return `${publicUrl}/status-list/${list}`;
}

/** The claim `status` of a token. */
export function encodeStatusClaim(publicUrl: string, { list, index }: StatusIndex): Record<string, unknown> {
  return { status_list: { idx: index, uri: statusListUri(publicUrl, list) } };
}

export function newStatusBits(): Buffer {
  return Buffer.alloc(statusListSize / 8);
}

/** False if it was set already. There is no way back. */
export function setStatusBit(bits: Buffer, index: number): boolean {
  const before = bits.readUInt8(index >> 3);
  bits.writeUInt8(before | (1 << (index & 7)), index >> 3);
  return (before & (1 << (index & 7))) === 0;
}

/** The claim `status_list` of a list: zlib, base64url. */
export function encodeStatusBits(bits: Buffer): Record<string, unknown> {
  return { bits: 1, lst: deflateSync(bits, { level: 9 }).toString("base64url") };
}
