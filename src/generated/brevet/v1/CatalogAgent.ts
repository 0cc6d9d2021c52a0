// Original file: proto/brevet/v1/admin.proto

import type { Timestamp as _google_protobuf_Timestamp, Timestamp__Output as _google_protobuf_Timestamp__Output } from '../../google/protobuf/Timestamp.ts';
import type { Struct as _google_protobuf_Struct, Struct__Output as _google_protobuf_Struct__Output } from '../../google/protobuf/Struct.ts';
import type { Long } from '@grpc/proto-loader';

export interface CatalogAgent {
  'name'?: (string);
  'owner'?: (string);
  'purpose'?: (string);
  'enabled'?: (boolean);
  'disabledReason'?: (string);
  'disabledAt'?: (_google_protobuf_Timestamp | null);
  'liveTasks'?: (number | string | Long);
  'definition'?: (_google_protobuf_Struct | null);
}

export interface CatalogAgent__Output {
  'name': (string);
  'owner': (string);
  'purpose': (string);
  'enabled': (boolean);
  'disabledReason': (string);
  'disabledAt': (_google_protobuf_Timestamp__Output | null);
  'liveTasks': (number);
  'definition': (_google_protobuf_Struct__Output | null);
}
