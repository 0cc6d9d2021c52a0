// Original file: proto/brevet/v1/tasks.proto


export interface AbortTaskRequest {
  'task'?: (string);
  'reason'?: (string);
}

export interface AbortTaskRequest__Output {
  'task': (string);
  'reason': (string);
}
