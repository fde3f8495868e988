//! Sends mails.

use std::time::Duration;

use lettre::address::Envelope;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use notify::receivers::{Mail, MailTls, Outcome};

/// The ports of submission (RFC 6409, RFC 8314) and of relays.
const SUBMISSION: u16 = 587;
const SUBMISSION_TLS: u16 = 465;
const RELAY: u16 = 25;

/// What a server answers where user or password are wrong: they can be put right.
const LOGIN_REFUSED: [u16; 4] = [530, 534, 535, 538];

/// Sends one mail within this time.
pub(super) async fn send(mail: Mail, patience: Duration) -> Outcome {
    let (transport, envelope) = match prepared(&mail, patience) {
        Ok(prepared) => prepared,
        Err(why) => return Outcome::Retry(None, why),
    };
    match tokio::time::timeout(patience, transport.send_raw(&envelope, &mail.message)).await {
        Ok(Ok(_)) => Outcome::Sent,
        Ok(Err(error)) => failed(&mail.smarthost, &error),
        Err(_) => Outcome::Retry(None, format!("{} did not take the mail within {patience:?}", mail.smarthost)),
    }
}

/// What a server says may repeat what it was told, so that only its code is told on.
fn failed(server: &str, error: &Error) -> Outcome {
    let code = error.status().map(u16::from);
    match code {
        Some(code) if LOGIN_REFUSED.contains(&code) => {
            Outcome::Retry(None, format!("{server} refuses user and password ({code})"))
        }
        Some(code) if error.is_permanent() => Outcome::Refused(format!("{server} refuses the mail ({code})")),
        Some(code) => Outcome::Retry(None, format!("{server} does not take the mail now ({code})")),
        None => Outcome::Retry(None, format!("{server}: {error}")),
    }
}

fn prepared(mail: &Mail, patience: Duration) -> Result<(AsyncSmtpTransport<Tokio1Executor>, Envelope), String> {
    let (host, port) = place(&mail.smarthost, mail.tls)?;
    let tls = match mail.tls {
        MailTls::None => Tls::None,
        MailTls::Starttls => Tls::Required(parameters(host, mail)?),
        MailTls::Tls => Tls::Wrapper(parameters(host, mail)?),
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host).port(port).tls(tls);
    if let Some((user, password)) = &mail.login {
        builder = builder.credentials(Credentials::new(user.clone(), password.expose().to_owned()));
    }
    let address = |text: &str| text.parse::<Address>().map_err(|_| format!("{text:?} is no mail address"));
    let to = mail.to.iter().map(|to| address(to)).collect::<Result<Vec<_>, _>>()?;
    let envelope =
        Envelope::new(Some(address(&mail.from)?), to).map_err(|_| "the mail has nobody to go to".to_owned())?;
    Ok((builder.timeout(Some(patience)).build(), envelope))
}

fn parameters(host: &str, mail: &Mail) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(host.to_owned());
    if let Some(file) = &mail.ca_file {
        let fault = |error: &dyn std::fmt::Display| format!("can't use {}: {error}", file.display());
        let pem = daemon::config::file::read(file).map_err(|error| fault(&error))?;
        let authorities = Certificate::from_pem(&pem).map_err(|error| fault(&error))?;
        builder = builder.certificate_store(CertificateStore::None).add_root_certificate(authorities);
    }
    builder.build_rustls().map_err(|error| format!("TLS to the mail server can't be prepared: {error}"))
}

/// Host and port; the port that is usual for the way where none is given.
fn place(server: &str, tls: MailTls) -> Result<(&str, u16), String> {
    let usual = match tls {
        MailTls::Starttls => SUBMISSION,
        MailTls::Tls => SUBMISSION_TLS,
        MailTls::None => RELAY,
    };
    let fault = || format!("{server:?} is no mail server such as mail.example.org:587");
    let (host, port) = match server.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') && !host.is_empty() => (host, port.parse().map_err(|_| fault())?),
        _ => (server, usual),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() { Err(fault()) } else { Ok((host, port)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_a_usual_port() {
        assert_eq!(place("mail.example.org", MailTls::Starttls).unwrap(), ("mail.example.org", 587));
        assert_eq!(place("mail.example.org:2525", MailTls::Tls).unwrap(), ("mail.example.org", 2525));
        assert_eq!(place("[::1]:25", MailTls::None).unwrap(), ("::1", 25));
        assert!(place("mail:x", MailTls::None).is_err() && place("", MailTls::None).is_err());
    }
}
