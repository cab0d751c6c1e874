//! What files hold: the configuration, and secrets beside it.

use std::path::Path;

use super::super::*;
use super::read_with;
use crate::protocol::readers;

/// A file that is deleted in the end.
struct TempFile(std::path::PathBuf);

impl TempFile {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("genkan-{}-{name}", std::process::id()));
        std::fs::write(&path, text).expect("the temporary folder can be written to");
        Self(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

#[test]
fn a_fingerprint_is_of_the_keys_and_of_the_files_that_they_name() {
    let file = TempFile::new("token", "one");
    let fingerprint = |keys: &str| {
        let text = format!("token_file = \"{}\"\n{keys}", file.0.display());
        read_with(&text, &[], |root| {
            root.ignore_rest();
            root.fingerprint(&["max_in_flight"])
        })
        .0
    };
    let first = fingerprint("max_in_flight = 1");
    assert_eq!(fingerprint("max_in_flight = 2"), first);
    assert_eq!(fingerprint(""), first);
    assert_ne!(fingerprint("tls = true"), first);
    std::fs::write(&file.0, "two").expect("it can be written to");
    assert_ne!(fingerprint(""), first, "rotated");
    std::fs::write(&file.0, "one").expect("it can be written to");
    assert_eq!(fingerprint(""), first, "and back");
}

#[test]
fn a_file_that_holds_no_secret_is_told() {
    for (text, words) in [("", "is empty"), ("\r\n\n", "is empty")] {
        let file = TempFile::new("empty", text);
        let text = format!("secret_file = \"{}\"", file.0.display());
        let (secret, problems) = read_with(&text, &[], |root| root.secret("secret", "secret_file"));
        assert!(secret.is_none() && problems.len() == 1, "{problems:?}");
        assert!(problems[0].message.contains(words), "{problems:?}");
    }
    let (_, problems) =
        read_with("secret_file = \"/dev/zero\"", &[], |root| root.secret("secret", "secret_file"));
    assert!(problems[0].message.contains("it is no regular file"), "{problems:?}");
}

#[test]
fn what_is_no_configuration_is_told_with_its_mend() {
    let folder = std::env::temp_dir().join(format!("genkan-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("genkan.toml");
    let loaded = |path: &Path| {
        let problems = load(&Origin::File(path.to_owned()), &readers()).problems;
        problems.iter().map(|problem| problem.message.clone()).collect::<Vec<_>>()
    };
    std::fs::write(&path, "\u{feff}workers = 1\r\n[hub]\r\nlisten = []\r\n").expect("written");
    assert_eq!(loaded(&path), [] as [&str; 0], "a mark of the encoding, and Windows' line ends");
    let too_large = "#".repeat(LARGEST + 1);
    for (content, expected) in [
        (&b"workers = 1\n\0\0\0"[..], "it holds a NUL byte"),
        (b"\xff\xfew\0", "not UTF-8: save the file in that encoding"),
        (too_large.as_bytes(), "it is larger than 16MiB"),
    ] {
        std::fs::write(&path, content).expect("written");
        let problems = loaded(&path);
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{problems:?}");
    }
    assert_eq!(loaded(&folder), ["cannot be read: it is a folder: name a file in it"]);
    // It has no end.
    assert!(loaded(Path::new("/dev/zero"))[0].contains("it is larger than"));
    std::fs::remove_dir_all(&folder).expect("removed");
}

#[test]
fn what_a_secrets_file_may_hold() {
    let folder = std::env::temp_dir().join(format!("genkan-secret-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("token");
    let read = |content: &str| {
        std::fs::write(&path, content).expect("written");
        secret::read_secret(&path).map(|secret| secret.expose().to_owned())
    };
    assert_eq!(read("\u{feff}a token\r\n"), Ok("a token".to_owned()));
    assert!(read("\0\0").is_err_and(|complaint| complaint.contains("NUL byte")));
    assert!(read("\n").is_err_and(|complaint| complaint.contains("is empty")));
    let folder_itself = secret::read_secret(&folder);
    assert!(folder_itself.is_err_and(|complaint| complaint.contains("no regular file")));
    std::fs::remove_dir_all(&folder).expect("removed");
}
