// Original file: proto/brevet/v1/feed.proto

import type * as grpc from '@grpc/grpc-js'
import type { MethodDefinition } from '@grpc/proto-loader'
import type { FeedMessage as _brevet_v1_FeedMessage, FeedMessage__Output as _brevet_v1_FeedMessage__Output } from '../../brevet/v1/FeedMessage.ts';
import type { WatchFeedRequest as _brevet_v1_WatchFeedRequest, WatchFeedRequest__Output as _brevet_v1_WatchFeedRequest__Output } from '../../brevet/v1/WatchFeedRequest.ts';

export interface FeedClient extends grpc.Client {
  Watch(metadata: grpc.Metadata, options?: grpc.CallOptions): grpc.ClientDuplexStream<_brevet_v1_WatchFeedRequest, _brevet_v1_FeedMessage__Output>;
  Watch(options?: grpc.CallOptions): grpc.ClientDuplexStream<_brevet_v1_WatchFeedRequest, _brevet_v1_FeedMessage__Output>;
  watch(metadata: grpc.Metadata, options?: grpc.CallOptions): grpc.ClientDuplexStream<_brevet_v1_WatchFeedRequest, _brevet_v1_FeedMessage__Output>;
  watch(options?: grpc.CallOptions): grpc.ClientDuplexStream<_brevet_v1_WatchFeedRequest, _brevet_v1_FeedMessage__Output>;
  
}

export interface FeedHandlers extends grpc.UntypedServiceImplementation {
  Watch: grpc.handleBidiStreamingCall<_brevet_v1_WatchFeedRequest__Output, _brevet_v1_FeedMessage>;
  
}

export interface FeedDefinition extends grpc.ServiceDefinition {
  Watch: MethodDefinition<_brevet_v1_WatchFeedRequest, _brevet_v1_FeedMessage, _brevet_v1_WatchFeedRequest__Output, _brevet_v1_FeedMessage__Output>
}
