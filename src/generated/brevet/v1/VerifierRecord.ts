// Original file: proto/brevet/v1/admin.proto

import type { Timestamp as _google_protobuf_Timestamp, Timestamp__Output as _google_protobuf_Timestamp__Output } from '../../google/protobuf/Timestamp.ts';
import type { Long } from '@grpc/proto-loader';

export interface VerifierRecord {
  'id'?: (string);
  'name'?: (string);
  'who'?: (string);
  'pid'?: (number);
  'broker'?: (string);
  'maxStalenessMs'?: (number | string | Long);
  'applied'?: (number | string | Long);
  'appliedAt'?: (_google_protobuf_Timestamp | null);
  'connected'?: (boolean);
  'heardUntil'?: (_google_protobuf_Timestamp | null);
}

export interface VerifierRecord__Output {
  'id': (string);
  'name': (string);
  'who': (string);
  'pid': (number);
  'broker': (string);
  'maxStalenessMs': (number);
  'applied': (number);
  'appliedAt': (_google_protobuf_Timestamp__Output | null);
  'connected': (boolean);
  'heardUntil': (_google_protobuf_Timestamp__Output | null);
}
