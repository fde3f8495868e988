//! TLS of whoever connects, by rustls with ring: whom it trusts, as whom it comes, and what to do about a fault.
//!
//! It reads no files of ours: certificates and keys are handed over as PEM texts.

pub mod expiry;
mod watch;

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use tokio_rustls::rustls::client::WantsClientCert;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, AlertDescription, CertificateError, ClientConfig, ConfigBuilder, RootCertStore};

pub use watch::{Roots, Shown, watching};

/// Certificates, as PEM texts.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// The authorities to trust; `None`: those of the system.
    pub ca: Option<Vec<u8>>,
    /// Our own certificate, followed by its chain, and the private key that goes with it.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// Whoever answers is taken for the one that was meant.
    pub unverified: bool,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("ca", &self.ca.as_ref().map(Vec::len))
            .field("identity", &self.identity.as_ref().map(|_| "[redacted]"))
            .field("unverified", &self.unverified)
            .finish()
    }
}

/// Certificates or a key that can't be used: a sentence that names the key of the configuration, and quotes no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(String);

impl Tls {
    /// What a connection needs. Without `ca`, the system's certificates are read.
    pub fn configuration(&self) -> Result<ClientConfig, TlsError> {
        if self.unverified {
            return watching(None, self.identity.as_ref(), Arc::default());
        }
        let builder = ClientConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(fault)?
            .with_root_certificates(roots(self.ca.as_deref())?);
        Self::identified(builder, self.identity.as_ref())
    }

    /// Says as whom the connection comes.
    fn identified(
        builder: ConfigBuilder<ClientConfig, WantsClientCert>,
        identity: Option<&(Vec<u8>, Vec<u8>)>,
    ) -> Result<ClientConfig, TlsError> {
        let Some((chain, key)) = identity else { return Ok(builder.with_no_client_auth()) };
        let chain = certificates(chain, "cert_file")?;
        // The parser's own words are left out: they might quote the key.
        let key =
            PrivateKeyDer::from_pem_slice(key).map_err(|_| fault("`key_file` holds no private key in PEM form"))?;
        builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| fault(format_args!("`key_file` and `cert_file` do not go together ({error})")))
    }
}

fn roots(ca: Option<&[u8]>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    if let Some(pem) = ca {
        for certificate in certificates(pem, "ca_file")? {
            roots
                .add(certificate)
                .map_err(|error| fault(format_args!("`ca_file` holds a certificate that can't be used ({error})")))?;
        }
        return Ok(roots);
    }
    // Among a system's many certificates single ones may be out of use; that is no fault as long as others are there.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(fault("the system has no certificates of authorities; install them or name a `ca_file`"));
    }
    Ok(roots)
}

fn certificates(pem: &[u8], name: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| fault(format_args!("`{name}` is not in PEM form ({error})")))?;
    if certificates.is_empty() {
        return Err(fault(format_args!("`{name}` holds no certificate in PEM form")));
    }
    Ok(certificates)
}

fn fault(sentence: impl fmt::Display) -> TlsError {
    TlsError(sentence.to_string())
}

/// What to do about a fault of TLS. `peer` is what the other end is called, such as `broker`.
pub fn remedy(fault: Option<&(dyn Error + 'static)>, peer: &str) -> String {
    use AlertDescription as Alert;
    use CertificateError as Certificate;

    match fault.and_then(|fault| fault.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(fault)) => match fault {
            Certificate::Expired | Certificate::ExpiredContext { .. } => {
                format!("the {peer}'s certificate has to be renewed")
            }
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => "check the clocks of both".to_owned(),
            Certificate::UnknownIssuer => {
                format!("`ca_file` must hold the authority that signed the {peer}'s certificate")
            }
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
                format!("the {peer}'s certificate must name the host that `url` names")
            }
            _ => format!("check the {peer}'s certificate and `ca_file`"),
        },
        Some(rustls::Error::AlertReceived(alert)) => match alert {
            Alert::CertificateExpired => "our certificate in `cert_file` has to be renewed".to_owned(),
            Alert::UnknownCA | Alert::BadCertificate | Alert::CertificateUnknown | Alert::CertificateRevoked => {
                format!("the {peer} does not accept our certificate; check `cert_file` and what the {peer} trusts")
            }
            Alert::CertificateRequired | Alert::HandshakeFailure => {
                format!("if the {peer} asks for a client certificate, name one by `cert_file` and `key_file`")
            }
            _ => format!("check `ca_file`, `cert_file`, `key_file` and the {peer}'s log"),
        },
        _ => "check `ca_file`, `cert_file`, `key_file` and the host name".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_name_the_key_and_quote_nothing() {
        let said = |tls: Tls| tls.configuration().unwrap_err().to_string();
        assert_eq!(
            said(Tls { ca: Some(b"x".to_vec()), ..Tls::default() }),
            "`ca_file` holds no certificate in PEM form"
        );
        let tls = Tls { identity: Some((b"hush".to_vec(), b"hush".to_vec())), ..Tls::default() };
        assert!(!format!("{tls:?}").contains("hush"), "{tls:?}");
        assert!(!said(tls).contains("hush"));
    }

    #[test]
    fn remedies_name_the_peer() {
        let fault = rustls::Error::InvalidCertificate(CertificateError::Expired);
        assert_eq!(remedy(Some(&fault), "broker"), "the broker's certificate has to be renewed");
        assert!(remedy(None, "broker").contains("host name"));
    }
}
