// Original file: proto/brevet/v1/admin.proto

import type { CatalogAgent as _brevet_v1_CatalogAgent, CatalogAgent__Output as _brevet_v1_CatalogAgent__Output } from '../../brevet/v1/CatalogAgent.ts';
import type { EndedTask as _brevet_v1_EndedTask, EndedTask__Output as _brevet_v1_EndedTask__Output } from '../../brevet/v1/EndedTask.ts';

export interface DisableAgentResponse {
  'agent'?: (_brevet_v1_CatalogAgent | null);
  'tasks'?: (_brevet_v1_EndedTask)[];
}

export interface DisableAgentResponse__Output {
  'agent': (_brevet_v1_CatalogAgent__Output | null);
  'tasks': (_brevet_v1_EndedTask__Output)[];
}
