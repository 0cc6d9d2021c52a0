// Original file: proto/brevet/v1/admin.proto

import type * as grpc from '@grpc/grpc-js'
import type { MethodDefinition } from '@grpc/proto-loader'
import type { Bundle as _brevet_v1_Bundle, Bundle__Output as _brevet_v1_Bundle__Output } from '../../brevet/v1/Bundle.ts';
import type { BundlePiece as _brevet_v1_BundlePiece, BundlePiece__Output as _brevet_v1_BundlePiece__Output } from '../../brevet/v1/BundlePiece.ts';
import type { GetBundleRequest as _brevet_v1_GetBundleRequest, GetBundleRequest__Output as _brevet_v1_GetBundleRequest__Output } from '../../brevet/v1/GetBundleRequest.ts';
import type { GetInfoRequest as _brevet_v1_GetInfoRequest, GetInfoRequest__Output as _brevet_v1_GetInfoRequest__Output } from '../../brevet/v1/GetInfoRequest.ts';
import type { Info as _brevet_v1_Info, Info__Output as _brevet_v1_Info__Output } from '../../brevet/v1/Info.ts';
import type { WatchBundleRequest as _brevet_v1_WatchBundleRequest, WatchBundleRequest__Output as _brevet_v1_WatchBundleRequest__Output } from '../../brevet/v1/WatchBundleRequest.ts';

export interface TrustClient extends grpc.Client {
  GetBundle(argument: _brevet_v1_GetBundleRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Bundle__Output>): grpc.ClientUnaryCall;
  GetBundle(argument: _brevet_v1_GetBundleRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_Bundle__Output>): grpc.ClientUnaryCall;
  GetBundle(argument: _brevet_v1_GetBundleRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Bundle__Output>): grpc.ClientUnaryCall;
  GetBundle(argument: _brevet_v1_GetBundleRequest, callback: grpc.requestCallback<_brevet_v1_Bundle__Output>): grpc.ClientUnaryCall;
  getBundle(argument: _brevet_v1_GetBundleRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Bundle__Output>): grpc.ClientUnaryCall;
  getBundle(argument: _brevet_v1_GetBundleRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_Bundle__Output>): grpc.ClientUnaryCall;
  getBundle(argument: _brevet_v1_GetBundleRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Bundle__Output>): grpc.ClientUnaryCall;
  getBundle(argument: _brevet_v1_GetBundleRequest, callback: grpc.requestCallback<_brevet_v1_Bundle__Output>): grpc.ClientUnaryCall;
  
  GetInfo(argument: _brevet_v1_GetInfoRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Info__Output>): grpc.ClientUnaryCall;
  GetInfo(argument: _brevet_v1_GetInfoRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_Info__Output>): grpc.ClientUnaryCall;
  GetInfo(argument: _brevet_v1_GetInfoRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Info__Output>): grpc.ClientUnaryCall;
  GetInfo(argument: _brevet_v1_GetInfoRequest, callback: grpc.requestCallback<_brevet_v1_Info__Output>): grpc.ClientUnaryCall;
  getInfo(argument: _brevet_v1_GetInfoRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Info__Output>): grpc.ClientUnaryCall;
  getInfo(argument: _brevet_v1_GetInfoRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_Info__Output>): grpc.ClientUnaryCall;
  getInfo(argument: _brevet_v1_GetInfoRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Info__Output>): grpc.ClientUnaryCall;
  getInfo(argument: _brevet_v1_GetInfoRequest, callback: grpc.requestCallback<_brevet_v1_Info__Output>): grpc.ClientUnaryCall;
  
  WatchBundle(argument: _brevet_v1_WatchBundleRequest, metadata: grpc.Metadata, options?: grpc.CallOptions): grpc.ClientReadableStream<_brevet_v1_BundlePiece__Output>;
  WatchBundle(argument: _brevet_v1_WatchBundleRequest, options?: grpc.CallOptions): grpc.ClientReadableStream<_brevet_v1_BundlePiece__Output>;
  watchBundle(argument: _brevet_v1_WatchBundleRequest, metadata: grpc.Metadata, options?: grpc.CallOptions): grpc.ClientReadableStream<_brevet_v1_BundlePiece__Output>;
  watchBundle(argument: _brevet_v1_WatchBundleRequest, options?: grpc.CallOptions): grpc.ClientReadableStream<_brevet_v1_BundlePiece__Output>;
  
}

export interface TrustHandlers extends grpc.UntypedServiceImplementation {
  GetBundle: grpc.handleUnaryCall<_brevet_v1_GetBundleRequest__Output, _brevet_v1_Bundle>;
  
  GetInfo: grpc.handleUnaryCall<_brevet_v1_GetInfoRequest__Output, _brevet_v1_Info>;
  
  WatchBundle: grpc.handleServerStreamingCall<_brevet_v1_WatchBundleRequest__Output, _brevet_v1_BundlePiece>;
  
}

export interface TrustDefinition extends grpc.ServiceDefinition {
  GetBundle: MethodDefinition<_brevet_v1_GetBundleRequest, _brevet_v1_Bundle, _brevet_v1_GetBundleRequest__Output, _brevet_v1_Bundle__Output>
  GetInfo: MethodDefinition<_brevet_v1_GetInfoRequest, _brevet_v1_Info, _brevet_v1_GetInfoRequest__Output, _brevet_v1_Info__Output>
  WatchBundle: MethodDefinition<_brevet_v1_WatchBundleRequest, _brevet_v1_BundlePiece, _brevet_v1_WatchBundleRequest__Output, _brevet_v1_BundlePiece__Output>
}
