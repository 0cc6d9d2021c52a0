// Original file: proto/envoy/service/discovery/v3/discovery.proto


export interface DeltaDiscoveryResponse {
}

export interface DeltaDiscoveryResponse__Output {
}
