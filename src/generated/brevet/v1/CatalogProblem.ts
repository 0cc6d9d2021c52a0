// Original file: proto/brevet/v1/admin.proto


export interface CatalogProblem {
  'file'?: (string);
  'line'?: (number);
  'column'?: (number);
  'message'?: (string);
}

export interface CatalogProblem__Output {
  'file': (string);
  'line': (number);
  'column': (number);
  'message': (string);
}
