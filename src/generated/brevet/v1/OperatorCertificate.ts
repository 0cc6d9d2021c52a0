// Original file: proto/brevet/v1/operators.proto

import type { Timestamp as _google_protobuf_Timestamp, Timestamp__Output as _google_protobuf_Timestamp__Output } from '../../google/protobuf/Timestamp.ts';
import type { Long } from '@grpc/proto-loader';

export interface OperatorCertificate {
  'spiffeId'?: (string);
  'chain'?: (Buffer | Uint8Array | string);
  'expiresAt'?: (_google_protobuf_Timestamp | null);
  'x509'?: (Buffer | Uint8Array | string);
  'ttlSeconds'?: (number | string | Long);
}

export interface OperatorCertificate__Output {
  'spiffeId': (string);
  'chain': (Buffer);
  'expiresAt': (_google_protobuf_Timestamp__Output | null);
  'x509': (Buffer);
  'ttlSeconds': (number);
}
