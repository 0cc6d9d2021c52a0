// Original file: proto/brevet/v1/feed.proto

import type { Revocation as _brevet_v1_Revocation, Revocation__Output as _brevet_v1_Revocation__Output } from '../../brevet/v1/Revocation.ts';
import type { Long } from '@grpc/proto-loader';

export interface FeedMessage {
  'feedId'?: (string);
  'revocations'?: (_brevet_v1_Revocation)[];
  'sequence'?: (number | string | Long);
  'complete'?: (boolean);
  'snapshot'?: (boolean);
  'asOf'?: (number | string | Long);
}

export interface FeedMessage__Output {
  'feedId': (string);
  'revocations': (_brevet_v1_Revocation__Output)[];
  'sequence': (number);
  'complete': (boolean);
  'snapshot': (boolean);
  'asOf': (number);
}
