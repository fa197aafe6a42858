//! Two sides on virtual time.
#![allow(clippy::unwrap_used)]

use rtc::crypto::default_provider;
use rtc::ice::attributes::use_candidate::UseCandidateAttr;
use rtc::stun::fingerprint::FINGERPRINT;
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::{BINDING_SUCCESS, Message, TransactionId};

use super::*;

const PASSWORD: &str = "a password of the other side";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn situation(controlling: bool) -> Situation {
    Situation {
        detour: true,
        controlling,
        generation: Generation {
            local_ufrag: "ours".into(),
            remote_ufrag: "theirs".into(),
            remote_password: PASSWORD.into(),
        },
        locals: vec![address("10.0.0.1:1000")],
        remotes: vec![
            Remote { address: address("10.0.0.2:2000"), priority: 100 },
            Remote { address: address("198.51.100.2:2001"), priority: 50 },
            Remote { address: address("[2001:db8::2]:2002"), priority: 200 },
        ],
    }
}

fn answer(transaction: Transaction, password: &str) -> Vec<u8> {
    let crypto = default_provider().unwrap();
    let mut message = Message::new();
    message
        .build(&[
            Box::new(BINDING_SUCCESS),
            Box::new(TransactionId(transaction)),
            Box::new(MessageIntegrity::new_short_term_integrity_with_provider(
                password.to_owned(),
                crypto.crypto(),
            )),
            Box::new(FINGERPRINT),
        ])
        .unwrap();
    message.raw
}

/// One side, and a network that answers what `reaches` says.
struct World {
    checks: Checks,
    situation: Situation,
    start: Instant,
    now: Instant,
    sent: Vec<(Duration, Check)>,
}

impl World {
    fn new(controlling: bool) -> Self {
        let start = Instant::now();
        let situation = situation(controlling);
        Self { checks: Checks::default(), situation, start, now: start, sent: Vec::new() }
    }

    fn run(&mut self, time: Duration, reaches: impl Fn(Pair) -> bool) {
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_millis(200);
            for check in self.checks.tick(self.now, &self.situation) {
                let transaction = stun::transaction(&check.request).unwrap();
                if reaches(check.pair) {
                    let answer = answer(transaction, PASSWORD);
                    let later = self.now + Duration::from_millis(30);
                    assert!(self.checks.on_response(later, check.pair, &answer));
                }
                self.sent.push((self.now - self.start, check));
            }
        }
    }

    fn active(&self) -> Option<SocketAddr> {
        self.checks.active().map(|pair| pair.remote)
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_block_that_is_lifted_is_noticed_within_a_second_or_two() {
    let mut world = World::new(true);
    world.run(5 * SECOND, |_| false);
    assert_eq!(world.active(), None);
    world.run(1500 * SECOND / 1000, |_| true);
    assert_eq!(world.active(), Some(address("10.0.0.2:2000")), "the best that answers");
    // After minutes, too.
    let mut world = World::new(true);
    world.run(300 * SECOND, |_| false);
    world.run(2500 * SECOND / 1000, |pair| pair.remote.port() == 2001);
    assert_eq!(world.active(), Some(address("198.51.100.2:2001")));
}

#[test]
fn checks_are_few_while_nothing_answers() {
    let mut world = World::new(true);
    world.run(300 * SECOND, |_| false);
    // Two pairs of one family: 60 s once a second, then every other second.
    assert!((300..=400).contains(&world.sent.len()), "{}", world.sent.len());
}

#[test]
fn the_controlled_side_follows_media_and_does_not_lead() {
    let mut world = World::new(false);
    world.run(5 * SECOND, |_| true);
    assert_eq!(world.active(), None);
    let pair = Pair { local: address("10.0.0.1:1000"), remote: address("198.51.100.2:2001") };
    assert!(world.checks.on_media(world.now, pair));
    assert_eq!(world.active(), Some(pair.remote));
    // Not where it has no answer from: media may be anybody's.
    let mut world = World::new(false);
    world.run(5 * SECOND, |_| false);
    assert!(!world.checks.on_media(world.now, pair));
    assert_eq!(world.active(), None);
}

#[test]
fn a_pair_that_falls_silent_is_left_for_the_relay_and_rests() {
    let one_answers = |pair: Pair| pair.remote.port() == 2000;
    let mut world = World::new(true);
    world.run(3 * SECOND, one_answers);
    assert!(world.active().is_some());
    world.run(2 * SECOND, |_| false);
    assert_eq!(world.active(), None);
    // At once it would flap.
    world.run(SECOND, one_answers);
    assert_eq!(world.active(), None);
    world.run(3 * SECOND, one_answers);
    assert!(world.active().is_some());
}

#[test]
fn only_who_knows_the_password_answers() {
    let mut world = World::new(true);
    let checks = world.checks.tick(world.now, &world.situation);
    for check in &checks {
        let forged = answer(stun::transaction(&check.request).unwrap(), "guessed");
        // Kept from the stack all the same: it never asked.
        assert!(world.checks.on_response(world.now, check.pair, &forged));
    }
    assert_eq!(world.active(), None);
    let strangers = answer([9; 12], PASSWORD);
    assert!(!world.checks.on_response(world.now, checks[0].pair, &strangers));
    // The right answer from a wrong address proves nothing about the pair.
    let right = answer(stun::transaction(&checks[0].request).unwrap(), PASSWORD);
    let other = Pair { remote: address("203.0.113.1:1"), ..checks[0].pair };
    assert!(world.checks.on_response(world.now, other, &right));
    assert_eq!(world.active(), None);
    assert!(world.checks.on_response(world.now, checks[0].pair, &right));
    assert!(world.active().is_some());
}

#[test]
fn the_controlling_side_nominates_the_pair_in_use_and_no_other() {
    let nominates = |check: &Check| {
        let mut message = Message { raw: check.request.clone(), ..Message::default() };
        message.decode().unwrap();
        UseCandidateAttr::is_set(&message)
    };
    let mut world = World::new(true);
    world.run(4 * SECOND, |pair| pair.remote.port() == 2000);
    let nominated = world.sent.iter().filter(|(_, check)| nominates(check));
    let ports: Vec<u16> = nominated.map(|(_, check)| check.pair.remote.port()).collect();
    assert!(ports.len() >= 3 && ports.iter().all(|port| *port == 2000), "{ports:?}");
    let mut world = World::new(false);
    world.run(2 * SECOND, |_| true);
    assert!(!world.sent.iter().any(|(_, check)| nominates(check)));
}

#[test]
fn other_credentials_or_a_direct_pair_end_it() {
    let mut world = World::new(true);
    world.run(2 * SECOND, |_| true);
    assert!(world.active().is_some());
    world.situation.generation.local_ufrag = "new".into();
    world.checks.tick(world.now, &world.situation);
    assert_eq!(world.active(), None);
    world.run(2 * SECOND, |_| true);
    assert!(world.active().is_some());
    world.situation.detour = false;
    assert!(world.checks.tick(world.now, &world.situation).is_empty());
    assert_eq!(world.active(), None);
}
