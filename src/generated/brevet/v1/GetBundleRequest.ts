// Original file: proto/brevet/v1/admin.proto


export interface GetBundleRequest {
}

export interface GetBundleRequest__Output {
}
