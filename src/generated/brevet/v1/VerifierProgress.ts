// Original file: proto/brevet/v1/admin.proto

import type { VerifierRecord as _brevet_v1_VerifierRecord, VerifierRecord__Output as _brevet_v1_VerifierRecord__Output } from '../../brevet/v1/VerifierRecord.ts';
import type { Timestamp as _google_protobuf_Timestamp, Timestamp__Output as _google_protobuf_Timestamp__Output } from '../../google/protobuf/Timestamp.ts';
import type { Long } from '@grpc/proto-loader';

export interface VerifierProgress {
  'verifier'?: (_brevet_v1_VerifierRecord | null);
  'applied'?: (boolean);
  'latencyUs'?: (number | string | Long);
  'refusesBy'?: (_google_protobuf_Timestamp | null);
}

export interface VerifierProgress__Output {
  'verifier': (_brevet_v1_VerifierRecord__Output | null);
  'applied': (boolean);
  'latencyUs': (number);
  'refusesBy': (_google_protobuf_Timestamp__Output | null);
}
