// Original file: proto/brevet/v1/agent.proto

import type { Task as _brevet_v1_Task, Task__Output as _brevet_v1_Task__Output } from '../../brevet/v1/Task.ts';

export interface ClaimResponse {
  'task'?: (_brevet_v1_Task | null);
  'endpoint'?: (string);
}

export interface ClaimResponse__Output {
  'task': (_brevet_v1_Task__Output | null);
  'endpoint': (string);
}
