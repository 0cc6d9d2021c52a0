// Original file: proto/brevet/v1/admin.proto

import type { Part as _brevet_v1_Part, Part__Output as _brevet_v1_Part__Output } from '../../brevet/v1/Part.ts';
import type { Timestamp as _google_protobuf_Timestamp, Timestamp__Output as _google_protobuf_Timestamp__Output } from '../../google/protobuf/Timestamp.ts';
import type { Long } from '@grpc/proto-loader';

export interface Info {
  'version'?: (string);
  'trustDomain'?: (string);
  'ready'?: (boolean);
  'parts'?: (_brevet_v1_Part)[];
  'startedAt'?: (_google_protobuf_Timestamp | null);
  'clockDifferenceMs'?: (number | string | Long);
  'postgresVersion'?: (string);
  'pid'?: (number);
}

export interface Info__Output {
  'version': (string);
  'trustDomain': (string);
  'ready': (boolean);
  'parts': (_brevet_v1_Part__Output)[];
  'startedAt': (_google_protobuf_Timestamp__Output | null);
  'clockDifferenceMs': (number);
  'postgresVersion': (string);
  'pid': (number);
}
