import type * as grpc from '@grpc/grpc-js';
import type { MessageTypeDefinition } from '@grpc/proto-loader';

import type { FeedClient as _brevet_v1_FeedClient, FeedDefinition as _brevet_v1_FeedDefinition } from './brevet/v1/Feed.ts';
import type { FeedMessage as _brevet_v1_FeedMessage, FeedMessage__Output as _brevet_v1_FeedMessage__Output } from './brevet/v1/FeedMessage.ts';
import type { Revocation as _brevet_v1_Revocation, Revocation__Output as _brevet_v1_Revocation__Output } from './brevet/v1/Revocation.ts';
import type { WatchFeedRequest as _brevet_v1_WatchFeedRequest, WatchFeedRequest__Output as _brevet_v1_WatchFeedRequest__Output } from './brevet/v1/WatchFeedRequest.ts';

type SubtypeConstructor<Constructor extends new (...args: any) => any, Subtype> = {
  new(...args: ConstructorParameters<Constructor>): Subtype;
};

export interface ProtoGrpcType {
  brevet: {
    v1: {
      Feed: SubtypeConstructor<typeof grpc.Client, _brevet_v1_FeedClient> & { service: _brevet_v1_FeedDefinition }
      FeedMessage: MessageTypeDefinition<_brevet_v1_FeedMessage, _brevet_v1_FeedMessage__Output>
      Revocation: MessageTypeDefinition<_brevet_v1_Revocation, _brevet_v1_Revocation__Output>
      WatchFeedRequest: MessageTypeDefinition<_brevet_v1_WatchFeedRequest, _brevet_v1_WatchFeedRequest__Output>
    }
  }
}

