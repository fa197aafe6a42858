//! Networks drawn from a seed: wherever there is a way, both sides find one and the same.

use std::time::Duration;

use crate::sim::nat::{ALL, NatKind};
use crate::sim::{Link, Place, Rng, SECOND, World, address};

/// `VISAVIS_ICE_SEEDS=FROM-TO` for a longer or another walk.
fn seeds(count: u64) -> std::ops::Range<u64> {
    let Ok(range) = std::env::var("VISAVIS_ICE_SEEDS") else { return 0..count };
    let (from, to) = range.split_once('-').unwrap();
    from.parse().unwrap()..to.parse().unwrap()
}

struct Drawn {
    link: Link,
    places: [Place; 2],
    /// What both find for sure: a relay on either side that the other one reaches, or NATs that let through.
    connects: bool,
}

fn draw(seed: u64) -> Drawn {
    let mut rng = Rng(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let mut place = |side: usize| {
        let mut place = Place::new(side, ALL[rng.below(6) as usize]);
        if rng.chance(0.5) {
            place = place.with_relay();
        }
        place.tcp = rng.chance(0.3);
        for extra in 0..rng.below(4) {
            // Bridges that lead nowhere.
            place.hosts.insert(0, address(&format!("172.{}.{side}.1:{}", 17 + extra, 6000 + side)));
        }
        place
    };
    let mut places = [place(0), place(1)];
    if rng.chance(0.1) {
        places[1].lan = places[0].lan;
    }
    let link = Link {
        one_way: Duration::from_millis(1 + rng.below(200)),
        relayed: Duration::from_millis(5 + rng.below(250)),
        jitter: Duration::from_millis(rng.below(30)),
        loss: [0.0, 0.02, 0.1, 0.2][rng.below(4) as usize],
        signaling: Duration::from_millis(1 + rng.below(400)),
        direct_blocked: rng.chance(0.1),
        ..Link::default()
    };
    let hard = |a: NatKind, b: NatKind| {
        a == NatKind::Symmetric && matches!(b, NatKind::Symmetric | NatKind::PortRestricted)
    };
    let [a, b] = [places[0].nat, places[1].nat];
    let no_udp = a == NatKind::NoUdp || b == NatKind::NoUdp;
    let direct = !link.direct_blocked && !no_udp && !hard(a, b) && !hard(b, a);
    let lan = !link.direct_blocked && places[0].lan == places[1].lan;
    // A relay is reached by whoever has UDP, or a relay of its own.
    let reached = |relay: usize, from: usize| {
        !places[relay].relays.is_empty()
            && (places[from].nat != NatKind::NoUdp || !places[from].relays.is_empty())
    };
    let connects = direct || lan || reached(0, 1) || reached(1, 0);
    Drawn { link, places, connects }
}

#[test]
fn where_there_is_a_way_both_find_the_same() {
    let (mut connected, mut slowest) = (0, (Duration::ZERO, 0));
    for seed in seeds(400) {
        let Drawn { link, places, connects } = draw(seed);
        if !connects {
            continue;
        }
        let kinds = [places[0].nat, places[1].nat];
        let mut world = World::pair(seed, link.clone(), places);
        let done = world.connect(15 * SECOND);
        assert!(done, "seed {seed}: {kinds:?} {link:?}");
        connected += 1;
        slowest = slowest.max((world.elapsed() - link.signaling * 2, seed));
        // Settled a little later, they still agree and nobody was without a pair.
        world.run(5 * SECOND);
        let agreed = world.run_until(5 * SECOND, |world| world.is_agreed());
        assert!(agreed, "seed {seed}: {kinds:?} {link:?}");
        assert!(!world.ours(0).gap && !world.ours(1).gap, "seed {seed}");
        for side in 0..2 {
            let bound = 1 + (world.elapsed().as_millis() / 5) as usize;
            let ours = world.snapshot(side).checks_sent as usize;
            assert!(ours <= bound, "seed {seed}: {ours} checks");
        }
    }
    println!(
        "{connected} networks, the slowest by seed {}: {:?} beside signaling",
        slowest.1, slowest.0
    );
    assert!(connected > 200 || std::env::var_os("VISAVIS_ICE_SEEDS").is_some());
}

#[test]
fn breaks_and_restarts_at_random_never_end_on_different_pairs() {
    for seed in seeds(60) {
        let mut rng = Rng(seed);
        let kinds = [ALL[rng.below(5) as usize], ALL[rng.below(5) as usize]];
        let places = [Place::new(0, kinds[0]).with_relay(), Place::new(1, kinds[1]).with_relay()];
        let mut world = World::pair(seed, Link { loss: 0.05, ..Link::default() }, places);
        assert!(world.connect(15 * SECOND), "seed {seed}");
        for _ in 0..12 {
            match rng.below(4) {
                0 => world.link.direct_blocked = !world.link.direct_blocked,
                1 => {
                    let side = rng.below(2) as usize;
                    world.act(side, |ours, now| ours.input(now, visavis_ice::Input::Restart));
                    world.offer_from(side);
                    // One negotiation at a time.
                    world.run(world.link.signaling * 3);
                }
                2 => world.link.loss = [0.0, 0.1, 0.3][rng.below(3) as usize],
                _ => {}
            }
            world.run(Duration::from_millis(rng.below(6000)));
        }
        world.link.loss = 0.0;
        world.run(10 * SECOND);
        assert!(world.is_agreed(), "seed {seed} {kinds:?}");
        assert!(!world.ours(0).gap && !world.ours(1).gap, "seed {seed}");
        let states = [0, 1].map(|side| world.ours(side).agent.state());
        assert!(world.ends.iter().all(|end| end.is_connected()), "seed {seed} {states:?}");
    }
}
