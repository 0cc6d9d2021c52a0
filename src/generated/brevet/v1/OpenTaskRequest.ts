// Original file: proto/brevet/v1/tasks.proto

import type { Long } from '@grpc/proto-loader';

export interface OpenTaskRequest {
  'agent'?: (string);
  'ttlSeconds'?: (number | string | Long);
  'purpose'?: (string);
  'context'?: ({[key: string]: string});
  'onBehalfOf'?: (string);
  'refs'?: ({[key: string]: string});
  'bind'?: (string);
  'scope'?: (string);
  'idempotencyKey'?: (string);
}

export interface OpenTaskRequest__Output {
  'agent': (string);
  'ttlSeconds': (number);
  'purpose': (string);
  'context': ({[key: string]: string});
  'onBehalfOf': (string);
  'refs': ({[key: string]: string});
  'bind': (string);
  'scope': (string);
  'idempotencyKey': (string);
}
