// Original file: proto/brevet/v1/tasks.proto


export interface WatchTaskRequest {
  'task'?: (string);
}

export interface WatchTaskRequest__Output {
  'task': (string);
}
