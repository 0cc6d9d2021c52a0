// Original file: proto/brevet/v1/tasks.proto


export interface ChangeContextRequest {
  'task'?: (string);
  'set'?: ({[key: string]: string});
  'remove'?: (string)[];
  'dryRun'?: (boolean);
}

export interface ChangeContextRequest__Output {
  'task': (string);
  'set': ({[key: string]: string});
  'remove': (string)[];
  'dryRun': (boolean);
}
