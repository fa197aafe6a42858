//! Numbers with their units, as people read them. Pure functions.

use std::time::Duration;

use visavis_engine::{CallSnapshot, CandidateInfo, CandidateType, PairInfo, Phase};

use crate::widgets::Level;

/// What stands where a number is not known.
pub(crate) const UNKNOWN: &str = "–";

/// `2.34 Mbps`, `812 kbps`.
pub(crate) fn bitrate(bps: u64) -> String {
    match bps {
        1_000_000.. => format!("{:.2} Mbps", bps as f64 / 1e6),
        _ => format!("{} kbps", (bps + 500) / 1000),
    }
}

/// `8.2 MB`, `13 kB`, `700 B`; powers of ten.
pub(crate) fn bytes(n: u64) -> String {
    match n {
        1_000_000_000.. => format!("{:.2} GB", n as f64 / 1e9),
        1_000_000.. => format!("{:.1} MB", n as f64 / 1e6),
        1_000.. => format!("{:.0} kB", n as f64 / 1e3),
        _ => format!("{n} B"),
    }
}

/// `18 ms`; below ten with one decimal; from a second on in seconds.
pub(crate) fn ms(d: Duration) -> String {
    let ms = d.as_secs_f64() * 1e3;
    match ms {
        1_000.0.. => format!("{:.1} s", ms / 1e3),
        10.0.. => format!("{ms:.0} ms"),
        _ => format!("{ms:.1} ms"),
    }
}

/// [`ms`], or a dash.
pub(crate) fn ms_or_unknown(d: Option<Duration>) -> String {
    d.map_or_else(|| UNKNOWN.to_owned(), ms)
}

/// `1.3 %` of a share from 0 to 1.
pub(crate) fn percent(share: f32) -> String {
    format!("{:.1} %", share * 100.0)
}

/// `1280×720`, or a dash.
pub(crate) fn size(width_px: u32, height_px: u32) -> String {
    if width_px == 0 { UNKNOWN.to_owned() } else { format!("{width_px}×{height_px}") }
}

/// `host udp 192.168.1.14:50331`.
pub(crate) fn candidate(c: &CandidateInfo) -> String {
    format!("{} {} {}", c.kind, c.protocol, c.address)
}

/// The pair that media runs over.
pub(crate) fn selected(s: &CallSnapshot) -> Option<&PairInfo> {
    s.pairs.iter().find(|p| p.selected)
}

/// Whether a relay (TURN server) is between the two.
pub(crate) fn is_relayed(pair: &PairInfo) -> bool {
    [&pair.local, &pair.remote].iter().any(|c| c.kind == CandidateType::Relay)
}

/// Share of the other side's video packets that never arrived, 0 to 1, over the whole call.
pub(crate) fn received_loss(s: &CallSnapshot) -> f32 {
    let v = &s.video_received;
    let lost = v.packets_lost.max(0) as f32;
    let all = v.packets as f32 + lost;
    if all > 0.0 { lost / all } else { 0.0 }
}

/// How the connection is, in a word, and all of it in a line: `Good · direct · 18 ms`.
///
/// Round trip: ITU-T G.114 takes 150 ms one way as the limit of ease, so 300 ms is poor.
/// Loss: beyond 2 % pictures suffer, beyond 8 % they break.
pub(crate) fn quality(s: &CallSnapshot) -> (Level, String) {
    if s.phase == Phase::Reconnecting {
        return (Level::Bad, "Reconnecting".into());
    }
    let Some(pair) = selected(s) else { return (Level::Info, "Measuring".into()) };
    let loss = received_loss(s).max(s.video_sent.remote_fraction_lost.unwrap_or(0.0));
    let rtt = pair.rtt.unwrap_or_default();
    let (level, word) = if rtt > Duration::from_millis(300) || loss > 0.08 {
        (Level::Bad, "Poor")
    } else if rtt > Duration::from_millis(150) || loss > 0.02 {
        (Level::Warn, "Fair")
    } else {
        (Level::Good, "Good")
    };
    let path = if is_relayed(pair) { "relayed" } else { "direct" };
    let rtt = match pair.rtt {
        Some(d) if d < Duration::from_millis(1) => " · under 1 ms".to_owned(),
        Some(d) => format!(" · {:.0} ms", d.as_secs_f64() * 1e3),
        None => String::new(),
    };
    (level, format!("{word} · {path}{rtt}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_carry_their_units() {
        assert_eq!(bitrate(2_340_000), "2.34 Mbps");
        assert_eq!(bitrate(811_600), "812 kbps");
        assert_eq!(bytes(8_240_000), "8.2 MB");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(ms(Duration::from_micros(830)), "0.8 ms");
        assert_eq!(ms(Duration::from_millis(96)), "96 ms");
        assert_eq!(ms(Duration::from_millis(12_400)), "12.4 s");
        assert_eq!(percent(0.0131), "1.3 %");
    }
}
