//! Server-Sent Events, as the HTML standard has them (section 9.2.6). Must not: do I/O.

/// More than a gateway keeps of one event.
const LONGEST: usize = 64 << 20;

/// What a stream tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// What kind of thing; an event where it does not say.
    pub(super) kind: Option<String>,
    /// The id by which the stream goes on behind it.
    pub(super) id: Option<String>,
    pub(super) data: String,
}

/// Reads a stream piece by piece.
#[derive(Debug, Default)]
pub(super) struct Parser {
    /// A line that has not ended yet.
    line: Vec<u8>,
    kind: Option<String>,
    id: Option<String>,
    data: String,
}

/// A line, or an event, is longer than any gateway's.
#[derive(Debug, thiserror::Error)]
#[error("an event of more than {LONGEST} bytes")]
pub(super) struct TooLong;

impl Parser {
    /// What has come whole by now.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<Vec<Told>, TooLong> {
        let mut told = Vec::new();
        let mut pieces = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            if self.line.len() + self.data.len() + piece.len() > LONGEST {
                return Err(TooLong);
            }
            self.line.extend_from_slice(piece);
            if pieces.peek().is_some() {
                let line = std::mem::take(&mut self.line);
                told.extend(self.line(&line));
            }
        }
        Ok(told)
    }

    fn line(&mut self, line: &[u8]) -> Option<Told> {
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
        if line.is_empty() {
            let (kind, id) = (self.kind.take(), self.id.take());
            let data = std::mem::take(&mut self.data);
            return (!data.is_empty()).then_some(Told { kind, id, data });
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => self.kind = Some(value.to_owned()),
            "id" => self.id = Some(value.to_owned()),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            // A comment, or how long to wait.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_in_pieces_of_every_size() {
        let stream = "retry: 2000\n\n: comment\n\nid: 7\ndata: {\"n\":1}\n\nevent: gap\r\ndata: {}\r\n\r\n\
                      data: a\ndata:b\n\nevent: nothing\n\n";
        let of = |kind: Option<&str>, id: Option<&str>, data: &str| Told {
            kind: kind.map(str::to_owned),
            id: id.map(str::to_owned),
            data: data.to_owned(),
        };
        for size in 1..stream.len() {
            let mut parser = Parser::default();
            let mut told = Vec::new();
            for piece in stream.as_bytes().chunks(size) {
                told.extend(parser.read(piece).expect("short"));
            }
            let expected = [
                of(None, Some("7"), "{\"n\":1}"),
                of(Some("gap"), None, "{}"),
                of(None, None, "a\nb"),
            ];
            assert_eq!(told, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn what_has_no_end_is_given_up() {
        let mut parser = Parser::default();
        let piece = vec![b'x'; LONGEST / 2];
        assert!(parser.read(&piece).is_ok());
        assert!(parser.read(&piece).is_ok());
        assert!(parser.read(b"x").is_err());
    }
}
