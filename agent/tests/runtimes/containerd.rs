//! One containerd with directories of its own, in a mount namespace of its own, for one test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use containerd_client::services::v1::DeleteImageRequest;
use containerd_client::services::v1::images_client::ImagesClient;
use drop_devtools::containerd_releases::Release;
use drop_devtools::settings::{DEFAULT_NAME, Settings};

use crate::SOON;
use crate::real::{self, eventually};

pub struct Containerd {
    directory: tempfile::TempDir,
    process: Child,
    pub cri: drop_cri::Runtime,
}

impl Containerd {
    /// Starts `release` and waits until it answers.
    pub async fn start(release: Release, snapshotter: &str) -> Self {
        let cache = Settings::new(DEFAULT_NAME, None).unwrap().cache;
        let program = release.program(&cache).unwrap();
        let directory = tempfile::Builder::new().prefix("drop-containerd-").tempdir_in("/var/tmp").unwrap();
        let config = directory.path().join("config.toml");
        fs::write(&config, configuration(release, snapshotter, directory.path())).unwrap();
        let log = fs::File::create(directory.path().join("log")).unwrap();
        // It ends with the thread that started it; what it has mounted then is gone with its namespace.
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--mount"])
            .arg(program)
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let cri = drop_cri::Runtime::new(&directory.path().join("socket"));
        let containerd = Self { directory, process, cri };
        eventually("containerd answers", SOON, async || containerd.cri.list_images().await.ok()).await;
        containerd
    }

    /// Where it keeps images.
    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    /// Has it pull from the registry at `address` by plain http.
    pub fn speak_plainly_to(&self, address: &str) {
        self.write_hosts(address, address, &[address]);
    }

    /// Has it pull images of `host` from two mirrors, of which the first is down, and never from `host` itself.
    pub fn mirror(&self, host: &str, address: &str) {
        self.write_hosts(host, "127.0.0.1:1", &["127.0.0.1:2", address]);
    }

    fn write_hosts(&self, host: &str, server: &str, mirrors: &[&str]) {
        let mut hosts = format!("server = \"http://{server}\"\n");
        for mirror in mirrors {
            hosts += &format!("[host.\"http://{mirror}\"]\ncapabilities = [\"pull\", \"resolve\"]\n");
        }
        let directory = certificates(self.directory.path()).join(host);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("hosts.toml"), hosts).unwrap();
    }

    /// Removes an image with all its names, as the kubelet does.
    pub async fn remove(&self, reference: &str) {
        real::remove(&self.cri, reference).await;
    }

    /// Removes one name of an image, as `ctr images rm` does.
    pub async fn remove_name(&self, name: &str) {
        let mut request = tonic::Request::new(DeleteImageRequest {
            name: name.to_owned(),
            ..DeleteImageRequest::default()
        });
        request.metadata_mut().insert("containerd-namespace", "k8s.io".parse().unwrap());
        ImagesClient::new(real::connect(self.cri.socket())).delete(request).await.unwrap();
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            let end: Vec<&str> = log.lines().rev().take(40).collect();
            println!("containerd's log, newest first:\n{}", end.join("\n"));
        }
    }
}

fn certificates(directory: &Path) -> PathBuf {
    directory.join("certs.d")
}

fn configuration(release: Release, snapshotter: &str, directory: &Path) -> String {
    let certificates = certificates(directory);
    let cri = match release {
        Release::Debian | Release::V1_7 => format!(
            r#"
[plugins."io.containerd.grpc.v1.cri"]
disable_apparmor = true
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "{snapshotter}"
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "{}"
"#,
            certificates.display()
        ),
        Release::Current => format!(
            r#"
[plugins."io.containerd.cri.v1.images"]
snapshotter = "{snapshotter}"
[plugins."io.containerd.cri.v1.images".registry]
config_path = "{}"
[plugins."io.containerd.cri.v1.runtime"]
disable_apparmor = true
restrict_oom_score_adj = true
# Unlike its forerunners it unpacks only into what is named here, and overlayfs alone is by default.
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
platform = "linux"
snapshotter = "{snapshotter}"
"#,
            certificates.display()
        ),
    };
    let version = if release == Release::Current { 3 } else { 2 };
    format!(
        r#"version = {version}
root = "{directory}/root"
state = "{directory}/state"
disabled_plugins = ["io.containerd.nri.v1.nri"]
[grpc]
address = "{directory}/socket"
[plugins."io.containerd.internal.v1.opt"]
path = "{directory}/opt"
{cri}"#,
        directory = directory.display()
    )
}
