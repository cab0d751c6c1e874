//! The proof of who is there, made anew for every connection: a server's nonce is signed once.

use nkeys::KeyPair;

use super::config::Auth;
use super::open::Failure;
use super::wire::{self, Login};
use crate::config::secret::Secret;

/// What `CONNECT` will hold.
#[derive(Default)]
pub(super) struct Proof {
    user: Option<String>,
    password: Option<Secret>,
    token: Option<Secret>,
    jwt: Option<String>,
    nkey: Option<String>,
    signature: Option<String>,
}

impl Proof {
    /// As `CONNECT` writes it.
    pub(super) fn login(&self) -> Login<'_> {
        Login {
            user: self.user.as_deref(),
            pass: self.password.as_ref().map(Secret::expose),
            auth_token: self.token.as_ref().map(Secret::expose),
            jwt: self.jwt.as_deref(),
            nkey: self.nkey.as_deref(),
            sig: self.signature.as_deref(),
        }
    }

    fn signed(mut self, seed: &str, nonce: &str) -> Result<Self, Failure> {
        let pair = KeyPair::from_seed(seed).map_err(|error| unusable(&error))?;
        let signature = pair.sign(nonce.as_bytes()).map_err(|error| unusable(&error))?;
        // A user's JWT names the key itself.
        self.nkey = self.jwt.is_none().then(|| pair.public_key());
        self.signature = Some(wire::signature(&signature));
        Ok(self)
    }
}

fn unusable(error: &nkeys::error::Error) -> Failure {
    Failure::lasting(
        "the nkey cannot be used",
        error,
        "it must be a user's seed: 58 letters that begin with SU",
    )
}

/// Proves it to a server that has said `nonce`.
pub(super) fn proof(auth: &Auth, nonce: &str) -> Result<Proof, Failure> {
    let proof = Proof::default();
    Ok(match auth {
        Auth::None => proof,
        Auth::User(user, password) => {
            Proof { user: Some(user.clone()), password: Some(password.now()), ..proof }
        }
        Auth::Token(token) => Proof { token: Some(token.now()), ..proof },
        Auth::Nkey(seed) => return proof.signed(seed.now().expose().trim(), nonce),
        Auth::Credentials(file) => {
            let text = file.now();
            let text = text.expose();
            let (Some(jwt), Some(seed)) = (block(text, JWT), block(text, SEED)) else {
                return Err(Failure::lasting(
                    "the credentials file cannot be used",
                    format!("it has no blocks that say `{JWT}` and `{SEED}`"),
                    "make `credentials_file` a file with a user's JWT and seed in it",
                ));
            };
            return Proof { jwt: Some(jwt.to_owned()), ..proof }.signed(seed, nonce);
        }
    })
}

/// What a credentials file's blocks are called.
pub(super) const JWT: &str = "NATS USER JWT";
pub(super) const SEED: &str = "USER NKEY SEED";

/// The text between the lines that begin and end a block.
fn block<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| line.contains("BEGIN") && line.contains(name))?;
    lines.find(|line| !line.is_empty()).filter(|line| !line.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_a_credentials_file() {
        let text = "-----BEGIN NATS USER JWT-----\r\neyJ0.x\r\n------END NATS USER JWT------\r\n\r\n\
            *** IMPORTANT ***\n-----BEGIN USER NKEY SEED-----\n\n SUAB \n------END USER NKEY SEED------\n";
        assert_eq!(block(text, JWT), Some("eyJ0.x"));
        assert_eq!(block(text, SEED), Some("SUAB"));
        assert_eq!(block("-----BEGIN NATS USER JWT-----\n------END", JWT), None);
        assert_eq!(block("", JWT), None);
    }
}
