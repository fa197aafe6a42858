//! What decides about the size of the pictures that are sent besides network and processor: what is known of who receives
//! them, and what the source could deliver. Written by the engine's loop, read by the thread `video-encode`.

use std::time::{Duration, Instant};

use visavis_media::{Size, VideoCodec};

/// See the module. What a remote peer says can make pictures smaller or keep them from growing, nothing else.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Recipient {
    /// Whether the path is neither relayed nor over TCP.
    pub(crate) direct: bool,
    /// Size at which pictures are shown.
    display: Option<Size>,
    /// What is not decoded in time, and when that was last said.
    overloaded: Option<(VideoCodec, Instant)>,
    /// The large pictures that the source could deliver, where they are wanted.
    pub(crate) offered: Option<Size>,
}

impl Recipient {
    /// A new remote peer has said nothing yet.
    pub(crate) fn forget(&mut self) {
        *self = Self { offered: self.offered, ..Self::default() };
    }

    /// The remote peer said at which size it shows pictures. No screen is too large; one without pixels says nothing.
    pub(crate) fn set_display(&mut self, width_px: u32, height_px: u32) {
        let size = Size::new(width_px.min(MAX_SIDE_PX), height_px.min(MAX_SIDE_PX));
        self.display = Some(size).filter(|size| size.pixels() > 0);
    }

    pub(crate) fn display(&self) -> Option<Size> {
        self.display
    }

    /// The remote peer said that it does not decode in time what has this codec. Names that are unknown are ignored.
    pub(crate) fn set_overloaded(&mut self, codec: &str, now: Instant) {
        if let Some(codec) = VideoCodec::from_name(codec) {
            self.overloaded = Some((codec, now));
        }
    }

    /// Whether it has lately said so of `codec`, which is what is sent now.
    pub(crate) fn is_overloaded(&self, codec: VideoCodec, now: Instant) -> bool {
        self.overloaded.is_some_and(|(which, at)| {
            which == codec && now.saturating_duration_since(at) < OVERLOAD_VALID
        })
    }
}

/// It is said again each second.
const OVERLOAD_VALID: Duration = Duration::from_millis(2500);
const MAX_SIDE_PX: u32 = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_remote_peer_says_is_bounded_and_holds_for_a_while() {
        let (mut recipient, now) = (Recipient::default(), Instant::now());
        recipient.set_display(u32::MAX, u32::MAX);
        assert_eq!(recipient.display(), Some(Size::new(16_384, 16_384)));
        recipient.set_display(0, 720);
        assert_eq!(recipient.display(), None);

        recipient.set_overloaded("mpeg-2", now);
        assert!(VideoCodec::ALL.into_iter().all(|codec| !recipient.is_overloaded(codec, now)));
        recipient.set_overloaded("AV1", now);
        assert!(recipient.is_overloaded(VideoCodec::Av1, now + Duration::from_secs(2)));
        assert!(!recipient.is_overloaded(VideoCodec::H264, now), "another codec");
        assert!(!recipient.is_overloaded(VideoCodec::Av1, now + Duration::from_secs(3)));
        recipient.forget();
        assert!(!recipient.is_overloaded(VideoCodec::Av1, now));
    }
}
