// Original file: proto/brevet/v1/admin.proto

import type * as grpc from '@grpc/grpc-js'
import type { MethodDefinition } from '@grpc/proto-loader'
import type { ExplainRequest as _brevet_v1_ExplainRequest, ExplainRequest__Output as _brevet_v1_ExplainRequest__Output } from '../../brevet/v1/ExplainRequest.ts';
import type { Explanation as _brevet_v1_Explanation, Explanation__Output as _brevet_v1_Explanation__Output } from '../../brevet/v1/Explanation.ts';
import type { ListAttestationsRequest as _brevet_v1_ListAttestationsRequest, ListAttestationsRequest__Output as _brevet_v1_ListAttestationsRequest__Output } from '../../brevet/v1/ListAttestationsRequest.ts';
import type { ListAttestationsResponse as _brevet_v1_ListAttestationsResponse, ListAttestationsResponse__Output as _brevet_v1_ListAttestationsResponse__Output } from '../../brevet/v1/ListAttestationsResponse.ts';
import type { ListEntriesRequest as _brevet_v1_ListEntriesRequest, ListEntriesRequest__Output as _brevet_v1_ListEntriesRequest__Output } from '../../brevet/v1/ListEntriesRequest.ts';
import type { ListEntriesResponse as _brevet_v1_ListEntriesResponse, ListEntriesResponse__Output as _brevet_v1_ListEntriesResponse__Output } from '../../brevet/v1/ListEntriesResponse.ts';
import type { ListSvidsRequest as _brevet_v1_ListSvidsRequest, ListSvidsRequest__Output as _brevet_v1_ListSvidsRequest__Output } from '../../brevet/v1/ListSvidsRequest.ts';
import type { ListSvidsResponse as _brevet_v1_ListSvidsResponse, ListSvidsResponse__Output as _brevet_v1_ListSvidsResponse__Output } from '../../brevet/v1/ListSvidsResponse.ts';

export interface LogClient extends grpc.Client {
  Explain(argument: _brevet_v1_ExplainRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Explanation__Output>): grpc.ClientUnaryCall;
  Explain(argument: _brevet_v1_ExplainRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_Explanation__Output>): grpc.ClientUnaryCall;
  Explain(argument: _brevet_v1_ExplainRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Explanation__Output>): grpc.ClientUnaryCall;
  Explain(argument: _brevet_v1_ExplainRequest, callback: grpc.requestCallback<_brevet_v1_Explanation__Output>): grpc.ClientUnaryCall;
  explain(argument: _brevet_v1_ExplainRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Explanation__Output>): grpc.ClientUnaryCall;
  explain(argument: _brevet_v1_ExplainRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_Explanation__Output>): grpc.ClientUnaryCall;
  explain(argument: _brevet_v1_ExplainRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Explanation__Output>): grpc.ClientUnaryCall;
  explain(argument: _brevet_v1_ExplainRequest, callback: grpc.requestCallback<_brevet_v1_Explanation__Output>): grpc.ClientUnaryCall;
  
  ListAttestations(argument: _brevet_v1_ListAttestationsRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ListAttestationsResponse__Output>): grpc.ClientUnaryCall;
  ListAttestations(argument: _brevet_v1_ListAttestationsRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_ListAttestationsResponse__Output>): grpc.ClientUnaryCall;
  ListAttestations(argument: _brevet_v1_ListAttestationsRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ListAttestationsResponse__Output>): grpc.ClientUnaryCall;
  ListAttestations(argument: _brevet_v1_ListAttestationsRequest, callback: grpc.requestCallback<_brevet_v1_ListAttestationsResponse__Output>): grpc.ClientUnaryCall;
  listAttestations(argument: _brevet_v1_ListAttestationsRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ListAttestationsResponse__Output>): grpc.ClientUnaryCall;
  listAttestations(argument: _brevet_v1_ListAttestationsRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_ListAttestationsResponse__Output>): grpc.ClientUnaryCall;
  listAttestations(argument: _brevet_v1_ListAttestationsRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ListAttestationsResponse__Output>): grpc.ClientUnaryCall;
  listAttestations(argument: _brevet_v1_ListAttestationsRequest, callback: grpc.requestCallback<_brevet_v1_ListAttestationsResponse__Output>): grpc.ClientUnaryCall;
  
  ListEntries(argument: _brevet_v1_ListEntriesRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ListEntriesResponse__Output>): grpc.ClientUnaryCall;
  ListEntries(argument: _brevet_v1_ListEntriesRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_ListEntriesResponse__Output>): grpc.ClientUnaryCall;
  ListEntries(argument: _brevet_v1_ListEntriesRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ListEntriesResponse__Output>): grpc.ClientUnaryCall;
  ListEntries(argument: _brevet_v1_ListEntriesRequest, callback: grpc.requestCallback<_brevet_v1_ListEntriesResponse__Output>): grpc.ClientUnaryCall;
  listEntries(argument: _brevet_v1_ListEntriesRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ListEntriesResponse__Output>): grpc.ClientUnaryCall;
  listEntries(argument: _brevet_v1_ListEntriesRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_ListEntriesResponse__Output>): grpc.ClientUnaryCall;
  listEntries(argument: _brevet_v1_ListEntriesRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ListEntriesResponse__Output>): grpc.ClientUnaryCall;
  listEntries(argument: _brevet_v1_ListEntriesRequest, callback: grpc.requestCallback<_brevet_v1_ListEntriesResponse__Output>): grpc.ClientUnaryCall;
  
  ListSvids(argument: _brevet_v1_ListSvidsRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ListSvidsResponse__Output>): grpc.ClientUnaryCall;
  ListSvids(argument: _brevet_v1_ListSvidsRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_ListSvidsResponse__Output>): grpc.ClientUnaryCall;
  ListSvids(argument: _brevet_v1_ListSvidsRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ListSvidsResponse__Output>): grpc.ClientUnaryCall;
  ListSvids(argument: _brevet_v1_ListSvidsRequest, callback: grpc.requestCallback<_brevet_v1_ListSvidsResponse__Output>): grpc.ClientUnaryCall;
  listSvids(argument: _brevet_v1_ListSvidsRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ListSvidsResponse__Output>): grpc.ClientUnaryCall;
  listSvids(argument: _brevet_v1_ListSvidsRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_ListSvidsResponse__Output>): grpc.ClientUnaryCall;
  listSvids(argument: _brevet_v1_ListSvidsRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ListSvidsResponse__Output>): grpc.ClientUnaryCall;
  listSvids(argument: _brevet_v1_ListSvidsRequest, callback: grpc.requestCallback<_brevet_v1_ListSvidsResponse__Output>): grpc.ClientUnaryCall;
  
}

export interface LogHandlers extends grpc.UntypedServiceImplementation {
  Explain: grpc.handleUnaryCall<_brevet_v1_ExplainRequest__Output, _brevet_v1_Explanation>;
  
  ListAttestations: grpc.handleUnaryCall<_brevet_v1_ListAttestationsRequest__Output, _brevet_v1_ListAttestationsResponse>;
  
  ListEntries: grpc.handleUnaryCall<_brevet_v1_ListEntriesRequest__Output, _brevet_v1_ListEntriesResponse>;
  
  ListSvids: grpc.handleUnaryCall<_brevet_v1_ListSvidsRequest__Output, _brevet_v1_ListSvidsResponse>;
  
}

export interface LogDefinition extends grpc.ServiceDefinition {
  Explain: MethodDefinition<_brevet_v1_ExplainRequest, _brevet_v1_Explanation, _brevet_v1_ExplainRequest__Output, _brevet_v1_Explanation__Output>
  ListAttestations: MethodDefinition<_brevet_v1_ListAttestationsRequest, _brevet_v1_ListAttestationsResponse, _brevet_v1_ListAttestationsRequest__Output, _brevet_v1_ListAttestationsResponse__Output>
  ListEntries: MethodDefinition<_brevet_v1_ListEntriesRequest, _brevet_v1_ListEntriesResponse, _brevet_v1_ListEntriesRequest__Output, _brevet_v1_ListEntriesResponse__Output>
  ListSvids: MethodDefinition<_brevet_v1_ListSvidsRequest, _brevet_v1_ListSvidsResponse, _brevet_v1_ListSvidsRequest__Output, _brevet_v1_ListSvidsResponse__Output>
}
