//! TLS: which certificates are trusted and which one is presented.
//!
//! The MQTT library could build this configuration itself, but reads PEM files with an unmaintained
//! crate and installs no crypto provider.

use std::fmt::Display;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::Tls;
use super::error::MqttError;

/// Reads the files and builds the configuration.
pub fn client_config(tls: &Tls) -> Result<Arc<ClientConfig>, MqttError> {
    let provider = ring::default_provider();
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?;
    let builder = if tls.insecure {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(algorithms)))
    } else {
        builder.with_root_certificates(roots(tls.ca_file.as_deref())?)
    };
    let config = match &tls.client_files {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| invalid(key, error))?;
            builder.with_client_auth_cert(certificates(certificate)?, private)?
        }
    };
    Ok(Arc::new(config))
}

/// The bundled web roots and those in the file.
fn roots(ca_file: Option<&str>) -> Result<RootCertStore, MqttError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = ca_file {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|error| invalid(path, error))?;
        }
    }
    Ok(roots)
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, MqttError> {
    let list = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let list = list.map_err(|error| invalid(path, error))?;
    if list.is_empty() {
        return Err(invalid(path, "no certificate found"));
    }
    Ok(list)
}

fn invalid(path: &str, reason: impl Display) -> MqttError {
    MqttError::Tls(format!("{path}: {reason}"))
}

impl From<Error> for MqttError {
    fn from(error: Error) -> Self {
        MqttError::Tls(format!("invalid certificate settings: {error}"))
    }
}

/// Accepts any certificate (`MQTT_TLS_INSECURE`); the signatures still have to be valid.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_names_the_file() {
        let missing = Tls { ca_file: Some("/nonexistent/ca.pem".into()), ..Tls::default() };
        let error = client_config(&missing).expect_err("no such file").to_string();
        assert!(error.starts_with("TLS: /nonexistent/ca.pem: "), "{error}");

        let not_pem = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let empty = Tls { ca_file: Some(not_pem.into()), ..Tls::default() };
        let error = client_config(&empty).expect_err("no PEM").to_string();
        assert!(error.contains("no certificate"), "{error}");

        let files = Some((not_pem.to_owned(), not_pem.to_owned()));
        assert!(client_config(&Tls { client_files: files, ..Tls::default() }).is_err());
    }

    #[test]
    fn bundled_roots_need_no_file() {
        assert!(client_config(&Tls::default()).is_ok());
        assert!(client_config(&Tls { insecure: true, ..Tls::default() }).is_ok());
    }
}
