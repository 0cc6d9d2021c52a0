// Original file: proto/brevet/v1/admin.proto

import type { SvidRecord as _brevet_v1_SvidRecord, SvidRecord__Output as _brevet_v1_SvidRecord__Output } from '../../brevet/v1/SvidRecord.ts';

export interface ListSvidsResponse {
  'svids'?: (_brevet_v1_SvidRecord)[];
  'nextPageToken'?: (string);
}

export interface ListSvidsResponse__Output {
  'svids': (_brevet_v1_SvidRecord__Output)[];
  'nextPageToken': (string);
}
