// Who may see the private bytes of an authority?
// This file alone: they leave it sealed, or as a KeyObject that signs and is not asked for its bytes.
// A sealed key opens only under its own key-encryption key and for the use, state and ID it was sealed for.
// RFC 5915 and 5958 (EC private keys in PKCS#8), RFC 5480 (their public half); AES-256-GCM.
// Which authority a key belongs to, and what it may sign, is left to authority.ts.
import { createCipheriv, createDecipheriv, createECDH, createPrivateKey, createPublicKey, generateKeyPair, randomBytes } from "node:crypto";
import type { ECDH, KeyObject } from "node:crypto";
import { promisify } from "node:util";
import { BrevetError } from "../src/errors.ts";

export type KeyPairDer = { readonly pkcs8: Buffer; readonly spki: Buffer };
/** Of authorities; leaves always have P-256. RSA is for relying parties that know no EC. */
export type KeyType = "ec-p256" | "rsa-2048";

const curve = "prime256v1";
const scalarBytes = 32;
/** Everything of a P-256 SubjectPublicKeyInfo before the 65-byte point. */
const spkiPrefix = Buffer.from("3059301306072a8648ce3d020106082a8648ce3d030107034200", "hex");
/** A PKCS#8 P-256 key is: prefix, 32-byte scalar, middle, 65-byte point. */
const pkcs8Prefix = Buffer.from("308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420", "hex");
const pkcs8Middle = Buffer.from("a144034200", "hex");

/** Used again and again: making one costs as much as the key. It holds the last leaf's key, never an authority's. */
const leafGenerator = createECDH(curve);

/** A new P-256 key pair, made by template: many times faster than exporting KeyObjects. */
export function newKeyPairDer(ecdh: ECDH = leafGenerator): KeyPairDer {
  const point = ecdh.generateKeys();
  const scalar = ecdh.getPrivateKey();
  const padding = Buffer.alloc(scalarBytes - scalar.length); // a scalar comes without its leading zeros
  const pkcs8 = Buffer.concat([pkcs8Prefix, padding, scalar, pkcs8Middle, point]);
  scalar.fill(0);
  return { pkcs8, spki: Buffer.concat([spkiPrefix, point]) };
}

// A sealed key: version (1), 12-byte nonce, 16-byte tag, ciphertext.
const sealVersion = 1;
const nonceBytes = 12;
const tagBytes = 16;
const headerBytes = 1 + nonceBytes + tagBytes;

export function sealKey(kek: Buffer, pkcs8: Buffer, aad: string): Buffer {
  checkKek(kek);
  const nonce = randomBytes(nonceBytes);
  const cipher = createCipheriv("aes-256-gcm", kek, nonce, { authTagLength: tagBytes }).setAAD(Buffer.from(aad, "utf8"));
  const body = Buffer.concat([cipher.update(pkcs8), cipher.final()]);
  return Buffer.concat([Buffer.of(sealVersion), nonce, cipher.getAuthTag(), body]);
}

export function unsealKey(kek: Buffer, sealed: Buffer, aad: string): KeyObject {
  const pkcs8 = unseal(kek, sealed, aad);
  try {
    return createPrivateKey({ key: pkcs8, format: "der", type: "pkcs8" });
  } catch {
    throw unusable("what was sealed is no private key");
  } finally {
    pkcs8.fill(0);
  }
}

/** Seals the same key for another state: an old record's bytes do not pass for the new one's. */
export function resealKey(kek: Buffer, sealed: Buffer, from: string, to: string): Buffer {
  const pkcs8 = unseal(kek, sealed, from);
  try {
    return sealKey(kek, pkcs8, to);
  } finally {
    pkcs8.fill(0);
  }
}

/** A new authority's. RSA takes a good part of a second, in a thread. */
export async function newAuthorityKey(type: KeyType): Promise<KeyPairDer> {
  if (type === "ec-p256") return newKeyPairDer(createECDH(curve));
  const { privateKey, publicKey } = await promisify(generateKeyPair)("rsa", {
    modulusLength: 2048, publicExponent: 0x10001, privateKeyEncoding: { format: "der", type: "pkcs8" }, publicKeyEncoding: { format: "der", type: "spki" },
  });
  return { pkcs8: privateKey, spki: publicKey };
}

/** Seals a new authority's key, which is not in the clear any more then. What it is sealed for may depend on its public half. */
export function sealNewKey(
  kek: Buffer, { pkcs8, spki }: KeyPairDer, aadOf: (spki: Buffer) => string,
): { readonly sealed: Buffer; readonly key: KeyObject } {
  try {
    const key = createPrivateKey({ key: pkcs8, format: "der", type: "pkcs8" });
    return { sealed: sealKey(kek, pkcs8, aadOf(spki)), key };
  } finally {
    pkcs8.fill(0);
  }
}

/** SubjectPublicKeyInfo of a private key. */
export function publicHalf(key: KeyObject): Buffer {
  return createPublicKey(key).export({ format: "der", type: "spki" });
}

function unseal(kek: Buffer, sealed: Buffer, aad: string): Buffer {
  checkKek(kek);
  if (sealed[0] !== sealVersion || sealed.length <= headerBytes) throw unusable("not a sealed key of a known version");
  const nonce = sealed.subarray(1, 1 + nonceBytes);
  const tag = sealed.subarray(1 + nonceBytes, headerBytes);
  const decipher = createDecipheriv("aes-256-gcm", kek, nonce, { authTagLength: tagBytes }).setAAD(Buffer.from(aad, "utf8")).setAuthTag(tag);
  const body = decipher.update(sealed.subarray(headerBytes));
  try {
    return Buffer.concat([body, decipher.final()]);
  } catch {
    throw unusable("the key-encryption key is another one, or the record was altered");
  } finally {
    body.fill(0);
  }
}

function checkKek(kek: Buffer): void {
  if (kek.length !== 32) throw unusable("the key-encryption key must be 32 bytes");
}

function unusable(why: string): BrevetError {
  return new BrevetError("KEY_UNUSABLE", `signing key: ${why}`);
}
