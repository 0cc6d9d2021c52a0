// Original file: proto/brevet/v1/admin.proto


export interface ExplainRequest {
  'pid'?: (number);
  'last'?: (boolean);
  'attempt'?: (string);
  'about'?: "pid"|"last"|"attempt";
}

export interface ExplainRequest__Output {
  'pid'?: (number);
  'last'?: (boolean);
  'attempt'?: (string);
  'about'?: "pid"|"last"|"attempt";
}
