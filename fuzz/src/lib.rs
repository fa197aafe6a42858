//! What the targets share.

use std::backtrace::Backtrace;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::sync::Mutex;

use visavis_media::MediaTime;
use visavis_media::codec::{VideoCodec, video_decoder};

/// For parsers of the stack inside of DTLS: a panic there ends the connection of the one who caused it, because
/// the program's network task is guarded (`visavis_rtc`, `runtime`). It is told, with the place, and
/// fuzzing goes on. To be called before anything else.
pub fn tell_panics() {
    static TOLD: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());
    set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let mut told = TOLD.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let count = told.entry(location.clone()).or_insert(0);
        *count += 1;
        if *count > TRACES {
            return;
        }
        // The innermost function of the stack: the panic itself may be in a library beneath. Finding it takes long.
        let trace = Backtrace::force_capture().to_string();
        let place = trace.lines().find(|line| line.contains("/rtc-")).map(str::trim);
        eprintln!("CONTAINED PANIC {location} {}", place.unwrap_or("NOT THE STACK'S"));
        if place.is_none() {
            std::process::abort();
        }
    }));
}

/// As one place in a library is reached by several of the stack's.
const TRACES: u32 = 20;

/// Runs a target whose panics are told.
pub fn contained(target: fn(&[u8]), input: &[u8]) {
    let _ = catch_unwind(AssertUnwindSafe(|| target(input)));
}

/// Coded pictures, each with its length (16 bits) in front, through one decoder of `codec`.
pub fn decode_video(codec: VideoCodec, input: &[u8]) {
    let mut decoder = video_decoder(codec);
    let mut rest = input;
    while let [high, low, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
        let (coded, next) = tail.split_at(length);
        if let Ok(Some(picture)) = decoder.decode(coded, MediaTime::default()) {
            let size = picture.size();
            assert!(size.width_px <= 4096 && size.height_px <= 4096, "{size}");
        }
        rest = next;
    }
}
