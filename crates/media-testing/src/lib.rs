//! Instruments for tests and benchmarks of media: what is said ([`speech`]), where it is heard
//! ([`room`]), how intelligible it is afterwards ([`stoi`]) and how alike pictures look ([`ssim`]).
//! No program depends on this crate.
//!
//! The unit tests of `media` use it too, although it depends on `media`: samples and rates are bare
//! numbers here, so that nothing of either build of `media` meets the other's.

pub mod room;
pub mod speech;
pub mod ssim;
pub mod stoi;
