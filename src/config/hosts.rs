//! `hosts` of a table that listens: the names by which it is called, beside its addresses and
//! `localhost`.

use super::secret::quoted;
use super::section::Section;
use crate::printable::printable_line;
use crate::web::is_authority;

/// Reads `hosts`.
pub fn read(section: &mut Section<'_>) -> Vec<String> {
    let hosts = section.texts("hosts");
    for host in hosts.iter().filter(|host| !is_authority(host)) {
        let (title, shown) = (section.title(), quoted(&printable_line(host)));
        let message = format!(
            "{shown} in `hosts` of {title} is no name: write the host alone, or with its port, such as \
             \"api.example\""
        );
        section.problem("hosts", message);
    }
    hosts
}
