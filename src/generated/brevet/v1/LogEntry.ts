// Original file: proto/brevet/v1/admin.proto

import type { Timestamp as _google_protobuf_Timestamp, Timestamp__Output as _google_protobuf_Timestamp__Output } from '../../google/protobuf/Timestamp.ts';
import type { Struct as _google_protobuf_Struct, Struct__Output as _google_protobuf_Struct__Output } from '../../google/protobuf/Struct.ts';
import type { Long } from '@grpc/proto-loader';

export interface LogEntry {
  'id'?: (number | string | Long);
  'at'?: (_google_protobuf_Timestamp | null);
  'kind'?: (string);
  'task'?: (string);
  'agent'?: (string);
  'actor'?: (string);
  'details'?: (_google_protobuf_Struct | null);
  'digest'?: (string);
}

export interface LogEntry__Output {
  'id': (number);
  'at': (_google_protobuf_Timestamp__Output | null);
  'kind': (string);
  'task': (string);
  'agent': (string);
  'actor': (string);
  'details': (_google_protobuf_Struct__Output | null);
  'digest': (string);
}
