// Original file: proto/brevet/v1/operators.proto

import type { Timestamp as _google_protobuf_Timestamp, Timestamp__Output as _google_protobuf_Timestamp__Output } from '../../google/protobuf/Timestamp.ts';
import type { Long } from '@grpc/proto-loader';

export interface Operator {
  'name'?: (string);
  'role'?: (string);
  'agents'?: (string)[];
  'spiffeId'?: (string);
  'ttlSeconds'?: (number | string | Long);
  'epoch'?: (number | string | Long);
  'addedAt'?: (_google_protobuf_Timestamp | null);
  'addedBy'?: (string);
  'removedAt'?: (_google_protobuf_Timestamp | null);
  'removedReason'?: (string);
  'certifiedUntil'?: (_google_protobuf_Timestamp | null);
}

export interface Operator__Output {
  'name': (string);
  'role': (string);
  'agents': (string)[];
  'spiffeId': (string);
  'ttlSeconds': (number);
  'epoch': (number);
  'addedAt': (_google_protobuf_Timestamp__Output | null);
  'addedBy': (string);
  'removedAt': (_google_protobuf_Timestamp__Output | null);
  'removedReason': (string);
  'certifiedUntil': (_google_protobuf_Timestamp__Output | null);
}
