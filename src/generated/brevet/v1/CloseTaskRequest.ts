// Original file: proto/brevet/v1/tasks.proto


export interface CloseTaskRequest {
  'task'?: (string);
}

export interface CloseTaskRequest__Output {
  'task': (string);
}
