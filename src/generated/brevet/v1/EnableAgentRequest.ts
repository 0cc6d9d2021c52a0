// Original file: proto/brevet/v1/admin.proto


export interface EnableAgentRequest {
  'name'?: (string);
}

export interface EnableAgentRequest__Output {
  'name': (string);
}
