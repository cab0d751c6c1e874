//! The files of `[hub.tokens]`, read again while the hub runs: a token that is rotated is in force
//! without a signal, and the one that it replaces is revoked.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tracing::{error, info};

use super::config::HubConfig;
use crate::metrics::RefusedFile;

/// What has been said of the files.
#[derive(Default)]
pub(super) struct TokenFiles {
    /// By module, why its file cannot be used: said once, and not every second.
    complaints: Mutex<HashMap<String, (String, RefusedFile)>>,
}

impl TokenFiles {
    /// The settings with the tokens that the files hold now, where one is another. A file that
    /// cannot be used keeps the old token.
    pub(super) fn look(&self, config: &HubConfig) -> Option<HubConfig> {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        complaints.retain(|module, _| config.tokens.contains_key(module));
        let mut next = None;
        for (module, token) in &config.tokens {
            match token.rotated() {
                Ok(rotated) => {
                    complaints.remove(module);
                    if let Some(rotated) = rotated {
                        token.secret.was_replaced_by(&rotated.secret);
                        info!(module, "a token was replaced: modules have to show the new one");
                        let next = next.get_or_insert_with(|| config.clone());
                        next.tokens.insert(module.clone(), rotated);
                    }
                }
                Err(complaint)
                    if complaints.get(module).is_none_or(|(said, _)| *said != complaint) =>
                {
                    error!(module, complaint, "a token's file cannot be used: the old token stays");
                    complaints.insert(module.clone(), (complaint, RefusedFile::new("hub.tokens")));
                }
                Err(_) => {}
            }
        }
        next
    }
}
