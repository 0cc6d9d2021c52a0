// Original file: proto/brevet/v1/tasks.proto


export interface ListTasksRequest {
  'agent'?: (string);
  'state'?: (string);
  'refs'?: ({[key: string]: string});
  'pageSize'?: (number);
  'pageToken'?: (string);
}

export interface ListTasksRequest__Output {
  'agent': (string);
  'state': (string);
  'refs': ({[key: string]: string});
  'pageSize': (number);
  'pageToken': (string);
}
