//! A screen without a monitor (Xvfb), pictures of it, and what can be read on them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::program::Program;

/// An X server of 1280x800 pixels.
pub struct Screen {
    _server: Program,
    display: String,
    folder: PathBuf,
}

/// A picture of the screen or of a part of it, 8-bit RGB.
pub struct Shot {
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
    rgb: Vec<u8>,
}

impl Screen {
    /// Starts one on a free display number; pictures go to `folder`.
    ///
    /// # Errors
    ///
    /// Xvfb is missing or does not start.
    pub fn start(folder: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new("Xvfb");
        command.args(["-displayfd", "1", "-screen", "0", "1280x800x24", "-nolisten", "tcp"]);
        let mut server = Program::start("Xvfb", &mut command)?;
        let number: u32 =
            server.wait_line(Duration::from_secs(10), |line| line.trim().parse().ok())?;
        Ok(Self { _server: server, display: format!(":{number}"), folder: folder.to_owned() })
    }

    /// A command whose windows appear here, drawn without a graphics card, with settings of its own.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env("DISPLAY", &self.display)
            .env_remove("WAYLAND_DISPLAY")
            .env("LIBGL_ALWAYS_SOFTWARE", "1")
            .env("HOME", &self.folder)
            .env("XDG_CONFIG_HOME", self.folder.join("config"))
            .env("XDG_DATA_HOME", self.folder.join("data"));
        command
    }

    /// Gives a window the keyboard; there is no window manager that would.
    ///
    /// # Errors
    ///
    /// As [`Self::press`].
    pub fn focus(&self, title: &str) -> anyhow::Result<()> {
        self.xdotool(&["search", "--name", title, "windowfocus", "--sync"])
    }

    /// Presses keys, in the words of xdotool.
    ///
    /// # Errors
    ///
    /// xdotool is missing or refuses.
    pub fn press(&self, key: &str) -> anyhow::Result<()> {
        self.xdotool(&["key", key])
    }

    /// Moves the mouse.
    ///
    /// # Errors
    ///
    /// As [`Self::press`].
    pub fn point(&self, x: u32, y: u32) -> anyhow::Result<()> {
        self.xdotool(&["mousemove", &x.to_string(), &y.to_string()])
    }

    fn xdotool(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let status =
            Command::new("xdotool").env("DISPLAY", &self.display).args(arguments).status()?;
        ensure!(status.success(), "xdotool {arguments:?}: {status}");
        Ok(())
    }

    /// Writes the whole screen to `NAME.png`.
    ///
    /// # Errors
    ///
    /// ImageMagick is missing or fails.
    pub fn save(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.folder.join(name).with_extension("png");
        let status = Command::new("import")
            .args(["-display", &self.display, "-window", "root"])
            .arg(&path)
            .status()
            .context("ImageMagick is missing")?;
        ensure!(status.success(), "import: {status}");
        Ok(path)
    }

    /// A part of the screen: left, top, width, height.
    ///
    /// # Errors
    ///
    /// As [`Self::save`].
    pub fn shot(&self, part: (usize, usize, usize, usize)) -> anyhow::Result<Shot> {
        let (left, top, width, height) = part;
        let path = self.save("shot")?;
        let output = Command::new("convert")
            .arg(&path)
            .args(["-crop", &format!("{width}x{height}+{left}+{top}"), "+repage"])
            .args(["-depth", "8", "rgb:-"])
            .output()?;
        ensure!(output.stdout.len() == width * height * 3, "the picture has another size");
        Ok(Shot { width, height, rgb: output.stdout })
    }

    /// Waits until the text that is read on the screen satisfies `good`.
    ///
    /// # Errors
    ///
    /// It does not within `limit`; the error holds the text.
    pub fn wait_text(
        &self,
        limit: Duration,
        good: impl Fn(&str) -> bool,
    ) -> anyhow::Result<String> {
        let deadline = Instant::now() + limit;
        loop {
            let text = self.read()?;
            if good(&text) {
                return Ok(text);
            }
            if Instant::now() > deadline {
                bail!("not on the screen within {limit:?}; it says:\n{text}");
            }
        }
    }

    /// The words on the screen, by character recognition.
    fn read(&self) -> anyhow::Result<String> {
        let (path, large) = (self.save("text")?, self.folder.join("large.png"));
        // Recognition wants dark letters, some 30 pixels high.
        let status = Command::new("convert")
            .arg(&path)
            .args(["-colorspace", "gray", "-negate", "-resize", "250%"])
            .arg(&large)
            .status()?;
        ensure!(status.success(), "convert: {status}");
        let output = Command::new("tesseract")
            .arg(&large)
            .args(["-", "--psm", "11"])
            .output()
            .context("tesseract-ocr is missing")?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Shot {
    /// Share of pixels that differ from `other` by more than 24 in a channel.
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    pub fn difference(&self, other: &Self) -> f64 {
        let changed = self
            .rgb
            .chunks_exact(3)
            .zip(other.rgb.chunks_exact(3))
            .filter(|(a, b)| a.iter().zip(*b).any(|(a, b)| a.abs_diff(*b) > 24))
            .count();
        changed as f64 / (self.width * self.height) as f64
    }

    /// How many of 27 coarse colours fill at least 1 % of the picture each.
    pub fn colours(&self) -> usize {
        let mut counts = [0usize; 27];
        for pixel in self.rgb.chunks_exact(3) {
            let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(|c| usize::from(c) / 86);
            counts[r * 9 + g * 3 + b] += 1;
        }
        counts.iter().filter(|n| **n * 100 >= self.width * self.height).count()
    }
}
