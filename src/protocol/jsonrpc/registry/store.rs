//! What is known of announced services, kept for the next start in `registry.json` under
//! `state_dir`. What was read there is an announcement like any: judged, and probed before it is
//! believed.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::book::{Form, Key};
use crate::config::file;

const FILE: &str = "registry.json";
/// More than the most services take, each with the longest URL.
const LARGEST: usize = 256 << 20;

/// A service as it is kept.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    name: String,
    url: String,
    /// Where it was announced by host and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<(String, u16)>,
}

/// Where it is kept.
pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

/// Writes what is known, beside the file that is there and then in its place: whoever reads it
/// finds all of the one or all of the other, whatever happens meanwhile. Waits for the disk.
pub(super) fn write(folder: &Path, services: &[(Arc<Key>, Form)]) -> io::Result<()> {
    let kept = services.iter().map(|(key, form)| Kept {
        name: key.name.clone(),
        url: key.url.clone(),
        place: match form {
            Form::Url => None,
            Form::HostAndPort(host, port) => Some((host.clone(), *port)),
        },
    });
    let kept: Vec<Kept> = kept.collect();
    let text = serde_json::to_vec(&kept).map_err(io::Error::other)?;
    let (place, beside) = (path(folder), folder.join(format!("{FILE}.new")));
    let mut new = File::create(&beside)?;
    new.write_all(&text)?;
    new.sync_all()?;
    drop(new);
    std::fs::rename(beside, place)
}

/// Reads what was known, at most so many. Waits for the disk.
pub(super) fn read(folder: &Path, most: usize) -> io::Result<Vec<(Key, Form)>> {
    let text = match file::read(&path(folder), LARGEST) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read?,
    };
    let kept: Vec<Kept> = serde_json::from_slice(&text)?;
    let services = kept.into_iter().take(most).map(|Kept { name, url, place }| {
        let form = place.map_or(Form::Url, |(host, port)| Form::HostAndPort(host, port));
        (Key { name, url }, form)
    });
    Ok(services.collect())
}
