// Original file: proto/workloadapi.proto


export interface JWTBundlesRequest {
}

export interface JWTBundlesRequest__Output {
}
