//! Certificates and private keys in PEM: what is wrong with a file that cannot be used, in words that follow
//! its name.

use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::pki_types::pem::{Error, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use crate::validity;

/// Without the mark of the encoding that some editors begin a text with.
pub fn unmarked(content: &[u8]) -> &[u8] {
    content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content)
}

/// The certificates in a file's content: one at least, and all of them. The complaint says which is bad.
pub fn certificates(content: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let content = unmarked(content);
    let mut all = Vec::new();
    for read in CertificateDer::pem_slice_iter(content) {
        let number = all.len() + 1;
        all.push(read.map_err(|error| {
            format!("holds a certificate, number {number}, that cannot be read: {error}")
        })?);
    }
    let begun = memchr::memmem::find_iter(content, b"-----BEGIN CERTIFICATE-----").count();
    match all.len() {
        0 if begun == 0 => Err("holds no certificate in PEM form".to_owned()),
        read if read < begun => {
            let number = read + 1;
            Err(format!("holds {begun} certificates, of which number {number} cannot be read"))
        }
        _ => Ok(all),
    }
}

/// Those who are trusted, by the certificates in a file's content: all of which have to be some.
pub fn authorities(content: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for (at, certificate) in certificates(content)?.into_iter().enumerate() {
        roots.add(certificate).map_err(|error| {
            format!("holds a certificate, number {}, that cannot be used: {error}", at + 1)
        })?;
    }
    Ok(roots)
}

/// The lists of what was revoked in a file's content: one at least.
pub fn revocation_lists(
    content: &[u8],
) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let content = unmarked(content);
    let all: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(content).collect();
    let all = all.map_err(|error| {
        format!("holds a list of what was revoked that cannot be read: {error}")
    })?;
    match all.is_empty() {
        true => Err("holds no `X509 CRL` in PEM form: if it is in DER, write it anew with `openssl crl -inform DER \
                     -in FILE -out NEW`"
            .to_owned()),
        false => Ok(all),
    }
}

/// What is to be said of certificates that are shown to others and out of their time, or soon are.
pub fn out_of_time(chain: &[CertificateDer<'_>]) -> Option<String> {
    validity::of_chain(chain, SystemTime::now()).map(|(_, told)| told)
}

/// The same of authorities in a file's content: one that is good is enough.
pub fn authorities_out_of_time(content: &[u8]) -> Option<String> {
    validity::of_authorities(&certificates(content).ok()?, SystemTime::now())
}

/// The private key in a file's content.
pub fn private_key(content: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let content = unmarked(content);
    PrivateKeyDer::from_pem_slice(content).map_err(|error| {
        let has = |word: &str| memchr::memmem::find(content, word.as_bytes()).is_some();
        // PKCS #8's way (RFC 5958), and that of RFC 1421, section 4.6.1.1.
        if has("-----BEGIN ENCRYPTED PRIVATE KEY-----") || has("Proc-Type: 4,ENCRYPTED") {
            return "holds an encrypted private key, and nobody is there to type its passphrase: write it \
                    without one (`openssl pkey -in FILE -out NEW`), for Genkan's user alone to read"
                .to_owned();
        }
        match error {
            Error::NoItemsFound => "holds no private key in PEM form".to_owned(),
            error => format!("holds a private key that cannot be read: {error}"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_of_the_one_that_it_is_wrong_with() {
        let block = |word: &str, text: &str| {
            format!("-----BEGIN {word}-----\n{text}\n-----END {word}-----\n")
        };
        let certificate = |text: &str| block("CERTIFICATE", text);
        let good = certificate("AAAA");
        for (text, told) in [
            (String::new(), "holds no certificate in PEM form"),
            (certificate("A!AA"), "number 1, that cannot be read"),
            (format!("{good}{}", certificate("A!AA")), "number 2, that cannot be read"),
            (format!("{good}-----BEGIN CERTIFICATE-----\nAAAA\n"), "number 2"),
        ] {
            let said = certificates(text.as_bytes()).expect_err(&text);
            assert!(said.contains(told), "{text}: {said}");
        }
        assert!(certificates(good.as_bytes()).is_ok());
        let list = block("X509 CRL", "AAAA");
        let key = block("PRIVATE KEY", "AAAA");
        for marked in [&good, &list, &key].map(|text| format!("\u{feff}{text}")) {
            let content = marked.as_bytes();
            let read = certificates(content).is_ok()
                || revocation_lists(content).is_ok()
                || private_key(content).is_ok();
            assert!(read, "as some editors begin a text: {marked}");
        }
        let said = authorities(good.as_bytes()).expect_err("no certificate");
        assert!(said.contains("number 1, that cannot be used"), "{said}");
        let old =
            block("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA");
        for (text, told) in [
            (block("ENCRYPTED PRIVATE KEY", "AAAA"), "an encrypted private key"),
            (old, "an encrypted private key"),
            (good, "holds no private key"),
            (block("PRIVATE KEY", "A!AA"), "that cannot be read"),
        ] {
            let said = private_key(text.as_bytes()).expect_err(&text);
            assert!(said.contains(told), "{text}: {said}");
        }
    }
}
