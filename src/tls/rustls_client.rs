//! TLS with rustls.

use std::error::Error as StdError;
use std::fmt::Display;
use std::io;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use tokio::net::TcpStream;

use super::{Stream, Tls, TlsError};

pub async fn encrypt(
    tls: &Tls,
    host: &str,
    stream: TcpStream,
) -> Result<Box<dyn Stream>, TlsError> {
    let config = client_config(tls)?;
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error| TlsError::Settings(format!("{host}: {error}")))?;
    let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await;
    Ok(Box::new(stream.map_err(|error| handshake_error(&error))?))
}

/// A server without TLS cannot parse the handshake and closes the connection.
fn handshake_error(error: &(dyn StdError + 'static)) -> TlsError {
    let text = innermost(error);
    let mut errors = causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>());
    let closed = errors.any(|error| CLOSED_BY_PEER.contains(&error.kind()));
    match closed || text.contains("corrupt message") {
        true => TlsError::NotSpoken(text),
        false => TlsError::Handshake(text),
    }
}

const CLOSED_BY_PEER: &[io::ErrorKind] = &[
    io::ErrorKind::ConnectionReset,
    io::ErrorKind::ConnectionAborted,
    io::ErrorKind::UnexpectedEof,
    io::ErrorKind::BrokenPipe,
];

fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// The libraries wrap the cause several times.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    causes(error).last().unwrap_or(error).to_string()
}

/// Reads the files and builds the configuration.
fn client_config(tls: &Tls) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous();
    let verifier = Verifier::new(tls, provider)?;
    let builder = builder.with_custom_certificate_verifier(Arc::new(verifier));
    let config = match &tls.client_files {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| invalid(key, error))?;
            builder.with_client_auth_cert(certificates(certificate)?, private)?
        }
    };
    Ok(Arc::new(config))
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let list = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let list = list.map_err(|error| invalid(path, error))?;
    if list.is_empty() {
        return Err(invalid(path, "no certificate found"));
    }
    Ok(list)
}

fn invalid(path: &str, reason: impl Display) -> TlsError {
    TlsError::Settings(format!("{path}: {reason}"))
}

impl From<Error> for TlsError {
    fn from(error: Error) -> Self {
        TlsError::Settings(format!("invalid certificate settings: {error}"))
    }
}

/// Decides whether the server is the right one. The signatures have to be valid in any case.
#[derive(Debug)]
struct Verifier {
    /// With the bundled web roots and those in the file; `None` accepts any certificate.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    /// The certificates in the file.
    pinned: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn new(tls: &Tls, provider: Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let algorithms = provider.signature_verification_algorithms;
        if tls.insecure {
            return Ok(Verifier { authorities: None, pinned: Vec::new(), algorithms });
        }
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let path = tls.ca_file.as_deref();
        let pinned = path.map(certificates).transpose()?.unwrap_or_default();
        for certificate in &pinned {
            let added = roots.add(certificate.clone());
            added.map_err(|error| invalid(path.unwrap_or_default(), error))?;
        }
        let authorities = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        let authorities = authorities.build();
        let authorities = authorities.map_err(|error| TlsError::Settings(error.to_string()))?;
        Ok(Verifier { authorities: Some(authorities), pinned, algorithms })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.authorities {
            // Only its owner has the key of this very certificate, whatever name and dates it has.
            Some(_) if self.pinned.contains(end_entity) => Ok(ServerCertVerified::assertion()),
            Some(authorities) => authorities.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
            None => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_names_the_file() {
        let missing = Tls { ca_file: Some("/nonexistent/ca.pem".into()), ..Tls::default() };
        let error = client_config(&missing).expect_err("no such file").to_string();
        assert!(error.starts_with("/nonexistent/ca.pem: "), "{error}");

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

    #[test]
    fn closed_connection_means_that_tls_is_not_spoken() {
        let is_closed =
            |kind| matches!(handshake_error(&io::Error::from(kind)), TlsError::NotSpoken(_));
        assert!(is_closed(io::ErrorKind::ConnectionReset));
        assert!(!is_closed(io::ErrorKind::InvalidData));
    }
}
