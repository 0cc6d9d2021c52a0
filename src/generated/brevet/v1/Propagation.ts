// Original file: proto/brevet/v1/admin.proto

import type { Timestamp as _google_protobuf_Timestamp, Timestamp__Output as _google_protobuf_Timestamp__Output } from '../../google/protobuf/Timestamp.ts';
import type { VerifierProgress as _brevet_v1_VerifierProgress, VerifierProgress__Output as _brevet_v1_VerifierProgress__Output } from '../../brevet/v1/VerifierProgress.ts';
import type { ListProgress as _brevet_v1_ListProgress, ListProgress__Output as _brevet_v1_ListProgress__Output } from '../../brevet/v1/ListProgress.ts';
import type { Residual as _brevet_v1_Residual, Residual__Output as _brevet_v1_Residual__Output } from '../../brevet/v1/Residual.ts';
import type { Long } from '@grpc/proto-loader';

export interface Propagation {
  'at'?: (_google_protobuf_Timestamp | null);
  'sequence'?: (number | string | Long);
  'committedAt'?: (_google_protobuf_Timestamp | null);
  'x509Svids'?: (number | string | Long);
  'jwtSvids'?: (number | string | Long);
  'streams'?: (number | string | Long);
  'verifiers'?: (_brevet_v1_VerifierProgress)[];
  'silent'?: (number | string | Long);
  'lists'?: (_brevet_v1_ListProgress)[];
  'residuals'?: (_brevet_v1_Residual)[];
  'nobodyAfter'?: (_google_protobuf_Timestamp | null);
  'settled'?: (boolean);
}

export interface Propagation__Output {
  'at': (_google_protobuf_Timestamp__Output | null);
  'sequence': (number);
  'committedAt': (_google_protobuf_Timestamp__Output | null);
  'x509Svids': (number);
  'jwtSvids': (number);
  'streams': (number);
  'verifiers': (_brevet_v1_VerifierProgress__Output)[];
  'silent': (number);
  'lists': (_brevet_v1_ListProgress__Output)[];
  'residuals': (_brevet_v1_Residual__Output)[];
  'nobodyAfter': (_google_protobuf_Timestamp__Output | null);
  'settled': (boolean);
}
