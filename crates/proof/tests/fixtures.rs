//! Whole exchanges, computed by an independent program.
#![allow(clippy::unwrap_used, missing_docs)]

use serde_json::Value;
use visavis_proof::{
    ContinuityKey, Exchange, Party, Password, commitment, compared_emoji, exchange_id,
};

fn fixture() -> Value {
    serde_json::from_str(include_str!("../fixtures/exchanges.json")).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn array(value: &Value) -> [u8; 32] {
    let text = value.as_str().unwrap();
    std::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
}

fn emoji(value: &Value) -> Vec<u8> {
    serde_json::from_value(value["emoji"].clone()).unwrap()
}

struct Owner {
    session: String,
    is_page: bool,
    fingerprints: Vec<String>,
}

impl Owner {
    fn read(value: &Value) -> Self {
        Self {
            session: value["session"].as_str().unwrap().into(),
            is_page: value["page"].as_bool().unwrap(),
            fingerprints: serde_json::from_value(value["fingerprints"].clone()).unwrap(),
        }
    }

    fn party(&self) -> Party<'_> {
        let Self { session, is_page, fingerprints } = self;
        Party { session, is_page: *is_page, fingerprints }
    }
}

#[test]
fn both_sides_come_to_the_same_as_an_independent_program() {
    let fixture = fixture();
    for v in fixture["exchanges"].as_array().unwrap() {
        let (a, b) = (Owner::read(&v["a"]), Owner::read(&v["b"]));
        let sid = exchange_id(v["room"].as_str().unwrap(), &a.session, &b.session);
        assert_eq!(hex(&sid), v["exchangeId"]);
        assert_eq!(sid, exchange_id(v["room"].as_str().unwrap(), &b.session, &a.session));
        assert_eq!(hex(&a.party().associated_data()), v["associatedDataA"]);
        let key;
        let password = match v["code"].as_str() {
            Some(code) => Password::Code(code),
            None => {
                key = ContinuityKey::from_bytes(array(&v["key"]));
                Password::Key(&key)
            }
        };
        let exchange_a = Exchange::new(password, &sid, array(&v["a"]["scalar"]));
        let exchange_b = Exchange::new(password, &sid, array(&v["b"]["scalar"]));
        assert_eq!(hex(&exchange_a.share()), v["shareA"]);
        assert_eq!(hex(&exchange_b.share()), v["shareB"]);
        let at_a = exchange_a.finish(&a.party(), &b.party(), &exchange_b.share()).unwrap();
        let at_b = exchange_b.finish(&b.party(), &a.party(), &exchange_a.share()).unwrap();
        assert_eq!(hex(&at_a.confirmation()), v["confirmA"]);
        assert_eq!(hex(&at_b.confirmation()), v["confirmB"]);
        assert!(at_a.verify(&at_b.confirmation()) && at_b.verify(&at_a.confirmation()));
        assert_eq!(hex(at_a.continuity_key().bytes()), v["continuityKey"]);
        assert_eq!(hex(&at_b.continuity_key().id()), v["keyId"]);
        assert_eq!(at_a.emoji().to_vec(), emoji(v));
        assert_eq!(at_b.emoji().to_vec(), emoji(v));
    }
    let v = &fixture["compared"];
    let (a, b) = (Owner::read(&v["a"]), Owner::read(&v["b"]));
    let sid = exchange_id(v["room"].as_str().unwrap(), &a.session, &b.session);
    let (nonce_a, nonce_b) = (array(&v["a"]["nonce"]), array(&v["b"]["nonce"]));
    assert_eq!(hex(&commitment(&sid, &a.party(), &nonce_a)), v["commitmentA"]);
    assert_eq!(hex(&commitment(&sid, &b.party(), &nonce_b)), v["commitmentB"]);
    let (a, b) = ((&a.party(), &nonce_a), (&b.party(), &nonce_b));
    assert_eq!(compared_emoji(&sid, a, b).to_vec(), emoji(v));
    assert_eq!(compared_emoji(&sid, b, a).to_vec(), emoji(v));
}

/// An exchange in which one thing differs between the two views of it.
fn differs(change: impl Fn(&mut Owner, &mut Owner)) -> bool {
    let v = &fixture()["exchanges"][0];
    let (a, b) = (Owner::read(&v["a"]), Owner::read(&v["b"]));
    let (mut a_seen, mut b_seen) = (Owner::read(&v["a"]), Owner::read(&v["b"]));
    change(&mut a_seen, &mut b_seen);
    let sid = |one: &Owner, other: &Owner| exchange_id("abc-def", &one.session, &other.session);
    let at_a = Exchange::new(Password::Code("ghjkmn"), &sid(&a, &b_seen), [1; 32]);
    let at_b = Exchange::new(Password::Code("ghjkmn"), &sid(&b, &a_seen), [2; 32]);
    let a_has = at_a.finish(&a.party(), &b_seen.party(), &at_b.share()).unwrap();
    let b_has = at_b.finish(&b.party(), &a_seen.party(), &at_a.share()).unwrap();
    let agreed = [b_has.verify(&a_has.confirmation()), a_has.verify(&b_has.confirmation())];
    assert_eq!(agreed[0], agreed[1]);
    !agreed[0]
}

#[test]
fn two_who_see_different_parties_do_not_agree() {
    assert!(!differs(|_, _| {}));
    assert!(differs(|a, _| a.fingerprints[0].replace_range(8..9, "0")));
    assert!(differs(|_, b| b.fingerprints.truncate(1)));
    assert!(differs(|a, _| a.is_page = true));
    assert!(differs(|_, b| b.session.push('x')));
}

#[test]
fn another_secret_or_another_kind_does_not_agree_and_echoes_are_refused() {
    let v = &fixture()["exchanges"][0];
    let (a, b) = (Owner::read(&v["a"]), Owner::read(&v["b"]));
    let sid = exchange_id("abc-def", &a.session, &b.session);
    let code = Exchange::new(Password::Code("ghjkmn"), &sid, [1; 32]);
    let key = ContinuityKey::from_bytes(*b"ghjkmn__________________________");
    for other in [Password::Code("ghjkmm"), Password::Key(&key)] {
        let other = Exchange::new(other, &sid, [2; 32]);
        let at_a = code.finish(&a.party(), &b.party(), &other.share()).unwrap();
        let at_b = other.finish(&b.party(), &a.party(), &code.share()).unwrap();
        assert!(!at_a.verify(&at_b.confirmation()) && !at_b.verify(&at_a.confirmation()));
    }
    let at_a = code.finish(&a.party(), &b.party(), &[9; 32]).unwrap();
    assert!(!at_a.verify(&at_a.confirmation()), "the own confirmation sent back");
    assert!(code.finish(&a.party(), &b.party(), &code.share()).is_none(), "the own share");
    assert!(code.finish(&a.party(), &a.party(), &[9; 32]).is_none(), "the own session");
}
