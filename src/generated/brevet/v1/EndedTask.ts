// Original file: proto/brevet/v1/admin.proto

import type { Long } from '@grpc/proto-loader';

export interface EndedTask {
  'id'?: (string);
  'agent'?: (string);
  'spiffeId'?: (string);
  'stateBefore'?: (string);
  'epoch'?: (number | string | Long);
  'svids'?: (number | string | Long);
}

export interface EndedTask__Output {
  'id': (string);
  'agent': (string);
  'spiffeId': (string);
  'stateBefore': (string);
  'epoch': (number);
  'svids': (number);
}
