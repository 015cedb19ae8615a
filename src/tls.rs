//! TLS for outgoing connections: which certificates are trusted and which one is presented.
//!
//! A server is trusted if an authority vouches for it, or if it presents exactly a certificate of
//! the configured file: many servers at home have a self-signed one, which is no authority.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

#[cfg(feature = "tls")]
mod rustls_client;

/// The files are read at each connection, so a renewed certificate needs no restart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// PEM file with roots in addition to the bundled ones.
    pub ca_file: Option<String>,
    /// PEM files with the client certificate and its key.
    pub client_files: Option<(String, String)>,
    /// Accept any certificate of the server.
    pub insecure: bool,
}

/// Why there is no encrypted connection.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate file, the name of the server, or the build.
    #[error("{0}")]
    Settings(String),
    #[error("{0}")]
    Handshake(String),
    /// The other side cannot parse the handshake, or closed the connection.
    #[error("{0}")]
    NotSpoken(String),
}

/// A connection with or without encryption.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Encrypts a connection, unless `tls` is `None`. `host` is the name in the certificate.
#[cfg(feature = "tls")]
pub async fn encrypt(
    tls: Option<&Tls>,
    host: &str,
    stream: TcpStream,
) -> Result<Box<dyn Stream>, TlsError> {
    match tls {
        None => Ok(Box::new(stream)),
        Some(tls) => rustls_client::encrypt(tls, host, stream).await,
    }
}

#[cfg(not(feature = "tls"))]
pub async fn encrypt(
    tls: Option<&Tls>,
    _host: &str,
    stream: TcpStream,
) -> Result<Box<dyn Stream>, TlsError> {
    match tls {
        None => Ok(Box::new(stream)),
        Some(_) => Err(TlsError::Settings("this program was built without TLS".to_owned())),
    }
}
