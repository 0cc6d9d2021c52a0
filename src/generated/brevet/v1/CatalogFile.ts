// Original file: proto/brevet/v1/admin.proto


export interface CatalogFile {
  'name'?: (string);
  'text'?: (string);
}

export interface CatalogFile__Output {
  'name': (string);
  'text': (string);
}
