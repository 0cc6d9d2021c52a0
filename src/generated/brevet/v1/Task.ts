// Original file: proto/brevet/v1/tasks.proto

import type { Timestamp as _google_protobuf_Timestamp, Timestamp__Output as _google_protobuf_Timestamp__Output } from '../../google/protobuf/Timestamp.ts';
import type { Instance as _brevet_v1_Instance, Instance__Output as _brevet_v1_Instance__Output } from '../../brevet/v1/Instance.ts';
import type { Long } from '@grpc/proto-loader';

export interface Task {
  'id'?: (string);
  'agent'?: (string);
  'spiffeId'?: (string);
  'state'?: (string);
  'epoch'?: (number | string | Long);
  'context'?: ({[key: string]: string});
  'contextDigest'?: (string);
  'purpose'?: (string);
  'onBehalfOf'?: (string);
  'refs'?: ({[key: string]: string});
  'bind'?: (string);
  'scope'?: (string);
  'openedAt'?: (_google_protobuf_Timestamp | null);
  'expiresAt'?: (_google_protobuf_Timestamp | null);
  'claimedAt'?: (_google_protobuf_Timestamp | null);
  'endedAt'?: (_google_protobuf_Timestamp | null);
  'endReason'?: (string);
  'openedBy'?: (string);
  'endedBy'?: (string);
  'instance'?: (_brevet_v1_Instance | null);
  'ticket'?: (string);
  'ticketExpiresAt'?: (_google_protobuf_Timestamp | null);
  'endpoint'?: (string);
  'owner'?: (string);
}

export interface Task__Output {
  'id': (string);
  'agent': (string);
  'spiffeId': (string);
  'state': (string);
  'epoch': (number);
  'context': ({[key: string]: string});
  'contextDigest': (string);
  'purpose': (string);
  'onBehalfOf': (string);
  'refs': ({[key: string]: string});
  'bind': (string);
  'scope': (string);
  'openedAt': (_google_protobuf_Timestamp__Output | null);
  'expiresAt': (_google_protobuf_Timestamp__Output | null);
  'claimedAt': (_google_protobuf_Timestamp__Output | null);
  'endedAt': (_google_protobuf_Timestamp__Output | null);
  'endReason': (string);
  'openedBy': (string);
  'endedBy': (string);
  'instance': (_brevet_v1_Instance__Output | null);
  'ticket': (string);
  'ticketExpiresAt': (_google_protobuf_Timestamp__Output | null);
  'endpoint': (string);
  'owner': (string);
}
