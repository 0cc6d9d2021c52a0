// Original file: proto/brevet/v1/feed.proto

import type { Long } from '@grpc/proto-loader';

export interface WatchFeedRequest {
  'feedId'?: (string);
  'afterSequence'?: (number | string | Long);
  'name'?: (string);
  'verifier'?: (string);
  'maxStalenessMs'?: (number | string | Long);
  'applied'?: (number | string | Long);
  'heldUs'?: (number | string | Long);
  'leaving'?: (boolean);
}

export interface WatchFeedRequest__Output {
  'feedId': (string);
  'afterSequence': (number);
  'name': (string);
  'verifier': (string);
  'maxStalenessMs': (number);
  'applied': (number);
  'heldUs': (number);
  'leaving': (boolean);
}
