// Original file: proto/brevet/v1/tasks.proto


export interface Instance {
  'id'?: (string);
  'pid'?: (number);
  'uid'?: (number);
  'gid'?: (number);
  'path'?: (string);
  'cgroup'?: (string);
}

export interface Instance__Output {
  'id': (string);
  'pid': (number);
  'uid': (number);
  'gid': (number);
  'path': (string);
  'cgroup': (string);
}
