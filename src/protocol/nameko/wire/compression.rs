//! Compressed messages. Kombu names the method in the header `compression`; its
//! `application/x-gzip` is in truth a zlib stream, so the first bytes decide between the two.

use std::io::Read;

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::AMQPValue;

/// Why a body cannot be unpacked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packed {
    /// It is larger than it may be. Without a limit, a few kilobytes could fill the memory.
    TooLarge,
    /// What is wrong with it, as the end of a sentence.
    Broken(String),
}

/// Whether a body is packed: then to unpack it may be heavy work.
pub(in super::super) fn is_packed(properties: &BasicProperties) -> bool {
    method(properties).is_some()
}

/// Unpacks a body that its properties call compressed, to `largest` bytes at the most.
pub(super) fn unpack(
    properties: &BasicProperties,
    body: Bytes,
    largest: usize,
) -> Result<Bytes, Packed> {
    let Some(method) = method(properties) else { return Ok(body) };
    match method.as_str() {
        "application/x-gzip" | "application/gzip" | "application/zlib" | "application/x-zlib"
        | "gzip" | "x-gzip" | "zlib" | "deflate" => inflate(&body, largest),
        // The name comes from the peer: its beginning is enough to find it.
        _ => {
            let name: String = method.chars().take(40).collect();
            let complaint =
                format!("compressed with {name}, which Genkan cannot read: use gzip or none");
            Err(Packed::Broken(complaint))
        }
    }
}

fn method(properties: &BasicProperties) -> Option<String> {
    let header = properties.headers().as_ref().and_then(|table| table.inner().get("compression"));
    if let Some(AMQPValue::LongString(name)) = header {
        let name = name.to_string().to_ascii_lowercase();
        return (!name.is_empty()).then_some(name);
    }
    // Content encodings are character sets here (`utf-8`, `binary`), unless they name a method.
    let encoding = properties.content_encoding().as_ref()?.as_str().to_ascii_lowercase();
    matches!(encoding.as_str(), "gzip" | "x-gzip" | "zlib" | "deflate").then_some(encoding)
}

fn inflate(body: &[u8], largest: usize) -> Result<Bytes, Packed> {
    let (mut plain, limit) = (Vec::new(), largest as u64 + 1);
    let read = if body.starts_with(&[0x1f, 0x8b]) {
        flate2::read::MultiGzDecoder::new(body).take(limit).read_to_end(&mut plain)
    } else {
        flate2::read::ZlibDecoder::new(body).take(limit).read_to_end(&mut plain)
    };
    match read {
        Err(_) => Err(Packed::Broken("called compressed, and is neither gzip nor zlib".to_owned())),
        Ok(_) if plain.len() > largest => Err(Packed::TooLarge),
        Ok(_) => Ok(Bytes::from(plain)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use lapin::types::FieldTable;

    use super::*;

    fn zlib(plain: &[u8]) -> Bytes {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap().into()
    }

    fn gzip(plain: &[u8]) -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap().into()
    }

    fn with_header(method: &str) -> BasicProperties {
        let mut headers = FieldTable::default();
        headers.insert("compression".into(), AMQPValue::LongString(method.into()));
        BasicProperties::default().with_headers(headers)
    }

    #[test]
    fn kombus_names_and_both_streams() {
        let body = Bytes::from_static(b"{}");
        for method in ["application/x-gzip", "gzip", "zlib"] {
            assert_eq!(unpack(&with_header(method), zlib(&body), 99), Ok(body.clone()));
            assert_eq!(unpack(&with_header(method), gzip(&body), 99), Ok(body.clone()));
        }
        let encoded = BasicProperties::default().with_content_encoding("gzip".into());
        assert_eq!(unpack(&encoded, gzip(&body), 99), Ok(body.clone()));
    }

    #[test]
    fn what_is_not_compressed_passes() {
        let body = Bytes::from_static(b"{}");
        for properties in [
            BasicProperties::default(),
            BasicProperties::default().with_content_encoding("utf-8".into()),
            with_header(""),
        ] {
            assert_eq!(unpack(&properties, body.clone(), 99), Ok(body.clone()));
        }
    }

    #[test]
    fn what_cannot_be_unpacked_says_so() {
        let broken = |method: &str, body| match unpack(&with_header(method), body, 99) {
            Err(Packed::Broken(complaint)) => complaint,
            other => panic!("{other:?}"),
        };
        let error = broken("application/x-bz2", Bytes::new());
        assert!(error.contains("application/x-bz2"), "{error}");
        let error = broken("gzip", Bytes::from_static(b"{}"));
        assert!(error.contains("neither gzip nor zlib"), "{error}");
        let (fits, bomb) = (zlib(&[b' '; 99]), zlib(&[b' '; 100]));
        assert_eq!(unpack(&with_header("gzip"), fits, 99).map(|plain| plain.len()), Ok(99));
        assert_eq!(unpack(&with_header("gzip"), bomb, 99), Err(Packed::TooLarge));
    }
}
