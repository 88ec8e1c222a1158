//! Keys and certificates of the cluster, made with openssl: one authority, a serving certificate for the API server,
//! client certificates for its own parts and for the nodes. Each file is made once and kept.

use crate::{command, files};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Long before any cluster: a program whose clock is behind trusts what the authority signed today.
const VALID_SINCE: &str = "20200101000000Z";

/// A certificate that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// openssl failed.
    #[error(transparent)]
    Command(#[from] command::Error),
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] files::Error),
}

/// The authority and what it signs, in one directory.
#[derive(Debug, Clone)]
pub struct Authority {
    directory: PathBuf,
}

/// A key and its certificate.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl Authority {
    /// Opens the authority in `directory`, or makes it.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        files::create_dir(directory)?;
        let authority = Self { directory: directory.to_owned() };
        let ca = authority.pair("ca");
        if !ca.certificate.exists() {
            new_key(&ca.key)?;
            let unfinished = unfinished(&ca.certificate);
            command::run(
                openssl()
                    .args(["req", "-x509", "-new", "-sha256", "-days", "3650", "-subj", "/CN=drop-cluster"])
                    .args(["-addext", "basicConstraints=critical,CA:TRUE"])
                    .args(["-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"])
                    .arg("-key")
                    .arg(&ca.key)
                    .arg("-out")
                    .arg(&unfinished),
            )?;
            files::named(fs::rename(&unfinished, &ca.certificate), "replace", &ca.certificate)?;
        }
        Ok(authority)
    }

    /// The authority's own certificate.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.pair("ca").certificate
    }

    /// A certificate for a server under these addresses and names, each as `IP:…` or `DNS:…`.
    pub fn server(&self, name: &str, subject: &str, alternatives: &[String]) -> Result<Pair, Error> {
        let extensions = format!("extendedKeyUsage=serverAuth\nsubjectAltName={}\n", alternatives.join(","));
        self.signed(name, subject, &extensions)
    }

    /// A certificate for a client: `user` as its name, `group` as its group.
    pub fn client(&self, name: &str, user: &str, group: &str) -> Result<Pair, Error> {
        self.signed(name, &format!("/O={group}/CN={user}"), "extendedKeyUsage=clientAuth\n")
    }

    /// A bare key pair for signing: the public key stands in for the certificate.
    pub fn signing_key(&self, name: &str) -> Result<Pair, Error> {
        let pair = Pair {
            certificate: self.directory.join(format!("{name}.pub")),
            key: self.directory.join(format!("{name}.key")),
        };
        if !pair.certificate.exists() {
            let mut new = openssl();
            command::run(new.args(["genpkey", "-algorithm", "RSA", "-out"]).arg(&pair.key))?;
            let mut public = openssl();
            public.args(["pkey", "-pubout", "-in"]).arg(&pair.key).arg("-out").arg(&pair.certificate);
            command::run(&mut public)?;
        }
        Ok(pair)
    }

    fn pair(&self, name: &str) -> Pair {
        Pair {
            certificate: self.directory.join(format!("{name}.crt")),
            key: self.directory.join(format!("{name}.key")),
        }
    }

    fn signed(&self, name: &str, subject: &str, extensions: &str) -> Result<Pair, Error> {
        let pair = self.pair(name);
        if pair.certificate.exists() {
            return Ok(pair);
        }
        new_key(&pair.key)?;
        // What openssl keeps of a signature and nobody needs afterwards. One place for each: nodes may be signed at the same time.
        let place = self.directory.join(format!("{name}.signing"));
        files::remove_dir(&place)?;
        files::create_dir(&place)?;
        let request = place.join("request");
        let mut ask = openssl();
        ask.args(["req", "-new", "-subj", subject, "-key"]).arg(&pair.key).arg("-out").arg(&request);
        command::run(&mut ask)?;
        files::write(&place.join("issued"), "")?;
        let configuration = place.join("configuration");
        files::write(&configuration, signing(&place, extensions))?;
        let ca = self.pair("ca");
        let unfinished = unfinished(&pair.certificate);
        let mut sign = openssl();
        sign.args(["ca", "-batch", "-notext", "-startdate", VALID_SINCE, "-days", "3650", "-config"])
            .arg(&configuration)
            .arg("-cert")
            .arg(&ca.certificate)
            .arg("-keyfile")
            .arg(&ca.key)
            .arg("-in")
            .arg(&request)
            .arg("-out")
            .arg(&unfinished);
        command::run(&mut sign)?;
        files::named(fs::rename(&unfinished, &pair.certificate), "replace", &pair.certificate)?;
        files::remove_dir(&place)?;
        Ok(pair)
    }
}

/// A random token of 32 hexadecimal digits.
pub fn random_hex() -> Result<String, Error> {
    let mut bytes = [0; 16];
    let source = Path::new("/dev/urandom");
    let mut random = files::named(fs::File::open(source), "open", source)?;
    files::named(std::io::Read::read_exact(&mut random, &mut bytes), "read", source)?;
    bytes[0] &= 0x7f;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The configuration for one signature, with what openssl keeps of it in `place`.
fn signing(place: &Path, extensions: &str) -> String {
    let place = place.display();
    format!(
        "[ca]
default_ca = once
[once]
database = {place}/issued
new_certs_dir = {place}
rand_serial = yes
default_md = sha256
policy = names
x509_extensions = extensions
[names]
organizationName = optional
commonName = supplied
[extensions]
{extensions}"
    )
}

fn openssl() -> Command {
    Command::new("openssl")
}

fn new_key(path: &Path) -> Result<(), Error> {
    let mut new = openssl();
    new.args(["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"]).arg(path);
    Ok(command::run(&mut new)?)
}

fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("new")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_authority_signs_verifies_and_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::open(directory.path()).unwrap();
        let names = ["IP:10.0.0.1".to_owned(), "DNS:api".to_owned()];
        let pair = authority.server("api", "/CN=api", &names).unwrap();
        let mut verify = openssl();
        verify.args(["verify", "-verify_ip", "10.0.0.1", "-CAfile"]).arg(authority.certificate());
        command::run(verify.arg(&pair.certificate)).unwrap();
        let mut before_today = openssl();
        before_today.args(["x509", "-noout", "-startdate", "-in"]).arg(&pair.certificate);
        assert!(command::output(&mut before_today).unwrap().contains("2020"));
        let first = files::read(&pair.certificate).unwrap();
        let again = Authority::open(directory.path()).unwrap().server("api", "/CN=api", &names).unwrap();
        assert_eq!(files::read(&again.certificate).unwrap(), first);
    }
}
