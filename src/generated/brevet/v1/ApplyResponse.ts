// Original file: proto/brevet/v1/admin.proto

import type { CatalogChange as _brevet_v1_CatalogChange, CatalogChange__Output as _brevet_v1_CatalogChange__Output } from '../../brevet/v1/CatalogChange.ts';
import type { CatalogProblem as _brevet_v1_CatalogProblem, CatalogProblem__Output as _brevet_v1_CatalogProblem__Output } from '../../brevet/v1/CatalogProblem.ts';

export interface ApplyResponse {
  'changes'?: (_brevet_v1_CatalogChange)[];
  'warnings'?: (_brevet_v1_CatalogProblem)[];
  'digest'?: (string);
  'dryRun'?: (boolean);
}

export interface ApplyResponse__Output {
  'changes': (_brevet_v1_CatalogChange__Output)[];
  'warnings': (_brevet_v1_CatalogProblem__Output)[];
  'digest': (string);
  'dryRun': (boolean);
}
