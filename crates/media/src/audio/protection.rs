//! How sound is protected against loss: Opus' bitrate and expected loss, and which redundant copies
//! go along, from what the receiver reports and what the network has room for.
//!
//! Sans-IO. Delay is not paid here: copies only make it possible to recover a packet later, and
//! the receiver decides whether it is worth the wait ([`crate::jitter`]).

use crate::codec::opus::{AudioContent, PACKET_SAMPLES};
use crate::frame::{AUDIO_RATE_HZ, Bitrate};
use crate::red::Redundancy;

/// What is to be sent, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioProtection {
    /// Opus' target bitrate.
    pub bitrate: Bitrate,
    /// For Opus' in-band FEC.
    pub expected_loss_percent: u8,
    /// Copies in each packet (RED), for a receiver that takes them.
    pub redundancy: Redundancy,
}

impl AudioProtection {
    /// Packets of silence to send at the end of a talk spurt: one that tells of its end, and as many as
    /// bring the copies of it and of the last packets before.
    pub fn silence_packets(&self) -> usize {
        self.redundancy.reach() + 1
    }

    /// What it takes of the network, RTP, SRTP and UDP/IP headers included.
    pub fn wire_bitrate(&self) -> Bitrate {
        let copies = self.redundancy.depth() as u64;
        let red_bps = copies * (self.bitrate.as_bps() + RED_HEADER_BITS * PACKETS_PER_SECOND);
        Bitrate::from_bps(self.bitrate.as_bps() + red_bps + OVERHEAD_BPS)
    }
}

impl Default for AudioProtection {
    /// For a network of which nothing is known yet.
    fn default() -> Self {
        Self { bitrate: USUAL, expected_loss_percent: 10, redundancy: Redundancy::NONE }
    }
}

/// Chooses the [`AudioProtection`].
#[derive(Debug, Clone, Default)]
pub struct ProtectionControl {
    loss: f64,
    budget: Option<Bitrate>,
    level: usize,
    content: AudioContent,
    /// The most that the receiver wants of Opus.
    wanted: Option<Bitrate>,
}

impl ProtectionControl {
    /// A receiver report: the share of packets lost since the one before (RFC 3550 §6.4.1, 0 to 1).
    /// More loss is believed quickly, less slowly: a report covers 25 packets only.
    pub fn on_report(&mut self, fraction_lost: f64) {
        if !fraction_lost.is_finite() {
            return;
        }
        let fraction = fraction_lost.clamp(0.0, 1.0);
        let weight = if fraction > self.loss { RISE } else { FALL };
        self.loss += (fraction - self.loss) * weight;
        self.level = level(self.loss, self.level);
    }

    /// What the congestion control leaves to audio, headers included; `None` while it does not say.
    pub fn set_budget(&mut self, budget: Option<Bitrate>) {
        self.budget = budget;
    }

    /// What is sent.
    pub fn set_content(&mut self, content: AudioContent) {
        self.content = content;
    }

    /// The most bits a second of Opus that the receiver wants (`maxaveragebitrate`, RFC 7587 §6.1).
    pub fn set_most(&mut self, most: Option<Bitrate>) {
        self.wanted = most.map(|most| most.max(LOWEST));
    }

    /// The share of packets that is expected to be lost.
    pub fn loss(&self) -> f64 {
        self.loss
    }

    /// What to do now. Copies are given up before the bitrate is, and the bitrate before the call
    /// is; `red` says whether the receiver takes copies at all.
    pub fn protection(&self, red: bool) -> AudioProtection {
        let expected_loss_percent = (self.loss * 100.0).round().clamp(0.0, 30.0) as u8;
        let budget = self.budget.unwrap_or(MAX_WIRE);
        let (levels, good) = match self.content {
            AudioContent::Voice => (&LEVELS, GOOD_SPEECH),
            AudioContent::Music => (&MUSIC_LEVELS, GOOD_MUSIC),
        };
        let mut level = if red { self.level } else { 0 };
        loop {
            let Level { redundancy, bitrate, .. } = levels[level];
            let bitrate = self.wanted.map_or(bitrate, |most| bitrate.min(most));
            let mut wanted = AudioProtection { bitrate, expected_loss_percent, redundancy };
            if wanted.wire_bitrate() <= budget {
                return wanted;
            }
            // Fewer bits a packet first, as far as speech stays good, then fewer copies.
            let over = wanted.wire_bitrate().as_bps() - budget.as_bps();
            let copies = redundancy.depth() as u64 + 1;
            let lower = bitrate.as_bps().saturating_sub(over.div_ceil(copies));
            let floor = if level == 0 { LOWEST } else { good };
            if lower >= floor.as_bps() || level == 0 {
                wanted.bitrate = Bitrate::from_bps(lower.max(floor.as_bps()));
                return wanted;
            }
            level -= 1;
        }
    }
}

/// The level for a loss, with hysteresis against the one before.
fn level(loss: f64, current: usize) -> usize {
    let up = LEVELS.iter().rposition(|l| loss >= l.from_loss).unwrap_or(0);
    if up >= current {
        return up;
    }
    let down = LEVELS.iter().rposition(|l| loss >= l.from_loss * HYSTERESIS).unwrap_or(0);
    down.min(current)
}

struct Level {
    from_loss: f64,
    redundancy: Redundancy,
    bitrate: Bitrate,
}

/// Distances are spread because losses come in bursts; what each level leaves concealed is in
/// `docs/decisions/0009-audio-resilience.md`.
const LEVELS: [Level; 5] = [
    Level { from_loss: 0.0, redundancy: Redundancy::NONE, bitrate: USUAL },
    Level { from_loss: 0.006, redundancy: Redundancy::of(&[1]), bitrate: USUAL },
    Level { from_loss: 0.05, redundancy: Redundancy::of(&[1, 2]), bitrate: USUAL },
    Level { from_loss: 0.12, redundancy: Redundancy::of(&[1, 2, 4]), bitrate: USUAL },
    Level { from_loss: 0.22, redundancy: Redundancy::of(&[1, 2, 4, 7]), bitrate: GOOD_SPEECH },
];
/// The same losses and distances. All copies together take no more than 200 kbps, and a packet with its
/// copies fits into a datagram ([`crate::red::MAX_PAYLOAD_BYTES`]).
const MUSIC_LEVELS: [Level; 5] = [
    Level { bitrate: MUSIC, ..LEVELS[0] },
    Level { bitrate: Bitrate::from_kbps(96), ..LEVELS[1] },
    Level { bitrate: Bitrate::from_kbps(64), ..LEVELS[2] },
    Level { bitrate: GOOD_MUSIC, ..LEVELS[3] },
    Level { bitrate: Bitrate::from_kbps(40), ..LEVELS[4] },
];
/// A level is left when the loss is below this part of its threshold.
const HYSTERESIS: f64 = 0.6;
const RISE: f64 = 0.5;
/// Half of it is forgotten after 3.5 s of reports every 500 ms.
const FALL: f64 = 0.1;
/// Full-band speech with room for in-band FEC.
const USUAL: Bitrate = Bitrate::from_kbps(32);
/// Full-band or super-wideband speech without.
const GOOD_SPEECH: Bitrate = Bitrate::from_kbps(20);
/// Stereo music that hardly anybody tells from the original.
const MUSIC: Bitrate = Bitrate::from_kbps(128);
/// Stereo music as long as there is nothing better; below, copies are given up.
const GOOD_MUSIC: Bitrate = Bitrate::from_kbps(48);
/// Wideband speech that can be followed.
const LOWEST: Bitrate = Bitrate::from_kbps(12);
/// While the congestion control does not say.
const MAX_WIRE: Bitrate = Bitrate::from_kbps(180);
const PACKETS_PER_SECOND: u64 = AUDIO_RATE_HZ as u64 / PACKET_SAMPLES as u64;
const RED_HEADER_BITS: u64 = 32;
/// IPv4 20, UDP 8, RTP 12 with extensions 12, SRTP tag 16 bytes a packet.
const OVERHEAD_BPS: u64 = PACKETS_PER_SECOND * (20 + 8 + 24 + 16) * 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn after(losses: &[f64]) -> ProtectionControl {
        let mut control = ProtectionControl::default();
        losses.iter().for_each(|&l| control.on_report(l));
        control
    }

    #[test]
    fn without_loss_there_are_no_copies() {
        let protection = after(&[0.0; 10]).protection(true);
        assert_eq!(protection.redundancy, Redundancy::NONE);
        assert_eq!(protection.bitrate, Bitrate::from_kbps(32));
        assert_eq!(protection.silence_packets(), 1);
    }

    #[test]
    fn copies_grow_with_the_loss_and_go_after_it() {
        // One packet of 25 in a report is 4 %.
        let three_percent = after(&[0.04, 0.0, 0.04, 0.04, 0.0, 0.04, 0.04, 0.0, 0.04, 0.04]);
        assert_eq!(three_percent.protection(true).redundancy, Redundancy::of(&[1]));
        assert_eq!(after(&[0.2; 6]).protection(true).redundancy, Redundancy::of(&[1, 2, 4]));
        assert_eq!(after(&[0.3; 6]).protection(true).redundancy.depth(), 4);
        let mut gone = after(&[0.2; 6]);
        (0..45).for_each(|_| gone.on_report(0.0));
        assert_eq!(gone.protection(true).redundancy, Redundancy::NONE);
    }

    #[test]
    fn nobody_gets_copies_that_cannot_be_read() {
        let protection = after(&[0.3; 6]).protection(false);
        assert_eq!(protection.redundancy, Redundancy::NONE);
        assert_eq!(protection.expected_loss_percent, 30);
    }

    #[test]
    fn the_budget_is_kept_while_speech_can_be_followed() {
        for loss in [0.0, 0.03, 0.1, 0.2, 0.4] {
            let mut control = after(&[loss; 8]);
            for kbps in (40..300).step_by(7) {
                control.set_budget(Some(Bitrate::from_kbps(kbps)));
                let protection = control.protection(true);
                assert!(protection.wire_bitrate() <= Bitrate::from_kbps(kbps), "{protection:?}");
                assert!(protection.bitrate >= LOWEST);
            }
            control.set_budget(Some(Bitrate::from_kbps(10)));
            assert_eq!(control.protection(true).bitrate, LOWEST);
        }
    }

    #[test]
    fn music_has_its_rate_where_there_is_room_and_less_where_there_is_not() {
        let mut control = ProtectionControl::default();
        control.set_content(AudioContent::Music);
        assert_eq!(control.protection(true).bitrate, MUSIC);
        // A quarter of what the network takes.
        let mut last = Bitrate::default();
        for (network_kbps, least, most) in [
            (150, 12, 12),
            (250, 30, 40),
            (400, 70, 75),
            (500, 95, 100),
            (625, 128, 128),
            (5000, 128, 128),
        ] {
            control.set_budget(Some(Bitrate::from_kbps(network_kbps / 4)));
            let bitrate = control.protection(true).bitrate;
            let range = Bitrate::from_kbps(least)..=Bitrate::from_kbps(most);
            assert!(range.contains(&bitrate), "{network_kbps} kbps: {bitrate:?}");
            assert!(bitrate >= last);
            last = bitrate;
        }
        control.set_content(AudioContent::Voice);
        assert_eq!(control.protection(true).bitrate, USUAL);
    }

    #[test]
    fn copies_of_music_stay_within_a_datagram_and_a_rate() {
        for loss in [0.01, 0.03, 0.08, 0.15, 0.3, 0.6] {
            let mut control = after(&[loss; 8]);
            control.set_content(AudioContent::Music);
            let protection = control.protection(true);
            assert!(!protection.redundancy.is_none());
            let wire = protection.wire_bitrate();
            assert!(wire <= Bitrate::from_kbps(240), "{loss}: {protection:?}, {wire:?}");
            let packet_bytes = protection.bitrate.as_bps() / 8 / PACKETS_PER_SECOND;
            let payload = packet_bytes * (protection.redundancy.depth() as u64 + 1);
            assert!(payload < crate::red::MAX_PAYLOAD_BYTES as u64, "{loss}: {payload} bytes");
            for kbps in (40..300).step_by(7) {
                control.set_budget(Some(Bitrate::from_kbps(kbps)));
                let protection = control.protection(true);
                assert!(protection.wire_bitrate() <= Bitrate::from_kbps(kbps), "{protection:?}");
            }
        }
    }

    #[test]
    fn no_more_is_sent_than_the_receiver_wants() {
        let mut control = ProtectionControl::default();
        control.set_content(AudioContent::Music);
        control.set_most(Some(Bitrate::from_kbps(64)));
        assert_eq!(control.protection(true).bitrate, Bitrate::from_kbps(64));
        control.set_most(Some(Bitrate::from_kbps(1)));
        assert_eq!(control.protection(true).bitrate, LOWEST);
        control.set_most(None);
        assert_eq!(control.protection(true).bitrate, MUSIC);
    }

    #[test]
    fn reports_that_are_nonsense_change_nothing() {
        let mut control = after(&[f64::NAN, f64::INFINITY]);
        assert!(control.loss() < 1e-9);
        control.on_report(7.0);
        assert!(control.loss() <= 1.0);
    }
}
