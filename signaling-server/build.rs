//! Embeds every file of `web/` in the program, with an `ETag` each.

use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let web = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("web");
    println!("cargo::rerun-if-changed={}", web.display());
    let mut files = Vec::new();
    walk(&web, &mut files)?;
    files.sort();
    let mut table = String::from("&[\n");
    for file in files {
        // Cargo watches a folder's files, but only by their time; a file of its own is surer.
        println!("cargo::rerun-if-changed={}", file.display());
        let mut hasher = DefaultHasher::new();
        fs::read(&file)?.hash(&mut hasher);
        let relative = file.strip_prefix(&web).map_err(io::Error::other)?;
        let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
        writeln!(
            table,
            "Asset {{ path: {:?}, etag: \"\\\"{:016x}\\\"\", content: include_bytes!({:?}) }},",
            parts.join("/"),
            hasher.finish(),
            file,
        )
        .map_err(io::Error::other)?;
    }
    table.push(']');
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(out.join("assets.rs"), table)
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.is_dir() && !hidden {
            walk(&path, files)?;
        } else if path.is_file() && !hidden {
            files.push(path);
        }
    }
    Ok(())
}
