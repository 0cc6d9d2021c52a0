// Original file: proto/brevet/v1/admin.proto


export interface GetInfoRequest {
}

export interface GetInfoRequest__Output {
}
