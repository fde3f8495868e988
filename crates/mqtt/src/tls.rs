//! TLS by rustls with ring, set up once, so that faulty certificates are found at the start.

use std::sync::Arc;

use rumqttc::tokio_rustls::rustls::pki_types::pem::PemObject;
use rumqttc::tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rumqttc::tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};
use rumqttc::{TlsConfiguration, Transport};

use crate::{OptionsError, Tls};

/// The transport for `mqtts`.
pub(crate) fn transport(tls: &Tls) -> Result<Transport, OptionsError> {
    let configuration = match (&tls.ca, &tls.identity) {
        (Some(ca), identity) => TlsConfiguration::Rustls(Arc::new(client_config(ca, identity.as_ref())?)),
        (None, None) => TlsConfiguration::try_default_rustls().map_err(|error| {
            fault(format_args!("the system's certificates can't be read ({error}); name a `ca_file`"))
        })?,
        (None, Some(_)) => {
            return Err(fault("a client certificate (`cert_file`, `key_file`) needs a `ca_file` beside it"));
        }
    };
    Ok(Transport::tls_with_config(configuration))
}

fn client_config(ca: &[u8], identity: Option<&(Vec<u8>, Vec<u8>)>) -> Result<ClientConfig, OptionsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca, "ca_file")? {
        roots
            .add(certificate)
            .map_err(|error| fault(format_args!("`ca_file` holds a certificate that can't be used ({error})")))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(fault)?
        .with_root_certificates(roots);
    let Some((chain, key)) = identity else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates(chain, "cert_file")?;
    // The parser's own words are left out: they might quote the key.
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| fault("`key_file` holds no private key in PEM form"))?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| fault(format_args!("`key_file` and `cert_file` do not go together ({error})")))
}

fn certificates(pem: &[u8], name: &str) -> Result<Vec<CertificateDer<'static>>, OptionsError> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| fault(format_args!("`{name}` is not in PEM form ({error})")))?;
    if certificates.is_empty() {
        return Err(fault(format_args!("`{name}` holds no certificate in PEM form")));
    }
    Ok(certificates)
}

fn fault(sentence: impl std::fmt::Display) -> OptionsError {
    OptionsError::Tls(sentence.to_string())
}
