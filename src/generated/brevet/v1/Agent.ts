// Original file: proto/brevet/v1/agent.proto

import type * as grpc from '@grpc/grpc-js'
import type { MethodDefinition } from '@grpc/proto-loader'
import type { ClaimRequest as _brevet_v1_ClaimRequest, ClaimRequest__Output as _brevet_v1_ClaimRequest__Output } from '../../brevet/v1/ClaimRequest.ts';
import type { ClaimResponse as _brevet_v1_ClaimResponse, ClaimResponse__Output as _brevet_v1_ClaimResponse__Output } from '../../brevet/v1/ClaimResponse.ts';
import type { FinishRequest as _brevet_v1_FinishRequest, FinishRequest__Output as _brevet_v1_FinishRequest__Output } from '../../brevet/v1/FinishRequest.ts';
import type { StatusRequest as _brevet_v1_StatusRequest, StatusRequest__Output as _brevet_v1_StatusRequest__Output } from '../../brevet/v1/StatusRequest.ts';
import type { StatusResponse as _brevet_v1_StatusResponse, StatusResponse__Output as _brevet_v1_StatusResponse__Output } from '../../brevet/v1/StatusResponse.ts';
import type { Task as _brevet_v1_Task, Task__Output as _brevet_v1_Task__Output } from '../../brevet/v1/Task.ts';

export interface AgentClient extends grpc.Client {
  Claim(argument: _brevet_v1_ClaimRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ClaimResponse__Output>): grpc.ClientUnaryCall;
  Claim(argument: _brevet_v1_ClaimRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_ClaimResponse__Output>): grpc.ClientUnaryCall;
  Claim(argument: _brevet_v1_ClaimRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ClaimResponse__Output>): grpc.ClientUnaryCall;
  Claim(argument: _brevet_v1_ClaimRequest, callback: grpc.requestCallback<_brevet_v1_ClaimResponse__Output>): grpc.ClientUnaryCall;
  claim(argument: _brevet_v1_ClaimRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ClaimResponse__Output>): grpc.ClientUnaryCall;
  claim(argument: _brevet_v1_ClaimRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_ClaimResponse__Output>): grpc.ClientUnaryCall;
  claim(argument: _brevet_v1_ClaimRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ClaimResponse__Output>): grpc.ClientUnaryCall;
  claim(argument: _brevet_v1_ClaimRequest, callback: grpc.requestCallback<_brevet_v1_ClaimResponse__Output>): grpc.ClientUnaryCall;
  
  Finish(argument: _brevet_v1_FinishRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  Finish(argument: _brevet_v1_FinishRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  Finish(argument: _brevet_v1_FinishRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  Finish(argument: _brevet_v1_FinishRequest, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  finish(argument: _brevet_v1_FinishRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  finish(argument: _brevet_v1_FinishRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  finish(argument: _brevet_v1_FinishRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  finish(argument: _brevet_v1_FinishRequest, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  
  Status(argument: _brevet_v1_StatusRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_StatusResponse__Output>): grpc.ClientUnaryCall;
  Status(argument: _brevet_v1_StatusRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_StatusResponse__Output>): grpc.ClientUnaryCall;
  Status(argument: _brevet_v1_StatusRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_StatusResponse__Output>): grpc.ClientUnaryCall;
  Status(argument: _brevet_v1_StatusRequest, callback: grpc.requestCallback<_brevet_v1_StatusResponse__Output>): grpc.ClientUnaryCall;
  status(argument: _brevet_v1_StatusRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_StatusResponse__Output>): grpc.ClientUnaryCall;
  status(argument: _brevet_v1_StatusRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_StatusResponse__Output>): grpc.ClientUnaryCall;
  status(argument: _brevet_v1_StatusRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_StatusResponse__Output>): grpc.ClientUnaryCall;
  status(argument: _brevet_v1_StatusRequest, callback: grpc.requestCallback<_brevet_v1_StatusResponse__Output>): grpc.ClientUnaryCall;
  
}

export interface AgentHandlers extends grpc.UntypedServiceImplementation {
  Claim: grpc.handleUnaryCall<_brevet_v1_ClaimRequest__Output, _brevet_v1_ClaimResponse>;
  
  Finish: grpc.handleUnaryCall<_brevet_v1_FinishRequest__Output, _brevet_v1_Task>;
  
  Status: grpc.handleUnaryCall<_brevet_v1_StatusRequest__Output, _brevet_v1_StatusResponse>;
  
}

export interface AgentDefinition extends grpc.ServiceDefinition {
  Claim: MethodDefinition<_brevet_v1_ClaimRequest, _brevet_v1_ClaimResponse, _brevet_v1_ClaimRequest__Output, _brevet_v1_ClaimResponse__Output>
  Finish: MethodDefinition<_brevet_v1_FinishRequest, _brevet_v1_Task, _brevet_v1_FinishRequest__Output, _brevet_v1_Task__Output>
  Status: MethodDefinition<_brevet_v1_StatusRequest, _brevet_v1_StatusResponse, _brevet_v1_StatusRequest__Output, _brevet_v1_StatusResponse__Output>
}
