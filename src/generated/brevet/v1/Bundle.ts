// Original file: proto/brevet/v1/admin.proto

import type { Long } from '@grpc/proto-loader';

export interface Bundle {
  'trustDomain'?: (string);
  'spiffe'?: (Buffer | Uint8Array | string);
  'jwks'?: (Buffer | Uint8Array | string);
  'x509'?: (Buffer | Uint8Array | string);
  'crls'?: (Buffer | Uint8Array | string)[];
  'sequence'?: (number | string | Long);
  'federated'?: ({[key: string]: Buffer | Uint8Array | string});
}

export interface Bundle__Output {
  'trustDomain': (string);
  'spiffe': (Buffer);
  'jwks': (Buffer);
  'x509': (Buffer);
  'crls': (Buffer)[];
  'sequence': (number);
  'federated': ({[key: string]: Buffer});
}
