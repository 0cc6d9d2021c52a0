// Original file: proto/brevet/v1/tasks.proto


export interface ChangeContextsRequest {
  'agent'?: (string);
  'refs'?: ({[key: string]: string});
  'set'?: ({[key: string]: string});
  'remove'?: (string)[];
  'dryRun'?: (boolean);
}

export interface ChangeContextsRequest__Output {
  'agent': (string);
  'refs': ({[key: string]: string});
  'set': ({[key: string]: string});
  'remove': (string)[];
  'dryRun': (boolean);
}
