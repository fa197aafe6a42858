//! A certificate authority of the test's own, which our programs and Chromium are told to trust.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};

use crate::program::scratch;

/// An authority, and the certificate that it gave the server; files in a folder that is removed when
/// this is dropped.
pub struct Authority {
    folder: PathBuf,
}

impl Authority {
    /// Makes both. The server's certificate holds these names and addresses.
    ///
    /// # Errors
    ///
    /// The files cannot be written.
    pub fn new(names: &[&str], addresses: &[IpAddr]) -> anyhow::Result<Self> {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let folder = scratch(&format!("authority-{}", COUNT.fetch_add(1, Ordering::Relaxed)))?;
        let authority = Self { folder };
        let mut root = CertificateParams::new([])?;
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.distinguished_name.push(DnType::CommonName, "Visavis test authority");
        let root_key = KeyPair::generate()?;
        let root_certificate = root.self_signed(&root_key)?;
        let mut server =
            CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        server.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        server.distinguished_name.push(DnType::CommonName, "Visavis test server");
        let server_key = KeyPair::generate()?;
        let issuer = Issuer::new(root, root_key);
        let certificate = server.signed_by(&server_key, &issuer)?;
        std::fs::write(authority.root(), root_certificate.pem())?;
        std::fs::write(authority.certificate(), certificate.pem())?;
        std::fs::write(authority.key(), server_key.serialize_pem())?;
        Ok(authority)
    }

    /// The authority's own certificate, PEM.
    pub fn root(&self) -> PathBuf {
        self.folder.join("root.pem")
    }

    /// The server's certificate, PEM.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("server.pem")
    }

    /// Its key, PEM.
    pub fn key(&self) -> PathBuf {
        self.folder.join("server.key")
    }

    /// A home folder whose NSS database trusts the authority, for Chromium.
    ///
    /// # Errors
    ///
    /// `certutil` is missing (package libnss3-tools).
    pub fn home(&self) -> anyhow::Result<PathBuf> {
        let home = self.folder.join("home");
        let database = home.join(".pki/nssdb");
        if !database.exists() {
            std::fs::create_dir_all(&database)?;
            let database = format!("sql:{}", database.display());
            certutil(&["-N", "-d", &database, "--empty-password"])?;
            let root = self.root();
            let root = root.to_str().context("a path that is no text")?;
            certutil(&["-A", "-d", &database, "-n", "test", "-t", "C,,", "-i", root])?;
        }
        Ok(home)
    }

    /// Where all of it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn certutil(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("certutil")
        .args(arguments)
        .output()
        .context("certutil cannot be run; the package is libnss3-tools")?;
    if !output.status.success() {
        bail!("certutil {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
