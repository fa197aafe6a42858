//! Media processing without devices or sockets: frames, conversion, codecs, reassembly, playout.
//!
//! Nothing here has a thread or a clock of its own: each object belongs to the thread that calls
//! it, and the time is passed in.

pub mod adaptation;
pub mod assembler;
pub mod audio;
pub mod codec;
pub mod codec_choice;
pub mod content;
pub mod convert;
pub mod depacketize;
pub mod effort;
pub mod error;
pub mod files;
pub mod frame;
pub mod headers;
pub mod jitter;
pub mod large_pictures;
pub mod obu;
pub mod pool;
pub mod random;
pub mod red;
pub mod scale;
pub mod scene_cut;
pub mod sync;
pub mod synthetic;

pub use codec::VideoCodec;
pub use error::MediaError;
pub use frame::*;
