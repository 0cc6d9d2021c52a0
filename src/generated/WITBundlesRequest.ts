// Original file: proto/workloadapi.proto


export interface WITBundlesRequest {
}

export interface WITBundlesRequest__Output {
}
