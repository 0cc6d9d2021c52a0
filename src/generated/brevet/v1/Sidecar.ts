// Original file: proto/brevet/v1/tasks.proto


export interface Sidecar {
  'pid'?: (number);
  'uid'?: (number);
  'gid'?: (number);
  'path'?: (string);
}

export interface Sidecar__Output {
  'pid': (number);
  'uid': (number);
  'gid': (number);
  'path': (string);
}
