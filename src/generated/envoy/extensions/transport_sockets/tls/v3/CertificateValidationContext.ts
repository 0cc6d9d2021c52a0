// Original file: proto/envoy/extensions/transport_sockets/tls/v3/secret.proto

import type { DataSource as _envoy_config_core_v3_DataSource, DataSource__Output as _envoy_config_core_v3_DataSource__Output } from '../../../../../envoy/config/core/v3/DataSource.ts';

export interface CertificateValidationContext {
  'trustedCa'?: (_envoy_config_core_v3_DataSource | null);
  'crl'?: (_envoy_config_core_v3_DataSource | null);
}

export interface CertificateValidationContext__Output {
  'trustedCa': (_envoy_config_core_v3_DataSource__Output | null);
  'crl': (_envoy_config_core_v3_DataSource__Output | null);
}
