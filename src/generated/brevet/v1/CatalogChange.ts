// Original file: proto/brevet/v1/admin.proto


export interface CatalogChange {
  'action'?: (string);
  'kind'?: (string);
  'name'?: (string);
  'fields'?: (string)[];
}

export interface CatalogChange__Output {
  'action': (string);
  'kind': (string);
  'name': (string);
  'fields': (string)[];
}
