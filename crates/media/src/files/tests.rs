//! Files in a temporary directory of their own.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::audio::level::Level;
use crate::audio::tone_meter::ToneMeter;
use crate::synthetic::{TestPattern, Tone, read_time_code};
use proptest::prelude::*;

struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("visavis-media-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn written_pictures_are_read_back_and_loop() {
    let dir = TempDir::new("y4m-loop");
    let path = dir.0.join("a.y4m");
    let mut pattern = TestPattern::new(Size::new(321, 181));
    let mut writer = Y4mWriter::create(&path, 25, None).unwrap();
    let pictures: Vec<_> =
        (1..4).map(|n| pattern.frame(Duration::from_millis(40 * n), 100 + n as u32)).collect();
    for picture in &pictures {
        writer.write(picture).unwrap();
    }
    writer.finish().unwrap();
    let mut reader = Y4mReader::open(&path).unwrap();
    assert_eq!((reader.size(), reader.frame_rate()), (Size::new(321, 181), 25.0));
    for _ in 0..3 {
        for picture in &pictures {
            assert_eq!(reader.next_frame().unwrap(), *picture);
        }
    }
}

#[test]
fn pictures_of_another_size_are_fitted_into_the_first_ones() {
    let dir = TempDir::new("y4m-size");
    let path = dir.0.join("a.y4m");
    let mut writer = Y4mWriter::create(&path, 30, None).unwrap();
    for (w, h) in [(640, 360), (1280, 720)] {
        writer.write(&TestPattern::new(Size::new(w, h)).frame(Duration::ZERO, 77)).unwrap();
    }
    writer.finish().unwrap();
    let mut reader = Y4mReader::open(&path).unwrap();
    for _ in 0..2 {
        assert_eq!(read_time_code(&reader.next_frame().unwrap()), Some(77));
    }
}

#[test]
fn headers_of_other_tools_are_understood_and_bad_ones_named() {
    let dir = TempDir::new("y4m-header");
    let planes = [9u8; 6];
    for header in [
        "W2 H2 F30000:1001 It A0:0 C420mpeg2 XYSCSS=420MPEG2",
        "W2 H2",
        "W2 H2 F0:0 C420paldv",
        "H2 W2 C420",
    ] {
        let content = [format!("YUV4MPEG2 {header}\nFRAME Ixyz\n").as_bytes(), &planes].concat();
        let mut reader = Y4mReader::open(&dir.file("good.y4m", &content)).unwrap();
        assert_eq!(reader.next_frame().unwrap().as_packed(), planes, "{header}");
        assert!((29.9..=30.0).contains(&reader.frame_rate()));
    }
    let mono = [&b"YUV4MPEG2 W2 H2 Cmono\nFRAME\n"[..], &[7; 4]].concat();
    let mut reader = Y4mReader::open(&dir.file("mono.y4m", &mono)).unwrap();
    assert_eq!(reader.next_frame().unwrap().as_packed(), [7, 7, 7, 7, 128, 128]);

    for (content, part) in [
        ("RIFF", "no end"),
        ("RIFFx\n", "YUV4MPEG2"),
        ("YUV4MPEG2 W2\nFRAME\n", "width or height"),
        ("YUV4MPEG2 W2 H2 C422\nFRAME\n", "422"),
        ("YUV4MPEG2 W2 H2 C420p10\nFRAME\n", "420p10"),
        ("YUV4MPEG2 Wx H2\n", "Wx"),
        ("YUV4MPEG2 W99999 H2\n", "99999"),
        ("YUV4MPEG2 W0 H2\n", "0x2"),
        ("YUV4MPEG2 W2 H2 F30\n", "F30"),
        ("YUV4MPEG2 W2 H2\n", "no whole picture"),
        ("YUV4MPEG2 W2 H2\nFRAME\n123", "no whole picture"),
        ("YUV4MPEG2 W2 H2\nFROG\n123456", "FROG"),
    ] {
        let error =
            Y4mReader::open(&dir.file("bad.y4m", content.as_bytes())).unwrap_err().to_string();
        assert!(error.contains(part), "{content:?}: {error}");
    }
    assert!(matches!(Y4mReader::open(&dir.0.join("missing")), Err(MediaError::Io(_))));
}

#[test]
fn sound_is_written_and_read_back_at_its_level_and_pitch() {
    let dir = TempDir::new("wav");
    let path = dir.0.join("tone.wav");
    let mut writer = WavWriter::create(&path).unwrap();
    let mut tone = Tone::default();
    for _ in 0..150 {
        writer.write(&tone.next_frame(MediaTime::default()).samples).unwrap();
    }
    writer.finish().unwrap();
    let mut reader = WavReader::open(&path).unwrap();
    let mut meter = ToneMeter::new();
    let mut samples = Vec::new();
    for _ in 0..400 {
        let frame = reader.next_frame(MediaTime::default()).unwrap();
        meter.push(&frame.samples);
        samples.extend(frame.samples);
    }
    assert!((meter.tone_hz().unwrap() - 440.0).abs() < 1.0);
    assert!((Level::of(&samples).rms_dbfs + 15.0).abs() < 0.1);
}

#[test]
fn a_file_whose_writer_was_killed_can_be_read() {
    let dir = TempDir::new("wav-killed");
    let path = dir.0.join("a.wav");
    let mut writer = WavWriter::create(&path).unwrap();
    for _ in 0..250 {
        writer.write(&[0.25; 480]).unwrap();
    }
    // As it lies on the disk now; the writer itself never completes it.
    let copy = dir.file("copy.wav", &std::fs::read(&path).unwrap());
    std::mem::forget(writer);
    let reader = hound::WavReader::open(copy).unwrap();
    assert_eq!(reader.duration(), 2 * AUDIO_RATE_HZ);
}

#[test]
fn every_usual_kind_of_wav_becomes_48_khz() {
    let dir = TempDir::new("wav-kinds");
    use hound::SampleFormat::{Float, Int};
    for (rate, channels, bits, format) in [
        (44_100, 2, 16, Int),
        (8_000, 1, 8, Int),
        (48_000, 1, 24, Int),
        (96_000, 2, 32, Int),
        (16_000, 1, 32, Float),
        (48_000, 6, 16, Int),
    ] {
        let path = dir.0.join("kind.wav");
        let spec = hound::WavSpec {
            channels,
            sample_rate: rate,
            bits_per_sample: bits,
            sample_format: format,
        };
        let mut writer = hound::WavWriter::create(&path, spec).unwrap();
        for n in 0..rate {
            let sample = 0.5 * (std::f32::consts::TAU * 500.0 * n as f32 / rate as f32).sin();
            for _ in 0..channels {
                match format {
                    Float => writer.write_sample(sample).unwrap(),
                    Int => writer
                        .write_sample(
                            (f64::from(sample) * ((1i64 << (bits - 1)) - 1) as f64) as i32,
                        )
                        .unwrap(),
                }
            }
        }
        writer.finalize().unwrap();
        let mut reader = WavReader::open(&path).unwrap();
        let mut meter = ToneMeter::new();
        let mut level = crate::audio::level::LevelMeter::default();
        for _ in 0..110 {
            let frame = reader.next_frame(MediaTime::default()).unwrap();
            assert_eq!(frame.is_stereo(), channels == 2);
            let mono = frame.mono().unwrap();
            meter.push(&mono);
            level.push(&mono);
        }
        let what = format!("{rate} Hz {channels} channels {bits} {format:?}");
        assert!((meter.tone_hz().unwrap() - 500.0).abs() < 2.0, "{what}");
        assert!((level.take().rms_dbfs + 9.03).abs() < 0.2, "{what}");
    }
}

#[test]
fn stereo_is_written_and_read_back_with_its_channels_apart() {
    let dir = TempDir::new("wav-stereo");
    let path = dir.0.join("stereo.wav");
    let mut writer = WavWriter::create_stereo(&path).unwrap();
    for _ in 0..10 {
        writer.write(&[0.5, -0.25].repeat(480)).unwrap();
    }
    writer.finish().unwrap();
    let mut reader = WavReader::open(&path).unwrap();
    // Over the end, too.
    for _ in 0..15 {
        let frame = reader.next_frame(MediaTime::default()).unwrap();
        assert_eq!(frame.samples, [0.5, -0.25].repeat(480));
    }
}

#[test]
fn wav_files_without_sound_are_errors() {
    let dir = TempDir::new("wav-bad");
    let path = dir.0.join("empty.wav");
    WavWriter::create(&path).unwrap().finish().unwrap();
    assert!(matches!(WavReader::open(&path), Err(MediaError::BadFile(_))));
    assert!(matches!(
        WavReader::open(&dir.file("text.wav", b"hello")),
        Err(MediaError::BadFile(_) | MediaError::Io(_))
    ));
}

proptest! {
    #[test]
    fn arbitrary_headers_never_panic(line in "(YUV4MPEG2 )?[ -~]{0,60}") {
        let _ = Y4mHeader::parse(&line);
    }
}
