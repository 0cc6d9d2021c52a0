// Original file: proto/brevet/v1/admin.proto

import type { CatalogAgent as _brevet_v1_CatalogAgent, CatalogAgent__Output as _brevet_v1_CatalogAgent__Output } from '../../brevet/v1/CatalogAgent.ts';

export interface ListAgentsResponse {
  'agents'?: (_brevet_v1_CatalogAgent)[];
}

export interface ListAgentsResponse__Output {
  'agents': (_brevet_v1_CatalogAgent__Output)[];
}
