// What certificate would a web server have?
// One that the web's authorities might have signed for it: here one that signs itself, for 127.0.0.1.
import { webcrypto } from "node:crypto";
import { pem } from "../../src/identity/pem.ts";
import { peculiar } from "./peculiar.ts";

export async function webCertificate(): Promise<{ readonly cert: string; readonly key: string }> {
  const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
  const keys = (await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"])) as webcrypto.CryptoKeyPair;
  const certificate = await peculiar.X509CertificateGenerator.createSelfSigned({
    name: "CN=127.0.0.1", keys, signingAlgorithm: algorithm, notBefore: new Date(Date.now() - 60_000), notAfter: new Date(Date.now() + 3_600_000),
    extensions: [new peculiar.SubjectAlternativeNameExtension([{ type: "ip", value: "127.0.0.1" }])],
  });
  return { cert: certificate.toString("pem"), key: pem("PRIVATE KEY", Buffer.from(await webcrypto.subtle.exportKey("pkcs8", keys.privateKey))) };
}
