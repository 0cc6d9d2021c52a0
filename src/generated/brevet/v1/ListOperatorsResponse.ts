// Original file: proto/brevet/v1/operators.proto

import type { Operator as _brevet_v1_Operator, Operator__Output as _brevet_v1_Operator__Output } from '../../brevet/v1/Operator.ts';

export interface ListOperatorsResponse {
  'operators'?: (_brevet_v1_Operator)[];
}

export interface ListOperatorsResponse__Output {
  'operators': (_brevet_v1_Operator__Output)[];
}
