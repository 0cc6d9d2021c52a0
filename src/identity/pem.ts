// How are DER bytes written where text is wanted?
// RFC 7468: lines of 64 characters, each block ended by a line break.

export function pem(label: "CERTIFICATE" | "PRIVATE KEY" | "X509 CRL", der: Buffer): string {
  return `-----BEGIN ${label}-----\n${der.toString("base64").replace(/.{64}(?=.)/g, "$&\n")}\n-----END ${label}-----\n`;
}
