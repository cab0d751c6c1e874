//! Compressed messages. Kombu names the method in the header `compression`; its
//! `application/x-gzip` is in truth a zlib stream, so the first bytes decide between the two.

use std::io::Read;

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::AMQPValue;

/// The largest body that is unpacked: what RabbitMQ 4 accepts as a message by default. Without
/// a limit, a few kilobytes could fill the memory.
pub(super) const LARGEST: u64 = 16 * 1024 * 1024;

/// Unpacks a body that its properties call compressed. The error says what is wrong with it, as
/// the end of a sentence.
pub(super) fn unpack(properties: &BasicProperties, body: Bytes) -> Result<Bytes, String> {
    let Some(method) = method(properties) else { return Ok(body) };
    match method.as_str() {
        "application/x-gzip" | "application/gzip" | "application/zlib" | "application/x-zlib"
        | "gzip" | "x-gzip" | "zlib" | "deflate" => inflate(&body),
        // The name comes from the peer: its beginning is enough to find it.
        _ => {
            let name: String = method.chars().take(40).collect();
            Err(format!("compressed with {name}, which Genkan cannot read: use gzip or none"))
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

fn inflate(body: &[u8]) -> Result<Bytes, String> {
    let mut plain = Vec::new();
    let read = if body.starts_with(&[0x1f, 0x8b]) {
        flate2::read::MultiGzDecoder::new(body).take(LARGEST + 1).read_to_end(&mut plain)
    } else {
        flate2::read::ZlibDecoder::new(body).take(LARGEST + 1).read_to_end(&mut plain)
    };
    match read {
        Err(_) => Err("called compressed, and is neither gzip nor zlib".to_owned()),
        Ok(_) if plain.len() as u64 > LARGEST => {
            Err(format!("more than {} MiB when unpacked", LARGEST / (1024 * 1024)))
        }
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
            assert_eq!(unpack(&with_header(method), zlib(&body)), Ok(body.clone()));
            assert_eq!(unpack(&with_header(method), gzip(&body)), Ok(body.clone()));
        }
        let encoded = BasicProperties::default().with_content_encoding("gzip".into());
        assert_eq!(unpack(&encoded, gzip(&body)), Ok(body.clone()));
    }

    #[test]
    fn what_is_not_compressed_passes() {
        let body = Bytes::from_static(b"{}");
        for properties in [
            BasicProperties::default(),
            BasicProperties::default().with_content_encoding("utf-8".into()),
            with_header(""),
        ] {
            assert_eq!(unpack(&properties, body.clone()), Ok(body.clone()));
        }
    }

    #[test]
    fn what_cannot_be_unpacked_says_so() {
        let error = unpack(&with_header("application/x-bz2"), Bytes::new()).unwrap_err();
        assert!(error.contains("application/x-bz2"), "{error}");
        let error = unpack(&with_header("gzip"), Bytes::from_static(b"{}")).unwrap_err();
        assert!(error.contains("neither gzip nor zlib"), "{error}");
        let bomb = zlib(&vec![b' '; LARGEST as usize + 1]);
        let error = unpack(&with_header("gzip"), bomb).unwrap_err();
        assert!(error.contains("16 MiB"), "{error}");
    }
}
