// Original file: proto/brevet/v1/admin.proto


export interface BundlePiece {
  'bundle'?: (Buffer | Uint8Array | string);
  'complete'?: (boolean);
}

export interface BundlePiece__Output {
  'bundle': (Buffer);
  'complete': (boolean);
}
