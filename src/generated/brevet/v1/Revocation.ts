// Original file: proto/brevet/v1/feed.proto

import type { Long } from '@grpc/proto-loader';

export interface Revocation {
  'task'?: (string);
  'epoch'?: (number | string | Long);
  'sequence'?: (number | string | Long);
  'until'?: (number | string | Long);
  'atUs'?: (number | string | Long);
}

export interface Revocation__Output {
  'task': (string);
  'epoch': (number);
  'sequence': (number);
  'until': (number);
  'atUs': (number);
}
