// Original file: proto/brevet/v1/agent.proto


export interface StatusRequest {
}

export interface StatusRequest__Output {
}
