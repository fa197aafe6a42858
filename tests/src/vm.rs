//! A virtual machine with a camera and a sound card, for machines that have neither.
//!
//! QEMU boots Debian's own kernel, which brings `vivid`, a driver for cameras that are not there.
//! The guest's root is the host's, read-only, so that the programs just built run in it; what they
//! write goes to a shared folder. The processor is emulated: programs are some twenty times slower
//! than outside, and nothing but the camera's own clock can be timed.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Where the shared folder is in the guest.
pub const GUEST_FOLDER: &str = "/run/shared";

/// The modules that find and mount the root; all others are loaded from there.
const BOOT_MODULES: &str = "9p\n9pnet_virtio\nvirtio_pci\nvirtio_ring\noverlay\n";
const VIVID: &str = "kernel/drivers/media/test-drivers/vivid";

/// What a run of the machine left behind.
#[derive(Debug)]
pub struct Outcome {
    folder: PathBuf,
}

/// Boots the machine, runs `script` (a shell script) in it as root, and switches it off.
///
/// The script finds its camera, its sound card and the loopback interface ready, and the folder
/// [`GUEST_FOLDER`] to write to. `parameters` are those of the `vivid` module.
///
/// # Errors
///
/// QEMU or a fitting kernel is missing, or the machine still runs after `limit`.
pub fn run(test: &str, parameters: &str, script: &str, limit: Duration) -> Result<Outcome> {
    let kernel = Kernel::find()?;
    let cache = cache_folder()?;
    let initrd = kernel.initrd(&cache)?;
    let folder = cache.join(format!("vm-{test}"));
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    let init = folder.join("init");
    std::fs::write(&init, init_script(parameters, script))?;
    make_executable(&init)?;

    let console = folder.join("console.log");
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-m", "1536", "-smp", "2"])
        .args(["-display", "none", "-monitor", "none", "-no-reboot", "-nic", "none"])
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(&initrd)
        .args([
            "-virtfs",
            "local,path=/,mount_tag=host0,security_model=none,multidevs=remap,readonly=on",
        ])
        .arg("-virtfs")
        .arg(format!("local,path={},mount_tag=shared,security_model=none", folder.display()))
        .arg("-append")
        .arg(format!(
            "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off root=host0 rootfstype=9p \
             rootflags=trans=virtio,version=9p2000.L,msize=262144 ro init={}",
            init.display()
        ))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut machine = Machine(
        qemu.spawn().context("qemu-system-x86_64 does not start: install qemu-system-x86")?,
    );
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = machine.0.try_wait()? {
            if !status.success() {
                let mut said = String::new();
                if let Some(mut stderr) = machine.0.stderr.take() {
                    stderr.read_to_string(&mut said)?;
                }
                bail!("qemu-system-x86_64: {status}: {said}");
            }
            break;
        }
        if Instant::now() > deadline {
            bail!("the machine still runs after {limit:?}; its console:\n{}", tail(&console));
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
    let outcome = Outcome { folder };
    if !outcome.path("finished").exists() {
        bail!("the machine went off before the script ended; its console:\n{}", tail(&console));
    }
    Ok(outcome)
}

impl Outcome {
    /// A file that the script wrote to the shared folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Its text.
    ///
    /// # Errors
    ///
    /// The script did not write it.
    pub fn text(&self, name: &str) -> Result<String> {
        std::fs::read_to_string(self.path(name)).with_context(|| {
            format!("{name} was not written; console:\n{}", tail(&self.path("console.log")))
        })
    }

    /// Its last line, as JSON.
    ///
    /// # Errors
    ///
    /// It is missing or no JSON.
    pub fn json(&self, name: &str) -> Result<Value> {
        let text = self.text(name)?;
        let line = text.lines().last().with_context(|| format!("{name} is empty"))?;
        serde_json::from_str(line).with_context(|| format!("{name}: {line}"))
    }
}

/// Ends with its owner.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A kernel that has the camera driver.
struct Kernel {
    version: String,
    image: PathBuf,
}

impl Kernel {
    fn find() -> Result<Self> {
        let mut versions: Vec<String> = std::fs::read_dir("/lib/modules")
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.path().join(VIVID).exists())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        versions.sort();
        for version in versions.into_iter().rev() {
            let image = PathBuf::from(format!("/boot/vmlinuz-{version}"));
            if std::fs::File::open(&image).is_ok() {
                return Ok(Self { version, image });
            }
        }
        bail!(
            "no readable /boot/vmlinuz-VERSION with the module vivid in /lib/modules/VERSION: \
             install linux-image-amd64 (./dev test does), and on systems that hide it, \
             chmod a+r /boot/vmlinuz-*"
        )
    }

    /// The first root, made with a configuration of its own, so that the machine's is untouched;
    /// kept for the next time.
    fn initrd(&self, cache: &Path) -> Result<PathBuf> {
        let initrd = cache.join(format!("initrd-{}", self.version));
        if initrd.exists() {
            return Ok(initrd);
        }
        let configuration = cache.join("initramfs-tools");
        for folder in ["conf.d", "hooks", "scripts"] {
            std::fs::create_dir_all(configuration.join(folder))?;
        }
        std::fs::write(
            configuration.join("initramfs.conf"),
            "MODULES=list\nBUSYBOX=auto\nCOMPRESS=gzip\nKEYMAP=n\nRUNSIZE=10%\nFSTYPE=auto\n",
        )?;
        std::fs::write(configuration.join("modules"), BOOT_MODULES)?;
        let unfinished = cache.join(format!("initrd-{}.{}", self.version, std::process::id()));
        let path = std::env::var("PATH").unwrap_or_default();
        let output = Command::new("mkinitramfs")
            // It is in a folder that only root looks in.
            .env("PATH", format!("{path}:/usr/sbin:/sbin"))
            .arg("-d")
            .arg(&configuration)
            .arg("-o")
            .arg(&unfinished)
            .arg(&self.version)
            .output()
            .context("mkinitramfs does not start: install initramfs-tools")?;
        if !output.status.success() {
            bail!("mkinitramfs: {}", String::from_utf8_lossy(&output.stderr));
        }
        std::fs::rename(&unfinished, &initrd)?;
        Ok(initrd)
    }
}

/// First and last program of the guest.
fn init_script(parameters: &str, script: &str) -> String {
    format!(
        r#"#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/run TMPDIR=/run
mountpoint -q /proc || mount -t proc proc /proc
mountpoint -q /sys || mount -t sysfs sysfs /sys
mountpoint -q /dev || mount -t devtmpfs devtmpfs /dev
mountpoint -q /run || mount -t tmpfs tmpfs /run
mkdir -p /dev/shm {GUEST_FOLDER}
mount -t tmpfs tmpfs /dev/shm
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 shared {GUEST_FOLDER}
cd {GUEST_FOLDER}
ip link set lo up
modprobe vivid {parameters}
modprobe snd-aloop
(
{script}
) >script.log 2>&1
touch finished
sync
echo o > /proc/sysrq-trigger
sleep 60
"#
    )
}

fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?)
}

/// `target/vm`: beside what is built, so that it is cleaned with it.
fn cache_folder() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target = own.ancestors().nth(3).context("no target directory")?;
    let folder = target.join("vm");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// The end of a log.
fn tail(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
