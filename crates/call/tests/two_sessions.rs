//! Random disturbances of a call between two sessions: what may never happen, and how it must end.
//!
//! The runs are the same each time. `VISAVIS_CASES` asks for more or fewer of them, `VISAVIS_SEED`
//! for others; both are printed, with the smallest script that fails.
#![allow(clippy::unwrap_used, missing_docs)]

mod model;

use std::time::Duration;

use model::{Hostile, Step, World, ms};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use visavis_call::CallState;

/// Longer than any limit of a session, after which everything has been decided.
const QUIET: Duration = Duration::from_secs(240);

fn cases(default: u32) -> TestRunner {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let cases = number("VISAVIS_CASES").map_or(default, |n| u32::try_from(n).unwrap());
    let seed = number("VISAVIS_SEED").unwrap_or(4);
    println!("{cases} cases, seed {seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

fn seconds(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    (range.start * 1000..range.end * 1000).prop_map(ms)
}

/// What happens to calls without anybody's ill will or wish.
fn mishap(longest: u64) -> impl Strategy<Value = Step> {
    let side = 0usize..2;
    prop_oneof![
        3 => (side.clone(), seconds(0..longest)).prop_map(|(s, t)| Step::SignalingDown(s, t)),
        2 => seconds(0..longest).prop_map(Step::ServerRestart),
        3 => seconds(0..longest).prop_map(Step::MediaDown),
        3 => (side.clone(), any::<bool>()).prop_map(|(s, n)| Step::NetworkChange(s, n)),
        2 => side.clone().prop_map(Step::RestartIce),
        2 => (side.clone(), seconds(0..longest)).prop_map(|(s, t)| Step::Sleep(s, t)),
        2 => side.clone().prop_map(Step::Reload),
        1 => (side.clone(), any::<bool>()).prop_map(|(s, locked)| Step::Lock(s, locked)),
        1 => seconds(0..longest).prop_map(Step::Stranger),
        1 => side.prop_map(Step::Stale),
    ]
}

fn anything() -> impl Strategy<Value = Step> {
    let side = 0usize..2;
    let hostile = prop_oneof![
        Just(Hostile::Offer),
        Just(Hostile::Answer),
        Just(Hostile::Candidate),
        Just(Hostile::Stranger),
        Just(Hostile::Proof)
    ];
    prop_oneof![
        20 => mishap(90),
        4 => (0u8..60, 0u8..60, 0u8..60)
            .prop_map(|(lost, doubled, late)| Step::Wire { lost, doubled, late }),
        2 => (side.clone(), hostile).prop_map(|(s, h)| Step::Hostile(s, h)),
        1 => side.prop_map(Step::Hangup),
    ]
}

fn run(seed: u64, gap: Duration, script: &[(u64, Step)]) -> World {
    let mut world = World::new(seed, gap);
    for (pause, step) in script {
        world.run_until(world.now + ms(*pause));
        world.step(*step);
    }
    world.run_until(world.now + Duration::from_secs(5));
    world.calm();
    world.run_until(world.now + QUIET);
    world
}

fn states(world: &World) -> [&CallState; 2] {
    [world.sides[0].session.state(), world.sides[1].session.state()]
}

/// Runs a case; whatever goes wrong comes with the log.
fn check(
    seed: u64,
    gap: Duration,
    script: &[(u64, Step)],
    judge: impl Fn(&World) -> Result<(), String>,
) -> Result<(), TestCaseError> {
    let world = run(seed, gap, script);
    judge(&world).map_err(|why| TestCaseError::fail(format!("{why}\n{}", world.log)))
}

#[test]
fn whatever_happens_a_call_ends_connected_or_with_a_reason_on_both_sides() {
    let script = proptest::collection::vec((0u64..20_000, anything()), 0..12);
    cases(4000)
        .run(&(any::<u64>(), 0u64..2000, script), |(seed, gap, script)| {
            check(seed, ms(gap), &script, |world| match states(world) {
                [CallState::Connected, CallState::Connected] if world.path() => Ok(()),
                [CallState::Ended(_), CallState::Ended(_)] => Ok(()),
                // Whoever was reloaded after the other's end waits in an empty room.
                [CallState::Ended(_), CallState::Waiting]
                | [CallState::Waiting, CallState::Ended(_)] => Ok(()),
                other => Err(format!("{other:?}, media passes: {}", world.path())),
            })
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

/// Two in a call since long, and then a disturbance of both directions.
fn disturbed(signaling: bool, time: Duration) -> World {
    let mut world = World::new(1, ms(100));
    world.run_until(Duration::from_secs(10));
    world.log.clear();
    if signaling {
        (0..2).for_each(|side| world.step(Step::SignalingDown(side, time + ms(500))));
    }
    world.step(Step::MediaDown(time));
    world
}

#[test]
fn media_that_is_gone_for_a_second_is_answered_by_a_restart() {
    let mut world = disturbed(false, Duration::from_secs(60));
    world.run_until(world.now + ms(999));
    assert!(!world.log.contains("OfferRestart"), "{}", world.log);
    world.run_until(world.now + ms(101));
    assert!(world.log.contains("Description(SessionDescription { kind: Offer"), "{}", world.log);
}

#[test]
fn what_is_over_before_a_restart_is_answered_keeps_its_path() {
    let mut world = disturbed(true, Duration::from_secs(2));
    let before = world.generations();
    world.run_until(world.now + Duration::from_secs(2));
    assert!(world.log.contains("OfferRestart"), "{}", world.log);
    for _ in 0..1000 {
        world.run_until(world.now + ms(20));
        assert!(world.path(), "it was interrupted again\n{}", world.log);
    }
    assert_eq!(world.generations(), before);
    assert!(world.log.contains("for a path that was dead and is not"), "{}", world.log);
    assert!(world.log.contains("not needed"), "{}", world.log);
}

#[test]
fn a_call_survives_everything_that_passes() {
    let script = proptest::collection::vec((0u64..20_000, mishap(8)), 0..10);
    cases(4000)
        .run(&(any::<u64>(), 0u64..2000, script), |(seed, gap, script)| {
            check(seed, ms(gap), &script, |world| match states(world) {
                [CallState::Connected, CallState::Connected] if world.path() => Ok(()),
                other => Err(format!("{other:?}, media passes: {}", world.path())),
            })
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}
