// Original file: proto/brevet/v1/admin.proto

import type { VerifierRecord as _brevet_v1_VerifierRecord, VerifierRecord__Output as _brevet_v1_VerifierRecord__Output } from '../../brevet/v1/VerifierRecord.ts';
import type { Long } from '@grpc/proto-loader';

export interface ListVerifiersResponse {
  'verifiers'?: (_brevet_v1_VerifierRecord)[];
  'sequence'?: (number | string | Long);
  'silent'?: (number | string | Long);
}

export interface ListVerifiersResponse__Output {
  'verifiers': (_brevet_v1_VerifierRecord__Output)[];
  'sequence': (number);
  'silent': (number);
}
