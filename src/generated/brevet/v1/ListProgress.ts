// Original file: proto/brevet/v1/admin.proto

import type { Timestamp as _google_protobuf_Timestamp, Timestamp__Output as _google_protobuf_Timestamp__Output } from '../../google/protobuf/Timestamp.ts';
import type { Long } from '@grpc/proto-loader';

export interface ListProgress {
  'authority'?: (string);
  'carries'?: (boolean);
  'number'?: (number | string | Long);
  'publishedAt'?: (_google_protobuf_Timestamp | null);
  'nextUpdate'?: (_google_protobuf_Timestamp | null);
}

export interface ListProgress__Output {
  'authority': (string);
  'carries': (boolean);
  'number': (number);
  'publishedAt': (_google_protobuf_Timestamp__Output | null);
  'nextUpdate': (_google_protobuf_Timestamp__Output | null);
}
