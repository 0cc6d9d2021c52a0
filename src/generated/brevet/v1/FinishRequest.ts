// Original file: proto/brevet/v1/agent.proto


export interface FinishRequest {
  'task'?: (string);
  'success'?: (boolean);
  'reason'?: (string);
}

export interface FinishRequest__Output {
  'task': (string);
  'success': (boolean);
  'reason': (string);
}
