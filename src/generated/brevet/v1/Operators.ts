// Original file: proto/brevet/v1/operators.proto

import type * as grpc from '@grpc/grpc-js'
import type { MethodDefinition } from '@grpc/proto-loader'
import type { AddOperatorRequest as _brevet_v1_AddOperatorRequest, AddOperatorRequest__Output as _brevet_v1_AddOperatorRequest__Output } from '../../brevet/v1/AddOperatorRequest.ts';
import type { ListOperatorsRequest as _brevet_v1_ListOperatorsRequest, ListOperatorsRequest__Output as _brevet_v1_ListOperatorsRequest__Output } from '../../brevet/v1/ListOperatorsRequest.ts';
import type { ListOperatorsResponse as _brevet_v1_ListOperatorsResponse, ListOperatorsResponse__Output as _brevet_v1_ListOperatorsResponse__Output } from '../../brevet/v1/ListOperatorsResponse.ts';
import type { Operator as _brevet_v1_Operator, Operator__Output as _brevet_v1_Operator__Output } from '../../brevet/v1/Operator.ts';
import type { OperatorCertificate as _brevet_v1_OperatorCertificate, OperatorCertificate__Output as _brevet_v1_OperatorCertificate__Output } from '../../brevet/v1/OperatorCertificate.ts';
import type { RemoveOperatorRequest as _brevet_v1_RemoveOperatorRequest, RemoveOperatorRequest__Output as _brevet_v1_RemoveOperatorRequest__Output } from '../../brevet/v1/RemoveOperatorRequest.ts';
import type { RenewOperatorRequest as _brevet_v1_RenewOperatorRequest, RenewOperatorRequest__Output as _brevet_v1_RenewOperatorRequest__Output } from '../../brevet/v1/RenewOperatorRequest.ts';

export interface OperatorsClient extends grpc.Client {
  Add(argument: _brevet_v1_AddOperatorRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_OperatorCertificate__Output>): grpc.ClientUnaryCall;
  Add(argument: _brevet_v1_AddOperatorRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_OperatorCertificate__Output>): grpc.ClientUnaryCall;
  Add(argument: _brevet_v1_AddOperatorRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_OperatorCertificate__Output>): grpc.ClientUnaryCall;
  Add(argument: _brevet_v1_AddOperatorRequest, callback: grpc.requestCallback<_brevet_v1_OperatorCertificate__Output>): grpc.ClientUnaryCall;
  add(argument: _brevet_v1_AddOperatorRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_OperatorCertificate__Output>): grpc.ClientUnaryCall;
  add(argument: _brevet_v1_AddOperatorRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_OperatorCertificate__Output>): grpc.ClientUnaryCall;
  add(argument: _brevet_v1_AddOperatorRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_OperatorCertificate__Output>): grpc.ClientUnaryCall;
  add(argument: _brevet_v1_AddOperatorRequest, callback: grpc.requestCallback<_brevet_v1_OperatorCertificate__Output>): grpc.ClientUnaryCall;
  
  List(argument: _brevet_v1_ListOperatorsRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ListOperatorsResponse__Output>): grpc.ClientUnaryCall;
  List(argument: _brevet_v1_ListOperatorsRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_ListOperatorsResponse__Output>): grpc.ClientUnaryCall;
  List(argument: _brevet_v1_ListOperatorsRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ListOperatorsResponse__Output>): grpc.ClientUnaryCall;
  List(argument: _brevet_v1_ListOperatorsRequest, callback: grpc.requestCallback<_brevet_v1_ListOperatorsResponse__Output>): grpc.ClientUnaryCall;
  list(argument: _brevet_v1_ListOperatorsRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ListOperatorsResponse__Output>): grpc.ClientUnaryCall;
  list(argument: _brevet_v1_ListOperatorsRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_ListOperatorsResponse__Output>): grpc.ClientUnaryCall;
  list(argument: _brevet_v1_ListOperatorsRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_ListOperatorsResponse__Output>): grpc.ClientUnaryCall;
  list(argument: _brevet_v1_ListOperatorsRequest, callback: grpc.requestCallback<_brevet_v1_ListOperatorsResponse__Output>): grpc.ClientUnaryCall;
  
  Remove(argument: _brevet_v1_RemoveOperatorRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Operator__Output>): grpc.ClientUnaryCall;
  Remove(argument: _brevet_v1_RemoveOperatorRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_Operator__Output>): grpc.ClientUnaryCall;
  Remove(argument: _brevet_v1_RemoveOperatorRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Operator__Output>): grpc.ClientUnaryCall;
  Remove(argument: _brevet_v1_RemoveOperatorRequest, callback: grpc.requestCallback<_brevet_v1_Operator__Output>): grpc.ClientUnaryCall;
  remove(argument: _brevet_v1_RemoveOperatorRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Operator__Output>): grpc.ClientUnaryCall;
  remove(argument: _brevet_v1_RemoveOperatorRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_Operator__Output>): grpc.ClientUnaryCall;
  remove(argument: _brevet_v1_RemoveOperatorRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_Operator__Output>): grpc.ClientUnaryCall;
  remove(argument: _brevet_v1_RemoveOperatorRequest, callback: grpc.requestCallback<_brevet_v1_Operator__Output>): grpc.ClientUnaryCall;
  
  Renew(argument: _brevet_v1_RenewOperatorRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_OperatorCertificate__Output>): grpc.ClientUnaryCall;
  Renew(argument: _brevet_v1_RenewOperatorRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_OperatorCertificate__Output>): grpc.ClientUnaryCall;
  Renew(argument: _brevet_v1_RenewOperatorRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_OperatorCertificate__Output>): grpc.ClientUnaryCall;
  Renew(argument: _brevet_v1_RenewOperatorRequest, callback: grpc.requestCallback<_brevet_v1_OperatorCertificate__Output>): grpc.ClientUnaryCall;
  renew(argument: _brevet_v1_RenewOperatorRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_OperatorCertificate__Output>): grpc.ClientUnaryCall;
  renew(argument: _brevet_v1_RenewOperatorRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_brevet_v1_OperatorCertificate__Output>): grpc.ClientUnaryCall;
  renew(argument: _brevet_v1_RenewOperatorRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_brevet_v1_OperatorCertificate__Output>): grpc.ClientUnaryCall;
  renew(argument: _brevet_v1_RenewOperatorRequest, callback: grpc.requestCallback<_brevet_v1_OperatorCertificate__Output>): grpc.ClientUnaryCall;
  
}

export interface OperatorsHandlers extends grpc.UntypedServiceImplementation {
  Add: grpc.handleUnaryCall<_brevet_v1_AddOperatorRequest__Output, _brevet_v1_OperatorCertificate>;
  
  List: grpc.handleUnaryCall<_brevet_v1_ListOperatorsRequest__Output, _brevet_v1_ListOperatorsResponse>;
  
  Remove: grpc.handleUnaryCall<_brevet_v1_RemoveOperatorRequest__Output, _brevet_v1_Operator>;
  
  Renew: grpc.handleUnaryCall<_brevet_v1_RenewOperatorRequest__Output, _brevet_v1_OperatorCertificate>;
  
}

export interface OperatorsDefinition extends grpc.ServiceDefinition {
  Add: MethodDefinition<_brevet_v1_AddOperatorRequest, _brevet_v1_OperatorCertificate, _brevet_v1_AddOperatorRequest__Output, _brevet_v1_OperatorCertificate__Output>
  List: MethodDefinition<_brevet_v1_ListOperatorsRequest, _brevet_v1_ListOperatorsResponse, _brevet_v1_ListOperatorsRequest__Output, _brevet_v1_ListOperatorsResponse__Output>
  Remove: MethodDefinition<_brevet_v1_RemoveOperatorRequest, _brevet_v1_Operator, _brevet_v1_RemoveOperatorRequest__Output, _brevet_v1_Operator__Output>
  Renew: MethodDefinition<_brevet_v1_RenewOperatorRequest, _brevet_v1_OperatorCertificate, _brevet_v1_RenewOperatorRequest__Output, _brevet_v1_OperatorCertificate__Output>
}
