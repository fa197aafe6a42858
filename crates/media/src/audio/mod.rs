//! Sound: rates, levels, tones. Each object belongs to one thread at a time.

pub mod level;
pub mod protection;
pub mod resample;
pub mod stretch;
pub mod tone_meter;
pub mod voice;
