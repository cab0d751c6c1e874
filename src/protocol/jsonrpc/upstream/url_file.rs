//! The file that an upstream's URL stands in, read again while it is in force.

use super::place::Place;
use crate::config::secret::{FoundSecret, shown_path};
use crate::metrics::RefusedFile;

/// A URL that was found in a file.
pub(super) struct UrlFile(FoundSecret, Option<RefusedFile>);

impl UrlFile {
    /// None where a URL stands in the configuration itself.
    pub(super) fn of(found: &FoundSecret) -> Option<Self> {
        found.file.is_some().then(|| Self(found.clone(), None))
    }

    /// Where the URL leads that it holds by now, if that is another one. Waits for the disk. One that cannot be used
    /// keeps the old one, loudly.
    pub(super) fn look_again(&mut self) -> Option<Place> {
        let read = self.0.rotated().and_then(|next| {
            let Some(next) = next else { return Ok(None) };
            let file = next.file.as_deref().map(shown_path).unwrap_or_default();
            let place = Place::parse(next.secret.expose());
            let place = place.map_err(|what| format!("{file}: the URL {what}"))?;
            Ok(Some((next, place)))
        });
        if read.is_ok() {
            self.1 = None;
        }
        match read {
            Ok(None) => None,
            Ok(Some((next, place))) => {
                self.0.secret.was_replaced_by(&next.secret);
                self.0 = next;
                Some(place)
            }
            Err(complaint) => {
                self.1.get_or_insert_with(|| RefusedFile::new("url_file"));
                tracing::error!(
                    complaint,
                    "the file of an upstream's URL cannot be used: the old one stays"
                );
                None
            }
        }
    }
}
