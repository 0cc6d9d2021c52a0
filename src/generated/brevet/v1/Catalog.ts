// Original file: proto/brevet/v1/admin.proto

import type * as grpc from '@grpc/grpc-js'
import type { MethodDefinition } from '@grpc/proto-loader'
import type { ApplyRequest as _brevet_v1_ApplyRequest, ApplyRequest__Output as _brevet_v1_ApplyRequest__Output } from '../../brevet/v1/ApplyRequest.ts';
import type { ApplyResponse as _brevet_v1_ApplyResponse, ApplyResponse__Output as _brevet_v1_ApplyResponse__Output } from '../../brevet/v1/ApplyResponse.ts';
import type { CatalogAgent as _brevet_v1_CatalogAgent, CatalogAgent__Output as _brevet_v1_CatalogAgent__Output } from '../../brevet/v1/CatalogAgent.ts';
import type { DisableAgentRequest as _brevet_v1_DisableAgentRequest, DisableAgentRequest__Output as _brevet_v1_DisableAgentRequest__Output } from '../../brevet/v1/DisableAgentRequest.ts';
import type { DisableAgentResponse as _brevet_v1_DisableAgentResponse, DisableAgentResponse__Output as _brevet_v1_DisableAgentResponse__Output } from '../../brevet/v1/DisableAgentResponse.ts';
import type { EnableAgentRequest as _brevet_v1_EnableAgentRequest, EnableAgentRequest__Output as _brevet_v1_EnableAgentRequest__Output } from '../../brevet/v1/EnableAgentRequest.ts';
import type { GetAgentRequest as _brevet_v1_GetAgentRequest, GetAgentRequest__Output as _brevet_v1_GetAgentRequest__Output } from '../../brevet/v1/GetAgentRequest.ts';
import type { ListAgentsRequest as _brevet_v1_ListAgentsRequest, ListAgentsRequest__Output as _brevet_v1_ListAgentsRequest__Output } from '../../brevet/v1/ListAgentsRequest.ts';
import type { ListAgentsResponse as _brevet_v1_ListAgentsResponse, ListAgentsResponse__Output as _brevet_v1_ListAgentsResponse__Output } from '../../brevet/v1/ListAgentsResponse.ts';

export interface CatalogClient extends grpc.Client {
  Apply(argument: _brevet_v1_ApplyRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ApplyResponse__Output>): grpc.ClientUnaryCall;
  Apply(argument: _brevet_v1_ApplyRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_ApplyResponse__Output>): grpc.ClientUnaryCall;
  Apply(argument: _brevet_v1_ApplyRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ApplyResponse__Output>): grpc.ClientUnaryCall;
  Apply(argument: _brevet_v1_ApplyRequest, callback: grpc.requestCallback<_brevet_v1_ApplyResponse__Output>): grpc.ClientUnaryCall;
  apply(argument: _brevet_v1_ApplyRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ApplyResponse__Output>): grpc.ClientUnaryCall;
  apply(argument: _brevet_v1_ApplyRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_ApplyResponse__Output>): grpc.ClientUnaryCall;
  apply(argument: _brevet_v1_ApplyRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ApplyResponse__Output>): grpc.ClientUnaryCall;
  apply(argument: _brevet_v1_ApplyRequest, callback: grpc.requestCallback<_brevet_v1_ApplyResponse__Output>): grpc.ClientUnaryCall;
  
  DisableAgent(argument: _brevet_v1_DisableAgentRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_DisableAgentResponse__Output>): grpc.ClientUnaryCall;
  DisableAgent(argument: _brevet_v1_DisableAgentRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_DisableAgentResponse__Output>): grpc.ClientUnaryCall;
  DisableAgent(argument: _brevet_v1_DisableAgentRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_DisableAgentResponse__Output>): grpc.ClientUnaryCall;
  DisableAgent(argument: _brevet_v1_DisableAgentRequest, callback: grpc.requestCallback<_brevet_v1_DisableAgentResponse__Output>): grpc.ClientUnaryCall;
  disableAgent(argument: _brevet_v1_DisableAgentRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_DisableAgentResponse__Output>): grpc.ClientUnaryCall;
  disableAgent(argument: _brevet_v1_DisableAgentRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_DisableAgentResponse__Output>): grpc.ClientUnaryCall;
  disableAgent(argument: _brevet_v1_DisableAgentRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_DisableAgentResponse__Output>): grpc.ClientUnaryCall;
  disableAgent(argument: _brevet_v1_DisableAgentRequest, callback: grpc.requestCallback<_brevet_v1_DisableAgentResponse__Output>): grpc.ClientUnaryCall;
  
  EnableAgent(argument: _brevet_v1_EnableAgentRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_CatalogAgent__Output>): grpc.ClientUnaryCall;
  EnableAgent(argument: _brevet_v1_EnableAgentRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_CatalogAgent__Output>): grpc.ClientUnaryCall;
  EnableAgent(argument: _brevet_v1_EnableAgentRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_CatalogAgent__Output>): grpc.ClientUnaryCall;
  EnableAgent(argument: _brevet_v1_EnableAgentRequest, callback: grpc.requestCallback<_brevet_v1_CatalogAgent__Output>): grpc.ClientUnaryCall;
  enableAgent(argument: _brevet_v1_EnableAgentRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_CatalogAgent__Output>): grpc.ClientUnaryCall;
  enableAgent(argument: _brevet_v1_EnableAgentRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_CatalogAgent__Output>): grpc.ClientUnaryCall;
  enableAgent(argument: _brevet_v1_EnableAgentRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_CatalogAgent__Output>): grpc.ClientUnaryCall;
  enableAgent(argument: _brevet_v1_EnableAgentRequest, callback: grpc.requestCallback<_brevet_v1_CatalogAgent__Output>): grpc.ClientUnaryCall;
  
  GetAgent(argument: _brevet_v1_GetAgentRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_CatalogAgent__Output>): grpc.ClientUnaryCall;
  GetAgent(argument: _brevet_v1_GetAgentRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_CatalogAgent__Output>): grpc.ClientUnaryCall;
  GetAgent(argument: _brevet_v1_GetAgentRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_CatalogAgent__Output>): grpc.ClientUnaryCall;
  GetAgent(argument: _brevet_v1_GetAgentRequest, callback: grpc.requestCallback<_brevet_v1_CatalogAgent__Output>): grpc.ClientUnaryCall;
  getAgent(argument: _brevet_v1_GetAgentRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_CatalogAgent__Output>): grpc.ClientUnaryCall;
  getAgent(argument: _brevet_v1_GetAgentRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_CatalogAgent__Output>): grpc.ClientUnaryCall;
  getAgent(argument: _brevet_v1_GetAgentRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_CatalogAgent__Output>): grpc.ClientUnaryCall;
  getAgent(argument: _brevet_v1_GetAgentRequest, callback: grpc.requestCallback<_brevet_v1_CatalogAgent__Output>): grpc.ClientUnaryCall;
  
  ListAgents(argument: _brevet_v1_ListAgentsRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ListAgentsResponse__Output>): grpc.ClientUnaryCall;
  ListAgents(argument: _brevet_v1_ListAgentsRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_ListAgentsResponse__Output>): grpc.ClientUnaryCall;
  ListAgents(argument: _brevet_v1_ListAgentsRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ListAgentsResponse__Output>): grpc.ClientUnaryCall;
  ListAgents(argument: _brevet_v1_ListAgentsRequest, callback: grpc.requestCallback<_brevet_v1_ListAgentsResponse__Output>): grpc.ClientUnaryCall;
  listAgents(argument: _brevet_v1_ListAgentsRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ListAgentsResponse__Output>): grpc.ClientUnaryCall;
  listAgents(argument: _brevet_v1_ListAgentsRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_ListAgentsResponse__Output>): grpc.ClientUnaryCall;
  listAgents(argument: _brevet_v1_ListAgentsRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ListAgentsResponse__Output>): grpc.ClientUnaryCall;
  listAgents(argument: _brevet_v1_ListAgentsRequest, callback: grpc.requestCallback<_brevet_v1_ListAgentsResponse__Output>): grpc.ClientUnaryCall;
  
}

export interface CatalogHandlers extends grpc.UntypedServiceImplementation {
  Apply: grpc.handleUnaryCall<_brevet_v1_ApplyRequest__Output, _brevet_v1_ApplyResponse>;
  
  DisableAgent: grpc.handleUnaryCall<_brevet_v1_DisableAgentRequest__Output, _brevet_v1_DisableAgentResponse>;
  
  EnableAgent: grpc.handleUnaryCall<_brevet_v1_EnableAgentRequest__Output, _brevet_v1_CatalogAgent>;
  
  GetAgent: grpc.handleUnaryCall<_brevet_v1_GetAgentRequest__Output, _brevet_v1_CatalogAgent>;
  
  ListAgents: grpc.handleUnaryCall<_brevet_v1_ListAgentsRequest__Output, _brevet_v1_ListAgentsResponse>;
  
}

export interface CatalogDefinition extends grpc.ServiceDefinition {
  Apply: MethodDefinition<_brevet_v1_ApplyRequest, _brevet_v1_ApplyResponse, _brevet_v1_ApplyRequest__Output, _brevet_v1_ApplyResponse__Output>
  DisableAgent: MethodDefinition<_brevet_v1_DisableAgentRequest, _brevet_v1_DisableAgentResponse, _brevet_v1_DisableAgentRequest__Output, _brevet_v1_DisableAgentResponse__Output>
  EnableAgent: MethodDefinition<_brevet_v1_EnableAgentRequest, _brevet_v1_CatalogAgent, _brevet_v1_EnableAgentRequest__Output, _brevet_v1_CatalogAgent__Output>
  GetAgent: MethodDefinition<_brevet_v1_GetAgentRequest, _brevet_v1_CatalogAgent, _brevet_v1_GetAgentRequest__Output, _brevet_v1_CatalogAgent__Output>
  ListAgents: MethodDefinition<_brevet_v1_ListAgentsRequest, _brevet_v1_ListAgentsResponse, _brevet_v1_ListAgentsRequest__Output, _brevet_v1_ListAgentsResponse__Output>
}
