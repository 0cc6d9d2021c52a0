// Original file: proto/brevet/v1/operators.proto

import type { Long } from '@grpc/proto-loader';

export interface AddOperatorRequest {
  'name'?: (string);
  'role'?: (string);
  'agents'?: (string)[];
  'ttlSeconds'?: (number | string | Long);
  'publicKey'?: (Buffer | Uint8Array | string);
  'replace'?: (boolean);
}

export interface AddOperatorRequest__Output {
  'name': (string);
  'role': (string);
  'agents': (string)[];
  'ttlSeconds': (number);
  'publicKey': (Buffer);
  'replace': (boolean);
}
