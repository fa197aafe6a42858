//! Offers to restart ICE because nothing comes any more. They say so in an attribute, because they may
//! be overtaken by the path that comes back: signaling often dies with it, and what was sent then
//! arrives when TCP tries again, a second or two after media has gone on.

use visavis_signaling_protocol::SessionDescription;

/// Marks an offer. Whoever does not know the attribute takes it as any offer.
pub(crate) fn mark(offer: SessionDescription) -> SessionDescription {
    // At the session's level, before the first m-section.
    let end = offer.sdp.find("\nm=").map_or(offer.sdp.len(), |line_feed| line_feed + 1);
    let sdp = format!("{}{ATTRIBUTE}\r\n{}", &offer.sdp[..end], &offer.sdp[end..]);
    SessionDescription { sdp, ..offer }
}

/// Whether this is an offer that was marked.
pub(crate) fn is_marked(description: &SessionDescription) -> bool {
    description.sdp.lines().any(|line| line.trim_end() == ATTRIBUTE)
}

const ATTRIBUTE: &str = "a=x-visavis-restart:stalled";
