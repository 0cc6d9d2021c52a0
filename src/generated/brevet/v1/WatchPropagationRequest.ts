// Original file: proto/brevet/v1/admin.proto


export interface WatchPropagationRequest {
  'subjects'?: (string)[];
  'once'?: (boolean);
}

export interface WatchPropagationRequest__Output {
  'subjects': (string)[];
  'once': (boolean);
}
