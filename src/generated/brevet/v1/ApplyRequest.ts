// Original file: proto/brevet/v1/admin.proto

import type { CatalogFile as _brevet_v1_CatalogFile, CatalogFile__Output as _brevet_v1_CatalogFile__Output } from '../../brevet/v1/CatalogFile.ts';

export interface ApplyRequest {
  'files'?: (_brevet_v1_CatalogFile)[];
  'dryRun'?: (boolean);
}

export interface ApplyRequest__Output {
  'files': (_brevet_v1_CatalogFile__Output)[];
  'dryRun': (boolean);
}
