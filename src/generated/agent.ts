import type * as grpc from '@grpc/grpc-js';
import type { MessageTypeDefinition } from '@grpc/proto-loader';

import type { AbortTaskRequest as _brevet_v1_AbortTaskRequest, AbortTaskRequest__Output as _brevet_v1_AbortTaskRequest__Output } from './brevet/v1/AbortTaskRequest.ts';
import type { AgentClient as _brevet_v1_AgentClient, AgentDefinition as _brevet_v1_AgentDefinition } from './brevet/v1/Agent.ts';
import type { ChangeContextRequest as _brevet_v1_ChangeContextRequest, ChangeContextRequest__Output as _brevet_v1_ChangeContextRequest__Output } from './brevet/v1/ChangeContextRequest.ts';
import type { ChangeContextsRequest as _brevet_v1_ChangeContextsRequest, ChangeContextsRequest__Output as _brevet_v1_ChangeContextsRequest__Output } from './brevet/v1/ChangeContextsRequest.ts';
import type { ChangeContextsResponse as _brevet_v1_ChangeContextsResponse, ChangeContextsResponse__Output as _brevet_v1_ChangeContextsResponse__Output } from './brevet/v1/ChangeContextsResponse.ts';
import type { ClaimRequest as _brevet_v1_ClaimRequest, ClaimRequest__Output as _brevet_v1_ClaimRequest__Output } from './brevet/v1/ClaimRequest.ts';
import type { ClaimResponse as _brevet_v1_ClaimResponse, ClaimResponse__Output as _brevet_v1_ClaimResponse__Output } from './brevet/v1/ClaimResponse.ts';
import type { CloseTaskRequest as _brevet_v1_CloseTaskRequest, CloseTaskRequest__Output as _brevet_v1_CloseTaskRequest__Output } from './brevet/v1/CloseTaskRequest.ts';
import type { FinishRequest as _brevet_v1_FinishRequest, FinishRequest__Output as _brevet_v1_FinishRequest__Output } from './brevet/v1/FinishRequest.ts';
import type { GetTaskRequest as _brevet_v1_GetTaskRequest, GetTaskRequest__Output as _brevet_v1_GetTaskRequest__Output } from './brevet/v1/GetTaskRequest.ts';
import type { Instance as _brevet_v1_Instance, Instance__Output as _brevet_v1_Instance__Output } from './brevet/v1/Instance.ts';
import type { IssueTicketRequest as _brevet_v1_IssueTicketRequest, IssueTicketRequest__Output as _brevet_v1_IssueTicketRequest__Output } from './brevet/v1/IssueTicketRequest.ts';
import type { ListTasksRequest as _brevet_v1_ListTasksRequest, ListTasksRequest__Output as _brevet_v1_ListTasksRequest__Output } from './brevet/v1/ListTasksRequest.ts';
import type { ListTasksResponse as _brevet_v1_ListTasksResponse, ListTasksResponse__Output as _brevet_v1_ListTasksResponse__Output } from './brevet/v1/ListTasksResponse.ts';
import type { OpenTaskRequest as _brevet_v1_OpenTaskRequest, OpenTaskRequest__Output as _brevet_v1_OpenTaskRequest__Output } from './brevet/v1/OpenTaskRequest.ts';
import type { Sidecar as _brevet_v1_Sidecar, Sidecar__Output as _brevet_v1_Sidecar__Output } from './brevet/v1/Sidecar.ts';
import type { StatusRequest as _brevet_v1_StatusRequest, StatusRequest__Output as _brevet_v1_StatusRequest__Output } from './brevet/v1/StatusRequest.ts';
import type { StatusResponse as _brevet_v1_StatusResponse, StatusResponse__Output as _brevet_v1_StatusResponse__Output } from './brevet/v1/StatusResponse.ts';
import type { Task as _brevet_v1_Task, Task__Output as _brevet_v1_Task__Output } from './brevet/v1/Task.ts';
import type { TasksClient as _brevet_v1_TasksClient, TasksDefinition as _brevet_v1_TasksDefinition } from './brevet/v1/Tasks.ts';
import type { WatchTaskRequest as _brevet_v1_WatchTaskRequest, WatchTaskRequest__Output as _brevet_v1_WatchTaskRequest__Output } from './brevet/v1/WatchTaskRequest.ts';
import type { Timestamp as _google_protobuf_Timestamp, Timestamp__Output as _google_protobuf_Timestamp__Output } from './google/protobuf/Timestamp.ts';

type SubtypeConstructor<Constructor extends new (...args: any) => any, Subtype> = {
  new(...args: ConstructorParameters<Constructor>): Subtype;
};

export interface ProtoGrpcType {
  brevet: {
    v1: {
      AbortTaskRequest: MessageTypeDefinition<_brevet_v1_AbortTaskRequest, _brevet_v1_AbortTaskRequest__Output>
      Agent: SubtypeConstructor<typeof grpc.Client, _brevet_v1_AgentClient> & { service: _brevet_v1_AgentDefinition }
      ChangeContextRequest: MessageTypeDefinition<_brevet_v1_ChangeContextRequest, _brevet_v1_ChangeContextRequest__Output>
      ChangeContextsRequest: MessageTypeDefinition<_brevet_v1_ChangeContextsRequest, _brevet_v1_ChangeContextsRequest__Output>
      ChangeContextsResponse: MessageTypeDefinition<_brevet_v1_ChangeContextsResponse, _brevet_v1_ChangeContextsResponse__Output>
      ClaimRequest: MessageTypeDefinition<_brevet_v1_ClaimRequest, _brevet_v1_ClaimRequest__Output>
      ClaimResponse: MessageTypeDefinition<_brevet_v1_ClaimResponse, _brevet_v1_ClaimResponse__Output>
      CloseTaskRequest: MessageTypeDefinition<_brevet_v1_CloseTaskRequest, _brevet_v1_CloseTaskRequest__Output>
      FinishRequest: MessageTypeDefinition<_brevet_v1_FinishRequest, _brevet_v1_FinishRequest__Output>
      GetTaskRequest: MessageTypeDefinition<_brevet_v1_GetTaskRequest, _brevet_v1_GetTaskRequest__Output>
      Instance: MessageTypeDefinition<_brevet_v1_Instance, _brevet_v1_Instance__Output>
      IssueTicketRequest: MessageTypeDefinition<_brevet_v1_IssueTicketRequest, _brevet_v1_IssueTicketRequest__Output>
      ListTasksRequest: MessageTypeDefinition<_brevet_v1_ListTasksRequest, _brevet_v1_ListTasksRequest__Output>
      ListTasksResponse: MessageTypeDefinition<_brevet_v1_ListTasksResponse, _brevet_v1_ListTasksResponse__Output>
      OpenTaskRequest: MessageTypeDefinition<_brevet_v1_OpenTaskRequest, _brevet_v1_OpenTaskRequest__Output>
      Sidecar: MessageTypeDefinition<_brevet_v1_Sidecar, _brevet_v1_Sidecar__Output>
      StatusRequest: MessageTypeDefinition<_brevet_v1_StatusRequest, _brevet_v1_StatusRequest__Output>
      StatusResponse: MessageTypeDefinition<_brevet_v1_StatusResponse, _brevet_v1_StatusResponse__Output>
      Task: MessageTypeDefinition<_brevet_v1_Task, _brevet_v1_Task__Output>
      Tasks: SubtypeConstructor<typeof grpc.Client, _brevet_v1_TasksClient> & { service: _brevet_v1_TasksDefinition }
      WatchTaskRequest: MessageTypeDefinition<_brevet_v1_WatchTaskRequest, _brevet_v1_WatchTaskRequest__Output>
    }
  }
  google: {
    protobuf: {
      Timestamp: MessageTypeDefinition<_google_protobuf_Timestamp, _google_protobuf_Timestamp__Output>
    }
  }
}

