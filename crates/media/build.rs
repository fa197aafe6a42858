//! Fails loudly when openh264 would be built without its assembly.

use std::env;
use std::process::{Command, Stdio};

fn main() {
    println!("cargo:rerun-if-env-changed=PATH");
    println!("cargo:rerun-if-env-changed=OPENH264_NO_ASM");
    println!("cargo:rerun-if-changed=build.rs");
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    if !matches!(arch.as_str(), "x86_64" | "x86") || env::var_os("OPENH264_NO_ASM").is_some() {
        return;
    }
    let found = Command::new("nasm")
        .arg("-v")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    assert!(
        found,
        "\n\nnasm is not on PATH. Without it openh264 is silently built without its assembly and \
         encodes three times slower.\nInstall it (Debian/Ubuntu: apt install nasm; Fedora: dnf \
         install nasm; Arch: pacman -S nasm; macOS: brew install nasm), run `cargo clean -p \
         openh264-sys2`, and build again.\nTo build without the assembly on purpose, set \
         OPENH264_NO_ASM=1.\n"
    );
}
