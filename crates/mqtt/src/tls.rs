//! TLS by rustls with ring, set up once, so that faulty certificates are found at the start.

use std::sync::Arc;

use rumqttc::tokio_rustls::rustls::pki_types::pem::PemObject;
use rumqttc::tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rumqttc::tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

use crate::{OptionsError, Tls};

/// What a connection by `mqtts` needs.
pub(crate) fn configuration(tls: &Tls) -> Result<Arc<ClientConfig>, OptionsError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(fault)?
        .with_root_certificates(roots(tls.ca.as_deref())?);
    let Some((chain, key)) = &tls.identity else { return Ok(Arc::new(builder.with_no_client_auth())) };
    let chain = certificates(chain, "cert_file")?;
    // The parser's own words are left out: they might quote the key.
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| fault("`key_file` holds no private key in PEM form"))?;
    let configuration = builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| fault(format_args!("`key_file` and `cert_file` do not go together ({error})")))?;
    Ok(Arc::new(configuration))
}

fn roots(ca: Option<&[u8]>) -> Result<RootCertStore, OptionsError> {
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
