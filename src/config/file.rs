//! Reads the files that an operator writes: never more than they can hold, and never from
//! something that is no file and would be waited for.

use std::fs::{File, metadata};
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

use crate::units::format_size;

/// Reads a file of at most `largest` bytes. A FIFO, a socket or a folder in its place is an error.
pub fn read(path: &Path, largest: usize) -> io::Result<Vec<u8>> {
    // Before it is opened: to open a FIFO is to wait for whoever writes into it.
    if !metadata(path)?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is no regular file"));
    }
    read_any(path, largest)
}

/// Reads what is there, whatever it is: a pipe that the shell made, say. It may wait.
pub fn read_any(path: &Path, largest: usize) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(largest as u64 + 1).read_to_end(&mut content)?;
    if content.len() > largest {
        let message = format!("it is larger than {}", format_size(largest));
        return Err(io::Error::new(ErrorKind::FileTooLarge, message));
    }
    Ok(content)
}

/// Why a file cannot be read, and the mend where there is one.
pub fn complaint(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::IsADirectory => "it is a folder: name a file in it".to_owned(),
        ErrorKind::PermissionDenied => {
            "permission denied: let the user that runs genkan read it, and enter its folder"
                .to_owned()
        }
        _ => error.to_string(),
    }
}
