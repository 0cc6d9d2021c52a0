// Original file: proto/brevet/v1/agent.proto

import type { Task as _brevet_v1_Task, Task__Output as _brevet_v1_Task__Output } from '../../brevet/v1/Task.ts';

export interface StatusResponse {
  'tasks'?: (_brevet_v1_Task)[];
  'services'?: (string)[];
}

export interface StatusResponse__Output {
  'tasks': (_brevet_v1_Task__Output)[];
  'services': (string)[];
}
