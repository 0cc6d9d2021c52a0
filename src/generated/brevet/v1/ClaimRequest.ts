// Original file: proto/brevet/v1/agent.proto


export interface ClaimRequest {
  'task'?: (string);
  'ticket'?: (string);
  'pid'?: (number);
  'supervised'?: (boolean);
  'sidecar'?: (boolean);
  'auto'?: (boolean);
  'scope'?: (string);
}

export interface ClaimRequest__Output {
  'task': (string);
  'ticket': (string);
  'pid': (number);
  'supervised': (boolean);
  'sidecar': (boolean);
  'auto': (boolean);
  'scope': (string);
}
