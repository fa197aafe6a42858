//! A private sound server, for machines without sound: PulseAudio with devices that are not there.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use visavis_media::AUDIO_RATE_HZ;

use crate::program::scratch;

/// How long the server may take to answer, and a tool to end.
const LIMIT: Duration = Duration::from_secs(20);

/// The server; ends with its owner.
///
/// A *cable* is a speaker (`NAME`) whose sound arrives at a microphone (`NAME_mic`): what the test
/// plays into the one is what the program under test hears from the other.
pub struct PulseServer {
    folder: PathBuf,
    /// A sound device that is not there takes two seconds at once as long as nobody wants less:
    /// one listener for each keeps them quick from the start.
    listeners: Vec<Player>,
    process: Child,
}

impl PulseServer {
    /// Starts a server with these cables, each with its sample rate in Hz.
    ///
    /// # Errors
    ///
    /// PulseAudio is not installed or does not start.
    pub fn start(test: &str, cables: &[(&str, u32)]) -> Result<Self> {
        let folder = scratch(&format!("pulse-{test}"))?;
        // ALSA's own way to the server: what its default is on most desktops.
        std::fs::write(
            folder.join("asound.conf"),
            "</usr/share/alsa/alsa.conf>\npcm.!default { type pulse }\nctl.!default { type pulse }\n",
        )?;
        let log = std::fs::File::create(folder.join("server.log"))?;
        let mut command = Command::new("pulseaudio");
        with_environment(&mut command, &folder);
        command
            .args(["-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1"])
            .args(["--disable-shm=true", "--log-target=stderr", "-L"])
            .arg(format!(
                "module-native-protocol-unix auth-anonymous=1 socket={}",
                folder.join("socket").display()
            ))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        for (name, rate) in cables {
            command.arg("-L").arg(format!(
                "module-null-sink sink_name={name} rate={rate} channels=2 \
                 sink_properties=device.description={name}"
            ));
            command.arg("-L").arg(format!(
                "module-remap-source master={name}.monitor source_name={name}_mic \
                 source_properties=device.description={name}_mic"
            ));
        }
        let process = command.spawn().context("pulseaudio does not start: install pulseaudio")?;
        let mut server = Self { folder, listeners: Vec::new(), process };
        let deadline = Instant::now() + LIMIT;
        loop {
            let answer = server.tool("pactl").arg("info").output();
            if answer.context("pactl does not start: install pulseaudio-utils")?.status.success() {
                break;
            }
            if server.process.try_wait()?.is_some() || Instant::now() > deadline {
                bail!("pulseaudio does not answer; it said:\n{}", server.log());
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
        for (cable, _) in cables {
            let mut listener = server.recorder(cable)?;
            let mut stdout = listener.0.stdout.take().context("no standard output")?;
            stdout.read_exact(&mut [0; 4]).context("parec ended too early")?;
            std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
            server.listeners.push(listener);
        }
        Ok(server)
    }

    /// Makes a program use this server, by its own protocol and through ALSA, with these devices
    /// as the defaults.
    pub fn environment<'c>(
        &self,
        command: &'c mut Command,
        speaker: &str,
        microphone: &str,
    ) -> &'c mut Command {
        with_environment(command, &self.folder);
        command.env("PULSE_SINK", speaker).env("PULSE_SOURCE", microphone)
    }

    /// Makes devices the server's defaults.
    ///
    /// # Errors
    ///
    /// They are not there.
    pub fn set_defaults(&self, speaker: &str, microphone: &str) -> Result<()> {
        for arguments in [["set-default-sink", speaker], ["set-default-source", microphone]] {
            if !self.tool("pactl").args(arguments).status()?.success() {
                bail!("pactl {arguments:?} failed");
            }
        }
        Ok(())
    }

    /// Plays a sine into a cable until the player is dropped; 0 dB is full scale.
    ///
    /// # Errors
    ///
    /// The player does not start.
    pub fn play_tone(&self, cable: &str, hz: f64, peak_dbfs: f64) -> Result<Player> {
        let amplitude = 10_f64.powf(peak_dbfs / 20.0);
        let minute = u32::try_from(60 * AUDIO_RATE_HZ as usize)?;
        let samples: Vec<f32> = (0..minute)
            .map(|n| std::f64::consts::TAU * hz * f64::from(n) / f64::from(AUDIO_RATE_HZ))
            .map(|phase| (amplitude * phase.sin()) as f32)
            .collect();
        self.play(cable, &samples)
    }

    /// Plays 48 kHz mono sound into a cable until the player is dropped.
    ///
    /// # Errors
    ///
    /// The player does not start.
    pub fn play(&self, cable: &str, samples: &[f32]) -> Result<Player> {
        let path = self.folder.join(format!("played-into-{cable}.raw"));
        std::fs::write(&path, samples.iter().flat_map(|s| s.to_le_bytes()).collect::<Vec<u8>>())?;
        let mut command = self.tool("pacat");
        command
            .args([
                "--playback",
                "--raw",
                "--format=float32le",
                "--channels=1",
                "--latency-msec=20",
            ])
            .arg(format!("--rate={AUDIO_RATE_HZ}"))
            .arg(format!("--device={cable}"))
            .arg(&path)
            .stdin(Stdio::null());
        Ok(Player(command.spawn().context("pacat does not start")?))
    }

    /// Records what arrives at the far end of a cable: 48 kHz mono.
    ///
    /// # Errors
    ///
    /// The recorder does not start or delivers less.
    pub fn record(&self, cable: &str, length: Duration) -> Result<Vec<f32>> {
        let mut recorder = self.recorder(cable)?;
        let mut stdout = recorder.0.stdout.take().context("no standard output")?;
        read_sound(&mut stdout, length)
    }

    /// Records from the first tenth of a second on that `begun` is true of.
    ///
    /// # Errors
    ///
    /// The recorder does not start, or none came within `limit`.
    pub fn record_from(
        &self,
        cable: &str,
        begun: impl Fn(&[f32]) -> bool,
        length: Duration,
        limit: Duration,
    ) -> Result<Vec<f32>> {
        let mut recorder = self.recorder(cable)?;
        let mut stdout = recorder.0.stdout.take().context("no standard output")?;
        let deadline = Instant::now() + limit;
        loop {
            let mut sound = read_sound(&mut stdout, Duration::from_millis(100))?;
            if begun(&sound) {
                sound.extend(read_sound(&mut stdout, length)?);
                return Ok(sound);
            }
            if Instant::now() > deadline {
                bail!("nothing to record within {limit:?}");
            }
        }
    }

    /// 48 kHz mono floats on standard output.
    fn recorder(&self, cable: &str) -> Result<Player> {
        let mut command = self.tool("parec");
        command
            .args(["--raw", "--format=float32le", "--channels=1", "--latency-msec=10"])
            .arg(format!("--rate={AUDIO_RATE_HZ}"))
            .arg(format!("--device={cable}.monitor"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        Ok(Player(command.spawn().context("parec does not start: install pulseaudio-utils")?))
    }

    /// Ends the server, as if it had crashed.
    ///
    /// # Errors
    ///
    /// It is gone already.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        with_environment(&mut command, &self.folder);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("server.log")).unwrap_or_default()
    }
}

impl Drop for PulseServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A playing or recording tool; ends with its owner.
pub struct Player(Child);

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// So much of what a recorder writes.
fn read_sound(stdout: &mut impl Read, length: Duration) -> Result<Vec<f32>> {
    let bytes = (length.as_secs_f64() * f64::from(AUDIO_RATE_HZ)) as usize * 4;
    let mut data = vec![0; bytes];
    stdout.read_exact(&mut data).context("parec ended too early")?;
    Ok(data.as_chunks::<4>().0.iter().map(|&sample| f32::from_le_bytes(sample)).collect())
}

fn with_environment(command: &mut Command, folder: &Path) {
    command
        .env("PULSE_SERVER", format!("unix:{}", folder.join("socket").display()))
        .env("PULSE_RUNTIME_PATH", folder)
        .env("PULSE_STATE_PATH", folder)
        .env("PULSE_CONFIG_PATH", folder)
        .env("XDG_RUNTIME_DIR", folder)
        .env("HOME", folder)
        .env("ALSA_CONFIG_PATH", folder.join("asound.conf"))
        .env_remove("PULSE_SINK")
        .env_remove("PULSE_SOURCE");
}
