//! For who looks at servers: what one showed in its handshake is noted also where it is not believed.

use std::sync::{Arc, Mutex, PoisonError};

use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{Resumption, WebPkiServerVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{self, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::{Tls, TlsError, expiry, fault, roots};

/// Authorities to trust. Those of the system are read once and shared: they are many.
#[derive(Clone)]
pub struct Roots(Arc<RootCertStore>);

impl std::fmt::Debug for Roots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Roots({})", self.0.len())
    }
}

impl Roots {
    /// The system's. Reads files.
    pub fn system() -> Result<Self, TlsError> {
        roots(None).map(|roots| Self(Arc::new(roots)))
    }

    /// Those of a PEM text.
    pub fn pem(pem: &[u8]) -> Result<Self, TlsError> {
        roots(Some(pem)).map(|roots| Self(Arc::new(roots)))
    }
}

/// What the servers of the handshakes showed.
#[derive(Debug, Default)]
pub struct Shown(Mutex<Option<i64>>);

impl Shown {
    /// When the first of the certificates expires that the last server showed, in seconds since 1970. Forgets it.
    pub fn earliest_expiry(&self) -> Option<i64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What a connection needs that notes what it is shown. Without `roots` every server is believed. Sessions are not resumed,
/// so that there is something to be shown.
pub fn watching(
    roots: Option<&Roots>,
    identity: Option<&(Vec<u8>, Vec<u8>)>,
    shown: Arc<Shown>,
) -> Result<ClientConfig, TlsError> {
    let provider: Arc<CryptoProvider> = ring::default_provider().into();
    let believed = match roots {
        None => None,
        Some(Roots(roots)) => {
            let verifier = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone()).build();
            Some(verifier.map_err(fault)?)
        }
    };
    let watcher = Watcher { believed, provider: provider.clone(), shown };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(fault)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(watcher));
    let mut configuration = Tls::identified(builder, identity)?;
    configuration.resumption = Resumption::disabled();
    Ok(configuration)
}

#[derive(Debug)]
struct Watcher {
    /// `None`: everybody is believed.
    believed: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
    shown: Arc<Shown>,
}

impl ServerCertVerifier for Watcher {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = std::iter::once(end_entity).chain(intermediates);
        let earliest = chain.filter_map(|certificate| expiry::not_after(certificate)).min();
        *self.shown.0.lock().unwrap_or_else(PoisonError::into_inner) = earliest;
        match &self.believed {
            None => Ok(ServerCertVerified::assertion()),
            Some(inner) => inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
