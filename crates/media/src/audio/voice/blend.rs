//! Switching a part on and off without a click.

/// Mixes a part's output with what went around it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blend {
    on: bool,
    /// Share of the processed sound at the end of the last frame.
    share: f32,
    /// Frames that the part has processed since it was last switched on.
    warm: u32,
    /// Frames until the part's output is good, and until it is faded in.
    settle: u32,
}

impl Blend {
    /// A part whose output is good after `settle` frames.
    pub(super) fn new(on: bool, settle: u32) -> Self {
        let share = if on { 1.0 } else { 0.0 };
        Self { on, share, warm: settle, settle }
    }

    pub(super) fn set_on(&mut self, on: bool) {
        if on && !self.needed() {
            self.warm = 0;
        }
        self.on = on;
    }

    /// Whether the part's output is heard, or soon will be.
    pub(super) fn needed(&self) -> bool {
        self.on || self.share > 0.0
    }

    /// The share at the begin and at the end of this frame.
    pub(super) fn step(&mut self) -> (f32, f32) {
        let before = self.share;
        if self.on && self.warm < self.settle {
            self.warm += 1;
        } else {
            self.share = if self.on { 1.0 } else { 0.0 };
        }
        (before, self.share)
    }
}

/// `wet` becomes the mix of itself and `dry` whose share moves evenly over the frame.
pub(super) fn mix(wet: &mut [f32], dry: &[f32], (from, to): (f32, f32)) {
    if from == 1.0 && to == 1.0 {
        return;
    }
    let step = (to - from) / wet.len() as f32;
    let mut share = from;
    for (wet, dry) in wet.iter_mut().zip(dry) {
        share += step;
        *wet = dry + (*wet - dry) * share;
    }
}
