// Original file: proto/brevet/v1/tasks.proto


export interface GetTaskRequest {
  'task'?: (string);
}

export interface GetTaskRequest__Output {
  'task': (string);
}
