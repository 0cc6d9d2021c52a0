// Original file: proto/brevet/v1/tasks.proto


export interface IssueTicketRequest {
  'task'?: (string);
}

export interface IssueTicketRequest__Output {
  'task': (string);
}
