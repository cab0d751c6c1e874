//! What a token has to say besides being signed, as jsonwebtoken is told of it: made once for a
//! configuration, since it takes a dozen allocations.

use jsonwebtoken::{Algorithm, Validation};

use crate::auth::settings::JwtConfig;

/// One for each algorithm that a key may be for.
const ALGORITHMS: [Algorithm; 4] =
    [Algorithm::HS256, Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

/// The rules of a configuration.
#[derive(Debug)]
pub(super) struct Rules([(Algorithm, Validation); ALGORITHMS.len()]);

impl Rules {
    pub(super) fn of(config: &JwtConfig) -> Self {
        Self(ALGORITHMS.map(|algorithm| (algorithm, validation(algorithm, config))))
    }

    /// Those for tokens that are signed so; none where no key is for it.
    pub(super) fn of_algorithm(&self, algorithm: Algorithm) -> Option<&Validation> {
        self.0.iter().find(|(known, _)| *known == algorithm).map(|(_, rules)| rules)
    }
}

fn validation(algorithm: Algorithm, config: &JwtConfig) -> Validation {
    let mut rules = Validation::new(algorithm);
    rules.leeway = config.clock_skew.as_secs();
    rules.validate_nbf = true;
    let mut required = vec!["exp"];
    if config.issuers.is_empty() {
        rules.iss = None;
    } else {
        rules.set_issuer(&config.issuers);
        required.push("iss");
    }
    rules.validate_aud = !config.audiences.is_empty();
    if rules.validate_aud {
        rules.set_audience(&config.audiences);
        required.push("aud");
    }
    rules.set_required_spec_claims(&required);
    rules
}
