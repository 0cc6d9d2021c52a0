// Original file: proto/brevet/v1/tasks.proto

import type { Task as _brevet_v1_Task, Task__Output as _brevet_v1_Task__Output } from '../../brevet/v1/Task.ts';

export interface ListTasksResponse {
  'tasks'?: (_brevet_v1_Task)[];
  'nextPageToken'?: (string);
}

export interface ListTasksResponse__Output {
  'tasks': (_brevet_v1_Task__Output)[];
  'nextPageToken': (string);
}
