// Original file: proto/brevet/v1/tasks.proto

import type { Long } from '@grpc/proto-loader';

export interface ChangeContextsResponse {
  'changed'?: (string)[];
  'unchanged'?: (number | string | Long);
  'dryRun'?: (boolean);
}

export interface ChangeContextsResponse__Output {
  'changed': (string)[];
  'unchanged': (number);
  'dryRun': (boolean);
}
