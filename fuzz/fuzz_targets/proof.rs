//! The proof of who is on the other end: fingerprints out of a description, and an exchange with whatever share and
//! confirmation. Only who knows the secret confirms.
#![no_main]

use libfuzzer_sys::fuzz_target;
use visavis_proof::{Exchange, Party, Password, exchange_id, fingerprints};

fuzz_target!(|input: &[u8]| {
    let Some((share, rest)) = input.split_first_chunk::<32>() else { return };
    let Some((confirmation, sdp)) = rest.split_first_chunk::<32>() else { return };
    let Some(theirs) = fingerprints(&String::from_utf8_lossy(sdp)) else { return };
    let ours = ["sha-256 00".to_owned()];
    let own = Party { session: "ours", is_page: false, fingerprints: &ours };
    let remote = Party { session: "theirs", is_page: true, fingerprints: &theirs };
    let id = exchange_id("abcdef", own.session, remote.session);
    let exchange = Exchange::new(Password::Code("ghjkmn"), &id, [7; 32]);
    if let Some(agreement) = exchange.finish(&own, &remote, share) {
        assert!(!agreement.verify(confirmation), "a proof without the secret");
        let _ = agreement.emoji();
    }
});
