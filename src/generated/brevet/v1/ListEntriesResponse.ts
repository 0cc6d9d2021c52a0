// Original file: proto/brevet/v1/admin.proto

import type { LogEntry as _brevet_v1_LogEntry, LogEntry__Output as _brevet_v1_LogEntry__Output } from '../../brevet/v1/LogEntry.ts';

export interface ListEntriesResponse {
  'entries'?: (_brevet_v1_LogEntry)[];
  'nextPageToken'?: (string);
}

export interface ListEntriesResponse__Output {
  'entries': (_brevet_v1_LogEntry__Output)[];
  'nextPageToken': (string);
}
