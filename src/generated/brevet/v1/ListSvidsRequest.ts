// Original file: proto/brevet/v1/admin.proto


export interface ListSvidsRequest {
  'task'?: (string);
  'live'?: (boolean);
  'pageSize'?: (number);
  'pageToken'?: (string);
}

export interface ListSvidsRequest__Output {
  'task': (string);
  'live': (boolean);
  'pageSize': (number);
  'pageToken': (string);
}
