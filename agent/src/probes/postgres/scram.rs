//! SCRAM-SHA-256 (RFC 5802, RFC 7677), from the client's side and without channel binding.
//!
//! A password is taken as it is: what is not ASCII is not brought into the form of RFC 4013, which changes few of them.

use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac, pbkdf2};

/// More rounds than any server asks for would only keep the host busy.
const MOST_ROUNDS: u32 = 200_000;

/// A conversation.
#[derive(Debug)]
pub(super) struct Scram {
    nonce: String,
    /// What the server has to send at the end.
    proof: Option<Vec<u8>>,
}

impl Scram {
    /// `nonce` must be another one each time.
    pub(super) fn new(nonce: &str) -> Self {
        Self { nonce: nonce.to_owned(), proof: None }
    }

    /// The first message. PostgreSQL knows the user from before.
    pub(super) fn first(&self) -> String {
        format!("n,,{}", self.bare())
    }

    fn bare(&self) -> String {
        format!("n=,r={}", self.nonce)
    }

    /// The answer to the server's challenge.
    pub(super) fn answer(mut self, challenge: &[u8], password: &str) -> Result<(String, Self), String> {
        let no = "its challenge is not SCRAM's";
        let challenge = std::str::from_utf8(challenge).map_err(|_| no)?;
        let part = |name: &str| challenge.split(',').find_map(|part| part.strip_prefix(name)).ok_or(no);
        let (nonce, salt, rounds) = (part("r=")?, part("s=")?, part("i=")?);
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("its challenge is for somebody else".to_owned());
        }
        let salt = STANDARD.decode(salt).map_err(|_| no)?;
        let rounds: NonZeroU32 = rounds.parse().map_err(|_| no)?;
        if rounds.get() > MOST_ROUNDS {
            return Err(format!("it wants more than {MOST_ROUNDS} rounds of hashing"));
        }
        let mut salted = [0; digest::SHA256_OUTPUT_LEN];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, password.as_bytes(), &mut salted);
        let client = sign(&salted, b"Client Key");
        let stored = digest::digest(&digest::SHA256, client.as_ref());
        let last = format!("c=biws,r={nonce}");
        let all = format!("{},{challenge},{last}", self.bare());
        let signature = sign(stored.as_ref(), all.as_bytes());
        let proof: Vec<u8> = client.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        let server = sign(&salted, b"Server Key");
        self.proof = Some(sign(server.as_ref(), all.as_bytes()).as_ref().to_vec());
        Ok((format!("{last},p={}", STANDARD.encode(proof)), self))
    }

    /// Whether the server knows the password, too.
    pub(super) fn is_proof(&self, last: &[u8]) -> Result<(), String> {
        let said = std::str::from_utf8(last).ok().and_then(|last| STANDARD.decode(last.strip_prefix("v=")?).ok());
        match said {
            Some(said) if Some(&said) == self.proof.as_ref() => Ok(()),
            _ => Err("the server does not prove that it knows the password: it is another one".to_owned()),
        }
    }
}

fn sign(key: &[u8], text: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that knows the password `pencil`, by the same standard.
    fn server(challenge: &str, bare: &str, password: &str) -> (String, String) {
        let part = |name: &str| challenge.split(',').find_map(|part| part.strip_prefix(name)).unwrap();
        let mut salted = [0; 32];
        let salt = STANDARD.decode(part("s=")).unwrap();
        let rounds = part("i=").parse().unwrap();
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, password.as_bytes(), &mut salted);
        let all = format!("{bare},{challenge},c=biws,r={}", part("r="));
        let server = sign(sign(&salted, b"Server Key").as_ref(), all.as_bytes());
        let stored = digest::digest(&digest::SHA256, sign(&salted, b"Client Key").as_ref());
        (format!("v={}", STANDARD.encode(server)), STANDARD.encode(sign(stored.as_ref(), all.as_bytes())))
    }

    #[test]
    fn client_and_server_prove_themselves() {
        let challenge = "r=abcdef,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let (answer, client) = Scram::new("abc").answer(challenge.as_bytes(), "pencil").unwrap();
        let (proof, _) = server(challenge, "n=,r=abc", "pencil");
        assert!(answer.starts_with("c=biws,r=abcdef,p="));
        assert_eq!(client.is_proof(proof.as_bytes()), Ok(()));
        let (proof, _) = server(challenge, "n=,r=abc", "other");
        assert!(client.is_proof(proof.as_bytes()).is_err());
        assert!(client.is_proof(b"e=other-error").is_err());
    }

    #[test]
    fn challenges_that_are_none_are_refused() {
        for challenge in [
            "",
            "r=abc,s=AA==,i=1",
            "r=xabcdef,s=AA==,i=1",
            "r=abcdef,s=*,i=1",
            "r=abcdef,s=AA==,i=0",
            "r=abcdef,s=AA==,i=4000000000",
            "r=abcdef,i=1",
        ] {
            assert!(Scram::new("abc").answer(challenge.as_bytes(), "x").is_err(), "{challenge}");
        }
    }
}
