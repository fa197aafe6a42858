//! Media files: YUV4MPEG2 (y4m) for pictures, WAV for sound. Blocking file access: call it from a
//! media thread, not from the network.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use crate::audio::resample::Resampler;
use crate::error::MediaError;
use crate::frame::{AUDIO_FRAME_SAMPLES, AUDIO_RATE_HZ, AudioFrame, I420Buffer, MediaTime, Size};
use crate::pool::BufferPool;
use crate::scale::{Fit, Scaler};

/// Reads a y4m file over and over.
#[derive(Debug)]
pub struct Y4mReader {
    file: BufReader<File>,
    header: Y4mHeader,
    /// Where the first picture begins.
    first_picture: u64,
    pool: BufferPool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Y4mHeader {
    size: Size,
    frame_rate: f64,
    mono: bool,
}

impl Y4mReader {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// It cannot be read, is no y4m file, is not 8-bit 4:2:0 or mono, or holds no picture.
    pub fn open(path: &Path) -> Result<Self, MediaError> {
        let mut file = BufReader::new(File::open(path)?);
        let header = Y4mHeader::parse(&read_line(&mut file)?)?;
        let first_picture = file.stream_position()?;
        let mut this = Self { file, header, first_picture, pool: BufferPool::new() };
        this.next_frame()?;
        this.file.seek(SeekFrom::Start(first_picture))?;
        Ok(this)
    }

    /// Size of the pictures.
    pub fn size(&self) -> Size {
        self.header.size
    }

    /// Pictures a second.
    pub fn frame_rate(&self) -> f64 {
        self.header.frame_rate
    }

    /// The next picture; after the last one the first again. A picture cut short at the end is left
    /// out.
    ///
    /// # Errors
    /// The file cannot be read, or something other than a picture comes.
    pub fn next_frame(&mut self) -> Result<Arc<I420Buffer>, MediaError> {
        if let Some(frame) = self.read_frame()? {
            return Ok(frame);
        }
        self.file.seek(SeekFrom::Start(self.first_picture))?;
        self.read_frame()?.ok_or_else(|| bad_file("it holds no whole picture"))
    }

    fn read_frame(&mut self) -> Result<Option<Arc<I420Buffer>>, MediaError> {
        if self.file.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let line = read_line(&mut self.file)?;
        if line != "FRAME" && !line.starts_with("FRAME ") {
            return Err(bad_file(format!("\"FRAME\" expected, \"{}\" found", line.escape_debug())));
        }
        let (file, mono) = (&mut self.file, self.header.mono);
        let result = self.pool.fill(self.header.size, |picture| {
            let [y, u, v] = picture.planes_mut();
            file.read_exact(y)?;
            for plane in [u, v] {
                if mono {
                    plane.fill(128);
                } else {
                    file.read_exact(plane)?;
                }
            }
            Ok::<(), std::io::Error>(())
        });
        match result {
            Ok(picture) => Ok(Some(picture)),
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}

impl Y4mHeader {
    fn parse(line: &str) -> Result<Self, MediaError> {
        let mut parts = line.split(' ');
        if parts.next() != Some("YUV4MPEG2") {
            return Err(bad_file("not a y4m file (it does not begin with YUV4MPEG2)"));
        }
        let (mut width, mut height, mut frame_rate, mut mono) = (None, None, 30.0, false);
        for part in parts.filter(|p| !p.is_empty()) {
            let Some((tag, value)) = part.split_at_checked(1) else { continue };
            let wrong = || bad_file(format!("header field \"{}\"", part.escape_debug()));
            match tag {
                "W" => width = Some(value.parse().map_err(|_| wrong())?),
                "H" => height = Some(value.parse().map_err(|_| wrong())?),
                "F" => {
                    let (numerator, denominator) = value.split_once(':').ok_or_else(wrong)?;
                    let numerator: u32 = numerator.parse().map_err(|_| wrong())?;
                    let denominator: u32 = denominator.parse().map_err(|_| wrong())?;
                    // 0:0 means unknown.
                    if numerator > 0 && denominator > 0 {
                        frame_rate = f64::from(numerator) / f64::from(denominator);
                    }
                }
                "C" => match value {
                    "420" | "420jpeg" | "420mpeg2" | "420paldv" => mono = false,
                    "mono" => mono = true,
                    _ => {
                        return Err(bad_file(format!(
                            "pixel format \"{}\" (8-bit 4:2:0 and mono can be read; convert it with \
                             ffmpeg -pix_fmt yuv420p)",
                            value.escape_debug()
                        )));
                    }
                },
                // Interlacing, pixel aspect and comments do not matter here.
                _ => {}
            }
        }
        let (Some(width_px), Some(height_px)) = (width, height) else {
            return Err(bad_file("the header has no width or height"));
        };
        let size = Size::new(width_px, height_px);
        if !(1..=MAX_DIMENSION_PX).contains(&width_px)
            || !(1..=MAX_DIMENSION_PX).contains(&height_px)
        {
            return Err(MediaError::UnsupportedSize(size));
        }
        Ok(Self { size, frame_rate, mono })
    }
}

/// Writes a y4m file. All pictures in it have one size; those of another size are fitted into it with black bars.
pub struct Y4mWriter {
    file: BufWriter<File>,
    frame_rate: u32,
    size: Option<Size>,
    header_written: bool,
    scaler: Scaler,
}

impl std::fmt::Debug for Y4mWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Y4mWriter").field("size", &self.size).finish_non_exhaustive()
    }
}

impl Y4mWriter {
    /// Makes or replaces the file. `frame_rate` is only written into the header. Without `size` it is that of the
    /// first picture.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(path: &Path, frame_rate: u32, size: Option<Size>) -> Result<Self, MediaError> {
        let file = BufWriter::with_capacity(WRITE_BUFFER_BYTES, File::create(path)?);
        Ok(Self { file, frame_rate, size, header_written: false, scaler: Scaler::new() })
    }

    /// Appends a picture.
    ///
    /// # Errors
    /// The file cannot be written, or the first picture has no pixels.
    pub fn write(&mut self, picture: &Arc<I420Buffer>) -> Result<(), MediaError> {
        let size = *self.size.get_or_insert(picture.size());
        if !self.header_written {
            let (w, h) = (size.width_px, size.height_px);
            if w == 0 || h == 0 {
                self.size = None;
                return Err(MediaError::UnsupportedSize(size));
            }
            writeln!(self.file, "YUV4MPEG2 W{w} H{h} F{}:1 Ip A1:1 C420jpeg", self.frame_rate)?;
            self.header_written = true;
        }
        let picture = self.scaler.scale(picture, size, Fit::Letterbox)?;
        self.file.write_all(b"FRAME\n")?;
        self.file.write_all(picture.as_packed())?;
        Ok(())
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(mut self) -> Result<(), MediaError> {
        Ok(self.file.flush()?)
    }
}

/// Reads a WAV file of any rate and depth over and over, at 48 kHz: one of two channels as stereo, any
/// other as mono.
pub struct WavReader {
    reader: hound::WavReader<BufReader<File>>,
    resampler: Resampler,
    /// Samples at 48 kHz not yet handed out, of two channels in turn.
    ready: Vec<f32>,
    block: Vec<f32>,
}

impl std::fmt::Debug for WavReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WavReader").field("spec", &self.reader.spec()).finish_non_exhaustive()
    }
}

impl WavReader {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// It cannot be read, is no WAV file or of an unusual kind, or holds no sound.
    pub fn open(path: &Path) -> Result<Self, MediaError> {
        let reader = hound::WavReader::open(path).map_err(wav_error)?;
        if reader.duration() == 0 {
            return Err(bad_file("it holds no sound"));
        }
        let channels = if reader.spec().channels == 2 { 2 } else { 1 };
        let rate_hz = reader.spec().sample_rate;
        let resampler = Resampler::with_channels(rate_hz, AUDIO_RATE_HZ, channels)?;
        Ok(Self { reader, resampler, ready: Vec::new(), block: Vec::new() })
    }

    /// The next 10 ms, stamped `time`; after the end the beginning again.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn next_frame(&mut self, time: MediaTime) -> Result<AudioFrame, MediaError> {
        let mut rewound = false;
        let stereo = self.reader.spec().channels == 2;
        let wanted = AUDIO_FRAME_SAMPLES * if stereo { 2 } else { 1 };
        while self.ready.len() < wanted {
            self.read_block()?;
            if !self.block.is_empty() {
                rewound = false;
                self.resampler.process(&self.block, &mut self.ready)?;
            } else if std::mem::replace(&mut rewound, true) {
                return Err(bad_file("its sound is cut short"));
            } else {
                self.reader.seek(0)?;
            }
        }
        Ok(AudioFrame { samples: self.ready.drain(..wanted).collect(), time })
    }

    /// Up to 10 ms from the file into `block`, mixed to mono unless stereo; nothing at its end.
    fn read_block(&mut self) -> Result<(), MediaError> {
        let spec = self.reader.spec();
        let channels = usize::from(spec.channels.max(1));
        let wanted = channels * (spec.sample_rate as usize / 100).max(1);
        let mut interleaved = Vec::with_capacity(wanted);
        match spec.sample_format {
            hound::SampleFormat::Float => {
                for sample in self.reader.samples::<f32>().take(wanted) {
                    interleaved.push(sample.map_err(wav_error)?);
                }
            }
            hound::SampleFormat::Int => {
                let scale = 1.0 / (1u64 << (spec.bits_per_sample.clamp(1, 32) - 1)) as f32;
                for sample in self.reader.samples::<i32>().take(wanted) {
                    interleaved.push(sample.map_err(wav_error)? as f32 * scale);
                }
            }
        }
        self.block.clear();
        if channels == 2 {
            // A file that is cut short within a frame loses it.
            self.block.extend_from_slice(interleaved.as_chunks::<2>().0.as_flattened());
            return Ok(());
        }
        self.block.extend(
            interleaved
                .chunks_exact(channels)
                .map(|frame| frame.iter().sum::<f32>() / channels as f32),
        );
        Ok(())
    }
}

/// Writes 48 kHz 16-bit WAV, mono or stereo. Once a second the header is brought up to date, so that the file
/// can be read even if the process is killed.
pub struct WavWriter {
    writer: hound::WavWriter<BufWriter<File>>,
    since_flush: usize,
}

impl std::fmt::Debug for WavWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WavWriter").field("samples", &self.writer.len()).finish_non_exhaustive()
    }
}

impl WavWriter {
    /// Makes or replaces a mono file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(path: &Path) -> Result<Self, MediaError> {
        Self::with_channels(path, 1)
    }

    /// Makes or replaces a stereo file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create_stereo(path: &Path) -> Result<Self, MediaError> {
        Self::with_channels(path, 2)
    }

    fn with_channels(path: &Path, channels: u16) -> Result<Self, MediaError> {
        let spec = hound::WavSpec {
            channels,
            sample_rate: AUDIO_RATE_HZ,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::create(path, spec).map_err(wav_error)?;
        writer.flush().map_err(wav_error)?;
        Ok(Self { writer, since_flush: 0 })
    }

    /// Appends samples, of stereo left and right in turn, clipped to full scale.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&mut self, samples: &[f32]) -> Result<(), MediaError> {
        for &sample in samples {
            let sample = (sample * 32768.0).round().clamp(-32768.0, 32767.0) as i16;
            self.writer.write_sample(sample).map_err(wav_error)?;
        }
        self.since_flush += samples.len();
        if self.since_flush >= AUDIO_RATE_HZ as usize * usize::from(self.writer.spec().channels) {
            self.since_flush = 0;
            self.writer.flush().map_err(wav_error)?;
        }
        Ok(())
    }

    /// Completes the file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(self) -> Result<(), MediaError> {
        self.writer.finalize().map_err(wav_error)
    }
}

/// One line without its end; bounded, so that a file of another kind does not fill the memory.
fn read_line(file: &mut BufReader<File>) -> Result<String, MediaError> {
    let mut line = Vec::new();
    file.take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(bad_file("a header line has no end"));
    }
    String::from_utf8(line).map_err(|_| bad_file("a header line is not text"))
}

fn bad_file(message: impl Into<String>) -> MediaError {
    MediaError::BadFile(message.into())
}

fn wav_error(error: hound::Error) -> MediaError {
    match error {
        hound::Error::IoError(e) => e.into(),
        other => bad_file(other.to_string()),
    }
}

const MAX_LINE_BYTES: u64 = 4096;
const MAX_DIMENSION_PX: u32 = 8192;
/// A 720p picture at once.
const WRITE_BUFFER_BYTES: usize = 1 << 21;

#[cfg(test)]
mod tests;
