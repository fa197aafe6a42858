//! Echo cancellation: a linear filter that knows the room, and a suppressor for what it leaves.
//!
//! The reference is read at the microphone's clock ([`reference`], [`alignment`]), so that the filter
//! ([`filter`]) has a room to learn that stands still even where two sound cards drift apart. The
//! filter takes 20 to 40 dB. What is left is so much quieter than the person in front of the
//! microphone that the suppressor ([`suppressor`]) knows who talks: with the far end alone it leaves
//! nothing but the room's noise, with the near end it leaves next to everything.
//!
//! All on the microphone's thread, 48 kHz, in blocks of 10 ms; nothing is allocated while it runs.

mod alignment;
mod correlator;
mod delay;
mod filter;
mod reference;
mod slip;
mod spectrum;
mod suppressor;

use std::time::Duration;

use self::alignment::Alignment;
use self::delay::{DelayFinder, Found};
use self::filter::{KalmanFilter, PARTITIONS};
use self::reference::Reference;
use self::slip::SlipFinder;
use self::spectrum::{BLOCK, Fourier};
use self::suppressor::Suppressor;
use super::blend::{Blend, mix};
use super::{SCALE, VoiceStats};
use crate::frame::AUDIO_RATE_HZ;

pub(super) struct EchoStage {
    blend: Blend,
    /// There while something is played.
    canceller: Option<Box<Canceller>>,
    /// Frames since the speaker gave something.
    without_render: u32,
    /// What goes around the canceller, as late as what goes through it.
    around: Box<[f32; LOOKAHEAD]>,
    wet: Box<[f32; BLOCK]>,
}

/// Samples by which the stage delays, 2 ms: the suppressor looks ahead.
const LOOKAHEAD: usize = 96;
/// Frames without anything from the speaker (it is closed, or there is none) after which the
/// canceller rests.
const REST_AFTER: u32 = 100;

impl EchoStage {
    pub(super) fn new(on: bool) -> Self {
        Self {
            blend: Blend::new(on, 1),
            canceller: None,
            without_render: REST_AFTER,
            around: Box::new([0.0; LOOKAHEAD]),
            wet: Box::new([0.0; BLOCK]),
        }
    }

    pub(super) fn set_on(&mut self, on: bool) {
        self.blend.set_on(on);
    }

    pub(super) fn render(&mut self, block: &[f32; BLOCK]) {
        if !self.blend.needed() {
            return;
        }
        self.without_render = 0;
        self.canceller.get_or_insert_with(|| Box::new(Canceller::new())).render(block);
    }

    pub(super) fn process(
        &mut self,
        frame: &mut [f32; BLOCK],
        saturated: bool,
        delay: Option<Duration>,
    ) {
        self.without_render = self.without_render.saturating_add(1);
        if self.without_render > REST_AFTER || !self.blend.needed() {
            self.canceller = None;
        }
        let there = self.canceller.is_some();
        if let Some(canceller) = &mut self.canceller {
            canceller.process(frame, saturated, delay, &mut self.wet);
        }
        let mut late = [0.0; BLOCK];
        late[..LOOKAHEAD].copy_from_slice(&self.around[..]);
        late[LOOKAHEAD..].copy_from_slice(&frame[..BLOCK - LOOKAHEAD]);
        self.around.copy_from_slice(&frame[BLOCK - LOOKAHEAD..]);
        *frame = late;
        let shares = self.blend.step();
        if there {
            frame.copy_from_slice(&self.wet[..]);
            mix(frame, &late, shares);
        }
    }

    /// How plain it is that what comes out is no echo, from 0 (only the far end talks, loud enough to be
    /// heard in the microphone) to 1.
    pub(super) fn near_share(&self) -> f32 {
        self.canceller.as_ref().map_or(1.0, |canceller| canceller.suppressor.near_share())
    }

    pub(super) fn stats(&self) -> VoiceStats {
        self.canceller.as_ref().map(|canceller| canceller.stats()).unwrap_or_default()
    }
}

struct Canceller {
    fourier: Fourier,
    reference: Reference,
    finder: DelayFinder,
    filter: KalmanFilter,
    alignment: Alignment,
    slips: SlipFinder,
    suppressor: Suppressor,
    scaled: Box<[f32; BLOCK]>,
    echo: Box<[f32; BLOCK]>,
    error: Box<[f32; BLOCK]>,
    /// The last blocks of what the linear filter left.
    line: Box<[f32; 2 * BLOCK + LOOKAHEAD]>,
    /// Blocks heard so far.
    heard: i64,
    /// Number of the reference's newest block less that of the microphone's, were both to come
    /// evenly.
    offset: Option<i64>,
    /// Blocks by which the filter begins after the reference's newest.
    lag: i64,
    /// Where the echo was found last, blocks, and by how many samples it has slipped from there.
    found: Option<f32>,
    slipped: f32,
    levels: Levels,
}

impl Canceller {
    fn new() -> Self {
        Self {
            fourier: Fourier::new(),
            reference: Reference::new(),
            finder: DelayFinder::new(),
            filter: KalmanFilter::new(),
            alignment: Alignment::new(),
            slips: SlipFinder::new(),
            suppressor: Suppressor::new(),
            scaled: Box::new([0.0; BLOCK]),
            echo: Box::new([0.0; BLOCK]),
            error: Box::new([0.0; BLOCK]),
            line: Box::new([0.0; 2 * BLOCK + LOOKAHEAD]),
            heard: 0,
            offset: None,
            lag: 0,
            found: None,
            slipped: 0.0,
            levels: Levels::default(),
        }
    }

    fn render(&mut self, block: &[f32; BLOCK]) {
        for (scaled, sample) in self.scaled.iter_mut().zip(block) {
            *scaled = if sample.is_finite() { sample.clamp(-2.0, 2.0) * SCALE } else { 0.0 };
        }
        self.reference.push(&mut self.fourier, &self.scaled);
    }

    fn process(
        &mut self,
        frame: &[f32; BLOCK],
        saturated: bool,
        delay: Option<Duration>,
        out: &mut [f32; BLOCK],
    ) {
        let newest = self.align(frame, delay);
        let first = newest - self.lag;
        let blocks: [_; PARTITIONS] =
            std::array::from_fn(|p| self.reference.spectrum(first - p as i64));
        self.filter.estimate(&mut self.fourier, &blocks, &mut self.echo);
        for ((error, heard), echo) in self.error.iter_mut().zip(frame).zip(self.echo.iter()) {
            *error = heard - echo;
        }
        // A microphone at its limit says nothing about the room.
        if !saturated {
            self.filter.learn(&mut self.fourier, &blocks, &self.error);
        }
        self.levels.update(
            blocks[1].map_or(0.0, |x| x.block_energy()),
            frame,
            &self.error,
            &self.echo,
        );
        self.suppressor.analyze(&mut self.fourier, &self.error, &self.echo);
        let change = self.alignment.update(self.suppressor.error(), self.suppressor.echo());
        self.reference.set_rate(self.alignment.rate());
        if let Some(kept) = change {
            self.filter.scale(kept);
            self.doubt();
        }
        if self.heard % KEEP_EVERY == 0 {
            self.filter.keep();
        }
        self.suppressor.decide(self.filter.missed());
        self.line.copy_within(BLOCK.., 0);
        self.line[BLOCK + LOOKAHEAD..].copy_from_slice(&self.error[..]);
        if let Some(input) = self.line.first_chunk() {
            self.suppressor.apply(&mut self.fourier, input, out);
        }
        if let Some(samples) = self.slips.process(frame, &self.echo)
            && self.heard > 2 * KEEP_EVERY
            && self.reference.slip(&mut self.fourier, samples)
        {
            self.slipped += samples;
            self.filter.recall();
            self.finder.forget();
        }
        if !self.levels.is_finite() {
            // Whatever went wrong must not last.
            *self = Self::new();
            out.fill(0.0);
        }
    }

    /// Number of the reference's block that may be heard at once in this frame.
    fn align(&mut self, frame: &[f32; BLOCK], delay: Option<Duration>) -> i64 {
        let ahead = self.reference.made() - 1 - self.heard;
        let offset = match self.offset {
            Some(offset) if (ahead - offset).abs() < MAX_SLIP => offset,
            known => {
                // What the devices say is where the search begins.
                let told = delay.map_or(0, |delay| delay.min(MAX_DELAY).as_millis());
                self.lag = (i64::try_from(told).unwrap_or(0) / 10 - MARGIN).max(0);
                self.offset = Some(ahead);
                if known.is_some() {
                    self.doubt();
                }
                ahead
            }
        };
        let newest = self.heard + offset;
        self.heard += 1;
        if let Some(Found { delay, loudness }) = self.finder.process(frame, &self.reference, newest)
        {
            self.found = Some(delay);
            if let Some(loudness) = loudness {
                self.filter.expect(loudness);
            }
            let into = delay - self.lag as f32;
            if (into < EARLIEST && self.lag > 0) || into > LATEST {
                let lag = ((delay - AIM) as i64).max(0);
                // What was learnt moves along.
                self.filter.shift((self.lag - lag) as isize);
                self.lag = lag;
                self.doubt();
            }
        }
        newest
    }

    fn doubt(&mut self) {
        self.filter.doubt(DOUBT);
        self.suppressor.doubt();
    }

    fn stats(&self) -> VoiceStats {
        let delay =
            |found: f32| (found * BLOCK as f32 + self.slipped).max(0.0) / AUDIO_RATE_HZ as f32;
        VoiceStats {
            echo_return_loss_db: self.levels.ratio_db(self.levels.played, self.levels.echo),
            echo_return_loss_enhancement_db: self
                .levels
                .ratio_db(self.levels.heard, self.levels.error),
            echo_delay: self.found.map(|found| Duration::from_secs_f32(delay(found))),
            ..VoiceStats::default()
        }
    }
}

/// Energies a block while there is echo, over the last second or so.
#[derive(Debug, Clone, Copy, Default)]
struct Levels {
    played: f32,
    heard: f32,
    error: f32,
    echo: f32,
}

impl Levels {
    fn update(
        &mut self,
        played: f32,
        heard: &[f32; BLOCK],
        error: &[f32; BLOCK],
        echo: &[f32; BLOCK],
    ) {
        let energy = |block: &[f32; BLOCK]| block.iter().map(|s| s * s).sum::<f32>();
        let (heard, error, echo) = (energy(heard), energy(error), energy(echo));
        if echo < ECHO_AUDIBLE {
            return;
        }
        for (level, now) in [
            (&mut self.played, played),
            (&mut self.heard, heard),
            (&mut self.error, error),
            (&mut self.echo, echo),
        ] {
            *level += 0.01 * (now - *level);
        }
    }

    fn ratio_db(&self, a: f32, b: f32) -> Option<f32> {
        (self.echo > 0.0).then(|| 10.0 * ((a + 1.0) / (b + 1.0)).log10())
    }

    fn is_finite(&self) -> bool {
        (self.played + self.heard + self.error + self.echo).is_finite()
    }
}

/// Blocks of the filter that are left before the delay that the devices tell.
const MARGIN: i64 = 3;
/// The longest delay that devices may claim.
const MAX_DELAY: Duration = Duration::from_millis(500);
/// Blocks by which speaker or microphone may be ahead of the other before they are counted anew.
const MAX_SLIP: i64 = 30;
/// Blocks into the filter between which the echo's begin may lie, and where it is put otherwise.
const EARLIEST: f32 = 0.3;
const LATEST: f32 = 3.0;
const AIM: f32 = 1.2;
/// Of the first uncertainty: what a changed room deserves.
const DOUBT: f32 = 0.3;
/// Blocks after which what the filter knows is kept: a slip is noticed within as many.
const KEEP_EVERY: i64 = 50;
/// Energy of a block at -80 dBFS.
const ECHO_AUDIBLE: f32 = BLOCK as f32 * 10.0;
