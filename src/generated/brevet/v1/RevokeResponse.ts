// Original file: proto/brevet/v1/admin.proto

import type { EndedTask as _brevet_v1_EndedTask, EndedTask__Output as _brevet_v1_EndedTask__Output } from '../../brevet/v1/EndedTask.ts';
import type { Long } from '@grpc/proto-loader';

export interface RevokeResponse {
  'tasks'?: (_brevet_v1_EndedTask)[];
  'alreadyEnded'?: (number | string | Long);
  'services'?: (string)[];
  'svids'?: (number | string | Long);
  'sequence'?: (number | string | Long);
  'dryRun'?: (boolean);
  'newTasks'?: (string);
}

export interface RevokeResponse__Output {
  'tasks': (_brevet_v1_EndedTask__Output)[];
  'alreadyEnded': (number);
  'services': (string)[];
  'svids': (number);
  'sequence': (number);
  'dryRun': (boolean);
  'newTasks': (string);
}
