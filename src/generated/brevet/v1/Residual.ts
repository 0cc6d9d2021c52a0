// Original file: proto/brevet/v1/admin.proto

import type { Timestamp as _google_protobuf_Timestamp, Timestamp__Output as _google_protobuf_Timestamp__Output } from '../../google/protobuf/Timestamp.ts';

export interface Residual {
  'class'?: (string);
  'until'?: (_google_protobuf_Timestamp | null);
  'why'?: (string);
}

export interface Residual__Output {
  'class': (string);
  'until': (_google_protobuf_Timestamp__Output | null);
  'why': (string);
}
