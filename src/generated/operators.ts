import type * as grpc from '@grpc/grpc-js';
import type { MessageTypeDefinition } from '@grpc/proto-loader';

import type { AddOperatorRequest as _brevet_v1_AddOperatorRequest, AddOperatorRequest__Output as _brevet_v1_AddOperatorRequest__Output } from './brevet/v1/AddOperatorRequest.ts';
import type { ListOperatorsRequest as _brevet_v1_ListOperatorsRequest, ListOperatorsRequest__Output as _brevet_v1_ListOperatorsRequest__Output } from './brevet/v1/ListOperatorsRequest.ts';
import type { ListOperatorsResponse as _brevet_v1_ListOperatorsResponse, ListOperatorsResponse__Output as _brevet_v1_ListOperatorsResponse__Output } from './brevet/v1/ListOperatorsResponse.ts';
import type { Operator as _brevet_v1_Operator, Operator__Output as _brevet_v1_Operator__Output } from './brevet/v1/Operator.ts';
import type { OperatorCertificate as _brevet_v1_OperatorCertificate, OperatorCertificate__Output as _brevet_v1_OperatorCertificate__Output } from './brevet/v1/OperatorCertificate.ts';
import type { OperatorsClient as _brevet_v1_OperatorsClient, OperatorsDefinition as _brevet_v1_OperatorsDefinition } from './brevet/v1/Operators.ts';
import type { RemoveOperatorRequest as _brevet_v1_RemoveOperatorRequest, RemoveOperatorRequest__Output as _brevet_v1_RemoveOperatorRequest__Output } from './brevet/v1/RemoveOperatorRequest.ts';
import type { RenewOperatorRequest as _brevet_v1_RenewOperatorRequest, RenewOperatorRequest__Output as _brevet_v1_RenewOperatorRequest__Output } from './brevet/v1/RenewOperatorRequest.ts';
import type { Timestamp as _google_protobuf_Timestamp, Timestamp__Output as _google_protobuf_Timestamp__Output } from './google/protobuf/Timestamp.ts';

type SubtypeConstructor<Constructor extends new (...args: any) => any, Subtype> = {
  new(...args: ConstructorParameters<Constructor>): Subtype;
};

export interface ProtoGrpcType {
  brevet: {
    v1: {
      AddOperatorRequest: MessageTypeDefinition<_brevet_v1_AddOperatorRequest, _brevet_v1_AddOperatorRequest__Output>
      ListOperatorsRequest: MessageTypeDefinition<_brevet_v1_ListOperatorsRequest, _brevet_v1_ListOperatorsRequest__Output>
      ListOperatorsResponse: MessageTypeDefinition<_brevet_v1_ListOperatorsResponse, _brevet_v1_ListOperatorsResponse__Output>
      Operator: MessageTypeDefinition<_brevet_v1_Operator, _brevet_v1_Operator__Output>
      OperatorCertificate: MessageTypeDefinition<_brevet_v1_OperatorCertificate, _brevet_v1_OperatorCertificate__Output>
      Operators: SubtypeConstructor<typeof grpc.Client, _brevet_v1_OperatorsClient> & { service: _brevet_v1_OperatorsDefinition }
      RemoveOperatorRequest: MessageTypeDefinition<_brevet_v1_RemoveOperatorRequest, _brevet_v1_RemoveOperatorRequest__Output>
      RenewOperatorRequest: MessageTypeDefinition<_brevet_v1_RenewOperatorRequest, _brevet_v1_RenewOperatorRequest__Output>
    }
  }
  google: {
    protobuf: {
      Timestamp: MessageTypeDefinition<_google_protobuf_Timestamp, _google_protobuf_Timestamp__Output>
    }
  }
}

