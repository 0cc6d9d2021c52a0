// Original file: proto/envoy/service/discovery/v3/discovery.proto


export interface DeltaDiscoveryRequest {
}

export interface DeltaDiscoveryRequest__Output {
}
