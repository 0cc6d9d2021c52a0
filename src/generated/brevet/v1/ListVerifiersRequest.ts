// Original file: proto/brevet/v1/admin.proto


export interface ListVerifiersRequest {
}

export interface ListVerifiersRequest__Output {
}
