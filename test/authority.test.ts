// Is a request served whose authority is the socket's path, however its bytes are cut?
// By what mends it alone, and by a real broker, to a client that waits for the server's settings first.
// RFC 9113 section 8.3.1, RFC 7541 section 6. The client that does so is interop/java.test.ts's.
import { once } from "node:events";
import net from "node:net";
import { describe, expect, test } from "vitest";
import { Frames } from "../src/api/authority.ts";
import { World } from "./support/world.ts";

const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
const settings = (...pairs: readonly (readonly [number, number])[]): Buffer => {
  const payload = Buffer.alloc(6 * pairs.length);
  pairs.forEach(([id, value], i) => payload.writeUInt32BE(value, payload.writeUInt16BE(id, 6 * i)));
  return frameOf(4, 0, 0, payload);
};

function frameOf(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

const text = (value: string): Buffer => Buffer.concat([Buffer.from([value.length]), Buffer.from(value)]);
const literal = (name: string, value: string): Buffer => Buffer.concat([Buffer.from([0x40]), text(name), text(value)]);
/** POST, http, then what is not indexed. */
const request = (authority: string, path: string): Buffer => Buffer.concat([
  Buffer.from([0x3f, 0xe1, 0x1f, 0x83, 0x86]), Buffer.from([0x41]), text(authority), Buffer.from([0x44]), text(path),
  literal("content-type", "application/grpc"), literal("te", "trailers"), literal("workload.spiffe.io", "true"),
]);
const hello = Buffer.concat([preface, settings([2, 0], [3, 0])]);

function through(bytes: Buffer, size: number): Buffer {
  const frames = new Frames();
  const out: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += size) out.push(...frames.take(Buffer.from(bytes.subarray(at, at + size))));
  return Buffer.concat(out);
}

describe("a path as authority", () => {
  const headers = (authority: string): Buffer => frameOf(1, 0x04, 1, request(authority, "/a/b"));
  const padded = (authority: string): Buffer =>
    frameOf(1, 0x2c, 3, Buffer.concat([Buffer.from([2, 0, 0, 0, 0, 16]), request(authority, "/a/b"), Buffer.alloc(2)]));
  const data = frameOf(0, 1, 1, Buffer.from("A\x0c/run/b.sock/")); // would be an authority in a block of headers

  test.each([1, 2, 7, 100, 10_000])("has dots for slashes, and nothing else is touched, in pieces of %i bytes", (size) => {
    const [sent, expected] = ["/run/b.sock", ".run.b.sock"].map((authority) => Buffer.concat([hello, headers(authority), data, padded(authority), data]));
    expect(through(sent ?? preface, size)).toEqual(expected);
  });

  test("what is no well-formed block of headers goes on as it came", () => {
    for (const payload of [[], [0xff, 0xff, 0xff, 0xff, 0xff, 0xff], [0x40], [0x41, 0x7f], [0x00, 0x05, 0x2f], [0x20, 0x2f, 0x2f]]) {
      const sent = Buffer.concat([hello, frameOf(1, 0x04, 1, Buffer.from(payload)), data]);
      expect(through(sent, 3)).toEqual(sent);
    }
    const large = Buffer.concat([hello, frameOf(1, 0x04, 1, Buffer.alloc(20_000, "/")), data]);
    expect(through(large, 1000)).toEqual(large);
  });

  test("is served by the broker, in pieces or at once, from whoever wants no streams of the server", async () => {
    await using world = await World.start();
    const path = world.broker.workloadSocket.replace("unix://", "");
    for (const size of [1, 10_000]) {
      await using socket = Object.assign(net.connect(path), { [Symbol.asyncDispose]: async () => void socket.destroy() });
      const send = async (bytes: Buffer): Promise<void> => {
        for (let at = 0; at < bytes.length; at += size) {
          socket.write(bytes.subarray(at, at + size));
          await new Promise(setImmediate);
        }
      };
      await once(socket, "connect");
      await send(hello);
      let heard = Buffer.from((await once(socket, "data"))[0] as Buffer);
      expect(heard[3]).toBe(4);
      await send(Buffer.concat([frameOf(4, 1, 0, Buffer.alloc(0)), frameOf(1, 0x04, 1, request(path, "/SpiffeWorkloadAPI/FetchX509Bundles")), frameOf(0, 1, 1, Buffer.alloc(5))]));
      while (!heard.includes("spiffe://")) heard = Buffer.concat([heard, (await once(socket, "data"))[0] as Buffer]);
    }
  });
});
