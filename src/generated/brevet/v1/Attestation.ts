// Original file: proto/brevet/v1/admin.proto

import type { Timestamp as _google_protobuf_Timestamp, Timestamp__Output as _google_protobuf_Timestamp__Output } from '../../google/protobuf/Timestamp.ts';
import type { Struct as _google_protobuf_Struct, Struct__Output as _google_protobuf_Struct__Output } from '../../google/protobuf/Struct.ts';
import type { Sidecar as _brevet_v1_Sidecar, Sidecar__Output as _brevet_v1_Sidecar__Output } from '../../brevet/v1/Sidecar.ts';
import type { Long } from '@grpc/proto-loader';

export interface Attestation {
  'id'?: (string);
  'at'?: (_google_protobuf_Timestamp | null);
  'outcome'?: (string);
  'reason'?: (string);
  'pid'?: (number);
  'uid'?: (number);
  'gid'?: (number);
  'facts'?: (_google_protobuf_Struct | null);
  'task'?: (string);
  'repeats'?: (number | string | Long);
  'via'?: (_brevet_v1_Sidecar | null);
}

export interface Attestation__Output {
  'id': (string);
  'at': (_google_protobuf_Timestamp__Output | null);
  'outcome': (string);
  'reason': (string);
  'pid': (number);
  'uid': (number);
  'gid': (number);
  'facts': (_google_protobuf_Struct__Output | null);
  'task': (string);
  'repeats': (number);
  'via': (_brevet_v1_Sidecar__Output | null);
}
