//! The real shader in a real window: known I420 colours must come out of a screenshot.
//!
//! The parent starts an X server without a screen (Xvfb) and itself again inside it; the child
//! opens the window, looks at the pixels and ends with the verdict.

use std::io::BufRead as _;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use egui::{Color32, Rect, ViewportCommand};
use visavis_engine::{I420Buffer, MediaTime, Size, VideoFrame, VideoSlot};

#[allow(dead_code, unused_imports)]
#[path = "../src/video.rs"]
mod video;

use video::{Fit, VideoView};

const CHILD: &str = "VISAVIS_VIDEO_GPU_CHILD";

fn main() -> ExitCode {
    if std::env::var_os(CHILD).is_some() { child() } else { parent() }
}

fn parent() -> ExitCode {
    let server = Command::new("Xvfb")
        .args(["-displayfd", "1", "-screen", "0", "800x600x24", "-nolisten", "tcp"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut server = match server {
        Ok(server) => server,
        Err(e) => {
            eprintln!("Xvfb is needed for this test and did not start: {e}");
            return ExitCode::FAILURE;
        }
    };
    let mut display = String::new();
    if let Some(out) = server.stdout.take() {
        let _ = std::io::BufReader::new(out).read_line(&mut display);
    }
    let verdict = std::env::current_exe().and_then(|exe| {
        Command::new(exe)
            .env(CHILD, "1")
            .env("DISPLAY", format!(":{}", display.trim()))
            .env_remove("WAYLAND_DISPLAY")
            .env("LIBGL_ALWAYS_SOFTWARE", "1")
            .status()
    });
    let _ = server.kill();
    let _ = server.wait();
    match verdict {
        Ok(status) if status.success() => {
            println!("video_gpu: colours, mirror, letterbox and crop are right");
            ExitCode::SUCCESS
        }
        other => {
            eprintln!("video_gpu: {other:?}");
            ExitCode::FAILURE
        }
    }
}

/// Y, U, V of BT.601 limited range, and the RGB that must come out.
const COLOURS: [([u8; 3], [u8; 3]); 4] = [
    ([81, 90, 240], [254, 0, 0]),
    ([145, 54, 34], [0, 255, 1]),
    ([41, 240, 110], [0, 0, 255]),
    ([235, 128, 128], [255, 255, 255]),
];

/// Quarters: red, green / blue, white.
fn quarters(size: Size) -> VideoFrame {
    let mut buffer = I420Buffer::black(size);
    let (w, h) = (size.width_px as usize, size.height_px as usize);
    let strides = [buffer.luma_stride(), buffer.chroma_stride(), buffer.chroma_stride()];
    for (plane, data) in buffer.planes_mut().into_iter().enumerate() {
        let (pw, ph) = if plane == 0 { (w, h) } else { (w.div_ceil(2), h.div_ceil(2)) };
        for (i, sample) in data.iter_mut().enumerate() {
            let (x, y) = (i % strides[plane], i / strides[plane]);
            let quarter = usize::from(x >= pw / 2) + 2 * usize::from(y >= ph / 2);
            *sample = COLOURS[quarter].0[plane];
        }
    }
    VideoFrame { buffer: Arc::new(buffer), time: MediaTime::default(), rtp_timestamp: 0 }
}

fn at(x: f32, y: f32, w: f32, h: f32) -> Rect {
    Rect::from_min_size(egui::pos2(x, y), egui::vec2(w, h))
}

struct Window {
    /// Odd width: chroma rows are rounded up, and rows are not multiples of four bytes.
    odd: VideoView,
    plain: VideoView,
    passes: u32,
    verdict: Arc<std::sync::Mutex<Option<Result<(), String>>>>,
}

impl eframe::App for Window {
    fn ui(&mut self, ui: &mut egui::Ui, _frame: &mut eframe::Frame) {
        ui.painter().rect_filled(ui.max_rect(), 0.0, Color32::from_rgb(40, 40, 40));
        self.plain.poll();
        self.odd.poll();
        // 4:3 in a wide room: bars left and right of the middle 160 points.
        self.plain.paint(ui, at(0.0, 0.0, 400.0, 120.0), Fit::Contain, false, 0.0);
        self.odd.paint(ui, at(0.0, 150.0, 160.0, 120.0), Fit::Cover, true, 20.0);
        self.passes += 1;
        if self.passes == 3 {
            let (ctx, verdict) = (ui.ctx().clone(), Arc::clone(&self.verdict));
            ui.ctx().request_screenshot(move |image| {
                *verdict.lock().unwrap_or_else(|e| e.into_inner()) = Some(check(&image));
                ctx.send_viewport_cmd(ViewportCommand::Close);
                ctx.request_repaint();
            });
        }
        ui.ctx().request_repaint_after(Duration::from_millis(20));
    }

    fn on_exit(&mut self, gl: Option<&eframe::glow::Context>) {
        if let Some(gl) = gl {
            self.plain.destroy(gl);
            self.odd.destroy(gl);
        }
    }
}

fn check(image: &egui::ColorImage) -> Result<(), String> {
    let [red, green, blue, white] = COLOURS.map(|(_, rgb)| rgb);
    let behind = [40, 40, 40];
    for (what, x, y, want) in [
        ("bar left of the picture", 60, 60, behind),
        ("bar right of the picture", 340, 60, behind),
        ("top left", 150, 20, red),
        ("top right", 250, 20, green),
        ("bottom left", 150, 100, blue),
        ("bottom right", 250, 100, white),
        ("mirrored top left", 30, 190, green),
        ("mirrored top right", 130, 190, red),
        ("mirrored bottom left", 30, 250, white),
        ("mirrored bottom right", 130, 250, blue),
        ("rounded corner", 1, 151, behind),
    ] {
        let [r, g, b, _] = image[(x, y)].to_array();
        let off = [r, g, b].iter().zip(want).map(|(a, b)| a.abs_diff(b)).max().unwrap_or(0);
        if off > 3 {
            return Err(format!("{what} at {x},{y} is {:?}, not {want:?}", [r, g, b]));
        }
    }
    Ok(())
}

fn child() -> ExitCode {
    let verdict = Arc::default();
    let view = |size| {
        let slot = VideoSlot::default();
        slot.put(quarters(size));
        VideoView::new(slot)
    };
    let window = Window {
        odd: view(Size::new(163, 121)),
        plain: view(Size::new(640, 480)),
        passes: 0,
        verdict: Arc::clone(&verdict),
    };
    let options = eframe::NativeOptions {
        viewport: egui::ViewportBuilder::default().with_inner_size([400.0, 300.0]),
        renderer: eframe::Renderer::Glow,
        ..Default::default()
    };
    let run = eframe::run_native("video_gpu", options, Box::new(|_| Ok(Box::new(window))));
    let verdict = verdict.lock().unwrap_or_else(|e| e.into_inner()).take();
    match (run, verdict) {
        (Ok(()), Some(Ok(()))) => ExitCode::SUCCESS,
        (run, verdict) => {
            eprintln!("window: {run:?}; picture: {verdict:?}");
            ExitCode::FAILURE
        }
    }
}
