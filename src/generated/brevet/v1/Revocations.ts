// Original file: proto/brevet/v1/admin.proto

import type * as grpc from '@grpc/grpc-js'
import type { MethodDefinition } from '@grpc/proto-loader'
import type { ListVerifiersRequest as _brevet_v1_ListVerifiersRequest, ListVerifiersRequest__Output as _brevet_v1_ListVerifiersRequest__Output } from '../../brevet/v1/ListVerifiersRequest.ts';
import type { ListVerifiersResponse as _brevet_v1_ListVerifiersResponse, ListVerifiersResponse__Output as _brevet_v1_ListVerifiersResponse__Output } from '../../brevet/v1/ListVerifiersResponse.ts';
import type { Propagation as _brevet_v1_Propagation, Propagation__Output as _brevet_v1_Propagation__Output } from '../../brevet/v1/Propagation.ts';
import type { RevokeRequest as _brevet_v1_RevokeRequest, RevokeRequest__Output as _brevet_v1_RevokeRequest__Output } from '../../brevet/v1/RevokeRequest.ts';
import type { RevokeResponse as _brevet_v1_RevokeResponse, RevokeResponse__Output as _brevet_v1_RevokeResponse__Output } from '../../brevet/v1/RevokeResponse.ts';
import type { WatchPropagationRequest as _brevet_v1_WatchPropagationRequest, WatchPropagationRequest__Output as _brevet_v1_WatchPropagationRequest__Output } from '../../brevet/v1/WatchPropagationRequest.ts';

export interface RevocationsClient extends grpc.Client {
  ListVerifiers(argument: _brevet_v1_ListVerifiersRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ListVerifiersResponse__Output>): grpc.ClientUnaryCall;
  ListVerifiers(argument: _brevet_v1_ListVerifiersRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_ListVerifiersResponse__Output>): grpc.ClientUnaryCall;
  ListVerifiers(argument: _brevet_v1_ListVerifiersRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ListVerifiersResponse__Output>): grpc.ClientUnaryCall;
  ListVerifiers(argument: _brevet_v1_ListVerifiersRequest, callback: grpc.requestCallback<_brevet_v1_ListVerifiersResponse__Output>): grpc.ClientUnaryCall;
  listVerifiers(argument: _brevet_v1_ListVerifiersRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ListVerifiersResponse__Output>): grpc.ClientUnaryCall;
  listVerifiers(argument: _brevet_v1_ListVerifiersRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_ListVerifiersResponse__Output>): grpc.ClientUnaryCall;
  listVerifiers(argument: _brevet_v1_ListVerifiersRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ListVerifiersResponse__Output>): grpc.ClientUnaryCall;
  listVerifiers(argument: _brevet_v1_ListVerifiersRequest, callback: grpc.requestCallback<_brevet_v1_ListVerifiersResponse__Output>): grpc.ClientUnaryCall;
  
  Revoke(argument: _brevet_v1_RevokeRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_RevokeResponse__Output>): grpc.ClientUnaryCall;
  Revoke(argument: _brevet_v1_RevokeRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_RevokeResponse__Output>): grpc.ClientUnaryCall;
  Revoke(argument: _brevet_v1_RevokeRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_RevokeResponse__Output>): grpc.ClientUnaryCall;
  Revoke(argument: _brevet_v1_RevokeRequest, callback: grpc.requestCallback<_brevet_v1_RevokeResponse__Output>): grpc.ClientUnaryCall;
  revoke(argument: _brevet_v1_RevokeRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_RevokeResponse__Output>): grpc.ClientUnaryCall;
  revoke(argument: _brevet_v1_RevokeRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_RevokeResponse__Output>): grpc.ClientUnaryCall;
  revoke(argument: _brevet_v1_RevokeRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_RevokeResponse__Output>): grpc.ClientUnaryCall;
  revoke(argument: _brevet_v1_RevokeRequest, callback: grpc.requestCallback<_brevet_v1_RevokeResponse__Output>): grpc.ClientUnaryCall;
  
  WatchPropagation(argument: _brevet_v1_WatchPropagationRequest, metadata: grpc.Metadata, options?: grpc.CallOptions): grpc.ClientReadableStream<_brevet_v1_Propagation__Output>;
  WatchPropagation(argument: _brevet_v1_WatchPropagationRequest, options?: grpc.CallOptions): grpc.ClientReadableStream<_brevet_v1_Propagation__Output>;
  watchPropagation(argument: _brevet_v1_WatchPropagationRequest, metadata: grpc.Metadata, options?: grpc.CallOptions): grpc.ClientReadableStream<_brevet_v1_Propagation__Output>;
  watchPropagation(argument: _brevet_v1_WatchPropagationRequest, options?: grpc.CallOptions): grpc.ClientReadableStream<_brevet_v1_Propagation__Output>;
  
}

export interface RevocationsHandlers extends grpc.UntypedServiceImplementation {
  ListVerifiers: grpc.handleUnaryCall<_brevet_v1_ListVerifiersRequest__Output, _brevet_v1_ListVerifiersResponse>;
  
  Revoke: grpc.handleUnaryCall<_brevet_v1_RevokeRequest__Output, _brevet_v1_RevokeResponse>;
  
  WatchPropagation: grpc.handleServerStreamingCall<_brevet_v1_WatchPropagationRequest__Output, _brevet_v1_Propagation>;
  
}

export interface RevocationsDefinition extends grpc.ServiceDefinition {
  ListVerifiers: MethodDefinition<_brevet_v1_ListVerifiersRequest, _brevet_v1_ListVerifiersResponse, _brevet_v1_ListVerifiersRequest__Output, _brevet_v1_ListVerifiersResponse__Output>
  Revoke: MethodDefinition<_brevet_v1_RevokeRequest, _brevet_v1_RevokeResponse, _brevet_v1_RevokeRequest__Output, _brevet_v1_RevokeResponse__Output>
  WatchPropagation: MethodDefinition<_brevet_v1_WatchPropagationRequest, _brevet_v1_Propagation, _brevet_v1_WatchPropagationRequest__Output, _brevet_v1_Propagation__Output>
}
