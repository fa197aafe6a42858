//! Restarts: the pair that carries data stays until the new generation has one.

use visavis_ice::{Config, Event, Input, State};

use crate::sim::nat::NatKind;
use crate::sim::{Endpoint, Link, MS, Ours, Place, SECOND, Signal, World};

fn connected(seed: u64) -> World {
    let places = [NatKind::PortRestricted, NatKind::AddressRestricted];
    let places = [Place::new(0, places[0]).with_relay(), Place::new(1, places[1]).with_relay()];
    let mut world = World::pair(seed, Link::default(), places);
    assert!(world.connect(2 * SECOND));
    world.run(2 * SECOND);
    world
}

fn restart(world: &mut World, side: usize) {
    world.act(side, |ours, now| ours.input(now, Input::Restart));
    world.offer_from(side);
}

fn generation(world: &mut World, side: usize) -> u32 {
    world.snapshot(side).generations[0].number
}

#[test]
fn either_side_restarts_without_a_gap_and_without_losing_data() {
    for side in [0, 1] {
        let mut world = connected(1);
        let before = world.ours(side).agent.local_credentials().clone();
        world.data = Default::default();
        restart(&mut world, side);
        let after = world.ours(side).agent.local_credentials().clone();
        assert_ne!(before, after);
        let mut sent = 0;
        for _ in 0..300 {
            assert!(world.send_data(0) && world.send_data(1));
            sent += 1;
            world.run(10 * MS);
        }
        world.run(SECOND);
        assert_eq!((generation(&mut world, 0), generation(&mut world, 1)), (1, 1));
        assert!(world.is_agreed() && !world.ours(0).gap && !world.ours(1).gap, "side {side}");
        for side in 0..2 {
            assert_eq!(world.data[side].len(), sent);
            // All of it is the remote peer's to the agent, by old pairs and new ones.
            let received = &world.ours(side).received;
            assert!(received.iter().all(|r| matches!(r, visavis_ice::Received::Data(_))));
            assert_eq!(
                world.ours(side).selections().len(),
                2,
                "{:?}",
                world.ours(side).selections()
            );
        }
        let told = world.ours(1 - side).events.iter();
        let told = told.filter(|(_, event)| matches!(event, Event::RemoteRestarted { .. })).count();
        assert_eq!(told, 1);
        // The generation before is gone in the end.
        world.run(5 * SECOND);
        assert_eq!(world.snapshot(0).generations.len(), 1);
    }
}

#[test]
fn both_restart_at_once() {
    let mut world = connected(2);
    // As after glare: one offer is taken back and the other one answered.
    world.act(0, |ours, now| ours.input(now, Input::Restart));
    world.act(1, |ours, now| ours.input(now, Input::Restart));
    world.offer_from(0);
    world.run(3 * SECOND);
    assert!(world.is_agreed() && !world.ours(0).gap && !world.ours(1).gap);
    assert_eq!((generation(&mut world, 0), generation(&mut world, 1)), (1, 1));
}

#[test]
fn a_restart_that_nobody_answers_changes_nothing() {
    let mut world = connected(3);
    let selected = world.ours(0).agent.selected();
    world.act(0, |ours, now| ours.input(now, Input::Restart));
    world.run(60 * SECOND);
    assert_eq!(world.ours(0).agent.selected(), selected);
    assert!(world.ends.iter().all(|end| end.is_connected()));
    // A description that is none of the restart's, and a candidate of the old generation.
    let old = world.ours(1).description();
    world.signal_from(1, Signal::Answer(old));
    world.run(SECOND);
    assert_eq!(world.ours(0).agent.selected(), selected);
    assert!(world.ours(0).errors.is_empty());
    world.act(0, |ours, now| ours.input(now, Input::CancelRestart));
    assert_eq!(generation(&mut world, 0), 0);
    world.run(30 * SECOND);
    assert!(world.is_agreed() && world.ends.iter().all(|end| end.is_connected()));
    // And it can be done again.
    restart(&mut world, 0);
    world.run(2 * SECOND);
    assert_eq!(generation(&mut world, 1), 1);
    assert!(world.is_agreed() && !world.ours(0).gap && !world.ours(1).gap);
}

#[test]
fn a_restart_helps_after_failure() {
    let mut world = connected(4);
    (world.link.direct_blocked, world.link.relay_blocked) = (true, true);
    assert!(world.run_until(60 * SECOND, |world| {
        (0..2).all(|side| world.ours(side).agent.state() == State::Failed)
    }));
    (world.link.direct_blocked, world.link.relay_blocked) = (false, false);
    restart(&mut world, 1);
    assert_eq!(world.ours(1).agent.state(), State::Checking);
    assert!(world.run_until(2 * SECOND, |world| world.is_agreed()));
    assert!(world.ends.iter().all(|end| end.is_connected()));
}

#[test]
fn the_pair_that_carries_data_may_die_while_a_restart_is_under_way() {
    let mut world = connected(5);
    world.link.signaling = 8 * SECOND;
    restart(&mut world, 0);
    world.link.direct_blocked = true;
    world.run(5 * SECOND);
    // By the old generation's relay.
    assert!(world.is_agreed() && world.ends.iter().all(|end| end.is_connected()));
    world.run(20 * SECOND);
    assert_eq!((generation(&mut world, 0), generation(&mut world, 1)), (1, 1));
    assert!(world.is_agreed() && !world.ours(0).gap && !world.ours(1).gap);
}

#[test]
fn restarts_one_after_another_keep_the_path() {
    let mut world = connected(6);
    for n in 0..20 {
        restart(&mut world, n % 2);
        world.run([20 * MS, 90 * MS, 300 * MS][n % 3]);
    }
    world.run(3 * SECOND);
    assert!(!world.ours(0).gap && !world.ours(1).gap);
    assert!(world.is_agreed());
}

#[test]
fn checks_that_overtake_the_description_are_answered_and_followed_up() {
    let places = [Place::new(0, NatKind::Open), Place::new(1, NatKind::Open)];
    let link = Link { signaling: 300 * MS, one_way: 10 * MS, ..Link::default() };
    let mut world = World::pair(7, link, places);
    world.run(MS);
    world.offer();
    assert!(world.run_until(590 * MS, |world| {
        world.snapshot(1).generations[0].pairs.iter().any(|pair| pair.answered > 0)
    }));
    assert_eq!(world.ours(0).agent.selected(), None);
    assert!(world.run_until(SECOND, |world| world.is_agreed()));
    let started = world.snapshot(0).generations[0].started.unwrap();
    assert_eq!(world.ours(0).first_selected().unwrap() - started, 20 * MS);
    assert_eq!(world.ours(1).first_selected().unwrap() - started, 10 * MS);
}

#[test]
fn without_renomination_restarts_work_as_well() {
    let ends = [0, 1].map(|end| {
        let config = Config { renomination: false, ..Config::default() };
        Box::new(Ours::with(end, end == 0, config)) as Box<dyn Endpoint>
    });
    let places = [Place::new(0, NatKind::PortRestricted), Place::new(1, NatKind::FullCone)];
    let mut world = World::new(8, Link::default(), places, ends);
    assert!(world.connect(2 * SECOND));
    restart(&mut world, 0);
    world.run(3 * SECOND);
    assert!(world.is_agreed() && !world.ours(0).gap && !world.ours(1).gap);
    assert_eq!(generation(&mut world, 1), 1);
}

#[test]
fn another_network_is_used_before_the_restart_for_it_is_through() {
    for side in [0, 1] {
        let places = [Place::new(0, NatKind::Open), Place::new(1, NatKind::Open)];
        let mut world = World::pair(9, Link::default(), places);
        assert!(world.connect(2 * SECOND));
        world.run(2 * SECOND);
        world.add_host(side, crate::sim::address("203.0.113.55:5000"));
        world.link.signaling = 10 * SECOND;
        // The network is gone, another one is there, and the program restarts ICE for it.
        let gone = world.ours(side).agent.selected().unwrap().path;
        world.act(side, |ours, now| ours.input(now, Input::PathRemoved(gone)));
        let base = crate::sim::address("203.0.113.55:5000");
        let found = visavis_ice::LocalCandidate::Host { base, preference: 1, name: None };
        restart(&mut world, side);
        world.act(side, |ours, now| ours.input(now, Input::LocalCandidate(found)));
        assert!(world.run_until(SECOND * 4, |world| world.is_agreed()), "side {side}");
        world.run(25 * SECOND);
        assert_eq!((generation(&mut world, 0), generation(&mut world, 1)), (1, 1));
        assert!(world.is_agreed() && world.ends.iter().all(|end| end.is_connected()));
    }
}

#[test]
fn data_that_was_under_way_on_the_old_path_still_counts() {
    let place = |side| Place::new(side, NatKind::PortRestricted).with_relay();
    let link =
        Link { direct_blocked: true, relayed: 200 * MS, signaling: 5 * MS, ..Link::default() };
    let mut world = World::pair(10, link, [place(0), place(1)]);
    assert!(world.connect(4 * SECOND));
    world.run(200 * MS);
    world.link.direct_blocked = false;
    restart(&mut world, 0);
    for side in 0..2 {
        world.ours(side).received.clear();
    }
    for _ in 0..100 {
        assert!(world.send_data(0) && world.send_data(1));
        world.run(10 * MS);
    }
    world.run(SECOND);
    for side in 0..2 {
        assert_eq!(
            world.ours(side).agent.selected().unwrap().class,
            visavis_ice::PathClass::DirectUdp
        );
        let received = &world.ours(side).received;
        assert_eq!(received.len(), 100);
        assert!(
            received.iter().all(|r| matches!(r, visavis_ice::Received::Data(_))),
            "side {side}"
        );
    }
}

#[test]
fn a_new_generation_full_of_dead_candidates_does_not_starve_the_path_in_use() {
    let mut places = [Place::new(0, NatKind::Open), Place::new(1, NatKind::Open)];
    for n in 0..6 {
        places[0].hosts.push(crate::sim::address(&format!("203.0.113.{}:5000", 60 + n)));
    }
    let mut world = World::pair(11, Link::default(), places);
    assert!(world.connect(2 * SECOND));
    world.run(2 * SECOND);
    let selected = world.ours(0).agent.selected().unwrap();
    world.act(0, |ours, now| ours.input(now, Input::Restart));
    let mut answer = Ours::new(99, false).description();
    for n in 0..32 {
        answer
            .candidates
            .push(format!("candidate:1 1 udp 2122252543 203.0.113.{} 9 typ host", 100 + n));
    }
    world.act(0, |ours, now| ours.signal(now, Signal::Answer(answer)));
    let from = world.now;
    world.run(25 * SECOND);
    assert_eq!(world.ours(0).agent.selected(), Some(selected));
    let snapshot = world.snapshot(0);
    assert_eq!(snapshot.generations[0].pairs.len(), 100);
    let pair = snapshot.generations[1].pairs.iter().find(|pair| pair.selected).unwrap();
    let mut times = vec![from];
    times.extend(pair.checks.iter().map(|check| check.at).filter(|at| *at > from));
    let longest = times.windows(2).map(|two| two[1] - two[0]).skip(1).max().unwrap();
    assert!(longest < 740 * MS, "{longest:?}");
    assert_eq!(pair.lost, 0);
}
