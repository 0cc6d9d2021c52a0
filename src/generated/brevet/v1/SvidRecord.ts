// Original file: proto/brevet/v1/admin.proto

import type { Timestamp as _google_protobuf_Timestamp, Timestamp__Output as _google_protobuf_Timestamp__Output } from '../../google/protobuf/Timestamp.ts';
import type { Sidecar as _brevet_v1_Sidecar, Sidecar__Output as _brevet_v1_Sidecar__Output } from '../../brevet/v1/Sidecar.ts';
import type { Long } from '@grpc/proto-loader';

export interface SvidRecord {
  'kind'?: (string);
  'serial'?: (string);
  'jti'?: (string);
  'task'?: (string);
  'spiffeId'?: (string);
  'epoch'?: (number | string | Long);
  'issuedAt'?: (_google_protobuf_Timestamp | null);
  'expiresAt'?: (_google_protobuf_Timestamp | null);
  'revoked'?: (boolean);
  'audiences'?: (string)[];
  'via'?: (_brevet_v1_Sidecar | null);
}

export interface SvidRecord__Output {
  'kind': (string);
  'serial': (string);
  'jti': (string);
  'task': (string);
  'spiffeId': (string);
  'epoch': (number);
  'issuedAt': (_google_protobuf_Timestamp__Output | null);
  'expiresAt': (_google_protobuf_Timestamp__Output | null);
  'revoked': (boolean);
  'audiences': (string)[];
  'via': (_brevet_v1_Sidecar__Output | null);
}
