// Original file: proto/brevet/v1/admin.proto


export interface WatchBundleRequest {
}

export interface WatchBundleRequest__Output {
}
