//! Echo cancellation: AEC3 between the band filters.

use std::time::Duration;

use sonora::three_band_filter_bank::ThreeBandFilterBank;
use sonora_aec3::block::Block;
use sonora_aec3::block_processor::BlockProcessor;
use sonora_aec3::common::BLOCK_SIZE;
use sonora_aec3::config::EchoCanceller3Config;

use super::blend::{Blend, mix};
use super::{BAND_COUNT, BAND_SAMPLES, Bands, SCALE, VoiceStats};
use crate::frame::{AUDIO_FRAME_SAMPLES, AUDIO_RATE_HZ};

/// Cuts frames of 160 into blocks of 64 samples a band and puts them together again, late by the
/// 32 samples that the cutting needs.
pub(super) struct EchoStage {
    blend: Blend,
    /// There while something is played.
    canceller: Option<BlockProcessor>,
    /// Frames since the speaker gave something.
    without_render: u32,
    render_bank: ThreeBandFilterBank,
    render_bands: Box<Bands>,
    render_input: Box<[f32; AUDIO_FRAME_SAMPLES]>,
    render: Line,
    capture: Line,
    output: Line,
    /// What goes around the canceller.
    around: Line,
    dry: Box<Bands>,
    block: Block,
}

/// The delay of the cutting, samples of a band: 160 is two and a half blocks.
const DELAY: usize = BLOCK_SIZE / 2;
/// Frames without anything from the speaker (it is closed, or there is none) after which the
/// canceller rests.
const REST_AFTER: u32 = 100;
/// The longest delay that devices may claim.
const MAX_DELAY_MS: u128 = 500;

impl EchoStage {
    pub(super) fn new(on: bool) -> Self {
        let bands = || Box::new([[0.0; BAND_SAMPLES]; BAND_COUNT]);
        Self {
            blend: Blend::new(on, 1),
            canceller: None,
            without_render: REST_AFTER,
            render_bank: ThreeBandFilterBank::new(),
            render_bands: bands(),
            render_input: Box::new([0.0; AUDIO_FRAME_SAMPLES]),
            render: Line::new(0),
            capture: Line::new(0),
            output: Line::new(DELAY),
            around: Line::new(DELAY),
            dry: bands(),
            block: Block::new(BAND_COUNT, 1),
        }
    }

    pub(super) fn set_on(&mut self, on: bool) {
        self.blend.set_on(on);
    }

    pub(super) fn render(&mut self, block: &[f32; AUDIO_FRAME_SAMPLES]) {
        if !self.blend.needed() {
            return;
        }
        self.without_render = 0;
        let canceller = self.canceller.get_or_insert_with(|| {
            self.render = Line::new(0);
            BlockProcessor::new(&tuning(), AUDIO_RATE_HZ as usize, 1, 1)
        });
        for (scaled, sample) in self.render_input.iter_mut().zip(block) {
            *scaled = sample * SCALE;
        }
        self.render_bank.analysis(&self.render_input, &mut self.render_bands);
        self.render.push(&self.render_bands);
        while self.render.pop_block(&mut self.block) {
            canceller.buffer_render(&self.block);
        }
    }

    pub(super) fn process(&mut self, bands: &mut Bands, saturated: bool, delay: Option<Duration>) {
        self.around.push(bands);
        self.around.pop_frame(&mut self.dry);
        self.without_render = self.without_render.saturating_add(1);
        if self.without_render > REST_AFTER || !self.blend.needed() {
            self.canceller = None;
        }
        if let Some(canceller) = &mut self.canceller
            && let Some(delay) = delay
        {
            let delay_ms = delay.as_millis().min(MAX_DELAY_MS);
            canceller.set_audio_buffer_delay(i32::try_from(delay_ms).unwrap_or(0));
        }
        self.capture.push(bands);
        while self.capture.pop_block(&mut self.block) {
            if let Some(canceller) = &mut self.canceller {
                canceller.process_capture(false, saturated, None, &mut self.block);
            }
            self.output.push_block(&self.block);
        }
        self.output.pop_frame(bands);
        let shares = self.blend.step();
        for (wet, dry) in bands.iter_mut().zip(self.dry.iter()) {
            mix(wet, dry, shares);
        }
    }

    pub(super) fn stats(&self) -> VoiceStats {
        let Some(canceller) = &self.canceller else { return VoiceStats::default() };
        let metrics = canceller.get_metrics();
        #[expect(clippy::cast_possible_truncation, reason = "decibels for people")]
        VoiceStats {
            echo_return_loss_db: Some(metrics.echo_return_loss as f32),
            echo_return_loss_enhancement_db: Some(metrics.echo_return_loss_enhancement as f32),
            echo_delay: u64::try_from(metrics.delay_ms).ok().map(Duration::from_millis),
            ..VoiceStats::default()
        }
    }
}

/// libwebrtc's settings but for what follows; docs/decisions/0008-voice-processing.md has the
/// figures.
fn tuning() -> EchoCanceller3Config {
    let mut config = EchoCanceller3Config::default();
    // While the near end is heard to talk, the suppressor leaves what the linear filter left:
    // its thresholds for echo against near end, and for echo against what masks it, are lifted.
    let nearend = &mut config.suppressor.nearend_tuning;
    for (mask, enr) in [(&mut nearend.mask_lf, 10.0), (&mut nearend.mask_hf, 30.0)] {
        mask.enr_transparent *= enr;
        mask.enr_suppress *= enr;
        mask.emr_transparent *= 10.0;
    }
    config
}

/// Samples of the three bands in order, in frames or blocks.
struct Line {
    bands: Box<[[f32; CAPACITY]; BAND_COUNT]>,
    len: usize,
}

/// The most there is at a time: less than a block left over, a delay, and a frame.
const CAPACITY: usize = 2 * BLOCK_SIZE + BAND_SAMPLES;

impl Line {
    /// With `delay` samples of silence in it.
    fn new(delay: usize) -> Self {
        Self { bands: Box::new([[0.0; CAPACITY]; BAND_COUNT]), len: delay }
    }

    fn push(&mut self, frame: &Bands) {
        for (line, band) in self.bands.iter_mut().zip(frame) {
            line[self.len..self.len + BAND_SAMPLES].copy_from_slice(band);
        }
        self.len += BAND_SAMPLES;
    }

    fn push_block(&mut self, block: &Block) {
        for (index, line) in self.bands.iter_mut().enumerate() {
            line[self.len..self.len + BLOCK_SIZE].copy_from_slice(block.view(index, 0));
        }
        self.len += BLOCK_SIZE;
    }

    fn pop_block(&mut self, block: &mut Block) -> bool {
        if self.len < BLOCK_SIZE {
            return false;
        }
        for (index, line) in self.bands.iter_mut().enumerate() {
            block.view_mut(index, 0).copy_from_slice(&line[..BLOCK_SIZE]);
            line.copy_within(BLOCK_SIZE..self.len, 0);
        }
        self.len -= BLOCK_SIZE;
        true
    }

    fn pop_frame(&mut self, frame: &mut Bands) {
        for (line, band) in self.bands.iter_mut().zip(frame) {
            band.copy_from_slice(&line[..BAND_SAMPLES]);
            line.copy_within(BAND_SAMPLES..self.len, 0);
        }
        self.len -= BAND_SAMPLES;
    }
}
