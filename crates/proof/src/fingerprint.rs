//! Certificate fingerprints of a session description (RFC 8122 §5).

/// All `a=fingerprint` values of a description, at whatever level, in one form: the name of the hash
/// function in lower case, a space, the bytes as upper-case hexadecimal with colons; sorted, each once.
/// Empty if there is none; `None` if one cannot be read.
pub fn fingerprints(sdp: &str) -> Option<Vec<String>> {
    let mut all = Vec::new();
    for line in sdp.lines() {
        let Some(value) = line.strip_prefix("a=fingerprint:") else { continue };
        let (function, bytes) = value.trim().split_once(' ')?;
        let bytes = bytes.trim_start();
        let is_hex = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
        if function.is_empty() || !bytes.split(':').all(is_hex) {
            return None;
        }
        all.push(format!("{} {}", function.to_ascii_lowercase(), bytes.to_ascii_uppercase()));
    }
    all.sort();
    all.dedup();
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_have_one_form_however_they_are_written() {
        let sdp = "v=0\r\na=fingerprint:SHA-256 ab:0C\r\nm=audio 9 x\r\na=fingerprint:sha-256 AB:0c\r\n\
                   a=fingerprint:sha-1 FF\r\n";
        let expected = ["sha-1 FF".to_owned(), "sha-256 AB:0C".to_owned()];
        assert_eq!(fingerprints(sdp).as_deref(), Some(&expected[..]));
        assert_eq!(fingerprints("v=0\r\n"), Some(Vec::new()));
        for bad in ["sha-256", "sha-256 AB:C", "sha-256 AB:GG", " AB", "sha-256 AB CD"] {
            assert_eq!(fingerprints(&format!("a=fingerprint:{bad}\r\n")), None, "{bad}");
        }
    }
}
