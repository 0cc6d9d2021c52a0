// Original file: proto/brevet/v1/admin.proto


export interface Part {
  'name'?: (string);
  'ready'?: (boolean);
  'detail'?: (string);
}

export interface Part__Output {
  'name': (string);
  'ready': (boolean);
  'detail': (string);
}
