//! Encrypted connections: whom to trust and who we are. The cryptography is what kube's client uses too.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use secrecy::ExposeSecret as _;

use crate::credentials::Identity;
use crate::failure::{Failure, Reason};

/// A configuration that trusts `authorities` (PEM), or the system's and `extra` (PEM) if there are none.
pub(super) fn config(
    authorities: Option<&[u8]>,
    extra: Option<&[u8]>,
    identity: Option<&Identity>,
) -> Result<Arc<ClientConfig>, Failure> {
    let provider = Arc::new(ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match authorities {
        Some(pem) => {
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots(pem)?), Arc::clone(&provider))
                .build()
                .map_err(|error| invalid(format!("ca.crt cannot be used: {error}")))?
        }
        None => {
            let extra = extra.map(|pem| certificates("ca.crt", pem)).transpose()?.unwrap_or_default();
            match rustls_platform_verifier::Verifier::new_with_extra_roots(extra, Arc::clone(&provider)) {
                Ok(system) => Arc::new(system),
                Err(_) => Arc::new(NobodyTrusted(Arc::clone(&provider))),
            }
        }
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::new(Reason::TlsError, error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let config = match identity {
        Some(identity) => {
            let key = PrivateKeyDer::from_pem_slice(identity.key.expose_secret()).map_err(|_| {
                invalid(
                    "tls.key holds no private key in PEM form that can be read without a password".to_owned(),
                )
            })?;
            builder
                .with_client_auth_cert(certificates("tls.crt", &identity.certificates)?, key)
                .map_err(|error| invalid(format!("tls.crt and tls.key cannot be used together: {error}")))?
        }
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

/// Stands in where the system names no authorities, as in an image without any: what is not encrypted goes on, and
/// nothing else does.
#[derive(Debug)]
struct NobodyTrusted(Arc<CryptoProvider>);

impl NobodyTrusted {
    fn refusal<T>() -> Result<T, rustls::Error> {
        Err(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer))
    }
}

impl ServerCertVerifier for NobodyTrusted {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Self::refusal()
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Self::refusal()
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Self::refusal()
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn roots(pem: &[u8]) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca.crt", pem)? {
        roots
            .add(certificate)
            .map_err(|error| invalid(format!("ca.crt holds a bad certificate: {error}")))?;
    }
    Ok(roots)
}

fn certificates(key: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| invalid(format!("{key} is not PEM: {error}")))?;
    if certificates.is_empty() {
        return Err(invalid(format!("{key} holds no certificate in PEM form")));
    }
    Ok(certificates)
}

fn invalid(message: String) -> Failure {
    Failure::new(Reason::SecretInvalid, message)
}

#[cfg(test)]
mod tests {
    use secrecy::SecretSlice;

    use super::*;

    #[test]
    fn what_is_not_pem_is_told_by_its_key() {
        let message = config(Some(b"nonsense"), None, None).unwrap_err().message;
        assert_eq!(message, "ca.crt holds no certificate in PEM form");
        let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(
            config(Some(broken), None, None)
                .unwrap_err()
                .message
                .starts_with("ca.crt holds a bad certificate")
        );
        let identity = Identity { certificates: broken.to_vec(), key: SecretSlice::from(b"x".to_vec()) };
        assert!(
            config(None, None, Some(&identity))
                .unwrap_err()
                .message
                .starts_with("tls.key holds no private key")
        );
    }
}
