// Original file: proto/brevet/v1/operators.proto


export interface RenewOperatorRequest {
  'publicKey'?: (Buffer | Uint8Array | string);
}

export interface RenewOperatorRequest__Output {
  'publicKey': (Buffer);
}
