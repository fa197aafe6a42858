#![allow(clippy::unwrap_used)]

use rtc::crypto::default_provider;
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::{BINDING_REQUEST, Message, Setter, TransactionId};

use super::super::checks::Generation;
use super::*;

const PASSWORD: &str = "a password of the other side";

fn pair() -> Pair {
    Pair { local: "10.0.0.1:1000".parse().unwrap(), remote: "10.0.0.2:2000".parse().unwrap() }
}

fn check(controlling: bool, nominate: bool) -> (Transaction, Vec<u8>) {
    let generation = Generation {
        local_ufrag: "ours".into(),
        remote_ufrag: "theirs".into(),
        remote_password: PASSWORD.into(),
    };
    stun::request(&generation, controlling, nominate, 1).unwrap()
}

fn prompt() -> Prompt {
    let mut prompt = Prompt::default();
    prompt.start(PASSWORD.into());
    prompt
}

fn genuine(datagram: &[u8]) -> bool {
    let mut message = Message { raw: datagram.to_vec(), ..Message::default() };
    message.decode().unwrap();
    let crypto = default_provider().unwrap();
    MessageIntegrity::check(&mut message, PASSWORD.as_bytes(), crypto.crypto()).is_ok()
}

#[test]
fn the_check_that_proves_a_pair_nominates_it() {
    let (mut prompt, now) = (prompt(), Instant::now());
    let (transaction, plain) = check(true, false);
    let Fate::Replace(sent) = prompt.on_send(now, pair(), &plain) else { panic!("not replaced") };
    assert!(stun::has_use_candidate(&sent) && !stun::has_use_candidate(&plain));
    assert!(genuine(&sent));
    assert_eq!(stun::transaction(&sent), Some(transaction));

    // The agent's own nomination before anything is proven goes out.
    let (_, nomination) = check(true, true);
    assert_eq!(prompt.on_send(now, pair(), &nomination), Fate::Pass);
    // Whoever does not know the password proves nothing.
    let forged = stun::success(transaction, pair().local, "guessed").unwrap();
    prompt.on_response(now, pair(), &forged);
    assert_eq!(prompt.on_send(now, pair(), &nomination), Fate::Pass);

    let answer = stun::success(transaction, pair().local, PASSWORD).unwrap();
    let elsewhere = Pair { remote: "10.0.0.3:2000".parse().unwrap(), ..pair() };
    prompt.on_response(now, elsewhere, &answer);
    assert_eq!(prompt.on_send(now, pair(), &nomination), Fate::Pass);
    assert_eq!(prompt.round_trip(), None);
    let later = now + Duration::from_millis(40);
    prompt.on_response(later, pair(), &answer);
    assert_eq!(prompt.round_trip(), Some(later - now));
    let (own, nomination) = check(true, true);
    let Fate::Answer(answer) = prompt.on_send(now, pair(), &nomination) else { panic!("sent") };
    assert!(genuine(&answer) && stun::is_success(&answer, PASSWORD));
    assert_eq!(stun::transaction(&answer), Some(own));
}

#[test]
fn relays_controlled_agents_and_strangers_are_left_alone() {
    let (mut prompt, now) = (prompt(), Instant::now());
    let (_, plain) = check(true, false);
    let channel = [&[0x40, 0, 0, plain.len() as u8], plain.as_slice()].concat();
    assert_eq!(prompt.on_send(now, pair(), &channel), Fate::Pass);
    prompt.add_relay(pair().remote);
    assert_eq!(prompt.on_send(now, pair(), &plain), Fate::Pass);
    let elsewhere = Pair { remote: "10.0.0.3:2000".parse().unwrap(), ..pair() };
    let (transaction, controlled) = check(false, false);
    assert_eq!(prompt.on_send(now, elsewhere, &controlled), Fate::Pass);
    // It takes the time only.
    let answer = stun::success(transaction, elsewhere.local, PASSWORD).unwrap();
    prompt.on_response(now, elsewhere, &answer);
    assert_eq!(prompt.round_trip(), Some(Duration::ZERO));
    assert_eq!(prompt.on_send(now, elsewhere, &check(true, true).1), Fate::Pass);
    assert_eq!(prompt.on_send(now, elsewhere, &[128, 0, 0, 0]), Fate::Pass);
    // A request to a STUN server.
    let mut binding = Message::new();
    binding
        .build(&[Box::new(BINDING_REQUEST) as Box<dyn Setter>, Box::<TransactionId>::default()])
        .unwrap();
    for _ in 0..20 {
        assert_eq!(prompt.on_send(now, elsewhere, &binding.raw), Fate::Pass);
    }
}

#[test]
fn checks_are_spaced_though_the_agent_ticks_fast() {
    let (mut prompt, start) = (prompt(), Instant::now());
    let mut sent = Vec::new();
    for tick in 0..1000u32 {
        let now = start + Duration::from_millis(5) * tick;
        if prompt.on_send(now, pair(), &check(false, false).1) != Fate::Drop {
            sent.push(now - start);
        }
        // The agent's pair of a reflexive candidate is the same one to the network.
        let doubled = prompt.on_send(now, pair(), &check(false, false).1);
        assert_eq!(doubled, Fate::Drop, "tick {tick}");
    }
    assert_eq!(sent[..4], [0, 5, 10, 15].map(Duration::from_millis));
    assert!((110..=140).contains(&sent.len()), "{}", sent.len());
    // Another peer behind the same relay has its own.
    let framed = |number| {
        let check = check(false, false).1;
        [&[0x40, number, 0, check.len() as u8], check.as_slice()].concat()
    };
    for number in 0..50 {
        assert_eq!(prompt.on_send(start, pair(), &framed(number)), Fate::Pass);
    }
}

/// M2 of the list of threats: the stack checks each pair at each tick of 5 ms, whoever named it.
#[test]
fn checks_of_very_many_pairs_are_paced_and_bounded() {
    let (mut prompt, start) = (prompt(), Instant::now());
    let mut sent = 0;
    let mut destinations = std::collections::HashSet::new();
    let (_, check) = check(true, false);
    for tick in 0..40 {
        let now = start + tick * Duration::from_millis(5);
        for port in 1000..2200 {
            let to = Pair { remote: SocketAddr::from(([10, 0, 0, 2], port)), ..pair() };
            if prompt.on_send(now, to, &check) != Fate::Drop {
                sent += 1;
                destinations.insert(port);
            }
        }
    }
    assert_eq!(destinations.len(), MAX_DESTINATIONS);
    // Each pair's first check, and a thousand a second after it.
    assert!((200..=330).contains(&sent), "{sent} checks in 200 ms");
}
