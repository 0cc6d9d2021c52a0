// Original file: proto/brevet/v1/admin.proto

import type { Timestamp as _google_protobuf_Timestamp, Timestamp__Output as _google_protobuf_Timestamp__Output } from '../../google/protobuf/Timestamp.ts';
import type { Struct as _google_protobuf_Struct, Struct__Output as _google_protobuf_Struct__Output } from '../../google/protobuf/Struct.ts';
import type { NearMatch as _brevet_v1_NearMatch, NearMatch__Output as _brevet_v1_NearMatch__Output } from '../../brevet/v1/NearMatch.ts';

export interface Explanation {
  'attempt'?: (string);
  'at'?: (_google_protobuf_Timestamp | null);
  'verdict'?: (string);
  'facts'?: (_google_protobuf_Struct | null);
  'agents'?: (_brevet_v1_NearMatch)[];
  'tasks'?: (string)[];
  'remedy'?: (string);
}

export interface Explanation__Output {
  'attempt': (string);
  'at': (_google_protobuf_Timestamp__Output | null);
  'verdict': (string);
  'facts': (_google_protobuf_Struct__Output | null);
  'agents': (_brevet_v1_NearMatch__Output)[];
  'tasks': (string)[];
  'remedy': (string);
}
