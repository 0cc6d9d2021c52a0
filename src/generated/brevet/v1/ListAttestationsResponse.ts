// Original file: proto/brevet/v1/admin.proto

import type { Attestation as _brevet_v1_Attestation, Attestation__Output as _brevet_v1_Attestation__Output } from '../../brevet/v1/Attestation.ts';

export interface ListAttestationsResponse {
  'attestations'?: (_brevet_v1_Attestation)[];
  'nextPageToken'?: (string);
}

export interface ListAttestationsResponse__Output {
  'attestations': (_brevet_v1_Attestation__Output)[];
  'nextPageToken': (string);
}
