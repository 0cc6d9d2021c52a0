// How does an X.509-SVID reach software that wants a PKCS#12 file (the JVM, Windows)?
// One key with its chain and CA certificates, encrypted with AES-256 and under a SHA-256 MAC: nothing
// older is ever written. The structure is our own DER, since node-forge knows no EC keys; node-forge
// derives the MAC's key. Nothing is parsed here.
// RFC 7292 sections 4 and 5, appendix B; RFC 8018 (PBES2, PBKDF2).
// Where the password comes from is svid.ts's business.
import { createCipheriv, createHash, createHmac, pbkdf2Sync, randomBytes } from "node:crypto";
import forge from "node-forge";
import { derContext, derElement, derInteger, derNull, derOctetString, derOid, derSequence, derSet } from "../identity/der.ts";

const oid = {
  data: "1.2.840.113549.1.7.1",
  encryptedData: "1.2.840.113549.1.7.6",
  shroudedKeyBag: "1.2.840.113549.1.12.10.1.2",
  certBag: "1.2.840.113549.1.12.10.1.3",
  x509Certificate: "1.2.840.113549.1.9.22.1",
  friendlyName: "1.2.840.113549.1.9.20",
  localKeyId: "1.2.840.113549.1.9.21",
  pbes2: "1.2.840.113549.1.5.13",
  pbkdf2: "1.2.840.113549.1.5.12",
  hmacSha256: "1.2.840.113549.2.9",
  aes256Cbc: "2.16.840.1.101.3.4.1.42",
  sha256: "2.16.840.1.101.3.4.2.1",
} as const;

const encryptionRounds = 100_000;
const macRounds = 10_000;
const macKeyPurpose = 3;
const bmpString = 0x1e;

export type KeyStore = {
  /** What tools show for the key and its certificate. */
  readonly name: string;
  /** PKCS#8, DER. */
  readonly key: Buffer;
  /** DER, leaf first. */
  readonly chain: readonly Buffer[];
  /** DER CA certificates. */
  readonly authorities: readonly Buffer[];
};

/** The bytes of a .p12 file. */
export function writeP12(store: KeyStore, password: string): Buffer {
  const [leaf = Buffer.alloc(0), ...others] = [...store.chain, ...store.authorities];
  const attributes = derSet([
    attribute(oid.localKeyId, derOctetString(createHash("sha1").update(leaf).digest())),
    attribute(oid.friendlyName, derElement(bmpString, [Buffer.from(store.name, "utf16le").swap16()])),
  ]);
  const { algorithm, content } = encrypt(store.key, password);
  const keyBag = bag(oid.shroudedKeyBag, derSequence([algorithm, derOctetString(content)]), attributes);
  const certBags = derSequence([certificateBag(leaf, attributes), ...others.map((der) => certificateBag(der))]);
  const authSafe = derSequence([dataContent(derSequence([keyBag])), encryptedContent(certBags, password)]);
  return derSequence([derInteger(3), dataContent(authSafe), macData(authSafe, password)]);
}

const attribute = (type: string, value: Buffer): Buffer => derSequence([derOid(type), derSet([value])]);

const bag = (type: string, value: Buffer, attributes?: Buffer): Buffer =>
  derSequence([derOid(type), derContext(0, value), ...(attributes === undefined ? [] : [attributes])]);

const certificateBag = (der: Buffer, attributes?: Buffer): Buffer =>
  bag(oid.certBag, derSequence([derOid(oid.x509Certificate), derContext(0, derOctetString(der))]), attributes);

/** ContentInfo of the bytes as they are. */
const dataContent = (bytes: Buffer): Buffer => derSequence([derOid(oid.data), derContext(0, derOctetString(bytes))]);

/** ContentInfo of EncryptedData, version 0. */
function encryptedContent(bytes: Buffer, password: string): Buffer {
  const { algorithm, content } = encrypt(bytes, password);
  const info = derSequence([derOid(oid.data), algorithm, derContext(0, content, false)]);
  return derSequence([derOid(oid.encryptedData), derContext(0, derSequence([derInteger(0), info]))]);
}

/** PBES2: PBKDF2 with HMAC-SHA-256, AES-256-CBC. */
function encrypt(bytes: Buffer, password: string): { readonly algorithm: Buffer; readonly content: Buffer } {
  const [salt, iv] = [randomBytes(16), randomBytes(16)];
  const key = pbkdf2Sync(password, salt, encryptionRounds, 32, "sha256");
  const cipher = createCipheriv("aes-256-cbc", key, iv);
  const content = Buffer.concat([cipher.update(bytes), cipher.final()]);
  const prf = derSequence([derOid(oid.hmacSha256), derNull()]);
  const kdf = derSequence([derOid(oid.pbkdf2), derSequence([derOctetString(salt), derInteger(encryptionRounds), prf])]);
  const scheme = derSequence([derOid(oid.aes256Cbc), derOctetString(iv)]);
  return { algorithm: derSequence([derOid(oid.pbes2), derSequence([kdf, scheme])]), content };
}

function macData(authSafe: Buffer, password: string): Buffer {
  const salt = randomBytes(16);
  const saltBuffer = forge.util.createBuffer(salt.toString("binary"));
  const derived = forge.pkcs12.generateKey(password, saltBuffer, macKeyPurpose, macRounds, 32, forge.md.sha256.create());
  const mac = createHmac("sha256", Buffer.from(derived.getBytes(), "binary")).update(authSafe).digest();
  const digestInfo = derSequence([derSequence([derOid(oid.sha256), derNull()]), derOctetString(mac)]);
  return derSequence([digestInfo, derOctetString(salt), derInteger(macRounds)]);
}
