// Original file: proto/brevet/v1/admin.proto


export interface RevokeRequest {
  'task'?: (string);
  'agent'?: (string);
  'service'?: (string);
  'all'?: (string);
  'reason'?: (string);
  'dryRun'?: (boolean);
  'target'?: "task"|"agent"|"service"|"all";
}

export interface RevokeRequest__Output {
  'task'?: (string);
  'agent'?: (string);
  'service'?: (string);
  'all'?: (string);
  'reason': (string);
  'dryRun': (boolean);
  'target'?: "task"|"agent"|"service"|"all";
}
