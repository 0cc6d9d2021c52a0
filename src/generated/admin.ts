import type * as grpc from '@grpc/grpc-js';
import type { EnumTypeDefinition, MessageTypeDefinition } from '@grpc/proto-loader';

import type { AbortTaskRequest as _brevet_v1_AbortTaskRequest, AbortTaskRequest__Output as _brevet_v1_AbortTaskRequest__Output } from './brevet/v1/AbortTaskRequest.ts';
import type { ApplyRequest as _brevet_v1_ApplyRequest, ApplyRequest__Output as _brevet_v1_ApplyRequest__Output } from './brevet/v1/ApplyRequest.ts';
import type { ApplyResponse as _brevet_v1_ApplyResponse, ApplyResponse__Output as _brevet_v1_ApplyResponse__Output } from './brevet/v1/ApplyResponse.ts';
import type { Attestation as _brevet_v1_Attestation, Attestation__Output as _brevet_v1_Attestation__Output } from './brevet/v1/Attestation.ts';
import type { Bundle as _brevet_v1_Bundle, Bundle__Output as _brevet_v1_Bundle__Output } from './brevet/v1/Bundle.ts';
import type { BundlePiece as _brevet_v1_BundlePiece, BundlePiece__Output as _brevet_v1_BundlePiece__Output } from './brevet/v1/BundlePiece.ts';
import type { CatalogClient as _brevet_v1_CatalogClient, CatalogDefinition as _brevet_v1_CatalogDefinition } from './brevet/v1/Catalog.ts';
import type { CatalogAgent as _brevet_v1_CatalogAgent, CatalogAgent__Output as _brevet_v1_CatalogAgent__Output } from './brevet/v1/CatalogAgent.ts';
import type { CatalogChange as _brevet_v1_CatalogChange, CatalogChange__Output as _brevet_v1_CatalogChange__Output } from './brevet/v1/CatalogChange.ts';
import type { CatalogFile as _brevet_v1_CatalogFile, CatalogFile__Output as _brevet_v1_CatalogFile__Output } from './brevet/v1/CatalogFile.ts';
import type { CatalogProblem as _brevet_v1_CatalogProblem, CatalogProblem__Output as _brevet_v1_CatalogProblem__Output } from './brevet/v1/CatalogProblem.ts';
import type { ChangeContextRequest as _brevet_v1_ChangeContextRequest, ChangeContextRequest__Output as _brevet_v1_ChangeContextRequest__Output } from './brevet/v1/ChangeContextRequest.ts';
import type { ChangeContextsRequest as _brevet_v1_ChangeContextsRequest, ChangeContextsRequest__Output as _brevet_v1_ChangeContextsRequest__Output } from './brevet/v1/ChangeContextsRequest.ts';
import type { ChangeContextsResponse as _brevet_v1_ChangeContextsResponse, ChangeContextsResponse__Output as _brevet_v1_ChangeContextsResponse__Output } from './brevet/v1/ChangeContextsResponse.ts';
import type { CloseTaskRequest as _brevet_v1_CloseTaskRequest, CloseTaskRequest__Output as _brevet_v1_CloseTaskRequest__Output } from './brevet/v1/CloseTaskRequest.ts';
import type { DisableAgentRequest as _brevet_v1_DisableAgentRequest, DisableAgentRequest__Output as _brevet_v1_DisableAgentRequest__Output } from './brevet/v1/DisableAgentRequest.ts';
import type { DisableAgentResponse as _brevet_v1_DisableAgentResponse, DisableAgentResponse__Output as _brevet_v1_DisableAgentResponse__Output } from './brevet/v1/DisableAgentResponse.ts';
import type { EnableAgentRequest as _brevet_v1_EnableAgentRequest, EnableAgentRequest__Output as _brevet_v1_EnableAgentRequest__Output } from './brevet/v1/EnableAgentRequest.ts';
import type { EndedTask as _brevet_v1_EndedTask, EndedTask__Output as _brevet_v1_EndedTask__Output } from './brevet/v1/EndedTask.ts';
import type { ExplainRequest as _brevet_v1_ExplainRequest, ExplainRequest__Output as _brevet_v1_ExplainRequest__Output } from './brevet/v1/ExplainRequest.ts';
import type { Explanation as _brevet_v1_Explanation, Explanation__Output as _brevet_v1_Explanation__Output } from './brevet/v1/Explanation.ts';
import type { GetAgentRequest as _brevet_v1_GetAgentRequest, GetAgentRequest__Output as _brevet_v1_GetAgentRequest__Output } from './brevet/v1/GetAgentRequest.ts';
import type { GetBundleRequest as _brevet_v1_GetBundleRequest, GetBundleRequest__Output as _brevet_v1_GetBundleRequest__Output } from './brevet/v1/GetBundleRequest.ts';
import type { GetInfoRequest as _brevet_v1_GetInfoRequest, GetInfoRequest__Output as _brevet_v1_GetInfoRequest__Output } from './brevet/v1/GetInfoRequest.ts';
import type { GetTaskRequest as _brevet_v1_GetTaskRequest, GetTaskRequest__Output as _brevet_v1_GetTaskRequest__Output } from './brevet/v1/GetTaskRequest.ts';
import type { Info as _brevet_v1_Info, Info__Output as _brevet_v1_Info__Output } from './brevet/v1/Info.ts';
import type { Instance as _brevet_v1_Instance, Instance__Output as _brevet_v1_Instance__Output } from './brevet/v1/Instance.ts';
import type { IssueTicketRequest as _brevet_v1_IssueTicketRequest, IssueTicketRequest__Output as _brevet_v1_IssueTicketRequest__Output } from './brevet/v1/IssueTicketRequest.ts';
import type { ListAgentsRequest as _brevet_v1_ListAgentsRequest, ListAgentsRequest__Output as _brevet_v1_ListAgentsRequest__Output } from './brevet/v1/ListAgentsRequest.ts';
import type { ListAgentsResponse as _brevet_v1_ListAgentsResponse, ListAgentsResponse__Output as _brevet_v1_ListAgentsResponse__Output } from './brevet/v1/ListAgentsResponse.ts';
import type { ListAttestationsRequest as _brevet_v1_ListAttestationsRequest, ListAttestationsRequest__Output as _brevet_v1_ListAttestationsRequest__Output } from './brevet/v1/ListAttestationsRequest.ts';
import type { ListAttestationsResponse as _brevet_v1_ListAttestationsResponse, ListAttestationsResponse__Output as _brevet_v1_ListAttestationsResponse__Output } from './brevet/v1/ListAttestationsResponse.ts';
import type { ListEntriesRequest as _brevet_v1_ListEntriesRequest, ListEntriesRequest__Output as _brevet_v1_ListEntriesRequest__Output } from './brevet/v1/ListEntriesRequest.ts';
import type { ListEntriesResponse as _brevet_v1_ListEntriesResponse, ListEntriesResponse__Output as _brevet_v1_ListEntriesResponse__Output } from './brevet/v1/ListEntriesResponse.ts';
import type { ListProgress as _brevet_v1_ListProgress, ListProgress__Output as _brevet_v1_ListProgress__Output } from './brevet/v1/ListProgress.ts';
import type { ListSvidsRequest as _brevet_v1_ListSvidsRequest, ListSvidsRequest__Output as _brevet_v1_ListSvidsRequest__Output } from './brevet/v1/ListSvidsRequest.ts';
import type { ListSvidsResponse as _brevet_v1_ListSvidsResponse, ListSvidsResponse__Output as _brevet_v1_ListSvidsResponse__Output } from './brevet/v1/ListSvidsResponse.ts';
import type { ListTasksRequest as _brevet_v1_ListTasksRequest, ListTasksRequest__Output as _brevet_v1_ListTasksRequest__Output } from './brevet/v1/ListTasksRequest.ts';
import type { ListTasksResponse as _brevet_v1_ListTasksResponse, ListTasksResponse__Output as _brevet_v1_ListTasksResponse__Output } from './brevet/v1/ListTasksResponse.ts';
import type { ListVerifiersRequest as _brevet_v1_ListVerifiersRequest, ListVerifiersRequest__Output as _brevet_v1_ListVerifiersRequest__Output } from './brevet/v1/ListVerifiersRequest.ts';
import type { ListVerifiersResponse as _brevet_v1_ListVerifiersResponse, ListVerifiersResponse__Output as _brevet_v1_ListVerifiersResponse__Output } from './brevet/v1/ListVerifiersResponse.ts';
import type { LogClient as _brevet_v1_LogClient, LogDefinition as _brevet_v1_LogDefinition } from './brevet/v1/Log.ts';
import type { LogEntry as _brevet_v1_LogEntry, LogEntry__Output as _brevet_v1_LogEntry__Output } from './brevet/v1/LogEntry.ts';
import type { NearMatch as _brevet_v1_NearMatch, NearMatch__Output as _brevet_v1_NearMatch__Output } from './brevet/v1/NearMatch.ts';
import type { OpenTaskRequest as _brevet_v1_OpenTaskRequest, OpenTaskRequest__Output as _brevet_v1_OpenTaskRequest__Output } from './brevet/v1/OpenTaskRequest.ts';
import type { Part as _brevet_v1_Part, Part__Output as _brevet_v1_Part__Output } from './brevet/v1/Part.ts';
import type { Propagation as _brevet_v1_Propagation, Propagation__Output as _brevet_v1_Propagation__Output } from './brevet/v1/Propagation.ts';
import type { Residual as _brevet_v1_Residual, Residual__Output as _brevet_v1_Residual__Output } from './brevet/v1/Residual.ts';
import type { RevocationsClient as _brevet_v1_RevocationsClient, RevocationsDefinition as _brevet_v1_RevocationsDefinition } from './brevet/v1/Revocations.ts';
import type { RevokeRequest as _brevet_v1_RevokeRequest, RevokeRequest__Output as _brevet_v1_RevokeRequest__Output } from './brevet/v1/RevokeRequest.ts';
import type { RevokeResponse as _brevet_v1_RevokeResponse, RevokeResponse__Output as _brevet_v1_RevokeResponse__Output } from './brevet/v1/RevokeResponse.ts';
import type { Sidecar as _brevet_v1_Sidecar, Sidecar__Output as _brevet_v1_Sidecar__Output } from './brevet/v1/Sidecar.ts';
import type { SvidRecord as _brevet_v1_SvidRecord, SvidRecord__Output as _brevet_v1_SvidRecord__Output } from './brevet/v1/SvidRecord.ts';
import type { Task as _brevet_v1_Task, Task__Output as _brevet_v1_Task__Output } from './brevet/v1/Task.ts';
import type { TasksClient as _brevet_v1_TasksClient, TasksDefinition as _brevet_v1_TasksDefinition } from './brevet/v1/Tasks.ts';
import type { TrustClient as _brevet_v1_TrustClient, TrustDefinition as _brevet_v1_TrustDefinition } from './brevet/v1/Trust.ts';
import type { VerifierProgress as _brevet_v1_VerifierProgress, VerifierProgress__Output as _brevet_v1_VerifierProgress__Output } from './brevet/v1/VerifierProgress.ts';
import type { VerifierRecord as _brevet_v1_VerifierRecord, VerifierRecord__Output as _brevet_v1_VerifierRecord__Output } from './brevet/v1/VerifierRecord.ts';
import type { WatchBundleRequest as _brevet_v1_WatchBundleRequest, WatchBundleRequest__Output as _brevet_v1_WatchBundleRequest__Output } from './brevet/v1/WatchBundleRequest.ts';
import type { WatchPropagationRequest as _brevet_v1_WatchPropagationRequest, WatchPropagationRequest__Output as _brevet_v1_WatchPropagationRequest__Output } from './brevet/v1/WatchPropagationRequest.ts';
import type { WatchTaskRequest as _brevet_v1_WatchTaskRequest, WatchTaskRequest__Output as _brevet_v1_WatchTaskRequest__Output } from './brevet/v1/WatchTaskRequest.ts';
import type { ListValue as _google_protobuf_ListValue, ListValue__Output as _google_protobuf_ListValue__Output } from './google/protobuf/ListValue.ts';
import type { Struct as _google_protobuf_Struct, Struct__Output as _google_protobuf_Struct__Output } from './google/protobuf/Struct.ts';
import type { Timestamp as _google_protobuf_Timestamp, Timestamp__Output as _google_protobuf_Timestamp__Output } from './google/protobuf/Timestamp.ts';
import type { Value as _google_protobuf_Value, Value__Output as _google_protobuf_Value__Output } from './google/protobuf/Value.ts';

type SubtypeConstructor<Constructor extends new (...args: any) => any, Subtype> = {
  new(...args: ConstructorParameters<Constructor>): Subtype;
};

export interface ProtoGrpcType {
  brevet: {
    v1: {
      AbortTaskRequest: MessageTypeDefinition<_brevet_v1_AbortTaskRequest, _brevet_v1_AbortTaskRequest__Output>
      ApplyRequest: MessageTypeDefinition<_brevet_v1_ApplyRequest, _brevet_v1_ApplyRequest__Output>
      ApplyResponse: MessageTypeDefinition<_brevet_v1_ApplyResponse, _brevet_v1_ApplyResponse__Output>
      Attestation: MessageTypeDefinition<_brevet_v1_Attestation, _brevet_v1_Attestation__Output>
      Bundle: MessageTypeDefinition<_brevet_v1_Bundle, _brevet_v1_Bundle__Output>
      BundlePiece: MessageTypeDefinition<_brevet_v1_BundlePiece, _brevet_v1_BundlePiece__Output>
      Catalog: SubtypeConstructor<typeof grpc.Client, _brevet_v1_CatalogClient> & { service: _brevet_v1_CatalogDefinition }
      CatalogAgent: MessageTypeDefinition<_brevet_v1_CatalogAgent, _brevet_v1_CatalogAgent__Output>
      CatalogChange: MessageTypeDefinition<_brevet_v1_CatalogChange, _brevet_v1_CatalogChange__Output>
      CatalogFile: MessageTypeDefinition<_brevet_v1_CatalogFile, _brevet_v1_CatalogFile__Output>
      CatalogProblem: MessageTypeDefinition<_brevet_v1_CatalogProblem, _brevet_v1_CatalogProblem__Output>
      ChangeContextRequest: MessageTypeDefinition<_brevet_v1_ChangeContextRequest, _brevet_v1_ChangeContextRequest__Output>
      ChangeContextsRequest: MessageTypeDefinition<_brevet_v1_ChangeContextsRequest, _brevet_v1_ChangeContextsRequest__Output>
      ChangeContextsResponse: MessageTypeDefinition<_brevet_v1_ChangeContextsResponse, _brevet_v1_ChangeContextsResponse__Output>
      CloseTaskRequest: MessageTypeDefinition<_brevet_v1_CloseTaskRequest, _brevet_v1_CloseTaskRequest__Output>
      DisableAgentRequest: MessageTypeDefinition<_brevet_v1_DisableAgentRequest, _brevet_v1_DisableAgentRequest__Output>
      DisableAgentResponse: MessageTypeDefinition<_brevet_v1_DisableAgentResponse, _brevet_v1_DisableAgentResponse__Output>
      EnableAgentRequest: MessageTypeDefinition<_brevet_v1_EnableAgentRequest, _brevet_v1_EnableAgentRequest__Output>
      EndedTask: MessageTypeDefinition<_brevet_v1_EndedTask, _brevet_v1_EndedTask__Output>
      ExplainRequest: MessageTypeDefinition<_brevet_v1_ExplainRequest, _brevet_v1_ExplainRequest__Output>
      Explanation: MessageTypeDefinition<_brevet_v1_Explanation, _brevet_v1_Explanation__Output>
      GetAgentRequest: MessageTypeDefinition<_brevet_v1_GetAgentRequest, _brevet_v1_GetAgentRequest__Output>
      GetBundleRequest: MessageTypeDefinition<_brevet_v1_GetBundleRequest, _brevet_v1_GetBundleRequest__Output>
      GetInfoRequest: MessageTypeDefinition<_brevet_v1_GetInfoRequest, _brevet_v1_GetInfoRequest__Output>
      GetTaskRequest: MessageTypeDefinition<_brevet_v1_GetTaskRequest, _brevet_v1_GetTaskRequest__Output>
      Info: MessageTypeDefinition<_brevet_v1_Info, _brevet_v1_Info__Output>
      Instance: MessageTypeDefinition<_brevet_v1_Instance, _brevet_v1_Instance__Output>
      IssueTicketRequest: MessageTypeDefinition<_brevet_v1_IssueTicketRequest, _brevet_v1_IssueTicketRequest__Output>
      ListAgentsRequest: MessageTypeDefinition<_brevet_v1_ListAgentsRequest, _brevet_v1_ListAgentsRequest__Output>
      ListAgentsResponse: MessageTypeDefinition<_brevet_v1_ListAgentsResponse, _brevet_v1_ListAgentsResponse__Output>
      ListAttestationsRequest: MessageTypeDefinition<_brevet_v1_ListAttestationsRequest, _brevet_v1_ListAttestationsRequest__Output>
      ListAttestationsResponse: MessageTypeDefinition<_brevet_v1_ListAttestationsResponse, _brevet_v1_ListAttestationsResponse__Output>
      ListEntriesRequest: MessageTypeDefinition<_brevet_v1_ListEntriesRequest, _brevet_v1_ListEntriesRequest__Output>
      ListEntriesResponse: MessageTypeDefinition<_brevet_v1_ListEntriesResponse, _brevet_v1_ListEntriesResponse__Output>
      ListProgress: MessageTypeDefinition<_brevet_v1_ListProgress, _brevet_v1_ListProgress__Output>
      ListSvidsRequest: MessageTypeDefinition<_brevet_v1_ListSvidsRequest, _brevet_v1_ListSvidsRequest__Output>
      ListSvidsResponse: MessageTypeDefinition<_brevet_v1_ListSvidsResponse, _brevet_v1_ListSvidsResponse__Output>
      ListTasksRequest: MessageTypeDefinition<_brevet_v1_ListTasksRequest, _brevet_v1_ListTasksRequest__Output>
      ListTasksResponse: MessageTypeDefinition<_brevet_v1_ListTasksResponse, _brevet_v1_ListTasksResponse__Output>
      ListVerifiersRequest: MessageTypeDefinition<_brevet_v1_ListVerifiersRequest, _brevet_v1_ListVerifiersRequest__Output>
      ListVerifiersResponse: MessageTypeDefinition<_brevet_v1_ListVerifiersResponse, _brevet_v1_ListVerifiersResponse__Output>
      Log: SubtypeConstructor<typeof grpc.Client, _brevet_v1_LogClient> & { service: _brevet_v1_LogDefinition }
      LogEntry: MessageTypeDefinition<_brevet_v1_LogEntry, _brevet_v1_LogEntry__Output>
      NearMatch: MessageTypeDefinition<_brevet_v1_NearMatch, _brevet_v1_NearMatch__Output>
      OpenTaskRequest: MessageTypeDefinition<_brevet_v1_OpenTaskRequest, _brevet_v1_OpenTaskRequest__Output>
      Part: MessageTypeDefinition<_brevet_v1_Part, _brevet_v1_Part__Output>
      Propagation: MessageTypeDefinition<_brevet_v1_Propagation, _brevet_v1_Propagation__Output>
      Residual: MessageTypeDefinition<_brevet_v1_Residual, _brevet_v1_Residual__Output>
      Revocations: SubtypeConstructor<typeof grpc.Client, _brevet_v1_RevocationsClient> & { service: _brevet_v1_RevocationsDefinition }
      RevokeRequest: MessageTypeDefinition<_brevet_v1_RevokeRequest, _brevet_v1_RevokeRequest__Output>
      RevokeResponse: MessageTypeDefinition<_brevet_v1_RevokeResponse, _brevet_v1_RevokeResponse__Output>
      Sidecar: MessageTypeDefinition<_brevet_v1_Sidecar, _brevet_v1_Sidecar__Output>
      SvidRecord: MessageTypeDefinition<_brevet_v1_SvidRecord, _brevet_v1_SvidRecord__Output>
      Task: MessageTypeDefinition<_brevet_v1_Task, _brevet_v1_Task__Output>
      Tasks: SubtypeConstructor<typeof grpc.Client, _brevet_v1_TasksClient> & { service: _brevet_v1_TasksDefinition }
      Trust: SubtypeConstructor<typeof grpc.Client, _brevet_v1_TrustClient> & { service: _brevet_v1_TrustDefinition }
      VerifierProgress: MessageTypeDefinition<_brevet_v1_VerifierProgress, _brevet_v1_VerifierProgress__Output>
      VerifierRecord: MessageTypeDefinition<_brevet_v1_VerifierRecord, _brevet_v1_VerifierRecord__Output>
      WatchBundleRequest: MessageTypeDefinition<_brevet_v1_WatchBundleRequest, _brevet_v1_WatchBundleRequest__Output>
      WatchPropagationRequest: MessageTypeDefinition<_brevet_v1_WatchPropagationRequest, _brevet_v1_WatchPropagationRequest__Output>
      WatchTaskRequest: MessageTypeDefinition<_brevet_v1_WatchTaskRequest, _brevet_v1_WatchTaskRequest__Output>
    }
  }
  google: {
    protobuf: {
      ListValue: MessageTypeDefinition<_google_protobuf_ListValue, _google_protobuf_ListValue__Output>
      NullValue: EnumTypeDefinition
      Struct: MessageTypeDefinition<_google_protobuf_Struct, _google_protobuf_Struct__Output>
      Timestamp: MessageTypeDefinition<_google_protobuf_Timestamp, _google_protobuf_Timestamp__Output>
      Value: MessageTypeDefinition<_google_protobuf_Value, _google_protobuf_Value__Output>
    }
  }
}

