//! TLS of a server by rustls with ring: 1.2 and 1.3.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme,
    version,
};

use super::file::{Faults, TlsSection};
use super::san;

/// What rustls speaks, by the names that Go has for it. The suites of TLS 1.3 can't be chosen there, and so not here.
const SUITES: &[(&str, tokio_rustls::rustls::SupportedCipherSuite)] = &[
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", ring::cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", ring::cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", ring::cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

const CURVES: &[(&str, &dyn tokio_rustls::rustls::crypto::SupportedKxGroup)] = &[
    ("X25519", ring::kx_group::X25519),
    ("CurveP256", ring::kx_group::SECP256R1),
    ("CurveP384", ring::kx_group::SECP384R1),
];

/// What is asked of a client's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Nothing,
    Any,
    Required,
    Verified,
    RequiredAndVerified,
}

impl Asked {
    fn of(text: &str) -> Option<Self> {
        Some(match text {
            "" | "NoClientCert" => Self::Nothing,
            "RequestClientCert" => Self::Any,
            "RequireAnyClientCert" | "RequireClientCert" => Self::Required,
            "VerifyClientCertIfGiven" => Self::Verified,
            "RequireAndVerifyClientCert" => Self::RequiredAndVerified,
            _ => return None,
        })
    }

    fn is_verified(self) -> bool {
        matches!(self, Self::Verified | Self::RequiredAndVerified)
    }

    fn is_required(self) -> bool {
        matches!(self, Self::Required | Self::RequiredAndVerified)
    }
}

/// The configuration, and whether a client's certificate proves who it is. `None` with faults.
pub(super) fn configuration(section: &TlsSection, folder: &Path, faults: &mut Faults<'_>) -> Option<Arc<ServerConfig>> {
    let before = faults.count();
    let chain = pem(section.cert.as_deref(), section.cert_file.as_deref(), ("cert", "cert_file"), folder, faults);
    let key = section.key.as_ref().map(|key| key.expose());
    let key = pem(key, section.key_file.as_deref(), ("key", "key_file"), folder, faults);
    if chain.is_none() && faults.count() == before {
        faults.add("", "the server's certificate is missing: set cert_file");
    }
    if key.is_none() && faults.count() == before {
        faults.add("", "the server's private key is missing: set key_file");
    }
    let chain = chain.and_then(|(name, pem)| certificates(&pem, name, faults));
    let key = key.and_then(|(name, pem)| {
        // The parser's own words are left out: they might quote the key.
        let key = PrivateKeyDer::from_pem_slice(&pem).ok();
        if key.is_none() {
            let is_encrypted = pem.windows(9).any(|part| part == b"ENCRYPTED");
            faults.add(
                name,
                if is_encrypted {
                    "the private key is encrypted, and nobody is there to be asked for its password; \
                     write it without one: openssl pkey -in KEY -out NEW"
                } else {
                    "holds no private key in PEM form"
                },
            );
        }
        key
    });
    let provider = Arc::new(provider(section, faults));
    let versions = versions(section, faults);
    let clients = clients(section, folder, &provider, faults);
    let (Some(chain), Some(key), Some(clients)) = (chain, key, clients) else { return None };
    if faults.count() > before {
        return None;
    }
    let builder = match ServerConfig::builder_with_provider(provider).with_protocol_versions(&versions) {
        Ok(builder) => builder,
        Err(error) => {
            faults.add("cipher_suites", format!("leaves nothing to speak with min_version and max_version ({error})"));
            return None;
        }
    };
    match builder.with_client_cert_verifier(clients).with_single_cert(chain, key) {
        Ok(mut configuration) => {
            configuration.alpn_protocols = vec![b"http/1.1".to_vec()];
            configuration.ignore_client_order = section.prefer_server_cipher_suites;
            Some(Arc::new(configuration))
        }
        Err(error) => {
            let cert = if section.cert_file.is_some() { "cert_file" } else { "cert" };
            let key = if section.key_file.is_some() { "key_file" } else { "key" };
            let why = error.to_string();
            match error {
                // The library has no name of its own for it.
                Error::InvalidCertificate(_) if why.contains("UnsupportedCertVersion") => faults.add(
                    cert,
                    "the certificate is of X.509 version 1; extensions make it one of version 3: \
                     openssl x509 -req … -extfile FILE with a line subjectAltName=DNS:NAME",
                ),
                Error::InvalidCertificate(_) => faults.add(cert, format!("can't be used: {why}")),
                Error::InconsistentKeys(_) => {
                    faults.add(cert, format!("certificate and private key do not go together ({why})"));
                }
                _ => faults.add(
                    key,
                    format!(
                        "can't be used: keys are RSA of 2048 bits and more, ECDSA on P-256 and P-384, and Ed25519 ({why})"
                    ),
                ),
            }
            None
        }
    }
}

/// Whether a connection whose client showed a certificate is that of somebody who may.
pub(super) fn verifies_clients(section: &TlsSection) -> bool {
    section.client_auth_type.as_deref().and_then(Asked::of).is_some_and(Asked::is_verified)
}

fn provider(section: &TlsSection, faults: &mut Faults<'_>) -> CryptoProvider {
    let mut provider = ring::default_provider();
    if !section.cipher_suites.is_empty() {
        let chosen = named(&section.cipher_suites, SUITES, "cipher_suites", faults);
        provider.cipher_suites.retain(|suite| suite.tls13().is_some());
        provider.cipher_suites.extend(chosen);
    }
    if !section.curve_preferences.is_empty() {
        provider.kx_groups = named(&section.curve_preferences, CURVES, "curve_preferences", faults);
    }
    provider
}

fn named<T: Copy>(names: &[String], known: &[(&str, T)], key: &'static str, faults: &mut Faults<'_>) -> Vec<T> {
    let mut found = Vec::new();
    for name in names {
        match known.iter().find(|(known, _)| known == name) {
            Some((_, value)) => found.push(*value),
            None => {
                let known: Vec<_> = known.iter().map(|(name, _)| *name).collect();
                faults.add(key, format!("{name:?} can't be had; there are {}", known.join(", ")));
            }
        }
    }
    found
}

/// TLS 1.0 and 1.1 are not spoken: as a least version they allow what is, as a greatest one they leave nothing.
fn versions(
    section: &TlsSection,
    faults: &mut Faults<'_>,
) -> Vec<&'static tokio_rustls::rustls::SupportedProtocolVersion> {
    let mut number = |text: &str, key| {
        let number = ["TLS10", "TLS11", "TLS12", "TLS13"].iter().position(|known| *known == text);
        if number.is_none() {
            faults.add(key, format!("{text:?} is none of TLS10, TLS11, TLS12, TLS13"));
        }
        number
    };
    let least = section.min_version.as_deref().map_or(Some(2), |text| number(text, "min_version"));
    let most = section.max_version.as_deref().map_or(Some(3), |text| number(text, "max_version"));
    let (Some(least), Some(most)) = (least, most) else { return Vec::new() };
    let spoken = [(2, &version::TLS12), (3, &version::TLS13)];
    let chosen: Vec<_> =
        spoken.into_iter().filter(|(number, _)| (least..=most).contains(number)).map(|(_, version)| version).collect();
    if chosen.is_empty() {
        faults.add("max_version", "leaves no version: TLS12 and TLS13 are spoken");
    }
    chosen
}

fn clients(
    section: &TlsSection,
    folder: &Path,
    provider: &Arc<CryptoProvider>,
    faults: &mut Faults<'_>,
) -> Option<Arc<dyn ClientCertVerifier>> {
    let text = section.client_auth_type.as_deref().unwrap_or_default();
    let Some(asked) = Asked::of(text) else {
        faults.add(
            "client_auth_type",
            format!(
                "{text:?} is none of NoClientCert, RequestClientCert, RequireAnyClientCert, VerifyClientCertIfGiven, \
                 RequireAndVerifyClientCert"
            ),
        );
        return None;
    };
    let before = faults.count();
    let names = ("client_ca", "client_ca_file");
    let authorities = pem(section.client_ca.as_deref(), section.client_ca_file.as_deref(), names, folder, faults);
    if faults.count() > before {
        return None;
    }
    if !section.client_allowed_sans.is_empty() && !asked.is_required() {
        faults.add(
            "client_allowed_sans",
            "needs client_auth_type RequireAndVerifyClientCert (or RequireAnyClientCert): else a client may show none",
        );
    }
    if authorities.is_some() && asked == Asked::Nothing {
        faults.add("client_ca_file", "needs a client_auth_type: without one, no client's certificate is asked for");
    }
    if asked == Asked::Nothing {
        return Some(WebPkiClientVerifier::no_client_auth());
    }
    let chain = if asked.is_verified() {
        let Some((name, pem)) = authorities else {
            faults.add("client_auth_type", format!("{text} needs a client_ca_file to verify against"));
            return None;
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&pem, name, faults)? {
            if let Err(error) = roots.add(certificate) {
                faults.add(name, format!("holds a certificate that can't be used ({error})"));
            }
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let builder = if asked.is_required() { builder } else { builder.allow_unauthenticated() };
        match builder.build() {
            Ok(verifier) => Some(verifier),
            Err(error) => {
                faults.add(name, format!("can't be used to verify clients ({error})"));
                return None;
            }
        }
    } else {
        None
    };
    Some(Arc::new(Clients {
        chain,
        required: asked.is_required(),
        allowed: section.client_allowed_sans.clone(),
        algorithms: provider.signature_verification_algorithms,
    }))
}

/// Which clients' certificates are good.
#[derive(Debug)]
struct Clients {
    /// `None`: any certificate is, as long as the client has its key.
    chain: Option<Arc<dyn ClientCertVerifier>>,
    required: bool,
    /// Where there are any, the certificate has one of these names.
    allowed: Vec<String>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.as_ref().map_or(&[], |chain| chain.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some(chain) = &self.chain {
            chain.verify_client_cert(end_entity, intermediates, now)?;
        }
        let is_allowed = |name: &String| self.allowed.contains(name);
        if !self.allowed.is_empty() && !san::names(end_entity).iter().any(is_allowed) {
            return Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What stands in the configuration itself or in the file that it names, and under which key.
fn pem(
    text: Option<&str>,
    file: Option<&Path>,
    (text_key, file_key): (&'static str, &'static str),
    folder: &Path,
    faults: &mut Faults<'_>,
) -> Option<(&'static str, Vec<u8>)> {
    match (text.filter(|text| !text.is_empty()), file.filter(|file| !file.as_os_str().is_empty())) {
        (Some(_), Some(_)) => {
            faults.add(file_key, format!("{text_key} is set too; keep one"));
            None
        }
        (Some(text), None) => Some((text_key, text.as_bytes().to_vec())),
        (None, Some(file)) => {
            let file = folder.join(file);
            match crate::config::file::read(&file) {
                Ok(pem) => Some((file_key, pem)),
                Err(error) => {
                    faults.add(file_key, format!("can't read {}: {error}", file.display()));
                    None
                }
            }
        }
        (None, None) => None,
    }
}

fn certificates(pem: &[u8], key: &'static str, faults: &mut Faults<'_>) -> Option<Vec<CertificateDer<'static>>> {
    match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if !certificates.is_empty() => Some(certificates),
        Ok(_) => {
            faults.add(key, "holds no certificate in PEM form");
            None
        }
        Err(error) => {
            faults.add(key, format!("is not in PEM form ({error})"));
            None
        }
    }
}
