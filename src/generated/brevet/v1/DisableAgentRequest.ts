// Original file: proto/brevet/v1/admin.proto


export interface DisableAgentRequest {
  'name'?: (string);
  'reason'?: (string);
}

export interface DisableAgentRequest__Output {
  'name': (string);
  'reason': (string);
}
