// Original file: proto/brevet/v1/admin.proto


export interface NearMatch {
  'kind'?: (string);
  'name'?: (string);
  'matches'?: (boolean);
  'firstMismatch'?: (string);
}

export interface NearMatch__Output {
  'kind': (string);
  'name': (string);
  'matches': (boolean);
  'firstMismatch': (string);
}
