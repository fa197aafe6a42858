//! Calls over networks of every kind, each made of a seed. `VISAVIS_CALL_SEEDS=FROM-TO` plays others than the few of
//! every test run; a seed that fails prints itself and its network.

use std::fmt::Write;

use super::*;

/// What happens in the middle of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disturbance {
    Nothing,
    /// Nothing gets through for so long.
    Outage(Duration),
    /// This side restarts ICE.
    Restart(usize),
    /// This side's address is another one.
    AddressChange(usize),
}

struct Call {
    world: World,
    disturbance: Disturbance,
    /// How much of the call there is after it was connected.
    length: Duration,
}

impl Call {
    fn of(seed: u64) -> Self {
        let mut random = Seeded(seed);
        let link = Link {
            one_way: Duration::from_millis(random.between(0, 160)),
            jitter: Duration::from_millis([0, 0, 5, 30][random.between(0, 4) as usize]),
            loss_percent: [0, 0, 1, 5, 15, 30][random.between(0, 6) as usize],
            outage: None,
        };
        let mut world = World::new(link, seed);
        world.signaling = Duration::from_millis(random.between(1, 300));
        for side in [0, 1] {
            match random.between(0, 4) {
                0 => world.put_behind(side, NatKind::EndpointIndependent),
                1 => world.put_behind(side, NatKind::AddressAndPortDependent),
                _ => {}
            }
        }
        let side = random.between(0, 2) as usize;
        let disturbance = match random.between(0, 5) {
            0 => Disturbance::Outage(Duration::from_millis(random.between(200, 4000))),
            1 => Disturbance::Restart(side),
            2 => Disturbance::AddressChange(side),
            _ => Disturbance::Nothing,
        };
        Self { world, disturbance, length: Duration::from_secs(8) }
    }

    /// Whether the two can meet without a relay: not if one maps anew for each destination, and the other one lets only
    /// those in whom it has sent to.
    fn can_meet(&self) -> bool {
        let kinds = self.world.sides.each_ref().map(|side| side.nat.as_ref().map(|nat| nat.kind));
        let symmetric = Some(NatKind::AddressAndPortDependent);
        !(kinds.contains(&symmetric) && kinds.iter().all(Option::is_some))
    }

    /// Plays it; what is wrong with it, in words.
    fn play(&mut self) -> Result<(), String> {
        self.world.offer(0, false);
        let connected = self.world.run(Duration::from_secs(12), World::are_connected);
        if !self.can_meet() {
            let failed = |world: &World| world.sides.iter().all(|side| side.connection.is_failed());
            let told = connected || self.world.run(Duration::from_secs(40), failed);
            return if told { Ok(()) } else { Err("neither connected nor failed".into()) };
        }
        if !connected {
            return Err("not connected after 12 s".into());
        }
        let begin = self.world.elapsed();
        let mut outage = Duration::ZERO;
        for tick in 0_u64.. {
            let at = self.world.elapsed() - begin;
            if at >= self.length {
                break;
            }
            if tick == 150 {
                outage = self.disturb();
            }
            // Frames of 2.5 Mbps at 30 fps, as sizes vary; audio every 20 ms.
            for side in [0, 1] {
                self.world.send_audio(side);
                if tick % 5 < 3 {
                    let bytes = self.world.random.between(3000, 11_000) as usize;
                    self.world.send_frame(side, tick % 250 == 0, bytes);
                }
            }
            self.world.run(Duration::from_millis(20), |_| false);
        }
        self.world.run(Duration::from_secs(1), |_| false);
        self.judge(begin, outage)
    }

    /// How long it may be silent for that.
    fn disturb(&mut self) -> Duration {
        let world = &mut self.world;
        match self.disturbance {
            Disturbance::Nothing => Duration::ZERO,
            Disturbance::Outage(length) => {
                let from = world.elapsed();
                world.link.outage = Some((from, from + length));
                length
            }
            Disturbance::Restart(side) => {
                world.offer(side, true);
                Duration::ZERO
            }
            Disturbance::AddressChange(side) => {
                let now = world.now;
                let (old, new) =
                    (world.sides[side].bases[0], SocketAddr::from(([10, 9, 0, 1], 5000)));
                world.sides[side].bases = vec![new];
                let paths = &mut world.sides[side].connection.paths;
                paths.remove_base(now, old);
                paths.add_base(now, new, 65_535, None);
                world.offer(side, true);
                // Candidate, offer and answer by signaling, and checks.
                2 * world.signaling + 6 * world.link.one_way
            }
        }
    }

    fn judge(&self, begin: Duration, outage: Duration) -> Result<(), String> {
        let allowed = outage + Duration::from_secs(1);
        for (number, side) in self.world.sides.iter().enumerate() {
            if side.connection.state != PeerConnectionState::Connected {
                return Err(format!("side {number} ends {}", side.connection.state));
            }
            let us = |time: &MediaTime| Duration::from_micros(time.as_micros());
            let heard = side.heard.lock().unwrap();
            let times: Vec<Duration> = heard.iter().map(us).filter(|at| *at > begin).collect();
            let first = times.first().map(|first| *first - begin);
            let gaps = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
            let longest = gaps.chain(first).max().unwrap_or(self.length);
            if longest > allowed {
                return Err(format!("side {number} heard nothing for {longest:?} of {allowed:?}"));
            }
            if !side.received.lock().unwrap().iter().any(|packet| packet.marker) {
                return Err(format!("side {number} saw nothing"));
            }
        }
        Ok(())
    }
}

#[test]
fn calls_over_random_networks_connect_and_are_not_silent_for_long() {
    let seeds = std::env::var("VISAVIS_CALL_SEEDS").ok().and_then(|range| {
        let (from, to) = range.split_once('-')?;
        Some(from.parse::<u64>().ok()?..to.parse().ok()?)
    });
    let seeds = seeds.unwrap_or(0..DEFAULT_SEEDS);
    let begin = Instant::now();
    let (mut virtual_time, mut failures) = (Duration::ZERO, String::new());
    for seed in seeds.clone() {
        let mut call = Call::of(seed);
        if let Err(why) = call.play() {
            let link = &call.world.link;
            let nats = call.world.sides.each_ref().map(|s| s.nat.as_ref().map(|nat| nat.kind));
            let _ =
                writeln!(failures, "seed {seed}: {why}; {link:?} {nats:?} {:?}", call.disturbance);
        }
        virtual_time += call.world.elapsed();
    }
    let real = begin.elapsed();
    let speed = virtual_time.as_secs_f64() / real.as_secs_f64();
    eprintln!(
        "{} calls, {virtual_time:?} in {real:?}: {speed:.0} times real time",
        seeds.end - seeds.start
    );
    assert!(failures.is_empty(), "{failures}");
}

/// Some seconds of every test run.
const DEFAULT_SEEDS: u64 = 60;
