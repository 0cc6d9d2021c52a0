// Original file: proto/brevet/v1/admin.proto

import type * as grpc from '@grpc/grpc-js'
import type { MethodDefinition } from '@grpc/proto-loader'
import type { RevokeRequest as _brevet_v1_RevokeRequest, RevokeRequest__Output as _brevet_v1_RevokeRequest__Output } from '../../brevet/v1/RevokeRequest.ts';
import type { RevokeResponse as _brevet_v1_RevokeResponse, RevokeResponse__Output as _brevet_v1_RevokeResponse__Output } from '../../brevet/v1/RevokeResponse.ts';

export interface RevocationsClient extends grpc.Client {
  Revoke(argument: _brevet_v1_RevokeRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_RevokeResponse__Output>): grpc.ClientUnaryCall;
  Revoke(argument: _brevet_v1_RevokeRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_RevokeResponse__Output>): grpc.ClientUnaryCall;
  Revoke(argument: _brevet_v1_RevokeRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_RevokeResponse__Output>): grpc.ClientUnaryCall;
  Revoke(argument: _brevet_v1_RevokeRequest, callback: grpc.requestCallback<_brevet_v1_RevokeResponse__Output>): grpc.ClientUnaryCall;
  revoke(argument: _brevet_v1_RevokeRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_RevokeResponse__Output>): grpc.ClientUnaryCall;
  revoke(argument: _brevet_v1_RevokeRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_RevokeResponse__Output>): grpc.ClientUnaryCall;
  revoke(argument: _brevet_v1_RevokeRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_RevokeResponse__Output>): grpc.ClientUnaryCall;
  revoke(argument: _brevet_v1_RevokeRequest, callback: grpc.requestCallback<_brevet_v1_RevokeResponse__Output>): grpc.ClientUnaryCall;
  
}

export interface RevocationsHandlers extends grpc.UntypedServiceImplementation {
  Revoke: grpc.handleUnaryCall<_brevet_v1_RevokeRequest__Output, _brevet_v1_RevokeResponse>;
  
}

export interface RevocationsDefinition extends grpc.ServiceDefinition {
  Revoke: MethodDefinition<_brevet_v1_RevokeRequest, _brevet_v1_RevokeResponse, _brevet_v1_RevokeRequest__Output, _brevet_v1_RevokeResponse__Output>
}
