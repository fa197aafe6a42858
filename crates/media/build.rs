//! Fails loudly when a codec would be missing, or built without its assembly or optimisation.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    nasm();
    libaom();
    libvpx();
}

fn nasm() {
    println!("cargo:rerun-if-env-changed=PATH");
    println!("cargo:rerun-if-env-changed=OPENH264_NO_ASM");
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

/// `.cargo/config.toml` has CMake optimise; it is not found if Cargo is started outside of the repository.
fn libaom() {
    let cache = env::var_os("DEP_AOM_ROOT").and_then(|root| {
        std::fs::read_to_string(Path::new(&root).join("build/CMakeCache.txt")).ok()
    });
    let Some(cache) = cache else { return };
    // Visual Studio's projects have all configurations in one.
    let debug = cache.lines().any(|line| line == "CMAKE_BUILD_TYPE:STRING=Debug");
    assert!(
        !debug || env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "msvc"),
        "\n\nlibaom was built without optimisation and would encode many times slower.\nRun Cargo inside of the \
         repository, so that it reads .cargo/config.toml, after `cargo clean -p libaom-sys`.\n"
    );
}

/// Links the system's libvpx, statically where its archive is installed, through `native/vpx.c`.
fn libvpx() {
    println!("cargo:rerun-if-changed=native/vpx.c");
    println!("cargo:rerun-if-env-changed=VPX_DIR");
    let (include, libraries) = match env::var_os("VPX_DIR").map(PathBuf::from) {
        Some(root) => (vec![root.join("include")], vec![root.join("lib")]),
        None => match pkg_config::Config::new()
            .atleast_version(MIN_VPX)
            .cargo_metadata(false)
            .probe("vpx")
        {
            Ok(library) => (library.include_paths, library.link_paths),
            Err(error) => panic!(
                "\n\nlibvpx {MIN_VPX} or newer, with its headers, was not found; it codes and decodes VP8 and VP9.\n\
                 Install it and pkg-config (Debian/Ubuntu: apt install libvpx-dev pkg-config; Fedora: dnf install \
                 libvpx-devel pkgconf; Arch: pacman -S libvpx pkgconf; macOS: brew install libvpx pkg-config), or name \
                 the directory that holds its include/ and lib/ by VPX_DIR.\n\n{error}\n"
            ),
        },
    };
    cc::Build::new()
        .file("native/vpx.c")
        .includes(include)
        .warnings(true)
        .extra_warnings(true)
        .compile("visavis_vpx");
    for directory in &libraries {
        println!("cargo:rustc-link-search=native={}", directory.display());
    }
    let archive = if cfg!(windows) { "vpx.lib" } else { "libvpx.a" };
    let found = libraries.iter().any(|directory| directory.join(archive).is_file());
    // Debian's description names another directory than that of the archive, which the compiler knows.
    let compiler = cc::Build::new().get_compiler();
    let known = Command::new(compiler.path())
        .arg(format!("-print-file-name={archive}"))
        .output()
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map(|path| PathBuf::from(path.trim()))
        .filter(|path| !found && path.is_absolute() && path.is_file());
    if let Some(directory) = known.as_deref().and_then(Path::parent) {
        println!("cargo:rustc-link-search=native={}", directory.display());
    }
    let linkage = if found || known.is_some() { "static" } else { "dylib" };
    println!("cargo:rustc-link-lib={linkage}=vpx");
}

/// Debian 12's.
const MIN_VPX: &str = "1.12";
