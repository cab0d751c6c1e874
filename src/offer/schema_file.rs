//! A file that describes a service's methods: an OpenRPC document, for services that cannot tell.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::openrpc::{self, Document};
use super::room::Room;

/// Larger than any description.
const LARGEST: u64 = 16 << 20;

/// What a row's `schema` file told when it was read.
#[derive(Clone, Debug)]
pub struct SchemaFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it tells. A method is called by its own name or `service.method`.
    pub document: Arc<Document>,
}

impl SchemaFile {
    /// Reads a file. The error tells what is wrong with it, and the mend.
    pub fn read(path: &Path, owner: &str) -> Result<Self, String> {
        let is_file = fs::metadata(path).map_err(|error| error.to_string())?.is_file();
        if !is_file {
            return Err("it is no file".to_owned());
        }
        let mut text = Vec::new();
        let file = fs::File::open(path).map_err(|error| error.to_string())?;
        file.take(LARGEST + 1).read_to_end(&mut text).map_err(|error| error.to_string())?;
        if text.len() as u64 > LARGEST {
            return Err("it is larger than 16 MiB".to_owned());
        }
        let read: Value =
            serde_json::from_slice(&text).map_err(|error| format!("it is no JSON: {error}"))?;
        let document = openrpc::read(&read, owner, &mut Room::endless()).ok_or(
            "it is no OpenRPC document: write {\"openrpc\": \"1.3.2\", \"info\": {…}, \"methods\": […]}",
        )?;
        Ok(Self { path: path.to_owned(), document: Arc::new(document) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_or_it_is_said_why_not() {
        let name = format!("genkan-schema-{:x}", fastrand::u64(..));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).expect("a folder");
        let path = folder.join("orders.json");
        let read = |text: &str| {
            fs::write(&path, text).expect("written");
            SchemaFile::read(&path, "orders")
        };
        let found = read(r#"{"methods": [{"name": "create", "params": []}]}"#).expect("read");
        assert_eq!(found.document.methods.len(), 1);
        assert!(read("{").expect_err("half").contains("it is no JSON: EOF"));
        assert!(read("{}").expect_err("no document").contains("no OpenRPC document: write"));
        let missing = SchemaFile::read(&folder.join("x"), "orders").expect_err("missing");
        assert!(missing.contains("No such file"), "{missing}");
        let no_file = SchemaFile::read(&folder, "orders").expect_err("a folder");
        assert_eq!(no_file, "it is no file");
        fs::remove_dir_all(&folder).expect("removed");
    }
}
