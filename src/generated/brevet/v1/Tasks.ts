// Original file: proto/brevet/v1/tasks.proto

import type * as grpc from '@grpc/grpc-js'
import type { MethodDefinition } from '@grpc/proto-loader'
import type { AbortTaskRequest as _brevet_v1_AbortTaskRequest, AbortTaskRequest__Output as _brevet_v1_AbortTaskRequest__Output } from '../../brevet/v1/AbortTaskRequest.ts';
import type { ChangeContextRequest as _brevet_v1_ChangeContextRequest, ChangeContextRequest__Output as _brevet_v1_ChangeContextRequest__Output } from '../../brevet/v1/ChangeContextRequest.ts';
import type { ChangeContextsRequest as _brevet_v1_ChangeContextsRequest, ChangeContextsRequest__Output as _brevet_v1_ChangeContextsRequest__Output } from '../../brevet/v1/ChangeContextsRequest.ts';
import type { ChangeContextsResponse as _brevet_v1_ChangeContextsResponse, ChangeContextsResponse__Output as _brevet_v1_ChangeContextsResponse__Output } from '../../brevet/v1/ChangeContextsResponse.ts';
import type { CloseTaskRequest as _brevet_v1_CloseTaskRequest, CloseTaskRequest__Output as _brevet_v1_CloseTaskRequest__Output } from '../../brevet/v1/CloseTaskRequest.ts';
import type { GetTaskRequest as _brevet_v1_GetTaskRequest, GetTaskRequest__Output as _brevet_v1_GetTaskRequest__Output } from '../../brevet/v1/GetTaskRequest.ts';
import type { IssueTicketRequest as _brevet_v1_IssueTicketRequest, IssueTicketRequest__Output as _brevet_v1_IssueTicketRequest__Output } from '../../brevet/v1/IssueTicketRequest.ts';
import type { ListTasksRequest as _brevet_v1_ListTasksRequest, ListTasksRequest__Output as _brevet_v1_ListTasksRequest__Output } from '../../brevet/v1/ListTasksRequest.ts';
import type { ListTasksResponse as _brevet_v1_ListTasksResponse, ListTasksResponse__Output as _brevet_v1_ListTasksResponse__Output } from '../../brevet/v1/ListTasksResponse.ts';
import type { OpenTaskRequest as _brevet_v1_OpenTaskRequest, OpenTaskRequest__Output as _brevet_v1_OpenTaskRequest__Output } from '../../brevet/v1/OpenTaskRequest.ts';
import type { Task as _brevet_v1_Task, Task__Output as _brevet_v1_Task__Output } from '../../brevet/v1/Task.ts';
import type { WatchTaskRequest as _brevet_v1_WatchTaskRequest, WatchTaskRequest__Output as _brevet_v1_WatchTaskRequest__Output } from '../../brevet/v1/WatchTaskRequest.ts';

export interface TasksClient extends grpc.Client {
  Abort(argument: _brevet_v1_AbortTaskRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  Abort(argument: _brevet_v1_AbortTaskRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  Abort(argument: _brevet_v1_AbortTaskRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  Abort(argument: _brevet_v1_AbortTaskRequest, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  abort(argument: _brevet_v1_AbortTaskRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  abort(argument: _brevet_v1_AbortTaskRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  abort(argument: _brevet_v1_AbortTaskRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  abort(argument: _brevet_v1_AbortTaskRequest, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  
  ChangeContext(argument: _brevet_v1_ChangeContextRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  ChangeContext(argument: _brevet_v1_ChangeContextRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  ChangeContext(argument: _brevet_v1_ChangeContextRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  ChangeContext(argument: _brevet_v1_ChangeContextRequest, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  changeContext(argument: _brevet_v1_ChangeContextRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  changeContext(argument: _brevet_v1_ChangeContextRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  changeContext(argument: _brevet_v1_ChangeContextRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  changeContext(argument: _brevet_v1_ChangeContextRequest, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  
  ChangeContexts(argument: _brevet_v1_ChangeContextsRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ChangeContextsResponse__Output>): grpc.ClientUnaryCall;
  ChangeContexts(argument: _brevet_v1_ChangeContextsRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_ChangeContextsResponse__Output>): grpc.ClientUnaryCall;
  ChangeContexts(argument: _brevet_v1_ChangeContextsRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ChangeContextsResponse__Output>): grpc.ClientUnaryCall;
  ChangeContexts(argument: _brevet_v1_ChangeContextsRequest, callback: grpc.requestCallback<_brevet_v1_ChangeContextsResponse__Output>): grpc.ClientUnaryCall;
  changeContexts(argument: _brevet_v1_ChangeContextsRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ChangeContextsResponse__Output>): grpc.ClientUnaryCall;
  changeContexts(argument: _brevet_v1_ChangeContextsRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_ChangeContextsResponse__Output>): grpc.ClientUnaryCall;
  changeContexts(argument: _brevet_v1_ChangeContextsRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ChangeContextsResponse__Output>): grpc.ClientUnaryCall;
  changeContexts(argument: _brevet_v1_ChangeContextsRequest, callback: grpc.requestCallback<_brevet_v1_ChangeContextsResponse__Output>): grpc.ClientUnaryCall;
  
  Close(argument: _brevet_v1_CloseTaskRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  Close(argument: _brevet_v1_CloseTaskRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  Close(argument: _brevet_v1_CloseTaskRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  Close(argument: _brevet_v1_CloseTaskRequest, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  
  Get(argument: _brevet_v1_GetTaskRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  Get(argument: _brevet_v1_GetTaskRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  Get(argument: _brevet_v1_GetTaskRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  Get(argument: _brevet_v1_GetTaskRequest, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  get(argument: _brevet_v1_GetTaskRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  get(argument: _brevet_v1_GetTaskRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  get(argument: _brevet_v1_GetTaskRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  get(argument: _brevet_v1_GetTaskRequest, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  
  IssueTicket(argument: _brevet_v1_IssueTicketRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  IssueTicket(argument: _brevet_v1_IssueTicketRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  IssueTicket(argument: _brevet_v1_IssueTicketRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  IssueTicket(argument: _brevet_v1_IssueTicketRequest, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  issueTicket(argument: _brevet_v1_IssueTicketRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  issueTicket(argument: _brevet_v1_IssueTicketRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  issueTicket(argument: _brevet_v1_IssueTicketRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  issueTicket(argument: _brevet_v1_IssueTicketRequest, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  
  List(argument: _brevet_v1_ListTasksRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ListTasksResponse__Output>): grpc.ClientUnaryCall;
  List(argument: _brevet_v1_ListTasksRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_ListTasksResponse__Output>): grpc.ClientUnaryCall;
  List(argument: _brevet_v1_ListTasksRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ListTasksResponse__Output>): grpc.ClientUnaryCall;
  List(argument: _brevet_v1_ListTasksRequest, callback: grpc.requestCallback<_brevet_v1_ListTasksResponse__Output>): grpc.ClientUnaryCall;
  list(argument: _brevet_v1_ListTasksRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ListTasksResponse__Output>): grpc.ClientUnaryCall;
  list(argument: _brevet_v1_ListTasksRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_ListTasksResponse__Output>): grpc.ClientUnaryCall;
  list(argument: _brevet_v1_ListTasksRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ListTasksResponse__Output>): grpc.ClientUnaryCall;
  list(argument: _brevet_v1_ListTasksRequest, callback: grpc.requestCallback<_brevet_v1_ListTasksResponse__Output>): grpc.ClientUnaryCall;
  
  Open(argument: _brevet_v1_OpenTaskRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  Open(argument: _brevet_v1_OpenTaskRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  Open(argument: _brevet_v1_OpenTaskRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  Open(argument: _brevet_v1_OpenTaskRequest, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  open(argument: _brevet_v1_OpenTaskRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  open(argument: _brevet_v1_OpenTaskRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  open(argument: _brevet_v1_OpenTaskRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  open(argument: _brevet_v1_OpenTaskRequest, callback: grpc.requestCallback<_brevet_v1_Task__Output>): grpc.ClientUnaryCall;
  
  Watch(argument: _brevet_v1_WatchTaskRequest, metadata: grpc.Metadata, options?: grpc.CallOptions): grpc.ClientReadableStream<_brevet_v1_Task__Output>;
  Watch(argument: _brevet_v1_WatchTaskRequest, options?: grpc.CallOptions): grpc.ClientReadableStream<_brevet_v1_Task__Output>;
  watch(argument: _brevet_v1_WatchTaskRequest, metadata: grpc.Metadata, options?: grpc.CallOptions): grpc.ClientReadableStream<_brevet_v1_Task__Output>;
  watch(argument: _brevet_v1_WatchTaskRequest, options?: grpc.CallOptions): grpc.ClientReadableStream<_brevet_v1_Task__Output>;
  
}

export interface TasksHandlers extends grpc.UntypedServiceImplementation {
  Abort: grpc.handleUnaryCall<_brevet_v1_AbortTaskRequest__Output, _brevet_v1_Task>;
  
  ChangeContext: grpc.handleUnaryCall<_brevet_v1_ChangeContextRequest__Output, _brevet_v1_Task>;
  
  ChangeContexts: grpc.handleUnaryCall<_brevet_v1_ChangeContextsRequest__Output, _brevet_v1_ChangeContextsResponse>;
  
  Close: grpc.handleUnaryCall<_brevet_v1_CloseTaskRequest__Output, _brevet_v1_Task>;
  
  Get: grpc.handleUnaryCall<_brevet_v1_GetTaskRequest__Output, _brevet_v1_Task>;
  
  IssueTicket: grpc.handleUnaryCall<_brevet_v1_IssueTicketRequest__Output, _brevet_v1_Task>;
  
  List: grpc.handleUnaryCall<_brevet_v1_ListTasksRequest__Output, _brevet_v1_ListTasksResponse>;
  
  Open: grpc.handleUnaryCall<_brevet_v1_OpenTaskRequest__Output, _brevet_v1_Task>;
  
  Watch: grpc.handleServerStreamingCall<_brevet_v1_WatchTaskRequest__Output, _brevet_v1_Task>;
  
}

export interface TasksDefinition extends grpc.ServiceDefinition {
  Abort: MethodDefinition<_brevet_v1_AbortTaskRequest, _brevet_v1_Task, _brevet_v1_AbortTaskRequest__Output, _brevet_v1_Task__Output>
  ChangeContext: MethodDefinition<_brevet_v1_ChangeContextRequest, _brevet_v1_Task, _brevet_v1_ChangeContextRequest__Output, _brevet_v1_Task__Output>
  ChangeContexts: MethodDefinition<_brevet_v1_ChangeContextsRequest, _brevet_v1_ChangeContextsResponse, _brevet_v1_ChangeContextsRequest__Output, _brevet_v1_ChangeContextsResponse__Output>
  Close: MethodDefinition<_brevet_v1_CloseTaskRequest, _brevet_v1_Task, _brevet_v1_CloseTaskRequest__Output, _brevet_v1_Task__Output>
  Get: MethodDefinition<_brevet_v1_GetTaskRequest, _brevet_v1_Task, _brevet_v1_GetTaskRequest__Output, _brevet_v1_Task__Output>
  IssueTicket: MethodDefinition<_brevet_v1_IssueTicketRequest, _brevet_v1_Task, _brevet_v1_IssueTicketRequest__Output, _brevet_v1_Task__Output>
  List: MethodDefinition<_brevet_v1_ListTasksRequest, _brevet_v1_ListTasksResponse, _brevet_v1_ListTasksRequest__Output, _brevet_v1_ListTasksResponse__Output>
  Open: MethodDefinition<_brevet_v1_OpenTaskRequest, _brevet_v1_Task, _brevet_v1_OpenTaskRequest__Output, _brevet_v1_Task__Output>
  Watch: MethodDefinition<_brevet_v1_WatchTaskRequest, _brevet_v1_Task, _brevet_v1_WatchTaskRequest__Output, _brevet_v1_Task__Output>
}
