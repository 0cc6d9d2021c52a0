// Original file: proto/brevet/v1/operators.proto


export interface ListOperatorsRequest {
}

export interface ListOperatorsRequest__Output {
}
