// Original file: proto/brevet/v1/admin.proto

import type { Timestamp as _google_protobuf_Timestamp, Timestamp__Output as _google_protobuf_Timestamp__Output } from '../../google/protobuf/Timestamp.ts';
import type { Long } from '@grpc/proto-loader';

export interface ListEntriesRequest {
  'task'?: (string);
  'since'?: (_google_protobuf_Timestamp | null);
  'afterId'?: (number | string | Long);
  'pageSize'?: (number);
  'pageToken'?: (string);
}

export interface ListEntriesRequest__Output {
  'task': (string);
  'since': (_google_protobuf_Timestamp__Output | null);
  'afterId': (number);
  'pageSize': (number);
  'pageToken': (string);
}
